/* tarn warm: has the running tarn pull images before anyone asks, over its socket file. */
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "cmd/commands.h"
#include "cmd/help.h"
#include "cmd/warm_progress.h"
#include "cmd/warming.h"
#include "config/config.h"
#include "oci/error_body.h"

enum { LINE_LIMIT = 64 << 10 };

/* ---- what was asked for ---- */

struct order {
    json_t *images, *platforms; /* arrays of strings, owned */
    const char *config, *root;  /* NULL: not given */
    bool json;
};

static void free_order(struct order *order) {
    json_decref(order->images);
    json_decref(order->platforms);
}

/* The value of `--name VALUE` or `--name=VALUE`, with *at moved behind it. NULL: another argument,
 * or (*missing) there is none. */
static const char *take_value(const char *name, int argc, char **argv, int *at, bool *missing) {
    size_t length = strlen(name);
    const char *argument = argv[*at];
    if (strncmp(argument, name, length) != 0)
        return NULL;
    if (argument[length] == '=') {
        ++*at;
        return argument + length + 1;
    }
    if (argument[length] != '\0')
        return NULL;
    *missing = *at + 1 >= argc;
    if (*missing)
        return NULL;
    *at += 2;
    return argv[*at - 1];
}

static void add_platforms(struct order *order, struct text list) {
    while (list.at) {
        struct text platform = text_cut(list, ',', &list);
        json_array_append_new(order->platforms, json_stringn(platform.at, platform.length));
    }
}

static bool refuse(const char *what, const char *which) {
    fprintf(stderr, "tarn warm: %s%s (see tarn warm --help)\n", what, which);
    return false;
}

/* False: usage is wrong, and that was told. */
static bool read_arguments(struct order *order, int argc, char **argv) {
    bool only_images = false;
    for (int at = 1; at < argc;) {
        const char *value;
        bool missing = false;
        if (only_images || argv[at][0] != '-') {
            json_array_append_new(order->images, json_string(argv[at++]));
        } else if (strcmp(argv[at], "--") == 0) {
            only_images = true;
            at++;
        } else if (strcmp(argv[at], "--json") == 0) {
            order->json = true;
            at++;
        } else if ((value = take_value("--platform", argc, argv, &at, &missing))) {
            add_platforms(order, text_of(value));
        } else if (!missing && (value = take_value("--config", argc, argv, &at, &missing))) {
            order->config = value;
        } else if (!missing && (value = take_value("--root", argc, argv, &at, &missing))) {
            order->root = value;
        } else {
            return refuse(missing ? "a value is missing behind " : "unknown argument ", argv[at]);
        }
    }
    if (json_array_size(order->images) == 0)
        return refuse("say which images", "");
    if (order->config && order->root)
        return refuse("--config and --root exclude each other", "");
    return true;
}

/* ---- where the running tarn is ---- */

/* The root of the tarn that is meant, the caller's to free; NULL: its configuration is wrong, which
 * was told. */
static char *find_root(const struct order *order) {
    if (order->root)
        return strdup(order->root);
    cleanup_buffer struct buffer problems = {0};
    const struct config_flags flags = {.file = order->config};
    struct config *config = config_load(&flags, environ, &problems);
    char *root = config ? strdup(config->root) : NULL;
    config_free(config);
    if (!root)
        fputs(problems.bytes ? problems.bytes : "tarn warm: out of memory\n", stderr);
    return root;
}

static int no_tarn_there(const char *root, int error_number) {
    if (error_number == EACCES || error_number == EPERM)
        fprintf(stderr,
                "tarn warm: %s/" WARMING_SOCKET ": %s; run this as the user that tarn runs as\n",
                root, strerror(error_number));
    else
        fprintf(stderr,
                "tarn warm: no tarn is running with the root %s (%s); start it with tarn serve, or "
                "name another root with --root or --config\n",
                root, strerror(error_number));
    return 1;
}

/* ---- the answer ---- */

struct answer {
    CURL *curl;
    struct warm_progress *progress; /* NULL: the lines as they are */
    struct buffer rest;             /* a line that is not whole yet; a refusal's body */
    size_t images_done, images_failed;
};

/* Failures are told in words too, whichever way the rest is shown. */
static void note_end(struct answer *answer, const json_t *line) {
    const char *state = json_string_value(json_object_get(line, "state"));
    const char *image = json_string_value(json_object_get(line, "image"));
    const char *error = json_string_value(json_object_get(line, "error"));
    if (state && strcmp(state, "done") == 0) {
        answer->images_done++;
        return;
    }
    answer->images_failed++;
    fflush(stdout);
    fprintf(stderr, "tarn warm: %s: %s\n", image ? image : "?", error ? error : "failed");
}

