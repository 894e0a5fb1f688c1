/* Turns requests of containerd into calls of the snapshotter, and outcomes into answers. */
#include "node/snapshot/calls.h"

#include <stdlib.h>
#include <string.h>
#include "base/cleanup.h"
#include "base/json.h"
#include "base/log.h"
#include "snapshot.pb-c.h"

#define SERVICE "/containerd.services.snapshots.v1.Snapshots/"

enum {
    MEMORY_LIMIT = 16 << 20, /* bytes that one parsed request may take */
    /* What malloc() adds to each piece, at least. */
    MEMORY_PIECE = 16,
};

/* ---- parsing ---- */

/* The memory of one parsed request. */
struct allowance {
    size_t left;
    bool is_spent;
};

static void *allocate(void *context, size_t size) {
    struct allowance *allowance = context;
    if (size + MEMORY_PIECE > allowance->left) {
        allowance->is_spent = true;
        return NULL;
    }
    allowance->left -= size + MEMORY_PIECE;
    return malloc(size);
}

static void release(void *context, void *pointer) {
    (void)context;
    free(pointer);
}

static const ProtobufCAllocator plain_allocator = {.alloc = allocate, .free = release};

/* NULL: the error says why. The caller frees it with release_message(). */
static ProtobufCMessage *parse_message(const ProtobufCMessageDescriptor *descriptor,
                                       const struct grpc_request *request) {
    struct allowance allowance = {.left = MEMORY_LIMIT};
    ProtobufCAllocator allocator = plain_allocator;
    allocator.allocator_data = &allowance;
    ProtobufCMessage *message = protobuf_c_message_unpack(descriptor, &allocator, request->length,
                                                          (const uint8_t *)request->message);
    if (!message)
        error_set(request->error, allowance.is_spent ? ERROR_BUSY : ERROR_INVALID,
                  allowance.is_spent ? "the request takes too much memory"
                                     : "the request is no such message");
    return message;
}

static void release_message(ProtobufCMessage **message) {
    ProtobufCAllocator allocator = plain_allocator;
    if (*message)
        protobuf_c_message_free_unpacked(*message, &allocator);
}
#define cleanup_message __attribute__((cleanup(release_message)))

/* Whether a name may be one. `what` is for the error. */
static bool check_name(const char *name, const char *what, bool may_be_empty, struct error *error) {
    if (!name[0] && !may_be_empty)
        return error_set(error, ERROR_INVALID, "the %s is empty", what);
    if (strlen(name) >= ENTRIES_NAME_LIMIT || !text_is_utf8(text_of(name)))
        return error_set(error, ERROR_INVALID, "the %s is no UTF-8 of less than %d bytes", what,
                         ENTRIES_NAME_LIMIT);
    return true;
}

/* The labels as an object, the caller's. One without a value is absent, as in containerd. NULL: the
 * error says why. */
static json_t *parse_labels(Snapshot__Label *const *labels, size_t count, struct error *error) {
    cleanup_json json_t *object = json_object();
    size_t total = 0;
    bool done = object != NULL;
    for (size_t i = 0; done && i < count; i++) {
        const char *key = labels[i]->key, *value = labels[i]->value;
        size_t length = strlen(key) + strlen(value);
        total += length;
        if (!key[0] || length > ENTRIES_LABEL_LIMIT || total > ENTRIES_LABELS_LIMIT ||
            !text_is_utf8(text_of(key)) || !text_is_utf8(text_of(value))) {
            error_set(
                error, ERROR_INVALID,
                "the label '%.100s' is wrong: key and value are UTF-8 of at most %d bytes, and "
                "all labels of a snapshot have at most %d",
                text_is_utf8(text_of(key)) ? key : "?", ENTRIES_LABEL_LIMIT, ENTRIES_LABELS_LIMIT);
            return NULL;
        }
        if (value[0])
            done = json_object_set_new(object, key, json_string(value)) == 0;
        else
            json_object_del(object, key);
    }
    if (!done)
        error_set(error, ERROR_MEMORY, "out of memory");
    return done ? take(object) : NULL;
}

/* ---- answering ---- */

static bool append(const struct grpc_request *request, const ProtobufCMessage *message) {
    uint8_t *out = grpc_add_message(request->reply, protobuf_c_message_get_packed_size(message));
    if (!out)
        return error_set(request->error, ERROR_MEMORY, "out of memory");
    protobuf_c_message_pack(message, out);
    return true;
}

