/*
 * A fast stand-in for kube-apiserver and its kubelets, and a bare client of it. For bench/keep.py.
 *
 *     cluster serve NODES DELAY prints its port; ends with standard input. Whoever creates or
 * deletes a pod gets the response after DELAY ms cluster loop PORT COUNT CONNECTIONS FILE creates
 * and deletes the pods of FILE, a line each, COUNT in all
 *
 * One thread answers plain HTTP on loopback: nodes in pages and by watch, pods to create, watch and
 * delete, a Lease. Each pod has pulled at once, unless its node is called "slow-…"; then the order
 * GET /bench/end ends it. GET /bench/… gives orders: see orders[]. Nothing is checked here that the
 * tests' own stand-in checks.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS = 64, IMAGES = 50, PODS = 100000, PAGE_LIMIT = 500 };

struct bytes {
    char *at;
    size_t length, capacity;
};

struct connection {
    int fd;
    struct bytes in, out;
    size_t sent;
    int watches; /* 0: nothing; 'n' or 'p' */
    double due;  /* when `out` may be sent */
};

struct pod {
    char name[64];
    json_t *object; /* NULL: deleted */
    double created;
};

static struct connection connections[CONNECTIONS];
static json_t **nodes;
static size_t node_count;
static struct pod pods[PODS];
static unsigned long version = 1000;
static size_t created, deleted, most, twice, requests, lease_requests;
static double first_created, last_deleted, node_added, node_first_pod, updates_per_s, next_update;
static size_t updates;
static double delay;
static json_t *lease, *seen; /* "NODE IMAGE" of each pod */
static char added_node[64];

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void append(struct bytes *bytes, const char *from, size_t length) {
    if (bytes->length + length + 1 > bytes->capacity) {
        bytes->capacity = (bytes->length + length + 1) * 2;
        bytes->at = realloc(bytes->at, bytes->capacity);
        if (!bytes->at)
            abort();
    }
    memcpy(bytes->at + bytes->length, from, length);
    bytes->length += length;
    bytes->at[bytes->length] = '\0';
}

/* ---- objects ---- */

/* A node with 50 images of five names: 26 KB of JSON. */
static json_t *make_node(const char *name, unsigned shift) {
    char text[400];
    json_t *images = json_array();
    for (unsigned i = 0; i < IMAGES; i++) {
        json_t *names = json_array();
        for (unsigned n = 0; n < 5; n++) {
            snprintf(text, sizeof text,
                     n < 2 ? "registry-%u.example.org/organization/image-%u@sha256:%064u"
                           : "registry-%u.example.org/organization/image-%u:version-%u",
                     n, i + shift, i + shift + n);
            json_array_append_new(names, json_string(text));
        }
        json_array_append_new(images, json_pack("{s:o, s:i}", "names", names, "sizeBytes",
                                                (int)(900000000 - i * 1000)));
    }
    snprintf(text, sizeof text, "uid-%s", name);
    return json_pack(
        "{s:{s:s, s:s, s:s, s:{s:s}}, s:{}, s:{s:[{s:s, s:s}], s:{s:s, s:s, s:s}, s:{s:s}, s:o}}",
        "metadata", "name", name, "uid", text, "resourceVersion", "1", "labels", "pool", "user",
        "spec", "status", "conditions", "type", "Ready", "status", "True", "nodeInfo",
        "architecture", "amd64", "operatingSystem", "linux", "bootID", "boot", "capacity",
        "ephemeral-storage", "1000Gi", "images", images);
}

static void put_version(json_t *object) {
    char text[24];
    snprintf(text, sizeof text, "%lu", ++version);
    json_object_set_new(json_object_get(object, "metadata"), "resourceVersion", json_string(text));
}

