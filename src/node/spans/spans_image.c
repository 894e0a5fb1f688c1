/* Opens images: by their sources, or from what the root has. */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/thread.h"
#include "copy/platform.h"
#include "node/spans/open.h"
#include "oci/manifest.h"

enum {
    CONFIG_LIMIT = 8 << 20,
    REASON_LIMIT = 32, /* bytes of a word */
    INDEX_THREADS = 5, /* that fetch indexes beside the caller */
};

/* ---- asking ---- */

static bool is_wanted(void *context) {
    const struct spans_opening *opening = context;
    return !opening->stop || !atomic_load(opening->stop);
}

bool spans_opening_begin(struct spans_opening *opening, struct spans *spans, const char *image,
                         const char *from, struct error *error) {
    opening->spans = spans;
    opening->cancel = (struct cancel){&spans->stopping, is_wanted, opening};
    opening->began_ms = clock_ms();
    return stream_source_parse_name(image, &opening->name, error) &&
           spans_asked_set(spans, from, &opening->asked, error);
}

void spans_opening_finish(struct spans_opening *opening) {
    for (size_t i = 0; opening->pulled && opening->pulled[i]; i++)
        spans_layer_release(opening->pulled[i]);
    free(opening->pulled);
    manifest_finish(&opening->manifest);
    free(opening->layers);
    buffer_finish(&opening->bytes);
    image_index_finish(&opening->index);
}

bool spans_opening_ask(struct spans_opening *opening, spans_question *question, void *context,
                       struct error *error) {
    struct error first = {0};
    for (unsigned i = 0; i < opening->asked.count; i++) {
        struct spans_source *source = opening->asked.list[i];
        const struct spans_request request = {opening->spans, source, &opening->name,
                                              &opening->cancel};
        if (spans_source_is_upstream(source))
            continue;
        const struct stream_asking asking = spans_asking(&request);
        struct error why = {0};
        if (question(&asking, context, &why))
            return true;
        error_wrap(&why, "%s", spans_source_name(source));
        /* A tarn that knows says more than one that does not answer. */
        if (first.kind == ERROR_NONE || first.kind == ERROR_UNAVAILABLE ||
            first.kind == ERROR_TIMEOUT)
            first = why;
        if (why.kind == ERROR_CLOSED)
            break;
    }
    if (first.kind == ERROR_NONE)
        error_set(&first, ERROR_INVALID, "there is no tarn to ask");
    *error = first;
    return false;
}

void spans_opening_count(struct spans_opening *opening, struct metric *metric, size_t bytes) {
    metric_add(metric, (int64_t)bytes);
    atomic_fetch_add(&opening->fetched, bytes);
}

static void count_metadata(struct spans_opening *opening, size_t bytes) {
    spans_opening_count(opening, opening->spans->fetched_metadata, bytes);
}

/* ---- the manifest ---- */

struct manifest_question {
    const char *reference;
    struct buffer *out;
    struct digest *digest;
};

static bool ask_manifest(const struct stream_asking *asking, void *context, struct error *error) {
    const struct manifest_question *question = context;
    return stream_source_manifest(asking, question->reference, question->out, question->digest,
                                  error);
}

static bool get_manifest(struct spans_opening *opening, const char *reference,
                         struct error *error) {
    cleanup_buffer struct buffer bytes = {0};
    struct manifest_question question = {reference, &bytes, &opening->digest};
    manifest_finish(&opening->manifest);
    if (!spans_opening_ask(opening, ask_manifest, &question, error))
        return false;
    count_metadata(opening, bytes.length);
    return manifest_parse(bytes.bytes, bytes.length, &opening->manifest, error);
}

static bool find_manifest(struct spans_opening *opening, const char *platform,
                          struct error *error) {
    char text[DIGEST_STRING_SIZE];
    struct copy_platform wanted = copy_platform_own();
    const struct reference *reference = &opening->name.reference;
    if (platform && !copy_platform_parse(text_of(platform), &wanted))
        return error_set(error, ERROR_INVALID, "%s is no platform, like linux/arm64", platform);
    if (!get_manifest(
            opening,
            reference->is_digest ? digest_format(&reference->digest, text) : reference->tag, error))
        return false;
    if (!opening->manifest.is_index)
        return true;
    const struct descriptor *one = copy_platform_find(&opening->manifest, &wanted, error);
    if (!one)
        return false;
    const struct digest digest = one->digest;
    if (!get_manifest(opening, digest_format(&digest, text), error))
        return false;
    return !opening->manifest.is_index ||
           error_set(error, ERROR_INVALID, "an index refers to another index");
}