static enum grpc_status status_of_error(const struct error *error) {
    switch (error->kind) {
    case ERROR_INVALID:
        return GRPC_INVALID_ARGUMENT;
    case ERROR_NOT_FOUND:
        return GRPC_NOT_FOUND;
    case ERROR_DENIED:
        return GRPC_PERMISSION_DENIED;
    case ERROR_RATE_LIMITED:
    case ERROR_BUSY:
    case ERROR_NO_SPACE:
    case ERROR_MEMORY:
    case ERROR_FILES:
        return GRPC_RESOURCE_EXHAUSTED;
    case ERROR_UNAVAILABLE:
    case ERROR_TIMEOUT:
        return GRPC_UNAVAILABLE;
    case ERROR_CORRUPT:
        return GRPC_DATA_LOSS;
    case ERROR_RANGE:
        return GRPC_OUT_OF_RANGE;
    case ERROR_CLOSED:
        return GRPC_CANCELLED;
    case ERROR_UNSUPPORTED:
        return GRPC_UNIMPLEMENTED;
    case ERROR_IO:
    case ERROR_NONE:
        break;
    }
    return GRPC_INTERNAL;
}

static enum grpc_status status_of(enum snapshots_outcome outcome, const struct error *error) {
    switch (outcome) {
    case SNAPSHOTS_DONE:
        return GRPC_OK;
    case SNAPSHOTS_EXISTS:
        return GRPC_ALREADY_EXISTS;
    case SNAPSHOTS_PRECONDITION:
        return GRPC_FAILED_PRECONDITION;
    case SNAPSHOTS_FAILED:
        break;
    }
    return status_of_error(error);
}

/* Answers with an empty message, if the outcome is good. */
static enum grpc_status answer_empty(const struct grpc_request *request,
                                     enum snapshots_outcome outcome) {
    const Snapshot__Empty empty = SNAPSHOT__EMPTY__INIT;
    if (outcome == SNAPSHOTS_DONE && !append(request, &empty.base))
        return status_of_error(request->error);
    return status_of(outcome, request->error);
}

/* Answers with what is to be mounted. */
static enum grpc_status answer_mount(const struct grpc_request *request,
                                     enum snapshots_outcome outcome,
                                     const struct snapshots_mount *mount) {
    Snapshot__Mount message = SNAPSHOT__MOUNT__INIT, *messages[] = {&message};
    Snapshot__MountsResponse response = SNAPSHOT__MOUNTS_RESPONSE__INIT;
    if (outcome != SNAPSHOTS_DONE)
        return status_of(outcome, request->error);
    message.type = (char *)mount->type;
    message.source = mount->source;
    message.n_options = mount->count;
    message.options = (char **)mount->options;
    response.n_mounts = 1;
    response.mounts = messages;
    return append(request, &response.base) ? GRPC_OK : status_of_error(request->error);
}

/* Shows entries as messages of their own. */
struct showing {
    const struct grpc_request *request;
    bool in_list; /* a ListResponse; else an InfoResponse */
    bool failed;
};

static Snapshot__Time time_of(int64_t ns) {
    Snapshot__Time time = SNAPSHOT__TIME__INIT;
    time.seconds = ns / 1000000000;
    time.nanos = (int32_t)(ns % 1000000000);
    return time;
}

/* The labels as messages, which refer to the entry's texts; the caller frees both arrays. */
static bool list_labels(const struct entry *entry, Snapshot__Label **labels,
                        Snapshot__Label ***list) {
    size_t count = json_object_size(entry->labels), i = 0;
    *labels = calloc(count + 1, sizeof **labels);
    *list = calloc(count + 1, sizeof **list);
    const char *key;
    json_t *value;
    if (!*labels || !*list)
        return false;
    json_object_foreach (entry->labels, key, value) {
        snapshot__label__init(&(*labels)[i]);
        (*labels)[i].key = (char *)key;
        (*labels)[i].value = (char *)json_string_value(value);
        (*list)[i] = &(*labels)[i];
        i++;
    }
    return true;
}

static void show(void *context, const struct entry *entry) {
    struct showing *showing = context;
    Snapshot__Info info = SNAPSHOT__INFO__INIT, *infos[] = {&info};
    Snapshot__InfoResponse single = SNAPSHOT__INFO_RESPONSE__INIT;
    Snapshot__ListResponse list = SNAPSHOT__LIST_RESPONSE__INIT;
    Snapshot__Time created = time_of(entry->created_ns), updated = time_of(entry->updated_ns);
    cleanup_free Snapshot__Label *labels = NULL;
    cleanup_free Snapshot__Label **label_list = NULL;
    if (!list_labels(entry, &labels, &label_list)) {
        showing->failed = true;
        return;
    }
    info.name = entry->name;
    info.parent = entry->parent ? entry->parent->name : (char *)"";
    info.kind = (Snapshot__Kind)entry->kind;
    info.created_at = &created;
    info.updated_at = &updated;
    info.n_labels = json_object_size(entry->labels);
    info.labels = label_list;
    single.info = &info;
    list.n_info = 1;
    list.info = infos;
    if (!append(showing->request, showing->in_list ? &list.base : &single.base))
        showing->failed = true;
}

