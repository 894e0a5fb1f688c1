/* Writing: who may, upload sessions, and the statuses of what goes wrong (distribution-spec,
 * "Push"). */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/cleanup.h"
#include "registry/call.h"
#include "registry/renewal.h"
#include "registry/sessions.h"
#include "store/blobs.h"
#include "upstream/name.h"

enum {
    PIECE = 64 << 10,
    RECEIVE_MS = 250,
    QUERY_SIZE = SEALED_SIZE + HOST_LIMIT + 32,
};

/* ---- answers about a session ---- */

/* The fields of an answer about a session whose address has this query. */
static void add_fields_of(struct call *call, struct session *session, const char *query) {
    char rest[sizeof "blobs/uploads/" + SEALED_ID_SIZE];
    uint64_t received = session_received(session);
    snprintf(rest, sizeof rest, "blobs/uploads/%s", session_id(session));
    call_add_location(call, rest, query);
    http_add_field(call->exchange, "Range", "0-%" PRIu64, received ? received - 1 : 0);
    http_add_field(call->exchange, "Docker-Upload-UUID", "%s", session_uuid(session));
    if (session_least_chunk(session))
        http_add_field(call->exchange, "OCI-Chunk-Min-Length", "%" PRIu64,
                       session_least_chunk(session));
}

/* The fields of every answer about a session. False: they cannot be made. */
static bool add_session_fields(struct call *call, struct session *session) {
    static const char name[] = "_state=";
    cleanup_free char *query = malloc(QUERY_SIZE);
    bool sealed = query && session_seal(session, query + strlen(name));
    if (sealed) {
        memcpy(query, name, strlen(name));
        add_fields_of(call, session, query);
    }
    return sealed;
}

static void respond_session(struct call *call, struct session *session, int status) {
    if (!add_session_fields(call, session)) {
        call_fail(call, 500, "UNKNOWN", "tarn is out of memory");
        return;
    }
    call_add_fields(call);
    http_respond(call->exchange, status, NULL, "", 0);
}

static void respond_created(struct call *call, const struct digest *digest) {
    char text[DIGEST_STRING_SIZE], rest[sizeof "blobs/" + DIGEST_STRING_SIZE];
    digest_format(digest, text);
    snprintf(rest, sizeof rest, "blobs/%s", text);
    call_add_location(call, rest, "");
    http_add_field(call->exchange, "Docker-Content-Digest", "%s", text);
    call_add_fields(call);
    http_respond(call->exchange, 201, NULL, "", 0);
}

/* ---- the body ---- */

/* Whether the blob may become so long. False: 413 was sent, and the session is gone. `session`
 * NULL: the part alone is looked at. */
static bool check_length(struct call *call, struct session *session, uint64_t more) {
    uint64_t most = call->view->settings.max_blob;
    uint64_t there = session ? session_received(session) : 0;
    if (most == 0 || (more <= most && there <= most - more))
        return true;
    if (session)
        session_cancel(session);
    call_fail(call, 413, "SIZE_INVALID", "the blob is longer than max_blob, %" PRIu64 " bytes",
              most);
    return false;
}

/* The same of a request whose session is not here. */
static bool check_body_length(struct call *call) {
    uint64_t length;
    return !http_body_length(call->exchange, &length) || check_length(call, NULL, length);
}

/* The outcome of a piece. */
enum piece { PIECE_DONE, PIECE_FAILED /* with an error */, PIECE_ANSWERED };

/* Feeds the session with what the client sends. */
static enum piece receive_piece(struct call *call, struct session *session, struct error *error) {
    cleanup_free unsigned char *bytes = malloc(PIECE);
    if (!bytes) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return PIECE_FAILED;
    }
    for (;;) {
        ssize_t got = http_receive(call->exchange, bytes, PIECE, RECEIVE_MS, error);
        if (got == 0)
            return PIECE_DONE;
        if (got == HTTP_BODY_FAILED)
            return PIECE_FAILED;
        if (got == HTTP_BODY_NOTHING)
            continue;
        uint64_t most = call->view->settings.max_blob;
        if (most && session_received(session) + (uint64_t)got > most) {
            session_feed_end(session, false, error);
            check_length(call, session, (uint64_t)got);
            return PIECE_ANSWERED;
        }
        if (!session_feed(session, bytes, (size_t)got, error))
            return PIECE_FAILED;
    }
}

