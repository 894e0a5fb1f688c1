/* The tarn of the tests of spans. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <ftw.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "layer/archive.h"
#include "layer/build.h"
#include "oci/manifest.h"
#include "spans/world.h"

enum { FILES = 7, FILE_BYTES = 2 << 20 };

/* ---- the image ---- */

static void fill(char *out, size_t length, uint64_t seed) {
    static const char letters[] = "0123456789abcdefghijklmnopqrstuv";
    for (size_t i = 0; i < length; i++) {
        seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
        out[i] = letters[seed >> 59];
    }
}

static void make_tar(struct buffer *out, unsigned number) {
    char *body = malloc(FILE_BYTES), name[32];
    for (unsigned i = 0; i < (number == 0 ? FILES : 1); i++) {
        snprintf(name, sizeof name, "layer%u-file%u", number, i);
        fill(body, FILE_BYTES, number * 100 + i);
        const struct archive_entry entry = {.name = name, .body = body, .size = FILE_BYTES - i};
        archive_add(out, &entry);
    }
    archive_end(out);
    free(body);
}

static void make_layer(struct world_layer *layer, unsigned number) {
    struct error error = {0};
    make_tar(&layer->tar, number);
    archive_gzip(&layer->blob, layer->tar.bytes, layer->tar.length, 1, 0);
    assert_true(digest_of(DIGEST_SHA256, layer->tar.bytes, layer->tar.length, &layer->diff_id));
    assert_true(digest_of(DIGEST_SHA256, layer->blob.bytes, layer->blob.length, &layer->digest));
    const struct build_recipe recipe = {.layer = layer->digest, .diff_id = layer->diff_id};
    struct build *build = build_new(&recipe);
    assert_true(build_feed(build, layer->blob.bytes, layer->blob.length, &error));
    assert_true(build_finish(build, &layer->index, &error));
    build_free(build);
    assert_true(layer_index_open(layer->index.bytes, layer->index.length, &layer->opened, &error));
}

static void make_manifest(struct world *world) {
    char digest[DIGEST_STRING_SIZE];
    buffer_append_string(&world->config,
                         "{\"os\":\"linux\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[");
    for (size_t i = 0; i < WORLD_LAYERS; i++)
        buffer_printf(&world->config, "%s\"%s\"", i ? "," : "",
                      digest_format(&world->layers[i].diff_id, digest));
    buffer_append_string(&world->config, "]}}");
    digest_of(DIGEST_SHA256, world->config.bytes, world->config.length, &world->config_digest);
    buffer_printf(&world->manifest,
                  "{\"schemaVersion\":2,\"mediaType\":\"" MEDIA_OCI_MANIFEST
                  "\",\"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json\","
                  "\"digest\":\"%s\",\"size\":%zu},\"layers\":[",
                  digest_format(&world->config_digest, digest), world->config.length);
    for (size_t i = 0; i < WORLD_LAYERS; i++)
        buffer_printf(&world->manifest,
                      "%s{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar+gzip\","
                      "\"digest\":\"%s\",\"size\":%zu}",
                      i ? "," : "", digest_format(&world->layers[i].digest, digest),
                      world->layers[i].blob.length);
    buffer_append_string(&world->manifest, "]}");
    digest_of(DIGEST_SHA256, world->manifest.bytes, world->manifest.length, &world->digest);
}

static void make_index(struct world *world) {
    struct error error = {0};
    struct image_layer layers[WORLD_LAYERS];
    struct tree *tree = tree_new(TREE_MEMORY);
    for (size_t i = 0; i < WORLD_LAYERS; i++) {
        const struct layer_facts *facts = &world->layers[i].opened.facts;
        struct tree *upper = layer_index_tree(&world->layers[i].opened, &error);
        assert_true(tree_merge(tree, upper, (uint32_t)i + 1, &error));
        tree_free(upper);
        layers[i] =
            (struct image_layer){facts->layer, facts->diff_id, facts->blob_size, facts->tar_size};
    }
    assert_true(
        image_index_write(&world->digest, layers, WORLD_LAYERS, tree, &world->index, &error));
    tree_free(tree);
    struct image_index index;
    assert_true(image_index_open(world->index.bytes, world->index.length, &index, &error));
    assert_true(image_index_metadata(&index, &world->tree, &error));
    image_index_finish(&index);
}

/* ---- the tarn ---- */