static enum grpc_status status_of_showing(const struct showing *showing) {
    if (!showing->failed)
        return GRPC_OK;
    error_set(showing->request->error, ERROR_MEMORY, "out of memory");
    return GRPC_RESOURCE_EXHAUSTED;
}

/* ---- methods ---- */

static enum grpc_status create(struct snapshots *snapshots, const struct grpc_request *request,
                               enum entry_kind kind) {
    cleanup_message ProtobufCMessage *message =
        parse_message(&snapshot__create_request__descriptor, request);
    const Snapshot__CreateRequest *asked = (const Snapshot__CreateRequest *)message;
    if (!asked || !check_name(asked->key, "key", false, request->error) ||
        !check_name(asked->parent, "parent", true, request->error))
        return status_of_error(request->error);
    cleanup_json json_t *labels = parse_labels(asked->labels, asked->n_labels, request->error);
    if (!labels)
        return status_of_error(request->error);
    const struct snapshots_request wanted = {
        .key = asked->key, .parent = asked->parent, .labels = labels, .stop = request->stop};
    cleanup_snapshots_mount struct snapshots_mount mount = {0};
    enum snapshots_outcome outcome =
        snapshots_prepare(snapshots, kind, &wanted, &mount, request->error);
    return answer_mount(request, outcome, &mount);
}

static enum grpc_status prepare(struct snapshots *snapshots, const struct grpc_request *request) {
    return create(snapshots, request, ENTRY_ACTIVE);
}

static enum grpc_status view(struct snapshots *snapshots, const struct grpc_request *request) {
    return create(snapshots, request, ENTRY_VIEW);
}

/* The key of a request that has no more than a key; NULL: the error says why. */
static const char *key_of(const ProtobufCMessage *message, const struct grpc_request *request) {
    const Snapshot__KeyRequest *asked = (const Snapshot__KeyRequest *)message;
    return asked && check_name(asked->key, "key", false, request->error) ? asked->key : NULL;
}

static enum grpc_status mounts(struct snapshots *snapshots, const struct grpc_request *request) {
    cleanup_message ProtobufCMessage *message =
        parse_message(&snapshot__key_request__descriptor, request);
    const char *key = key_of(message, request);
    cleanup_snapshots_mount struct snapshots_mount mount = {0};
    return key ? answer_mount(
                     request,
                     snapshots_mounts(snapshots, key, request->stop, &mount, request->error),
                     &mount)
               : status_of_error(request->error);
}

static enum grpc_status commit(struct snapshots *snapshots, const struct grpc_request *request) {
    cleanup_message ProtobufCMessage *message =
        parse_message(&snapshot__commit_request__descriptor, request);
    const Snapshot__CommitRequest *asked = (const Snapshot__CommitRequest *)message;
    if (!asked || !check_name(asked->name, "name", false, request->error) ||
        !check_name(asked->key, "key", false, request->error) ||
        !check_name(asked->parent, "parent", true, request->error))
        return status_of_error(request->error);
    cleanup_json json_t *labels = parse_labels(asked->labels, asked->n_labels, request->error);
    const struct snapshots_request wanted = {
        .key = asked->key, .parent = asked->parent, .labels = labels, .stop = request->stop};
    return labels ? answer_empty(request,
                                 snapshots_commit(snapshots, asked->name, &wanted, request->error))
                  : status_of_error(request->error);
}

static enum grpc_status remove_one(struct snapshots *snapshots,
                                   const struct grpc_request *request) {
    cleanup_message ProtobufCMessage *message =
        parse_message(&snapshot__key_request__descriptor, request);
    const char *key = key_of(message, request);
    return key ? answer_empty(request, snapshots_remove(snapshots, key, request->error))
               : status_of_error(request->error);
}