/* A piece that failed: the client's fault, or upstream's. */
static void fail_piece(struct call *call, struct session *session, const struct error *error) {
    /* Bytes are lost: the client begins anew. */
    if (error->kind == ERROR_NO_SPACE || error->kind == ERROR_NOT_FOUND)
        session_cancel(session);
    if (error->kind == ERROR_INVALID)
        call_fail(call, 400, "BLOB_UPLOAD_INVALID", "%s", error->text);
    else if (error->kind == ERROR_TIMEOUT && !http_body_has_ended(call->exchange))
        call_drop(call);
    else
        call_fail_write(call, error);
}

/* Takes the request's body as the next piece. False: it was answered. */
static bool take_piece(struct call *call, struct session *session) {
    struct error error = {0}, failure = {0};
    uint64_t length;
    bool known = http_body_length(call->exchange, &length);
    if (known && length == 0)
        return true;
    if (known && !check_length(call, session, length))
        return false;
    if (!session_feed_begin(session, known ? length : SESSION_LENGTH_UNKNOWN, &error)) {
        call_fail_write(call, &error);
        return false;
    }
    enum piece piece = receive_piece(call, session, &error);
    if (piece == PIECE_ANSWERED)
        return false;
    bool ended = session_feed_end(session, piece == PIECE_DONE, &failure);
    if (piece == PIECE_DONE && ended)
        return true;
    fail_piece(call, session, piece == PIECE_DONE ? &failure : &error);
    return false;
}

/* ---- Content-Range ---- */

/* "START-END", as distribution-spec has it, perhaps with "bytes " in front and a total behind. */
static bool parse_content_range(struct text value, uint64_t *first, uint64_t *last) {
    struct text rest;
    if (text_starts(value, "bytes "))
        value = text_trim(text_from(value, 6));
    value = text_cut(value, '/', &rest);
    struct text start = text_cut(value, '-', &rest);
    return rest.at && text_to_u64(start, first) && text_to_u64(rest, last) && *first <= *last;
}

static bool refuse_range(struct call *call, struct session *session, const char *why) {
    if (add_session_fields(call, session))
        call_fail(call, 416, "BLOB_UPLOAD_INVALID", "%s; %" PRIu64 " bytes are here", why,
                  session_received(session));
    return false;
}

/* Whether the piece follows what is here. False: a refusal was sent. */
static bool check_range(struct call *call, struct session *session) {
    struct text value = http_field(call->request, "Content-Range");
    uint64_t first, last, length;
    if (!value.at)
        return session_stands_as_told(session) ||
               refuse_range(call, session, "the upload has gone on elsewhere");
    if (!http_field_alone(call->request, "Content-Range").at ||
        !parse_content_range(value, &first, &last))
        return refuse_range(call, session, "Content-Range is malformed: write START-END");
    if (http_body_length(call->exchange, &length) && length != last - first + 1) {
        call_fail(call, 400, "SIZE_INVALID",
                  "Content-Range and Content-Length contradict each other");
        return false;
    }
    if (first != session_received(session))
        return refuse_range(call, session, "the piece does not begin where the upload stands");
    return true;
}

/* ---- the requests of a session ---- */

/* Reads the query's digest. False: a refusal was sent, and the session is gone. */
static bool read_digest(struct call *call, struct session *session, struct digest *digest) {
    char text[DIGEST_STRING_SIZE + 8];
    bool found;
    if (http_query(call->request, "digest", text, sizeof text, &found) &&
        digest_parse(text_of(text), digest))
        return true;
    if (session)
        session_cancel(session);
    call_fail(call, 400, "DIGEST_INVALID",
              found ? "the parameter digest is no digest"
                    : "the request needs the digest of the blob (?digest=sha256:...)");
    return false;
}

/* Checks and ends the upload. */
static void finish(struct call *call, struct session *session, const struct digest *digest) {
    struct error error = {0};
    call->digest = *digest;
    if (!session_check(session, digest, &error)) {
        session_cancel(session);
        call_fail_write(call, &error);
    } else if (!session_finish(session, digest, &error)) {
        bool is_over = error.kind == ERROR_NO_SPACE || error.kind == ERROR_NOT_FOUND ||
                       call_is_refusal(error.status);
        if (is_over)
            session_cancel(session);
        call_fail_write(call, &error);
    } else {
        respond_created(call, digest);
    }
}