static void tell(int kind, const char *type, json_t *object) {
    char size[24];
    char *text = json_dumps(object, JSON_COMPACT);
    struct bytes line = {0};
    append(&line, "{\"type\":\"", 9);
    append(&line, type, strlen(type));
    append(&line, "\",\"object\":", 11);
    append(&line, text, strlen(text));
    append(&line, "}\n", 2);
    snprintf(size, sizeof size, "%zx\r\n", line.length);
    append(&line, "\r\n", 2);
    for (int i = 0; i < CONNECTIONS; i++) {
        if (connections[i].fd < 0 || connections[i].watches != kind)
            continue;
        append(&connections[i].out, size, strlen(size));
        append(&connections[i].out, line.at, line.length);
    }
    free(text);
    free(line.at);
}

/* ---- responses ---- */

static void respond(struct connection *connection, int status, const char *body) {
    char head[160];
    snprintf(head, sizeof head,
             "HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
             status, strlen(body));
    append(&connection->out, head, strlen(head));
    append(&connection->out, body, strlen(body));
}

static void respond_json(struct connection *connection, int status, json_t *json) {
    char *text = json_dumps(json, JSON_COMPACT);
    respond(connection, status, text);
    free(text);
}

static void watch(struct connection *connection, int kind) {
    static const char head[] =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    connection->watches = kind;
    append(&connection->out, head, sizeof head - 1);
}

static void list_nodes(struct connection *connection, const char *query) {
    const char *from = strstr(query, "continue="), *limit = strstr(query, "limit=");
    size_t at = from ? strtoul(from + 9, NULL, 10) : 0;
    size_t count = limit ? strtoul(limit + 6, NULL, 10) : PAGE_LIMIT;
    char text[24];
    json_t *items = json_array();
    for (; at < node_count && json_array_size(items) < count; at++)
        json_array_append(items, nodes[at]);
    json_t *list = json_pack("{s:s, s:s, s:{s:s}, s:o}", "kind", "NodeList", "apiVersion", "v1",
                             "metadata", "resourceVersion", "1", "items", items);
    if (at < node_count) {
        snprintf(text, sizeof text, "%zu", at);
        json_object_set_new(json_object_get(list, "metadata"), "continue", json_string(text));
    }
    respond_json(connection, 200, list);
    json_decref(list);
}

static void list_pods(struct connection *connection) {
    json_t *items = json_array();
    for (size_t i = 0; i < created; i++) {
        if (pods[i].object)
            json_array_append(items, pods[i].object);
    }
    json_t *list = json_pack("{s:s, s:s, s:{s:s}, s:o}", "kind", "PodList", "apiVersion", "v1",
                             "metadata", "resourceVersion", "1", "items", items);
    respond_json(connection, 200, list);
    json_decref(list);
}

/* ---- pods ---- */

static const char *text_in(const json_t *object, const char *one, const char *other) {
    const char *text = json_string_value(json_object_get(json_object_get(object, one), other));
    return text ? text : "";
}

static void end_pull(struct pod *pod) {
    json_t *metadata = json_object_get(pod->object, "metadata");
    char id[300];
    snprintf(id, sizeof id, "pulled@%s", text_in(metadata, "annotations", "tarn/digest"));
    json_object_set_new(pod->object, "status",
                        json_pack("{s:s, s:[{s:s, s:{s:{s:s, s:i}}}]}", "phase", "Succeeded",
                                  "containerStatuses", "imageID", id, "state", "terminated",
                                  "reason", "Completed", "exitCode", 0));
    put_version(pod->object);
    tell('p', "MODIFIED", pod->object);
}