/* ---- the configuration ---- */

struct blob_question {
    const struct digest *digest;
    struct buffer *out;
};

static bool ask_blob(const struct stream_asking *asking, void *context, struct error *error) {
    const struct blob_question *question = context;
    struct digest is;
    if (!stream_source_blob(asking, question->digest, CONFIG_LIMIT, question->out, error))
        return false;
    if (!digest_of(question->digest->algorithm, question->out->bytes ? question->out->bytes : "",
                   question->out->length, &is))
        return error_set(error, ERROR_MEMORY, "out of memory");
    return digest_equal(&is, question->digest) ||
           error_set(error, ERROR_CORRUPT, "the configuration does not have its digest");
}

/* Takes the layers of the manifest, with the diff IDs of the configuration. */
static bool take_layers(struct spans_opening *opening, const struct buffer *config,
                        struct error *error) {
    cleanup_json json_t *root = bounded_json_load(config->bytes, config->length, error);
    const json_t *list = json_object_get(json_object_get(root, "rootfs"), "diff_ids");
    const struct manifest *manifest = &opening->manifest;
    if (!root)
        return error_wrap(error, "the image's configuration");
    opening->layers = calloc(manifest->count + 1, sizeof *opening->layers);
    if (!opening->layers)
        return error_set(error, ERROR_MEMORY, "out of memory");
    for (size_t i = 0; i < manifest->count; i++) {
        const struct descriptor *one = &manifest->descriptors[i];
        if (one->role != DESCRIPTOR_LAYER)
            continue;
        struct spans_opened_layer *layer = &opening->layers[opening->layer_count];
        const char *text = json_string_value(json_array_get(list, opening->layer_count++));
        layer->digest = one->digest;
        layer->size = one->size;
        layer->media_type = one->media_type;
        if (!text || !digest_parse(text_of(text), &layer->diff_id))
            return error_set(error, ERROR_INVALID, "the configuration has no diff ID for layer %zu",
                             opening->layer_count);
    }
    return json_array_size(list) == opening->layer_count ||
           error_set(error, ERROR_INVALID,
                     "the configuration has %zu layers and the manifest %zu that can be fetched",
                     json_array_size(list), opening->layer_count);
}

static bool get_config(struct spans_opening *opening, struct error *error) {
    cleanup_buffer struct buffer bytes = {0};
    struct blob_question question = {NULL, &bytes};
    for (size_t i = 0; i < opening->manifest.count && !question.digest; i++)
        if (opening->manifest.descriptors[i].role == DESCRIPTOR_CONFIG)
            question.digest = &opening->manifest.descriptors[i].digest;
    if (!question.digest)
        return error_set(error, ERROR_INVALID, "the manifest has no configuration");
    if (!spans_opening_ask(opening, ask_blob, &question, error))
        return false;
    count_metadata(opening, bytes.length);
    return take_layers(opening, &bytes, error);
}

/* ---- indexes ---- */

struct index_question {
    const char *what;
    const struct digest *digest;
    struct buffer *out;
};

static bool ask_index(const struct stream_asking *asking, void *context, struct error *error) {
    const struct index_question *question = context;
    return stream_source_index(asking, question->what, question->digest, question->out, error);
}

/* Whether the index is of the image that the manifest and its configuration describe. */
static bool matches(const struct spans_opening *opening) {
    const struct image_index *index = &opening->index;
    bool ok = digest_equal(&index->manifest, &opening->digest) &&
              index->layer_count == opening->layer_count;
    for (size_t i = 0; ok && i < index->layer_count; i++)
        ok = digest_equal(&index->layers[i].layer, &opening->layers[i].digest) &&
             digest_equal(&index->layers[i].diff_id, &opening->layers[i].diff_id);
    return ok;
}

static bool get_image_index(struct spans_opening *opening, struct error *error) {
    struct index_question question = {"image", &opening->digest, &opening->bytes};
    if (!spans_opening_ask(opening, ask_index, &question, error))
        return false;
    count_metadata(opening, opening->bytes.length);
    if (!image_index_open(opening->bytes.bytes, opening->bytes.length, &opening->index, error))
        return false;
    struct tree *tree = image_index_tree(&opening->index, error);
    bool is_sound = tree != NULL; /* the kernel gets nothing that we could not read */
    tree_free(tree);
    return is_sound &&
           (matches(opening) || error_set(error, ERROR_CORRUPT, "the index is of another image"));
}