static void put_upload(struct call *call, struct session *session) {
    struct digest digest;
    if (!read_digest(call, session, &digest) || !check_range(call, session) ||
        !take_piece(call, session))
        return;
    finish(call, session, &digest);
}

static void patch_upload(struct call *call, struct session *session) {
    if (check_range(call, session) && take_piece(call, session))
        respond_session(call, session, 202);
}

static void delete_upload(struct call *call, struct session *session) {
    session_cancel(session);
    call_add_fields(call);
    http_respond(call->exchange, 204, NULL, NULL, 0);
}

static void answer_session(struct call *call, struct session *session) {
    switch (call->request->method) {
    case HTTP_PATCH:
        patch_upload(call, session);
        break;
    case HTTP_PUT:
        put_upload(call, session);
        break;
    case HTTP_DELETE:
        delete_upload(call, session);
        break;
    default:
        respond_session(call, session, 204);
    }
}

/* Answers a request to a session whose address was opened, here or at the replica that holds it. */
static void handle_sealed(struct call *call, const struct sealed_session *sealed) {
    struct sessions *sessions = call->registry->sessions;
    struct session *session;
    struct member holder;
    struct error error = {0};
    call_set_answer(call, REPLICA_ANSWER_HELD);
    if (call->ask == REPLICA_ASK_NONE && sessions_is_elsewhere(sessions, sealed, &holder) &&
        (!check_body_length(call) || call_hand_on_upload(call, &holder)))
        return;
    if (!sessions_take(sessions, &call->repository, sealed, &session, &error)) {
        call_fail_write(call, &error);
        return;
    }
    answer_session(call, session);
    session_give(session);
}

static void handle_session(struct call *call) {
    struct error error = {0};
    bool found;
    cleanup_free char *text = malloc(SEALED_SIZE);
    cleanup_free struct sealed_session *sealed = calloc(1, sizeof *sealed);
    if (!text || !sealed || !http_query(call->request, "_state", text, SEALED_SIZE, &found))
        call_fail(call, 404, "BLOB_UPLOAD_UNKNOWN", "this upload is not known; begin it anew");
    else if (!sessions_open(call->registry->sessions, &call->repository, call->route.upload,
                            text_of(text), sealed, &error))
        call_fail_write(call, &error);
    else
        handle_sealed(call, sealed);
}

/* ---- POST ---- */

/* Reads what is to be mounted. False: nothing, or nothing that the client may read. */
static bool read_mount(struct call *call, struct digest *digest, struct repository *from) {
    char text[DIGEST_STRING_SIZE + 8], name[HOST_LIMIT + NAME_LIMIT + 2];
    bool found;
    const char *host = call->repository.name.host;
    struct error ignored;
    if (!http_query(call->request, "mount", text, sizeof text, &found) ||
        !digest_parse(text_of(text), digest) ||
        !http_query(call->request, "from", name, sizeof name, &found))
        return false;
    size_t length = strlen(host);
    const char *path =
        strncmp(name, host, length) == 0 && name[length] == '/' ? name + length + 1 : name;
    return name_resolve(call->view->upstreams, host, text_of(path), from, &ignored) &&
           strcmp(from->name.host, host) == 0 && call_may_read(call, &from->name);
}

static void respond_mounted(struct call *call, const struct digest *digest) {
    const struct registry_settings *settings = &call->registry->settings;
    uint64_t size = 0;
    bool is_stored = store_blob_has(settings->store, digest, &size);
    renewal_blob_written(settings->asker, settings->cache, &call->repository, digest, size,
                         is_stored);
    call->is_mounted = true;
    respond_created(call, digest);
}

static void begin_upload(struct call *call) {
    struct session *session;
    struct error error = {0};
    struct digest digest, mounted;
    struct repository from;
    char ignored[8];
    bool monolithic;
    http_query(call->request, "digest", ignored, sizeof ignored, &monolithic);
    if (monolithic && !read_digest(call, NULL, &digest))
        return;
    if (monolithic && !check_body_length(call))
        return;
    bool mounts = !monolithic && read_mount(call, &mounted, &from);
    const struct push_mount mount = {.digest = &mounted, .from = from.name.path};
    if (!sessions_begin(call->registry->sessions, &call->repository, mounts ? &mount : NULL,
                        &session, &error)) {
        call_fail_write(call, &error);
        return;
    }
    if (!session)
        respond_mounted(call, &mounted);
    else if (!monolithic)
        respond_session(call, session, 202);
    else if (take_piece(call, session))
        finish(call, session, &digest);
    session_give(session);
}

