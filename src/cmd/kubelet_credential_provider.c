/*
 * tarn kubelet-credential-provider: the kubelet's exec protocol for image credentials
 * (credentialprovider.kubelet.k8s.io, v1 and v1beta1). It reads one JSON document and prints one.
 */
#include <stdio.h>
#include <string.h>
#include "auth/google/google.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/secret.h"
#include "base/units.h"
#include "cmd/arguments.h"
#include "cmd/commands.h"
#include "cmd/standard_streams.h"
#include "node/kubelet.h"
#include "node/provider.h"
#include "node/tree.h"

#define COMMAND     "tarn kubelet-credential-provider"
#define API         "credentialprovider.kubelet.k8s.io/"
#define OPT_IN      "iam.gke.io/enable-wi-image-pull"
#define EMPTY_CACHE "0s"

enum {
    INPUT_LIMIT = 1 << 20,
    /* The token must outlast a pull that begins when the kubelet's cached credentials end. */
    MARGIN_MS = 225000,
    IMAGES_LIMIT = 100, /* patterns of images */
};

struct asked {
    const char *api_version;
    char registry[256];        /* as the image names it */
    char host[256];            /* the same host, in the form in which registries are compared */
    const char *subject_token; /* the token of the pod, if it opted in; NULL: none */
};

static int refuse(const char *words) {
    fprintf(stderr, COMMAND ": %s\n", words);
    return 1;
}

static const char *string_in(const json_t *object, const char *key) {
    const json_t *member = json_object_get(object, key);
    const char *value = json_string_value(member);
    return value && strlen(value) == json_string_length(member) ? value : NULL;
}

/* Returns what is wrong with the request; NULL: nothing. */
static const char *read_request(const json_t *request, struct asked *out) {
    const char *kind = string_in(request, "kind"), *image = string_in(request, "image");
    struct text rest;
    out->api_version = string_in(request, "apiVersion");
    if (!json_is_object(request))
        return "standard input is not a JSON object";
    if (!kind || strcmp(kind, "CredentialProviderRequest") != 0)
        return "the request's kind is not CredentialProviderRequest";
    if (!out->api_version ||
        (strcmp(out->api_version, API "v1") != 0 && strcmp(out->api_version, API "v1beta1") != 0))
        return "the request's apiVersion is neither " API "v1 nor " API "v1beta1";
    if (!image || !*image)
        return "the request names no image";
    if (!text_copy(text_cut(text_of(image), '/', &rest), out->registry, sizeof out->registry) ||
        !google_host_of(text_of(out->registry), out->host, sizeof out->host))
        return "the request's image is not the name of an image";

    const char *opted = string_in(json_object_get(request, "serviceAccountAnnotations"), OPT_IN);
    if (!opted || strcmp(opted, "true") != 0)
        return NULL;
    /* A pod that opted in must never get the credentials of the node instead. */
    out->subject_token = string_in(request, "serviceAccountToken");
    return out->subject_token && *out->subject_token
               ? NULL
               : "the pod's service account is annotated " OPT_IN
                 ", but the request has no serviceAccountToken: set tokenAttributes in the "
                 "provider's configuration";
}

static int print_response(const struct asked *asked, const struct google_token *token) {
    cleanup_secret_buffer struct buffer line = {0};
    char duration[40] = EMPTY_CACHE;
    int64_t left_ms = token->expires_ms - clock_ms() - MARGIN_MS;
    if (token->secret && left_ms >= 1000)
        units_format_duration(left_ms / 1000 * 1000, duration, sizeof duration);
    buffer_reserve(&line, (token->secret ? strlen(token->secret) : 0) + 2048);
    buffer_printf(&line,
                  "{\"kind\":\"CredentialProviderResponse\",\"apiVersion\":\"%s\","
                  "\"cacheKeyType\":\"Registry\",\"cacheDuration\":\"%s\",\"auth\":{",
                  asked->api_version, duration);
    if (token->secret) {
        buffer_append_string(&line, "\"");
        buffer_append_json(&line, text_of(asked->registry));
        buffer_append_string(&line, "\":{\"username\":\"" GOOGLE_USERNAME "\",\"password\":\"");
        buffer_append_json(&line, text_of(token->secret));
        buffer_append_string(&line, "\"}");
    }
    buffer_append_string(&line, "}}\n");
    return standard_output_write(&line) ? 0 : 1;
}

static int respond_to(const struct buffer *input) {
    cleanup_secret_json json_t *request = bounded_json_load(input->bytes, input->length, NULL);
    cleanup_google_token struct google_token token = {0};
    struct asked asked = {0};
    struct error error = {0};
    const char *wrong = read_request(request, &asked);
    if (wrong)
        return refuse(wrong);
    if (!google_host_is_registry(text_of(asked.host)))
        return print_response(
            &asked, &token); /* a response without credentials: the registry is not Google's */
    cleanup_client struct client *client = client_new();
    struct google_question question = {.client = client, .subject_token = asked.subject_token};
    if (!google_token_fetch(&question, &token, &error))
        return refuse(error.text);
    return print_response(&asked, &token);
}

static int respond(void) {
    secret_forbid_core_dumps();
    cleanup_secret_buffer struct buffer input = {0};
    if (!standard_input_read(INPUT_LIMIT, &input))
        return refuse("standard input is longer than 1 MiB, or cannot be read");
    return respond_to(&input);
}

/* ---- its installation on a node ---- */