/* The layer, whose index is fetched unless the root has it. */
static struct spans_layer *get_layer(struct spans_opening *opening,
                                     const struct spans_layer_facts *facts, struct error *error) {
    cleanup_buffer struct buffer bytes = {0};
    struct index_question question = {"layer", &facts->digest, &bytes};
    struct error why = {0};
    struct spans_layer *layer = spans_layer_take(opening->spans, facts, &why);
    if (layer || why.kind != ERROR_NOT_FOUND || facts->is_whole || opening->is_offline) {
        if (!layer)
            *error = why;
        return layer;
    }
    if (!spans_opening_ask(opening, ask_index, &question, error))
        return NULL;
    count_metadata(opening, bytes.length);
    struct layer_index index;
    if (!layer_index_open(bytes.bytes, bytes.length, &index, error))
        return NULL;
    bool is_right =
        digest_equal(&index.facts.layer, &facts->digest) &&
        (facts->diff_id.algorithm == 0 || digest_equal(&index.facts.diff_id, &facts->diff_id));
    layer_index_finish(&index);
    if (!is_right) {
        error_set(error, ERROR_CORRUPT, "the index is of another layer");
        return NULL;
    }
    return spans_layer_put_index(opening->spans, &facts->digest, &bytes, error)
               ? spans_layer_take(opening->spans, facts, error)
               : NULL;
}

/* ---- making an image ---- */