static bool take_line(struct answer *answer, struct text text) {
    cleanup_json json_t *line = json_loadb(text.at, text.length, 0, NULL);
    if (!json_is_object(line))
        return false;
    if (answer->progress)
        warm_progress_take(answer->progress, line);
    else
        printf("%.*s\n", TEXT_PRINT(text));
    fflush(stdout);
    if (!json_object_get(line, "digest"))
        note_end(answer, line);
    return true;
}

static size_t take_bytes(char *bytes, size_t one, size_t length, void *context) {
    struct answer *answer = context;
    struct buffer *rest = &answer->rest;
    long status = 0;
    (void)one;
    if (rest->length + length > LINE_LIMIT || !buffer_append(rest, bytes, length))
        return 0;
    curl_easy_getinfo(answer->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200)
        return length;
    const char *newline;
    size_t used = 0;
    while ((newline = memchr(rest->bytes + used, '\n', rest->length - used))) {
        size_t end = (size_t)(newline - rest->bytes);
        if (!take_line(answer, (struct text){rest->bytes + used, end - used}))
            return 0;
        used = end + 1;
    }
    memmove(rest->bytes, rest->bytes + used, rest->length - used);
    rest->length -= used;
    return length;
}

/* ---- the request ---- */

static int judge(struct answer *answer, CURLcode code, const char *root, size_t images) {
    long status = 0, error_number = 0;
    char word[32], message[256];
    curl_easy_getinfo(answer->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(answer->curl, CURLINFO_OS_ERRNO, &error_number);
    if (code == CURLE_COULDNT_CONNECT)
        return no_tarn_there(root, error_number ? (int)error_number : ECONNREFUSED);
    if (code == CURLE_OK && status != 200) {
        error_body_read(answer->rest.bytes, answer->rest.length, word, sizeof word, message,
                        sizeof message);
        fprintf(stderr, "tarn warm: tarn refused with status %ld: %s\n", status, message);
        return 1;
    }
    if (code != CURLE_OK || answer->images_done + answer->images_failed < images) {
        fprintf(stderr, "tarn warm: the answer ended early: %s\n",
                code == CURLE_OK ? "did tarn stop?" : curl_easy_strerror(code));
        return 1;
    }
    return answer->images_failed ? 1 : 0;
}

/* Opens the root, so that the socket's path is short enough however long the root's is. */
static int open_root(const char *root, char *socket_path, size_t size) {
    int directory = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    snprintf(socket_path, size, "/proc/self/fd/%d/" WARMING_SOCKET, directory);
    return directory;
}

static int ask(const struct order *order, const char *root) {
    char socket_path[sizeof((struct sockaddr_un *)NULL)->sun_path];
    cleanup_close int directory = open_root(root, socket_path, sizeof socket_path);
    if (directory < 0)
        return no_tarn_there(root, errno);
    cleanup_json json_t *json = json_pack("{s:O}", "images", order->images);
    if (json_array_size(order->platforms))
        json_object_set(json, "platforms", order->platforms);
    cleanup_free char *body = json ? json_dumps(json, JSON_COMPACT) : NULL;
    struct answer answer = {.curl = curl_easy_init()};
    CURL *curl = answer.curl;
    if (!body || !curl) {
        fputs("tarn warm: out of memory\n", stderr);
        curl_easy_cleanup(curl);
        return 1;
    }
    struct curl_slist *fields = curl_slist_append(NULL, "Content-Type: application/json");
    curl_easy_setopt(curl, CURLOPT_URL, "http://tarn/tarn/v1/warm");
    curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, socket_path);
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, fields);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_bytes);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &answer);
    if (!order->json && isatty(STDOUT_FILENO))
        answer.progress = warm_progress_new(stdout);
    CURLcode code = curl_easy_perform(curl);
    int status = judge(&answer, code, root, json_array_size(order->images));
    warm_progress_free(answer.progress);
    buffer_free(&answer.rest);
    curl_slist_free_all(fields);
    curl_easy_cleanup(curl);
    return status;
}

int cmd_warm(int argc, char **argv) {
    struct order order = {.images = json_array(), .platforms = json_array()};
    for (int at = 1; at < argc && strcmp(argv[at], "--") != 0; at++) {
        if (strcmp(argv[at], "--help") == 0 || strcmp(argv[at], "-h") == 0) {
            free_order(&order);
            return help_command("warm", stdout);
        }
    }
    int status = 2;
    if (read_arguments(&order, argc, argv)) {
        cleanup_free char *root = find_root(&order);
        status = root ? ask(&order, root) : 1;
    }
    free_order(&order);
    return status;
}
