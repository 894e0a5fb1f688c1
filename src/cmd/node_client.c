/* Sends an order to the agent, and reads the response. */
#include "cmd/node_client.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "node/agent/agent.h"
#include "node/agent/control.h"
#include "node/agent/supervisor.h"
#include "oci/error_body.h"

enum {
    BODY_LIMIT = 64 << 20,
    WAIT_MS = 30000, /* how long an agent that runs may take to answer at its socket again */
    PAUSE_MS = 50,
};

static const char *run_folder(const struct arguments *arguments) {
    const char *given = arguments_string(arguments, "run");
    return given ? given : agent_settings_default().run;
}

/* Whether a supervisor holds its lock. */
static bool is_running(const char *run) {
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    cleanup_close int folder = open(run, O_PATH | O_DIRECTORY | O_CLOEXEC);
    cleanup_close int fd = folder < 0 ? -1 : openat(folder, SUPERVISOR_LOCK, O_RDWR | O_CLOEXEC);
    return fd >= 0 && fcntl(fd, F_OFD_GETLK, &whole) == 0 && whole.l_type != F_UNLCK;
}

static size_t on_bytes(char *bytes, size_t one, size_t length, void *context) {
    struct buffer *body = context;
    (void)one;
    return body->length + length <= BODY_LIMIT && buffer_append(body, bytes, length) ? length : 0;
}

/* ---- one attempt ---- */

struct attempt {
    CURLcode code;
    int status, number; /* of the response; of the system's error, when connecting failed */
};

static struct attempt perform(CURL *curl, const struct node_client_order *order,
                              const char *socket_path, struct buffer *body) {
    struct attempt attempt = {0};
    long status = 0, number = 0;
    cleanup_free char *url = NULL;
    struct curl_slist *fields = curl_slist_append(NULL, "Content-Type: application/json");
    if (asprintf(&url, "http://tarn" CONTROL_MOUNTS "%s", order->query) < 0) {
        url = NULL;
        attempt.code = CURLE_OUT_OF_MEMORY;
    }
    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, socket_path);
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, fields);
    if (order->body)
        curl_easy_setopt(curl, CURLOPT_COPYPOSTFIELDS, order->body);
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, order->method);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, body);
    if (attempt.code == CURLE_OK)
        attempt.code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(curl, CURLINFO_OS_ERRNO, &number);
    attempt.status = (int)status;
    attempt.number = number ? (int)number : ECONNREFUSED;
    curl_slist_free_all(fields);
    return attempt;
}

/* The path of a socket is limited to 107 bytes: through a descriptor it is short. */
static struct attempt attempt_once(CURL *curl, const struct node_client_order *order,
                                   const char *run, struct buffer *body) {
    char socket_path[sizeof((struct sockaddr_un *)NULL)->sun_path];
    cleanup_close int folder = open(run, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return (struct attempt){.code = CURLE_COULDNT_CONNECT, .number = errno};
    snprintf(socket_path, sizeof socket_path, "/proc/self/fd/%d/" CONTROL_SOCKET, folder);
    return perform(curl, order, socket_path, body);
}

/* ---- all attempts ---- */

/* The reason in place of the body that says it. */
static void take_reason(struct buffer *body) {
    char code[32], message[600];
    if (!error_body_read(body->bytes ? body->bytes : "", body->length, code, sizeof code, message,
                         sizeof message))
        snprintf(message, sizeof message, "the agent gives no reason");
    buffer_clear(body);
    buffer_append_string(body, message);
}

static int fail(const struct arguments *arguments, const char *run, const struct attempt *attempt) {
    const char *name = arguments->command->name;
    if (attempt->code == CURLE_COULDNT_CONNECT)
        fprintf(stderr,
                "tarn %s: no agent answers at %s/" CONTROL_SOCKET
                ": %s; start tarn node, or name its folder with --run\n",
                name, run, strerror(attempt->number));
    else
        fprintf(stderr, "tarn %s: %s/" CONTROL_SOCKET ": %s\n", name, run,
                curl_easy_strerror(attempt->code));
    return 0;
}

int node_client_send(const struct arguments *arguments, const struct node_client_order *order,
                     bool *is_repeated, struct buffer *body) {
    const char *run = run_folder(arguments);
    const int64_t until_ms = clock_ms() + WAIT_MS;
    CURL *curl = curl_easy_init();
    struct attempt attempt = {.code = CURLE_OUT_OF_MEMORY};
    bool was_cut = false;
    while (curl) {
        buffer_clear(body);
        attempt = attempt_once(curl, order, run, body);
        bool is_away = attempt.code == CURLE_COULDNT_CONNECT &&
                       (attempt.number == ECONNREFUSED || attempt.number == ENOENT);
        bool is_cut = attempt.code == CURLE_GOT_NOTHING || attempt.code == CURLE_RECV_ERROR ||
                      attempt.code == CURLE_SEND_ERROR || attempt.code == CURLE_PARTIAL_FILE;
        if ((!is_away && !is_cut) || !is_running(run) || (is_away && clock_ms() >= until_ms))
            break;
        was_cut = was_cut || is_cut;
        clock_sleep_ms(PAUSE_MS);
    }
    curl_easy_cleanup(curl);
    if (is_repeated)
        *is_repeated = was_cut;
    if (attempt.code != CURLE_OK)
        return fail(arguments, run, &attempt);
    if (attempt.status != 200)
        take_reason(body);
    return attempt.status;
}

/* ---- folders ---- */

static char *resolve(const char *folder) {
    char *path = realpath(folder, NULL);
    if (path || errno == ENOENT || errno == ENOTDIR || errno == ENAMETOOLONG)
        return path;
    /* Its file system does not answer. The folder that it is in may. */
    cleanup_free char *copy = strdup(folder);
    if (!copy)
        return NULL;
    size_t length = strlen(copy);
    while (length > 1 && copy[length - 1] == '/')
        copy[--length] = '\0';
    char *slash = strrchr(copy, '/');
    const char *name = slash ? slash + 1 : copy;
    if (slash)
        *slash = '\0';
    cleanup_free char *parent = realpath(!slash ? "." : slash == copy ? "/" : copy, NULL);
    if (!parent || asprintf(&path, "%s/%s", strcmp(parent, "/") == 0 ? "" : parent, name) < 0)
        return NULL;
    return path;
}

char *node_client_folder(const struct arguments *arguments, const char *folder) {
    char *path = resolve(folder);
    if (!path)
        fprintf(stderr, "tarn %s: %s: %s\n", arguments->command->name, folder, strerror(errno));
    return path;
}