static void create_pod(struct connection *connection, const char *body) {
    json_t *object = json_loads(body, 0, NULL);
    if (!object || created == PODS) {
        respond(connection, 400, "{}");
        return;
    }
    struct pod *pod = &pods[created];
    json_t *metadata = json_object_get(object, "metadata");
    const char *node = text_in(object, "spec", "nodeName");
    char key[400], uid[24];
    snprintf(pod->name, sizeof pod->name, "%.40s%zu",
             json_string_value(json_object_get(metadata, "generateName")), created);
    snprintf(uid, sizeof uid, "pod-%zu", created);
    json_object_set_new(metadata, "name", json_string(pod->name));
    json_object_set_new(metadata, "uid", json_string(uid));
    json_object_set_new(object, "status", json_pack("{s:s}", "phase", "Pending"));
    put_version(object);
    pod->object = object;
    pod->created = now();
    first_created = created++ ? first_created : pod->created;
    most = created - deleted > most ? created - deleted : most;
    snprintf(key, sizeof key, "%s %s", node, text_in(metadata, "annotations", "tarn/image"));
    twice += json_object_get(seen, key) != NULL;
    json_object_set_new(seen, key, json_true());
    if (strcmp(node, added_node) == 0 && !node_first_pod)
        node_first_pod = pod->created;
    respond_json(connection, 201, object);
    tell('p', "ADDED", object);
    if (strncmp(node, "slow-", 5) != 0)
        end_pull(pod);
}

static void delete_pod(struct connection *connection, const char *name) {
    const char *number = name + strcspn(name, " ");
    while (number > name && number[-1] >= '0' && number[-1] <= '9')
        number--;
    size_t at = strtoul(number, NULL, 10);
    if (at >= created || !pods[at].object ||
        strncmp(pods[at].name, name, strlen(pods[at].name)) != 0) {
        respond(connection, 404, "{\"kind\":\"Status\",\"code\":404,\"reason\":\"NotFound\"}");
        return;
    }
    put_version(pods[at].object);
    respond_json(connection, 200, pods[at].object);
    tell('p', "DELETED", pods[at].object);
    json_decref(pods[at].object);
    pods[at].object = NULL;
    deleted++;
    last_deleted = now();
}

/* ---- orders of the bench ---- */

static void add_node(const char *name) {
    snprintf(added_node, sizeof added_node, "%.*s", (int)strcspn(name, " "), name);
    nodes = realloc(nodes, (node_count + 1) * sizeof(json_t *));
    nodes[node_count++] = make_node(added_node, 0);
    put_version(nodes[node_count - 1]);
    node_added = now();
    node_first_pod = 0;
    tell('n', "ADDED", nodes[node_count - 1]);
}

static void update_a_node(void) {
    json_t *node = nodes[updates % node_count];
    json_t *fresh =
        make_node(json_string_value(json_object_get(json_object_get(node, "metadata"), "name")),
                  (unsigned)(updates / node_count % 2));
    put_version(fresh);
    json_decref(node);
    nodes[updates++ % node_count] = fresh;
    tell('n', "MODIFIED", fresh);
}

static void order(struct connection *connection, const char *word) {
    if (strncmp(word, "add/", 4) == 0)
        add_node(word + 4);
    else if (strncmp(word, "updates/", 8) == 0)
        updates_per_s = strtod(word + 8, NULL), next_update = now();
    else if (strncmp(word, "end", 3) == 0) {
        for (size_t i = 0; i < created; i++) {
            if (pods[i].object &&
                !json_object_get(json_object_get(pods[i].object, "status"), "containerStatuses"))
                end_pull(&pods[i]);
        }
    }
    json_t *answer = json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:f}", "created", (json_int_t)created,
        "deleted", (json_int_t)deleted, "most", (json_int_t)most, "twice", (json_int_t)twice,
        "requests", (json_int_t)requests, "lease_requests", (json_int_t)lease_requests, "updates",
        (json_int_t)updates, "seconds", last_deleted - first_created, "node_added", node_added,
        "node_first_pod", node_first_pod, "now", now());
    respond_json(connection, 200, answer);
    json_decref(answer);
}

static void use_lease(struct connection *connection, const char *head, const char *body) {
    lease_requests++;
    if (strncmp(head, "GET", 3) != 0) {
        json_decref(lease);
        lease = json_loads(body, 0, NULL);
        put_version(lease);
        json_object_set_new(json_object_get(lease, "metadata"), "uid", json_string("lease"));
    }
    if (lease)
        respond_json(connection, 200, lease);
    else
        respond(connection, 404, "{\"kind\":\"Status\",\"code\":404,\"reason\":\"NotFound\"}");
}

/* ---- requests ---- */