static bool send_bytes(int fd, const struct buffer *bytes) {
    return server_printf(fd, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", bytes->length) &&
           server_send(fd, bytes->bytes, bytes->length);
}

static bool refuse(struct world_tarn *tarn, int fd) {
    char body[200];
    snprintf(body, sizeof body,
             "{\"errors\":[{\"code\":\"INDEX_UNKNOWN\",\"message\":\"no\",\"detail\":{\"state\":"
             "\"refused\",\"reason\":\"%s\"}}]}",
             tarn->refusal);
    return server_reply(fd, 404, "", body);
}

static bool has_byte(const struct world_tarn *tarn, uint64_t first, uint64_t last) {
    uint64_t at = atomic_load(&tarn->wrong_from);
    return at == 0 || (at >= first && at <= last);
}

static bool send_range(struct world_tarn *tarn, int fd, const struct world_layer *layer,
                       uint64_t first, uint64_t last) {
    const size_t length = (size_t)(last - first + 1);
    int mood = atomic_load(&tarn->mood);
    size_t sent = mood == WORLD_CUT ? length / 2 : mood == WORLD_SHORT ? length - 1 : length;
    char *bytes = malloc(length);
    memcpy(bytes, layer->blob.bytes + first, length);
    if (mood == WORLD_WRONG && has_byte(tarn, first, last)) {
        uint64_t at = atomic_load(&tarn->wrong_from);
        bytes[at ? at - first : length / 2] ^= 4;
    }
    atomic_fetch_add(&tarn->sent, sent);
    bool ok = server_printf(fd,
                            "HTTP/1.1 206 Partial Content\r\nContent-Length: %zu\r\n"
                            "Content-Range: bytes %" PRIu64 "-%" PRIu64 "/%zu\r\n\r\n",
                            mood == WORLD_SHORT ? sent : length, first, last, layer->blob.length) &&
              server_send(fd, bytes, sent);
    free(bytes);
    return ok && mood != WORLD_CUT;
}

static bool send_whole(struct world_tarn *tarn, int fd, const struct buffer *blob) {
    char *bytes = malloc(blob->length);
    memcpy(bytes, blob->bytes, blob->length);
    if (atomic_load(&tarn->mood) == WORLD_WRONG)
        bytes[blob->length / 2] ^= 1;
    const struct buffer sent = {.bytes = bytes, .length = blob->length};
    atomic_fetch_add(&tarn->sent, blob->length);
    bool ok = send_bytes(fd, &sent);
    free(bytes);
    return ok;
}

static bool answer_blob(struct world_tarn *tarn, int fd, const char *head,
                        const struct world_layer *layer) {
    uint64_t first, last;
    const char *range = strcasestr(head, "\r\nRange: bytes=");
    atomic_fetch_add(&tarn->ranges, 1);
    while (atomic_load(&tarn->hold) && !atomic_load(&tarn->is_out))
        usleep(1000);
    int mood = atomic_load(&tarn->mood);
    if (mood == WORLD_REFUSES)
        return server_reply(fd, atomic_load(&tarn->status), "", "{}");
    while (mood == WORLD_SILENT && atomic_load(&tarn->mood) == WORLD_SILENT &&
           !atomic_load(&tarn->is_out))
        usleep(1000);
    if (mood == WORLD_SILENT)
        return false;
    if (!range || mood == WORLD_WHOLE)
        return send_whole(tarn, fd, &layer->blob);
    assert_int_equal(sscanf(range, "\r\nRange: bytes=%" SCNu64 "-%" SCNu64, &first, &last), 2);
    return send_range(tarn, fd, layer, first, last);
}

static bool answer_trace(struct world_tarn *tarn, int fd, const char *head) {
    if (strncmp(head, "POST", 4) != 0)
        return atomic_load(&tarn->has_trace) ? server_reply(fd, 200, "", tarn->trace)
                                             : server_reply(fd, 404, "", "{}");
    const char *body = strstr(head, "\r\n\r\n");
    snprintf(tarn->trace, sizeof tarn->trace, "%s", body ? body + 4 : "");
    atomic_store(&tarn->has_trace, true);
    atomic_fetch_add(&tarn->posts, 1);
    return server_reply(fd, 204, "", "");
}

static bool answer(struct server *server, int fd, const char *head) {
    struct world_tarn *tarn = server->context;
    const struct world *world = tarn->world;
    char path[400], digest[DIGEST_STRING_SIZE];
    if (atomic_load(&tarn->is_out))
        return false;
    snprintf(path, sizeof path, "GET /v2/fake.test/org/app/manifests/%s",
             digest_format(&world->digest, digest));
    if (server_asks(head, "GET /v2/fake.test/org/app/manifests/1") || server_asks(head, path))
        return send_bytes(fd, &world->manifest);
    snprintf(path, sizeof path, "GET /v2/fake.test/org/app/blobs/%s",
             digest_format(&world->config_digest, digest));
    if (server_asks(head, path))
        return send_bytes(fd, &world->config);
    if (strstr(head, "/tarn/v1/streaming/trace/"))
        return answer_trace(tarn, fd, head);
    if (tarn->refusal[0] && strstr(head, "/tarn/v1/streaming/"))
        return refuse(tarn, fd);
    if (strstr(head, "/tarn/v1/streaming/image/fake.test/org/app@"))
        return send_bytes(fd, &world->index);
    for (size_t i = 0; i < WORLD_LAYERS; i++) {
        digest_format(&world->layers[i].digest, digest);
        snprintf(path, sizeof path, "GET /tarn/v1/streaming/layer/fake.test/org/app@%s", digest);
        if (server_asks(head, path))
            return send_bytes(fd, &world->layers[i].index);
        snprintf(path, sizeof path, "GET /v2/fake.test/org/app/blobs/%s", digest);
        if (server_asks(head, path))
            return answer_blob(tarn, fd, head, &world->layers[i]);
    }
    return server_reply(fd, 404, "", "{}");
}

/* ---- the world ---- */

/* The image takes a while to make, and stays the same for all tests of a program. */
static const struct world *image_of_all(void) {
    static struct world made;
    if (made.manifest.length == 0) {
        for (unsigned i = 0; i < WORLD_LAYERS; i++)
            make_layer(&made.layers[i], i);
        make_manifest(&made);
        make_index(&made);
    }
    return &made;
}

int world_set_up(void **state) {
    struct world *world = malloc(sizeof *world);
    *world = *image_of_all();
    world->apart = 0;
    for (size_t i = 0; i < 2; i++) {
        struct world_tarn *tarn = &world->tarns[i];
        tarn->world = world;
        tarn->server = server_start(answer, tarn);
        snprintf(tarn->url, sizeof tarn->url, "http://127.0.0.1:%u", tarn->server->port);
        world->from[i] = NULL;
    }
    world->from[0] = world->tarns[0].url;
    snprintf(world->root, sizeof world->root, "/tmp/tarn-spans-XXXXXX");
    assert_non_null(mkdtemp(world->root));
    world->settings = spans_settings_default();
    world->settings.root = world->root;
    world->settings.from = world->from;
    world->settings.background = 0;
    world->settings.trace = false;
    *state = world;
    return 0;
}

static int delete_one(const char *path, const struct stat *status, int flag, struct FTW *at) {
    (void)status, (void)flag, (void)at;
    return remove(path);
}

static void end_apart(struct world *world) {
    if (world->apart == 0)
        return;
    kill(world->apart, SIGKILL);
    waitpid(world->apart, NULL, 0);
    world->apart = 0;
}

int world_tear_down(void **state) {
    struct world *world = *state;
    world_close(world);
    end_apart(world);
    for (size_t i = 0; i < 2; i++) {
        atomic_store(&world->tarns[i].is_out, true);
        server_stop(world->tarns[i].server);
    }
    nftw(world->root, delete_one, 8, FTW_DEPTH | FTW_PHYS);
    free(world);
    return 0;
}

#ifndef __has_feature
#define __has_feature(feature) 0 /* gcc does not have it, but has the macro below */
#endif
#if defined __SANITIZE_THREAD__ || __has_feature(thread_sanitizer)
/* The child of world_serve_apart() starts threads. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) {
    return "die_after_fork=0";
}
#endif

void world_serve_apart(struct world *world) {
    int pipes[2];
    unsigned port = 0;
    end_apart(world);
    assert_int_equal(pipe(pipes), 0);
    world->apart = fork();
    assert_true(world->apart >= 0);
    if (world->apart == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        struct server *server = server_start(answer, &world->tarns[0]);
        if (write(pipes[1], &server->port, sizeof server->port) != sizeof server->port)
            _exit(1);
        for (;;)
            pause();
    }
    assert_int_equal(read(pipes[0], &port, sizeof port), sizeof port);
    close(pipes[0]);
    close(pipes[1]);
    snprintf(world->tarns[0].url, sizeof world->tarns[0].url, "http://127.0.0.1:%u", port);
}

void world_close(struct world *world) {
    spans_close(world->spans);
    world->spans = NULL;
}

void world_open(struct world *world) {
    struct error error = {0};
    world_close(world);
    world->spans = spans_open(&world->settings, &error);
    assert_string_equal(error.text, "");
    assert_non_null(world->spans);
}

struct spans_image *world_image(struct world *world) {
    struct error error = {0};
    if (!world->spans)
        world_open(world);
    struct spans_image *image =
        spans_image_open(world->spans, WORLD_IMAGE, "linux/amd64", NULL, NULL, &error);
    assert_string_equal(error.text, "");
    assert_non_null(image);
    return image;
}

bool world_read(struct world *world, struct spans_image *image, size_t layer, uint64_t offset,
                size_t length, struct error *error) {
    char *bytes = malloc(length);
    memset(bytes, 0x55, length);
    bool ok = spans_image_read(image, layer + 1, offset, bytes, length, NULL, error);
    if (ok)
        assert_int_equal(memcmp(bytes, world->layers[layer].tar.bytes + offset, length), 0);
    free(bytes);
    return ok;
}

void world_read_all(struct world *world, struct spans_image *image, size_t layer) {
    enum { STEP = 300000 };
    const size_t size = world->layers[layer].tar.length;
    for (size_t at = 0; at < size; at += STEP) {
        struct error error = {0};
        bool ok = world_read(world, image, layer, at, size - at < STEP ? size - at : STEP, &error);
        assert_string_equal(error.text, "");
        assert_true(ok);
    }
}

uint64_t world_span(const struct world *world, size_t layer, size_t span) {
    return world->layers[layer].opened.spans[span].out;
}

static uint64_t disk_sum;

static int add_one(const char *path, const struct stat *status, int flag, struct FTW *at) {
    (void)path, (void)flag, (void)at;
    disk_sum += (uint64_t)status->st_blocks * 512;
    return 0;
}

uint64_t world_disk(const struct world *world) {
    disk_sum = 0;
    nftw(world->root, add_one, 8, FTW_PHYS);
    return disk_sum;
}
