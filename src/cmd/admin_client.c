/* Sends an order over the socket file of a running tarn, and reads the lines of the response. */
#include "cmd/admin_client.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include "admin/admin.h"
#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "oci/error_body.h"

enum { LINE_LIMIT = 16 << 20 }; /* an image may have many tags */

struct response {
    const struct admin_client_order *order;
    CURL *curl;
    struct buffer rest; /* the part of a line that has arrived; or the body of an error response */
};

/* ---- the response ---- */

static bool pass_line(const struct response *response, struct text text) {
    cleanup_json json_t *line = json_loadb(text.at, text.length, 0, NULL);
    return json_is_object(line) && response->order->on_line(response->order->context, line, text);
}

static size_t on_bytes(char *bytes, size_t one, size_t length, void *context) {
    struct response *response = context;
    struct buffer *rest = &response->rest;
    long status = 0;
    (void)one;
    if (rest->length + length > LINE_LIMIT || !buffer_append(rest, bytes, length))
        return 0;
    curl_easy_getinfo(response->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200)
        return length;
    const char *newline;
    size_t used = 0;
    while ((newline = memchr(rest->bytes + used, '\n', rest->length - used))) {
        size_t end = (size_t)(newline - rest->bytes);
        if (!pass_line(response, (struct text){rest->bytes + used, end - used}))
            return 0;
        used = end + 1;
    }
    memmove(rest->bytes, rest->bytes + used, rest->length - used);
    rest->length -= used;
    return length;
}

/* ---- the request ---- */

static enum admin_client_outcome print_failure(const struct response *response, const char *what,
                                               const char *why) {
    fflush(stdout);
    fprintf(stderr, "tarn %s: %s: %s\n", response->order->command, what, why);
    return ADMIN_CLIENT_FAILED;
}

static enum admin_client_outcome unreachable(const struct admin_client_order *order, int number,
                                             int *error_number) {
    *error_number = number;
    if (number != EACCES && number != EPERM)
        return ADMIN_CLIENT_ABSENT;
    fprintf(stderr, "tarn %s: %s/" ADMIN_SOCKET ": %s; run this as the user that tarn runs as\n",
            order->command, order->root, strerror(number));
    return ADMIN_CLIENT_FAILED;
}

static enum admin_client_outcome outcome_of(struct response *response, CURLcode code,
                                            int *error_number) {
    long status = 0, number = 0;
    char word[32], message[256], what[64];
    curl_easy_getinfo(response->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(response->curl, CURLINFO_OS_ERRNO, &number);
    if (code == CURLE_COULDNT_CONNECT)
        return unreachable(response->order, number ? (int)number : ECONNREFUSED, error_number);
    if (code != CURLE_OK)
        return print_failure(response, "the response ended early", curl_easy_strerror(code));
    if (status == 200)
        return ADMIN_CLIENT_ANSWERED;
    error_body_read(response->rest.bytes, response->rest.length, word, sizeof word, message,
                    sizeof message);
    snprintf(what, sizeof what, "tarn refused with status %ld", status);
    return print_failure(response, what, message);
}

/* Opens the root, because the path of a socket is limited to 107 bytes: through the descriptor it
 * is short, however long the path of the root is. */
static int open_root(const char *root, char *socket_path, size_t size) {
    int directory = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    snprintf(socket_path, size, "/proc/self/fd/%d/" ADMIN_SOCKET, directory);
    return directory;
}

static enum admin_client_outcome perform(struct response *response, const char *socket_path,
                                         const char *url, int *error_number) {
    CURL *curl = response->curl;
    struct curl_slist *fields = curl_slist_append(NULL, "Content-Type: application/json");
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, socket_path);
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, fields);
    if (response->order->body)
        curl_easy_setopt(curl, CURLOPT_COPYPOSTFIELDS, response->order->body);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, response);
    enum admin_client_outcome outcome = outcome_of(response, curl_easy_perform(curl), error_number);
    curl_slist_free_all(fields);
    return outcome;
}

enum admin_client_outcome admin_client_send(const struct admin_client_order *order,
                                            int *error_number) {
    char socket_path[sizeof((struct sockaddr_un *)NULL)->sun_path];
    cleanup_close int directory = open_root(order->root, socket_path, sizeof socket_path);
    if (directory < 0)
        return unreachable(order, errno, error_number);
    cleanup_buffer struct buffer url = {0};
    struct response response = {.order = order, .curl = curl_easy_init()};
    if (!buffer_printf(&url, "http://tarn%s", order->target) || !response.curl) {
        curl_easy_cleanup(response.curl);
        fprintf(stderr, "tarn %s: out of memory\n", order->command);
        return ADMIN_CLIENT_FAILED;
    }
    enum admin_client_outcome outcome = perform(&response, socket_path, url.bytes, error_number);
    curl_easy_cleanup(response.curl);
    buffer_finish(&response.rest);
    return outcome;
}

char *admin_client_escape(const char *text) {
    char *escaped = curl_easy_escape(NULL, text, 0);
    char *copy = escaped ? strdup(escaped) : NULL;
    curl_free(escaped);
    return copy;
}