static void answer(struct connection *connection, const char *head, const char *body) {
    static const char pod_path[] = "/api/v1/namespaces/tarn/pods";
    const char *path = strchr(head, ' ') + 1;
    bool watches = strstr(head, "watch=true") != NULL;
    if (strncmp(path, "/bench/", 7) == 0) {
        order(connection, path + 7);
        return;
    }
    requests++;
    if (strncmp(path, "/api/v1/nodes", 13) == 0)
        watches ? watch(connection, 'n') : list_nodes(connection, path);
    else if (strstr(path, "/leases"))
        use_lease(connection, head, body);
    else if (strncmp(path, pod_path, sizeof pod_path - 1) != 0)
        respond(connection, 404, "{\"kind\":\"Status\",\"code\":404,\"reason\":\"NotFound\"}");
    else if (strncmp(head, "POST", 4) == 0)
        connection->due = now() + delay, create_pod(connection, body);
    else if (strncmp(head, "DELETE", 6) == 0)
        connection->due = now() + delay, delete_pod(connection, path + sizeof pod_path);
    else
        watches ? watch(connection, 'p') : list_pods(connection);
}

/* Answers the whole requests that have arrived. */
static void answer_all(struct connection *connection) {
    char *end;
    struct bytes *in = &connection->in;
    while (in->length && (end = strstr(in->at, "\r\n\r\n"))) {
        const char *field = strcasestr(in->at, "\ncontent-length:");
        size_t length = field && field < end ? strtoul(field + 16, NULL, 10) : 0;
        size_t whole = (size_t)(end + 4 - in->at) + length;
        if (in->length < whole)
            return;
        char *body = strndup(end + 4, length);
        *strpbrk(in->at, "\r") = '\0';
        answer(connection, in->at, body);
        free(body);
        memmove(in->at, in->at + whole, in->length - whole + 1);
        in->length -= whole;
    }
}

static void hang_up(struct connection *connection) {
    close(connection->fd);
    free(connection->in.at);
    free(connection->out.at);
    *connection = (struct connection){.fd = -1};
}

static void send_out(struct connection *connection) {
    struct bytes *out = &connection->out;
    while (connection->sent < out->length) {
        ssize_t wrote = send(connection->fd, out->at + connection->sent,
                             out->length - connection->sent, MSG_NOSIGNAL);
        if (wrote <= 0)
            return;
        connection->sent += (size_t)wrote;
    }
    out->length = connection->sent = 0;
}

static void receive(struct connection *connection) {
    static char buffer[1 << 18];
    ssize_t got = recv(connection->fd, buffer, sizeof buffer, 0);
    if (got == 0 || (got < 0 && errno != EAGAIN)) {
        hang_up(connection);
        return;
    }
    if (got > 0)
        append(&connection->in, buffer, (size_t)got);
    answer_all(connection);
}

static void accept_one(int listener) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), yes = 1;
    for (int i = 0; fd >= 0 && i < CONNECTIONS; i++) {
        if (connections[i].fd >= 0)
            continue;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        connections[i] = (struct connection){.fd = fd};
        return;
    }
    close(fd);
}

static void turn(int listener) {
    struct pollfd polled[CONNECTIONS + 2] = {{listener, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
    int wait = updates_per_s > 0 ? 2 : 1000;
    for (int i = 0; i < CONNECTIONS; i++) {
        bool sends = connections[i].fd >= 0 && connections[i].out.length;
        double left = sends ? connections[i].due - now() : 0;
        if (left > 0 && left * 1000 < wait)
            wait = (int)(left * 1000);
        polled[2 + i] =
            (struct pollfd){connections[i].fd, POLLIN | (sends && left <= 0 ? POLLOUT : 0), 0};
    }
    poll(polled, CONNECTIONS + 2, wait);
    if (polled[1].revents)
        exit(0);
    if (polled[0].revents)
        accept_one(listener);
    for (int i = 0; i < CONNECTIONS; i++) {
        if (connections[i].fd >= 0 && polled[2 + i].revents & (POLLIN | POLLHUP | POLLERR))
            receive(&connections[i]);
    }
    for (; updates_per_s > 0 && now() >= next_update; next_update += 1 / updates_per_s)
        update_a_node();
    for (int i = 0; i < CONNECTIONS; i++) {
        if (connections[i].fd >= 0 && connections[i].out.length && connections[i].due <= now())
            send_out(&connections[i]);
    }
}

static int serve(size_t count) {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, size) != 0 || listen(listener, 128) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) != 0)
        return 1;
    seen = json_object();
    nodes = calloc(count + 1, sizeof(json_t *));
    for (; node_count < count; node_count++) {
        char name[32];
        snprintf(name, sizeof name, "node-%04zu", node_count);
        nodes[node_count] = make_node(name, 0);
    }
    for (int i = 0; i < CONNECTIONS; i++)
        connections[i].fd = -1;
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;)
        turn(listener);
}