static enum grpc_status stat_one(struct snapshots *snapshots, const struct grpc_request *request) {
    cleanup_message ProtobufCMessage *message =
        parse_message(&snapshot__key_request__descriptor, request);
    const char *key = key_of(message, request);
    struct showing showing = {.request = request};
    enum snapshots_outcome outcome =
        key ? snapshots_stat(snapshots, key, show, &showing, request->error) : SNAPSHOTS_FAILED;
    return outcome == SNAPSHOTS_DONE ? status_of_showing(&showing)
                                     : status_of(outcome, request->error);
}

static enum grpc_status update(struct snapshots *snapshots, const struct grpc_request *request) {
    cleanup_message ProtobufCMessage *message =
        parse_message(&snapshot__update_request__descriptor, request);
    const Snapshot__UpdateRequest *asked = (const Snapshot__UpdateRequest *)message;
    if (asked && !asked->info)
        error_set(request->error, ERROR_INVALID, "the request has no info");
    if (!asked || !asked->info || !check_name(asked->info->name, "name", false, request->error))
        return status_of_error(request->error);
    cleanup_json json_t *labels =
        parse_labels(asked->info->labels, asked->info->n_labels, request->error);
    if (!labels)
        return status_of_error(request->error);
    struct showing showing = {.request = request};
    const Snapshot__FieldMask *mask = asked->update_mask;
    enum snapshots_outcome outcome = snapshots_update(
        snapshots, asked->info->name, labels, mask ? (const char *const *)mask->paths : NULL,
        mask ? mask->n_paths : 0, show, &showing, request->error);
    return outcome == SNAPSHOTS_DONE ? status_of_showing(&showing)
                                     : status_of(outcome, request->error);
}

static enum grpc_status list(struct snapshots *snapshots, const struct grpc_request *request) {
    cleanup_message ProtobufCMessage *message =
        parse_message(&snapshot__list_request__descriptor, request);
    const Snapshot__ListRequest *asked = (const Snapshot__ListRequest *)message;
    cleanup_filters struct filters *filters =
        asked ? filters_parse((const char *const *)asked->filters, asked->n_filters, request->error)
              : NULL;
    struct showing showing = {.request = request, .in_list = true};
    if (!filters)
        return status_of_error(request->error);
    snapshots_list(snapshots, filters, show, &showing);
    return status_of_showing(&showing);
}

static enum grpc_status usage(struct snapshots *snapshots, const struct grpc_request *request) {
    cleanup_message ProtobufCMessage *message =
        parse_message(&snapshot__key_request__descriptor, request);
    const char *key = key_of(message, request);
    Snapshot__UsageResponse response = SNAPSHOT__USAGE_RESPONSE__INIT;
    uint64_t size = 0, inodes = 0;
    enum snapshots_outcome outcome =
        key ? snapshots_usage(snapshots, key, &size, &inodes, request->error) : SNAPSHOTS_FAILED;
    response.size = (int64_t)size;
    response.inodes = (int64_t)inodes;
    if (outcome != SNAPSHOTS_DONE || !append(request, &response.base))
        return status_of(SNAPSHOTS_FAILED, request->error);
    return GRPC_OK;
}

static enum grpc_status clean_up(struct snapshots *snapshots, const struct grpc_request *request) {
    cleanup_message ProtobufCMessage *message =
        parse_message(&snapshot__cleanup_request__descriptor, request);
    if (!message)
        return status_of_error(request->error);
    snapshots_cleanup(snapshots);
    return answer_empty(request, SNAPSHOTS_DONE);
}

static const struct method {
    const char *name;
    enum grpc_status (*answer)(struct snapshots *, const struct grpc_request *);
} methods[] = {
    {"Prepare", prepare},   {"View", view},        {"Mounts", mounts}, {"Commit", commit},
    {"Remove", remove_one}, {"Stat", stat_one},    {"Update", update}, {"List", list},
    {"Usage", usage},       {"Cleanup", clean_up},
};

enum grpc_status calls_answer(void *context, const struct grpc_request *request) {
    const struct text path = text_of(request->path);
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        if (!text_starts(path, SERVICE) ||
            !text_is(text_from(path, strlen(SERVICE)), methods[i].name))
            continue;
        enum grpc_status status = methods[i].answer(context, request);
        if (status == GRPC_INTERNAL || status == GRPC_DATA_LOSS ||
            status == GRPC_RESOURCE_EXHAUSTED || status == GRPC_UNAVAILABLE)
            log_at(LOG_WARN, "snapshot call failed", LOG_STRING("method", methods[i].name),
                   LOG_STRING("error", request->error->text));
        return status;
    }
    error_set(request->error, ERROR_UNSUPPORTED, "there is no method %s", request->path);
    return GRPC_UNIMPLEMENTED;
}