static const char *path_option(const struct arguments *arguments, const char *name,
                               const char *otherwise) {
    const char *value = arguments_string(arguments, name);
    return value ? value : otherwise;
}

/* Prints what is to be done about one flag of the kubelet. */
static void print_flag(const char *name, const char *wanted, const struct kubelet_flag *flag) {
    if (flag->state == KUBELET_FLAG_MISSING)
        fprintf(stderr, COMMAND ": the kubelet's flag %s is missing: %s=%s\n", name, name, wanted);
    else if (flag->state == KUBELET_FLAG_OTHER)
        fprintf(stderr, COMMAND ": the kubelet's flag %s is %s, not %s\n", name, flag->value,
                wanted);
}

/* Says which flags the kubelet needs, and whether it has to be restarted. */
static void print_kubelet(const struct provider_settings *settings,
                          const struct provider_result *result) {
    struct kubelet kubelet;
    kubelet_look(settings->folder, settings->bin_dir, settings->config, &kubelet);
    if (kubelet.is_running || kubelet.is_configured)
        fprintf(stderr, COMMAND ": looked at the kubelet's flags in %s\n", kubelet.where);
    else
        fputs(COMMAND ": the kubelet's flags are not known: neither its process nor its files "
                      "were found\n",
              stderr);
    print_flag("--image-credential-provider-bin-dir", settings->bin_dir, &kubelet.bin_dir);
    print_flag("--image-credential-provider-config", settings->config, &kubelet.config);
    bool is_complete =
        kubelet.bin_dir.state == KUBELET_FLAG_RIGHT && kubelet.config.state == KUBELET_FLAG_RIGHT;
    if (kubelet.needs_restart)
        fputs(COMMAND ": the kubelet's files have the flags: restart the kubelet\n", stderr);
    else if (!is_complete)
        fputs(COMMAND ": the kubelet uses the provider when it has the flags and is restarted\n",
              stderr);
    else if (result->wrote_config)
        fputs(COMMAND ": the kubelet reads the new configuration when it is restarted\n", stderr);
}

static int install(const struct arguments *arguments) {
    const char *images[IMAGES_LIMIT];
    struct error error = {0};
    struct provider_result result;
    struct provider_settings settings = {
        .folder = arguments_string(arguments, "destdir"),
        .bin_dir = path_option(arguments, "bin-dir", PROVIDER_BIN_DIR),
        .config = path_option(arguments, "config", PROVIDER_CONFIG),
        .credentials = arguments_string(arguments, "credentials"),
        .pod_audience = arguments_string(arguments, "pod-audience"),
        .images = images,
    };
    size_t at = 0;
    for (const char *image; (image = arguments_next(arguments, "image", &at));) {
        if (settings.image_count == IMAGES_LIMIT)
            return command_refuse(arguments->command, "--image: more than %d patterns",
                                  IMAGES_LIMIT);
        images[settings.image_count++] = image;
    }
    if (!tree_is_path(settings.bin_dir) || !tree_is_path(settings.config))
        return command_refuse(arguments->command,
                              "--bin-dir and --config are paths from / on without \"..\"");
    if (!provider_install(&settings, &result, &error)) {
        fprintf(stderr, COMMAND ": %s\n", error.text);
        return 1;
    }
    const char *folder = settings.folder ? settings.folder : "";
    printf("%s %s%s/tarn\n", result.wrote_program ? "wrote" : "unchanged", folder,
           settings.bin_dir);
    printf("%s %s%s\n", result.wrote_config ? "wrote" : "unchanged", folder, settings.config);
    fflush(stdout);
    print_kubelet(&settings, &result);
    return 0;
}

static int run(const struct arguments *arguments) {
    const char *verb = arguments->operand_count ? arguments->operands[0] : "get-credentials";
    if (strcmp(verb, "install") == 0)
        return install(arguments);
    /* Credential providers are usually called with this argument. */
    if (strcmp(verb, "get-credentials") != 0)
        return command_refuse(arguments->command, "unknown argument %s", verb);
    if (arguments->given_count > 0)
        return command_refuse(arguments->command, "options are for install");
    return respond();
}

static const struct command_option options[] = {
    {"destdir", OPTION_STRING, "FOLDER",
     "with install: the folder where the node's files are; all paths are below it"},
    {"bin-dir", OPTION_STRING, "FOLDER",
     "with install: where the kubelet finds the program; default: " PROVIDER_BIN_DIR},
    {"config", OPTION_STRING, "FILE",
     "with install: the configuration for the kubelet; default: " PROVIDER_CONFIG},
    {"credentials", OPTION_STRING, "FILE",
     "with install: Google's credentials on the node; default: the metadata server"},
    {"pod-audience", OPTION_STRING, "AUDIENCE",
     "with install: pods that opted in pull with tokens of their own for this audience"},
    {"image", OPTION_LIST, "PATTERN",
     "with install: for which images; default: those of Google's registries"},
};

const struct command kubelet_credential_provider_command = {
    .name = "kubelet-credential-provider",
    .arguments = "[get-credentials|install]",
    .most = 1,
    .summary = "give the kubelet the credentials that it requests",
    .text = "The kubelet runs this command. It reads a CredentialProviderRequest (v1 or v1beta1)\n"
            "from standard input, and prints a CredentialProviderResponse.\n"
            "With install, it copies itself to a node, with its libraries and its loader, so that\n"
            "the copy needs nothing of the node; it writes the configuration for the kubelet, and\n"
            "says which flags the kubelet lacks. It restarts nothing.\n",
    COMMAND_OPTIONS(options),
    .run = run,
};