/* ---- the bare client ---- */

struct loop {
    int port;
    char **bodies;
    size_t body_count, count;
    size_t next;
    pthread_mutex_t lock;
};

/* Sends a request and reads the response into `buffer`. */
static void ask(int fd, const char *method, const char *path, const char *body, char *buffer,
                size_t size) {
    int length = snprintf(buffer, size,
                          "%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                          "Content-Length: %zu\r\n\r\n%s",
                          method, path, strlen(body), body);
    if (send(fd, buffer, (size_t)length, 0) != length)
        abort();
    size_t have = 0, whole = SIZE_MAX;
    while (have < whole) {
        ssize_t got = recv(fd, buffer + have, size - have - 1, 0);
        if (got <= 0)
            abort();
        have += (size_t)got;
        buffer[have] = '\0';
        const char *end = strstr(buffer, "\r\n\r\n"), *field = strstr(buffer, "Content-Length: ");
        if (end && field)
            whole = (size_t)(end + 4 - buffer) + strtoul(field + 16, NULL, 10);
    }
}

static void *churn(void *context) {
    struct loop *loop = context;
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)loop->port),
                                  .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        abort();
    static _Thread_local char buffer[1 << 16];
    for (;;) {
        pthread_mutex_lock(&loop->lock);
        size_t at = loop->next++;
        pthread_mutex_unlock(&loop->lock);
        if (at >= loop->count)
            return NULL;
        char path[200];
        ask(fd, "POST", "/api/v1/namespaces/tarn/pods", loop->bodies[at % loop->body_count], buffer,
            sizeof buffer);
        const char *name = strstr(buffer, "\"name\":\"keep-");
        if (!name)
            abort();
        snprintf(path, sizeof path, "/api/v1/namespaces/tarn/pods/%.*s",
                 (int)strcspn(name + 8, "\""), name + 8);
        ask(fd, "DELETE", path, "", buffer, sizeof buffer);
    }
}

static int run_loop(char **arguments) {
    struct loop loop = {.port = atoi(arguments[0]),
                        .count = strtoul(arguments[1], NULL, 10),
                        .lock = PTHREAD_MUTEX_INITIALIZER};
    int count = atoi(arguments[2]);
    FILE *file = fopen(arguments[3], "r");
    size_t size = 0;
    char *line = NULL;
    pthread_t threads[CONNECTIONS];
    while (file && getline(&line, &size, file) > 0) {
        loop.bodies = realloc(loop.bodies, (loop.body_count + 1) * sizeof(char *));
        loop.bodies[loop.body_count++] = strdup(line);
    }
    if (!loop.body_count || count > CONNECTIONS)
        return 1;
    for (int i = 0; i < count; i++)
        pthread_create(&threads[i], NULL, churn, &loop);
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    return 0;
}

int main(int count, char **arguments) {
    if (count == 4 && strcmp(arguments[1], "serve") == 0) {
        delay = atof(arguments[3]) / 1000;
        return serve(strtoul(arguments[2], NULL, 10));
    }
    if (count == 6 && strcmp(arguments[1], "loop") == 0)
        return run_loop(arguments + 2);
    return 2;
}