/* ---- who may do what ---- */

static void refuse_method(struct call *call, const char *allowed, const char *why) {
    http_add_field(call->exchange, "Allow", "%s", allowed);
    call_fail(call, 405, "UNSUPPORTED", "%s", why);
}

/* Whether any upstream takes pushes: else nothing is looked at. */
static bool takes_pushes(const struct upstreams *upstreams) {
    const struct upstream *upstream = NULL;
    while ((upstream = upstreams_next(upstreams, upstream)))
        if (upstream_settings(upstream)->push)
            return true;
    return false;
}

/* The methods of the route that write; NULL: none. */
static const char *methods_of(const struct call *call) {
    switch (call->route.kind) {
    case ROUTE_UPLOAD:
        return call->route.upload[0] ? "GET, PATCH, PUT, DELETE" : "POST";
    case ROUTE_MANIFEST:
        return "GET, HEAD, PUT, DELETE";
    case ROUTE_BLOB:
        return "GET, HEAD, DELETE";
    default:
        return NULL;
    }
}

/* Whether the upstream takes such a request. False: 405 was sent. */
static bool check_method(struct call *call) {
    const struct upstream_settings *settings = upstream_settings(call->repository.upstream);
    enum http_method method = call->request->method;
    const char *methods = methods_of(call);
    bool is_content = call->route.kind != ROUTE_UPLOAD;
    bool is_known = is_content ? method == HTTP_DELETE ||
                                     (method == HTTP_PUT && call->route.kind == ROUTE_MANIFEST)
                    : call->route.upload[0] ? method == HTTP_GET || method == HTTP_PATCH ||
                                                  method == HTTP_PUT || method == HTTP_DELETE
                                            : method == HTTP_POST;
    if (!settings->push)
        refuse_method(call, "GET, HEAD",
                      "tarn is a cache for reading this upstream (push: false); push to the "
                      "registry");
    else if (!is_known)
        refuse_method(call, methods, "there is no such request to this path");
    else if (is_content && method == HTTP_DELETE && !settings->allows_delete)
        refuse_method(call, call->route.kind == ROUTE_MANIFEST ? "GET, HEAD, PUT" : "GET, HEAD",
                      "nothing may be deleted from this upstream through tarn (delete: false)");
    else
        return true;
    return false;
}

/* Finds the repository. False: an error was sent. */
static bool find_repository(struct call *call) {
    enum route_fault fault = call->route.fault;
    if (fault == ROUTE_BAD_TAG || fault == ROUTE_BAD_DIGEST)
        call->route.fault = ROUTE_FINE; /* that is looked at later */
    bool ok = call_name_upstream(call);
    call->route.fault = fault;
    return ok;
}

/* What is wrong with the reference. False: an error was sent. */
static bool check_reference(struct call *call) {
    if (call->route.fault == ROUTE_BAD_TAG)
        call_fail(call, 400, "TAG_INVALID",
                  "a tag is at most %d letters, digits, _ . and -, and begins with a letter, a "
                  "digit or _",
                  TAG_LIMIT);
    else if (call->route.fault == ROUTE_BAD_DIGEST)
        call_fail(call, 400, "DIGEST_INVALID", "the reference in the path is no digest");
    else
        return true;
    return false;
}

bool call_handle_push(struct call *call) {
    if (!methods_of(call) || !takes_pushes(call->view->upstreams)) {
        refuse_method(call, "GET, HEAD", "tarn is a cache for reading; push to the registry");
        return true;
    }
    if (!find_repository(call) || !check_method(call) || !call_check_push(call) ||
        !check_reference(call))
        return true;
    if (call->must_not_wait)
        return false;
    call->is_push = true;
    if (call->route.kind != ROUTE_UPLOAD && call->request->method == HTTP_DELETE)
        call_delete(call);
    else if (call->route.kind == ROUTE_MANIFEST)
        call_put_manifest(call);
    else if (call->route.upload[0])
        handle_session(call);
    else
        begin_upload(call);
    return true;
}