static struct spans_image *new_image(struct spans_opening *opening, size_t layers,
                                     struct error *error) {
    struct spans_image *image = calloc(1, sizeof *image);
    if (image) {
        image->layers = calloc(layers + 1, sizeof(struct spans_layer *));
        image->users = calloc(layers + 1, sizeof *image->users);
    }
    if (!image || !image->layers || !image->users) {
        if (image) {
            free(image->layers);
            free(image->users);
        }
        free(image);
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    image->spans = opening->spans;
    image->references = 1;
    image->digest = opening->digest;
    image->name = opening->name;
    image->asked = opening->asked;
    image->tree_fd = -1;
    image->opened_ms = opening->began_ms;
    image->first_read_ms = image->complete_ms = -1;
    return image;
}

static void free_image(struct spans_image *image) {
    for (size_t i = 0; i < image->layer_count; i++)
        spans_layer_release(image->layers[i]);
    if (image->tree_fd >= 0)
        close(image->tree_fd);
    spans_start_free(image->start, image->layer_count);
    free(image->layers);
    free(image->users);
    free(image);
}

/* Keeps the tree in a file without a name, which is gone when the process is. */
static bool put_tree(struct spans_image *image, const struct buffer *tree, struct error *error) {
    int root_fd = image->spans->root_fd;
    char name[40];
    static atomic_uint serial;
    snprintf(name, sizeof name, "tree.%u.new", atomic_fetch_add(&serial, 1));
    image->tree_fd = openat(root_fd, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (image->tree_fd < 0)
        return error_set_errno(error, errno, "create a file for the tree");
    unlinkat(root_fd, name, 0);
    image->tree_size = tree->length;
    return file_write_all(image->tree_fd, tree->bytes, tree->length, error) ||
           error_wrap(error, "write the tree");
}

/* Several layers whose indexes come at the same time. */
struct layer_work {
    struct spans_opening *opening;
    struct spans_layer **layers; /* NULL where one failed */
    atomic_size_t next;
    struct lock error_lock;
    struct error error GUARDED_BY(error_lock); /* the first one */
};

static void get_layers(void *context) {
    struct layer_work *work = context;
    const struct image_index *index = &work->opening->index;
    for (size_t i; (i = atomic_fetch_add(&work->next, 1)) < index->layer_count;) {
        const struct spans_layer_facts facts = {.digest = index->layers[i].layer,
                                                .diff_id = index->layers[i].diff_id,
                                                .is_whole = work->opening->reason[0] != '\0'};
        struct error error = {0};
        work->layers[i] = get_layer(work->opening, &facts, &error);
        if (work->layers[i])
            continue;
        lock_acquire(&work->error_lock);
        if (work->error.kind == ERROR_NONE)
            work->error = error;
        lock_release(&work->error_lock);
        atomic_store(&work->next, index->layer_count); /* the others are not needed */
    }
}

/* Takes all layers of the index, a few at the same time. */
static bool add_layers(struct spans_opening *opening, struct spans_image *image,
                       struct error *error) {
    pthread_t threads[INDEX_THREADS];
    unsigned count = 0;
    struct layer_work work = {.opening = opening, .layers = image->layers};
    lock_init(&work.error_lock);
    while (count < INDEX_THREADS && count + 1 < opening->index.layer_count &&
           thread_start("spans-open", THREAD_STACK, get_layers, &work, &threads[count], NULL))
        count++;
    get_layers(&work);
    while (count)
        pthread_join(threads[--count], NULL);
    lock_finish(&work.error_lock);
    if (work.error.kind == ERROR_NONE) {
        image->layer_count = opening->index.layer_count;
        return true;
    }
    for (size_t i = 0; i < opening->index.layer_count; i++)
        if (image->layers[i])
            spans_layer_release(image->layers[i]);
    *error = work.error;
    return false;
}

/* The image of the index in `opening`. NULL: the error is set. */
static struct spans_image *make_image(struct spans_opening *opening, struct error *error) {
    cleanup_buffer struct buffer tree = {0};
    struct spans_image *image = new_image(opening, opening->index.layer_count, error);
    if (!image)
        return NULL;
    text_copy(text_of(opening->reason), image->whole_reason, sizeof image->whole_reason);
    if (image_index_metadata(&opening->index, &tree, error) && put_tree(image, &tree, error) &&
        add_layers(opening, image, error))
        return image;
    free_image(image);
    return NULL;
}

static struct spans_image *find_open(struct spans *spans, const struct digest *digest,
                                     const struct spans_asked *asked) REQUIRES(spans->lock) {
    for (struct spans_image *image = spans->images; image; image = image->next)
        if (!image->is_forgotten && digest_equal(&image->digest, digest) &&
            image->asked.count == asked->count && image->asked.list[0] == asked->list[0]) {
            image->references++;
            return image;
        }
    return NULL;
}

/* Adds the image to the open ones, or returns the same one that another thread has opened. */
static struct spans_image *publish(struct spans_opening *opening, struct spans_image *image) {
    struct spans *spans = opening->spans;
    atomic_store(&image->fetched, atomic_load(&opening->fetched));
    lock_acquire(&spans->lock);
    struct spans_image *found = find_open(spans, &image->digest, &image->asked);
    if (!found) {
        image->next = spans->images;
        spans->images = image;
        for (size_t i = 0; i < image->layer_count; i++) {
            image->users[i] = (struct spans_user){image, image->layers[i]->users};
            image->layers[i]->users = &image->users[i];
        }
        spans->demand_ms = clock_ms();
        condition_broadcast(&spans->work);
        condition_broadcast(&spans->changed);
    }
    lock_release(&spans->lock);
    if (found)
        free_image(image);
    malloc_trim(0); /* the index was large */
    return found ? found : image;
}

/* Keeps the index, and why the image is whole. */
static bool keep_image(struct spans_opening *opening, struct error *error) {
    char key[SPANS_KEY_SIZE];
    spans_budget_prune(opening->spans);
    cleanup_close int fd =
        spans_folder_open(opening->spans->images_fd, spans_key(&opening->digest, key), true, error);
    return fd >= 0 &&
           spans_file_put(fd, "reason", opening->reason, strlen(opening->reason), error) &&
           spans_file_put(fd, "index", opening->bytes.bytes, opening->bytes.length, error);
}

/* ---- traces ---- */

struct trace_question {
    const struct digest *digest;
    struct buffer *out;
};

static bool ask_trace(const struct stream_asking *asking, void *context, struct error *error) {
    const struct trace_question *question = context;
    return stream_source_trace(asking, question->digest, question->out, error);
}

/* Gets the trace of an earlier start. Without one, there is nothing in `out`. */
static void get_trace(struct spans_opening *opening, struct buffer *out) {
    struct trace_question question = {&opening->digest, out};
    struct error ignored;
    if (!spans_opening_ask(opening, ask_trace, &question, &ignored))
        out->length = 0;
    count_metadata(opening, out->length);
}

/* Opens the image to its readers, with what an earlier start has read under way. */
static struct spans_image *begin_start(struct spans_opening *opening, struct spans_image *image) {
    cleanup_buffer struct buffer trace = {0};
    if (opening->spans->settings.trace && !opening->reason[0]) {
        image->start = spans_start_new(image->layers, image->layer_count);
        get_trace(opening, &trace);
    }
    image = publish(opening, image);
    if (trace.length)
        spans_trace_use(image, &trace);
    return image;
}

/* ---- opening ---- */

static struct spans_image *look_open(struct spans_opening *opening) {
    lock_acquire(&opening->spans->lock);
    struct spans_image *found = find_open(opening->spans, &opening->digest, &opening->asked);
    lock_release(&opening->spans->lock);
    return found;
}

/* What the root has of the image. */
static bool read_kept(struct spans_opening *opening, struct error *error) {
    char key[SPANS_KEY_SIZE];
    cleanup_close int fd = spans_folder_open(opening->spans->images_fd,
                                             spans_key(&opening->digest, key), false, error);
    if (fd < 0)
        return false;
    cleanup_close int reason_fd = openat(fd, "reason", O_RDONLY | O_CLOEXEC);
    cleanup_close int index_fd = openat(fd, "index", O_RDONLY | O_CLOEXEC);
    size_t length;
    if (reason_fd < 0 || index_fd < 0)
        return error_set(error, ERROR_NOT_FOUND, "the image is not kept whole");
    cleanup_free char *reason =
        file_read_open(reason_fd, REASON_LIMIT, FILE_REGULAR | FILE_TEXT, NULL, NULL, error);
    char *bytes =
        reason ? file_read_open(index_fd, INDEX_FILE_LIMIT, FILE_REGULAR, &length, NULL, error)
               : NULL;
    if (!bytes)
        return false;
    buffer_finish(&opening->bytes);
    opening->bytes = (struct buffer){.bytes = bytes, .length = length, .capacity = length + 1};
    text_copy(text_of(reason), opening->reason, sizeof opening->reason);
    struct error why = {0};
    if (image_index_open(bytes, length, &opening->index, &why) &&
        digest_equal(&opening->index.manifest, &opening->digest))
        return true;
    return error_set(error, ERROR_NOT_FOUND, "the kept index is damaged");
}

static struct spans_image *restore(struct spans_opening *opening, struct error *error) {
    struct spans_image *image = look_open(opening);
    if (image)
        return image;
    if (!read_kept(opening, error))
        return NULL;
    image = make_image(opening, error);
    if (!image)
        return NULL;
    return opening->has_network ? begin_start(opening, image) : publish(opening, image);
}

static struct spans_image *fetch(struct spans_opening *opening, struct error *error) {
    struct error why = {0};
    if (!get_config(opening, error))
        return NULL;
    if (!get_image_index(opening, &why)) {
        if (!why.code[0] && !(why.kind == ERROR_NOT_FOUND && why.status == 404)) {
            *error = why;
            return NULL;
        }
        text_copy(text_of(why.code[0] ? why.code : "unknown"), opening->reason,
                  sizeof opening->reason);
        if (!spans_whole_pull(opening, error))
            return NULL;
    }
    struct spans_image *image = make_image(opening, error);
    if (image && !keep_image(opening, error)) {
        free_image(image);
        return NULL;
    }
    return image ? begin_start(opening, image) : NULL;
}

struct spans_image *spans_image_open(struct spans *spans, const char *image, const char *platform,
                                     const char *from, const atomic_bool *stop,
                                     struct error *error) {
    struct spans_opening opening = {.stop = stop};
    struct error ignored = {0};
    struct spans_image *found = NULL;
    bool is_known = spans_opening_begin(&opening, spans, image, from, error) &&
                    find_manifest(&opening, platform, error);
    if (!is_known && opening.name.reference.is_digest && opening.asked.count &&
        (error->kind == ERROR_UNAVAILABLE || error->kind == ERROR_TIMEOUT)) {
        /* Nobody answers, but the root may have just this image. */
        opening.digest = opening.name.reference.digest;
        opening.is_offline = true;
        found = restore(&opening, &ignored);
        if (found)
            error_clear(error);
    } else if (is_known) {
        opening.is_offline = opening.has_network = true;
        found = restore(&opening, &ignored);
        opening.is_offline = false;
        if (!found) {
            image_index_finish(&opening.index);
            opening.reason[0] = '\0';
            found = fetch(&opening, error);
        }
    }
    spans_opening_finish(&opening);
    return found;
}

struct spans_image *spans_image_restore(struct spans *spans, const struct digest *digest,
                                        const char *image, const char *from, struct error *error) {
    struct spans_opening opening = {.digest = *digest, .is_offline = true};
    struct spans_image *found = NULL;
    if (spans_opening_begin(&opening, spans, image, from, error))
        found = restore(&opening, error);
    spans_opening_finish(&opening);
    return found;
}

/* ---- the lowest layers of an image ---- */

/* The index of the image that the name's digest says: from the root, or from its source and then
 * kept. An image that cannot stream is ERROR_NOT_FOUND. */
static bool know_index(struct spans_opening *opening, struct error *error) {
    struct error why = {0};
    opening->digest = opening->name.reference.digest;
    if (!opening->name.reference.is_digest)
        return error_set(error, ERROR_INVALID, "the image is not named by its digest");
    if (!read_kept(opening, &why)) {
        image_index_finish(&opening->index);
        buffer_finish(&opening->bytes);
        opening->reason[0] = '\0';
        return find_manifest(opening, NULL, error) && get_config(opening, error) &&
               get_image_index(opening, error) && keep_image(opening, error);
    }
    return !opening->reason[0] ||
           error_set(error, ERROR_NOT_FOUND, "it cannot stream (%s)", opening->reason);
}

/* The chain ID of the lowest `count` layers (image-spec, config.md, "Layer ChainID"). */
static bool find_chain(const struct image_index *index, size_t count, struct digest *out) {
    char text[2 * DIGEST_STRING_SIZE], chain[DIGEST_STRING_SIZE], diff_id[DIGEST_STRING_SIZE];
    *out = index->layers[0].diff_id;
    for (size_t i = 1; i < count; i++) {
        int length = snprintf(text, sizeof text, "%s %s", digest_format(out, chain),
                              digest_format(&index->layers[i].diff_id, diff_id));
        if (!digest_of(DIGEST_SHA256, text, (size_t)length, out))
            return false;
    }
    return true;
}

static bool find_layers(struct spans_opening *opening, const struct digest *chain, size_t *layers,
                        struct error *error) {
    struct digest each;
    for (size_t count = 1; count <= opening->index.layer_count; count++) {
        if (!find_chain(&opening->index, count, &each))
            return error_set(error, ERROR_MEMORY, "out of memory");
        if (!digest_equal(&each, chain))
            continue;
        const struct spans_layer_facts facts = {.digest = opening->index.layers[count - 1].layer,
                                                .diff_id =
                                                    opening->index.layers[count - 1].diff_id};
        struct spans_layer *layer = get_layer(opening, &facts, error);
        if (layer)
            spans_layer_release(layer);
        *layers = count;
        return layer != NULL;
    }
    return error_set(error, ERROR_NOT_FOUND, "the image does not have these layers");
}

bool spans_image_find(struct spans *spans, const char *image, const struct digest *chain,
                      const atomic_bool *stop, size_t *layers, bool *is_whole,
                      struct error *error) {
    struct spans_opening opening = {.stop = stop};
    bool found = spans_opening_begin(&opening, spans, image, NULL, error) &&
                 know_index(&opening, error) && find_layers(&opening, chain, layers, error);
    *is_whole = found && *layers == opening.index.layer_count;
    spans_opening_finish(&opening);
    return found;
}

/* Merges the trees of the layers. */
static bool merge_layers(struct spans_opening *opening, size_t count, struct tree *tree,
                         struct error *error) {
    bool ok = true;
    for (size_t i = 0; ok && i < count; i++) {
        const struct spans_layer_facts facts = {.digest = opening->index.layers[i].layer,
                                                .diff_id = opening->index.layers[i].diff_id};
        struct spans_layer *layer = get_layer(opening, &facts, error);
        struct tree *upper = layer ? layer_index_tree(&layer->index, error) : NULL;
        ok = upper && tree_merge(tree, upper, (uint32_t)i + 1, error);
        tree_free(upper);
        if (layer)
            spans_layer_release(layer);
    }
    return ok;
}

/* Puts an index of the lowest layers in the place of the image's. Its digest is their chain ID. */
static bool cut_index(struct spans_opening *opening, size_t count, const struct digest *chain,
                      struct error *error) {
    cleanup_buffer struct buffer bytes = {0};
    struct tree *tree = tree_new(TREE_MEMORY);
    bool ok = (tree || error_set(error, ERROR_MEMORY, "out of memory")) &&
              merge_layers(opening, count, tree, error) &&
              image_index_write(chain, opening->index.layers, count, tree, &bytes, error);
    tree_free(tree);
    if (!ok)
        return false;
    image_index_finish(&opening->index);
    buffer_finish(&opening->bytes);
    opening->bytes = bytes;
    bytes = (struct buffer){0};
    opening->digest = *chain;
    return image_index_open(opening->bytes.bytes, opening->bytes.length, &opening->index, error);
}

/* The image of some of the layers. What an earlier start has read is not known of it. */
static struct spans_image *open_part(struct spans_opening *opening, size_t count,
                                     struct error *error) {
    struct digest chain;
    struct error ignored = {0};
    const struct digest manifest = opening->digest;
    if (!find_chain(&opening->index, count, &chain)) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    opening->digest = chain;
    struct spans_image *image = look_open(opening);
    if (image)
        return image;
    opening->digest = manifest;
    if (!cut_index(opening, count, &chain, error))
        return NULL;
    image = make_image(opening, error);
    if (image && !keep_image(opening, &ignored))
        log_at(LOG_WARN, "layers not kept", LOG_STRING("error", ignored.text));
    return image ? publish(opening, image) : NULL;
}

struct spans_image *spans_image_open_lowest(struct spans *spans, const char *image, size_t layers,
                                            const atomic_bool *stop, struct error *error) {
    struct spans_opening opening = {.stop = stop, .has_network = true};
    struct spans_image *found = NULL;
    if (spans_opening_begin(&opening, spans, image, NULL, error) && know_index(&opening, error)) {
        size_t count = opening.index.layer_count;
        if (layers == 0 || layers > count) {
            error_set(error, ERROR_NOT_FOUND, "%s has %zu layers", image, count);
        } else if (layers < count) {
            found = open_part(&opening, layers, error);
        } else {
            image_index_finish(&opening.index);
            found = restore(&opening, error);
        }
    }
    spans_opening_finish(&opening);
    return found;
}

/* ---- references ---- */

struct spans_image *spans_image_keep(struct spans_image *image) {
    lock_acquire(&image->spans->lock);
    image->references++;
    lock_release(&image->spans->lock);
    return image;
}

static void unlink_image(struct spans *spans, struct spans_image *image) REQUIRES(spans->lock) {
    struct spans_image **at = &spans->images;
    while (*at != image)
        at = &(*at)->next;
    *at = image->next;
    for (size_t i = 0; i < image->layer_count; i++) {
        struct spans_user **user = &image->layers[i]->users;
        while (*user != &image->users[i])
            user = &(*user)->next;
        *user = image->users[i].next;
    }
}

void spans_image_release(struct spans_image *image) {
    if (!image)
        return;
    struct spans *spans = image->spans;
    lock_acquire(&spans->lock);
    bool is_last = --image->references == 0;
    if (is_last) {
        unlink_image(spans, image);
        spans_trace_leave(spans, spans_trace_end(image));
    }
    lock_release(&spans->lock);
    if (is_last)
        free_image(image);
}

/* ---- what it is ---- */

const char *spans_image_name(const struct spans_image *image, char out[static SPANS_NAME_SIZE]) {
    const struct reference *reference = &image->name.reference;
    char digest[DIGEST_STRING_SIZE];
    snprintf(out, SPANS_NAME_SIZE, "%s/%s%s%s", image->name.host, image->name.repository,
             reference->is_digest ? "@" : ":",
             reference->is_digest ? digest_format(&reference->digest, digest) : reference->tag);
    return out;
}

const struct digest *spans_image_digest(const struct spans_image *image) {
    return &image->digest;
}

const char *spans_image_whole_reason(const struct spans_image *image) {
    return image->whole_reason;
}

size_t spans_image_files(const struct spans_image *image) {
    return 1 + image->layer_count;
}

uint64_t spans_image_file_size(const struct spans_image *image, size_t file) {
    uint64_t size = file == 0 ? image->tree_size : image->layers[file - 1]->tar_size;
    return (size + SPANS_PAGE - 1) / SPANS_PAGE * SPANS_PAGE;
}
