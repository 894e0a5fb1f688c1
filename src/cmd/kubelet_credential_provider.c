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

#define COMMAND     "tarn kubelet-credential-provider"
#define API         "credentialprovider.kubelet.k8s.io/"
#define OPT_IN      "iam.gke.io/enable-wi-image-pull"
#define EMPTY_CACHE "0s"

enum {
    INPUT_LIMIT = 1 << 20,
    /* The token must outlast a pull that begins when the kubelet's cached credentials end. */
    MARGIN_MS = 225000,
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

static int run(const struct arguments *arguments) {
    /* Credential providers are usually called with this argument. */
    if (arguments->operand_count == 1 && strcmp(arguments->operands[0], "get-credentials") != 0)
        return command_refuse(arguments->command, "unknown argument %s", arguments->operands[0]);
    secret_forbid_core_dumps();
    cleanup_secret_buffer struct buffer input = {0};
    if (!standard_input_read(INPUT_LIMIT, &input))
        return refuse("standard input is longer than 1 MiB, or cannot be read");
    return respond_to(&input);
}

const struct command kubelet_credential_provider_command = {
    .name = "kubelet-credential-provider",
    .arguments = "[get-credentials]",
    .most = 1,
    .summary = "give the kubelet the credentials that it requests",
    .text = "The kubelet runs this command. It reads a CredentialProviderRequest (v1 or v1beta1)\n"
            "from standard input, and prints a CredentialProviderResponse.\n",
    .run = run,
};
