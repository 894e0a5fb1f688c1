/*
 * What the files of this room share.
 *
 * One lock guards which images and layers are open and the state of every span; it is held for
 * pointers, never over I/O. A span that is absent and wanted has a flight: the one loading of it,
 * for however many readers. Readers take the bytes from the flight, and from the disk later on.
 */
#ifndef SPANS_PRIVATE_H
#define SPANS_PRIVATE_H

#include "base/cancel.h"
#include "base/lock.h"
#include "base/metric.h"
#include "base/siphash.h"
#include "client/client.h"
#include "layer/index.h"
#include "node/spans/spans.h"
#include "node/spans/stream_source.h"
#include "upstream/current.h"

enum {
    SPANS_LOADERS = 10,       /* requests at once */
    SPANS_SILENCE_MS = 5000,  /* a source that says nothing for so long is asked again */
    SPANS_SOURCES_LIMIT = 32, /* tarns of all settings and orders */
    SPANS_PAGE = 4096,
    SPANS_WHOLE_SPAN = 2 << 20, /* bytes of the parts of a layer that was pulled whole */
    SPANS_PENDING_MS = 120000,  /* that an index may still take */
    SPANS_KEY_SIZE = 144,       /* of a folder's name: "sha256-HEX", and perhaps ".whole" */
};

/* Why a span is fetched, by rising urgency. */
enum spans_why { SPANS_BACKGROUND, SPANS_TRACE, SPANS_AHEAD, SPANS_DEMAND, SPANS_WHYS };

enum spans_place {
    SPAN_ABSENT,
    SPAN_KEPT,    /* on disk since an earlier process, not compared with its sum yet */
    SPAN_PRESENT, /* on disk */
    SPAN_LEAVING, /* being removed from the disk */
};

struct spans_slot {
    struct spans_flight *flight; /* NULL: nobody wants it */
    uint32_t used;               /* the clock of spans.uses when it was last read */
    uint16_t pins;               /* threads that read or check it on disk */
    uint8_t place;               /* enum spans_place */
    bool is_doubtful;            /* no source gave it the last time */
};

/* ---- sources ---- */

struct spans_source {
    struct stream_source tarn;     /* closed: it stands for the upstreams */
    _Atomic int64_t down_until_ms; /* clock_ms(); asked after others until then */
    atomic_uint failures;          /* in a row */
};

/* Whom an image asks; borrowed from the table of all. */
struct spans_asked {
    struct spans_source *list[SPANS_SOURCES_LIMIT + 1];
    unsigned count;
};

/* ---- layers ---- */

struct spans_layer {
    struct spans *spans;
    struct spans_layer *next; /* of the open ones */
    unsigned references;      /* of images, flights and work */
    struct digest digest, diff_id;
    uint64_t blob_size, tar_size;
    uint64_t fixed; /* bytes of index and tree on the disk */
    uint64_t held;  /* bytes of spans on the disk */
    char key[SPANS_KEY_SIZE];
    bool is_whole; /* pulled whole: there is no index */
    void *mapping; /* of the index */
    size_t mapped;
    struct layer_index index;
    int data_fd, sums_fd;
    size_t count; /* spans */
    struct spans_slot *slots;
    size_t present;     /* spans that are not absent */
    size_t next_absent; /* where the background goes on */
    int64_t doubts_ms;  /* when a span that no source gave may be asked for again */
    size_t read_next;   /* the span behind the last one that was read */
    unsigned read_run;  /* spans that were read one behind the other */
    bool is_verified, is_verifying, is_bad;
    bool is_dirty;            /* has data that fdatasync() has not seen */
    struct spans_user *users; /* open images */
};

/* An open image as one of those that have a layer. */
struct spans_user {
    struct spans_image *image;
    struct spans_user *next;
};

/* ---- flights ---- */

enum spans_stage { FLIGHT_QUEUED, FLIGHT_LOADING, FLIGHT_DONE };

struct spans_flight {
    struct spans_flight *next, *prev; /* in its queue */
    struct spans_layer *layer;
    size_t at; /* which span */
    enum spans_why why;
    enum spans_stage stage;
    unsigned references;
    unsigned waiters;
    uint64_t asked; /* sources that were asked in this round, by bits */
    uint64_t wrong; /* those that gave wrong bytes */
    uint64_t unfit; /* those that can never have it */
    unsigned rounds;
    int64_t not_before_ms;
    bool ok;
    unsigned char *bytes; /* uncompressed, when ok; owned */
    enum error_kind kind; /* of the last failure */
    char text[200];
    struct condition done;
};

struct spans_queue {
    struct spans_flight *first, *last;
};

/* ---- images ---- */

enum { SPANS_WAIT_BUCKETS = 128 }; /* four for each doubling of microseconds */

struct spans_image {
    struct spans *spans;
    struct spans_image *next;
    unsigned references;
    struct digest digest;
    struct image_name name;
    char whole_reason[32];
    struct spans_asked asked;
    int tree_fd;
    uint64_t tree_size;
    size_t layer_count;
    struct spans_layer **layers;
    struct spans_user *users; /* one for each layer */
    int64_t opened_ms;
    /* Of these, counters change without the lock. */
    _Atomic uint64_t fetched;
    _Atomic uint64_t waits;
    _Atomic uint32_t wait_buckets[SPANS_WAIT_BUCKETS];
    _Atomic int64_t first_read_ms, complete_ms; /* from the opening; -1: not yet */
    struct spans_start *start;                  /* what it reads at first; NULL: not recorded */
    bool traced;
    bool is_forgotten; /* the root does not have it any more */
};

/* A layer on the disk that no open image has. */
struct spans_idle {
    struct spans_idle *next;
    char key[SPANS_KEY_SIZE];
    uint64_t bytes;
    int64_t used_s; /* wall clock */
};

struct spans {
    struct spans_settings settings; /* a copy */
    void *settings_memory;
    struct client *client;
    struct current_upstreams *upstreams; /* NULL: there are none */
    int root_fd, layers_fd, images_fd, lock_fd;
    struct cancel cancel; /* when the room is closed */
    atomic_bool stopping;
    struct metric *fetched[SPANS_WHYS], *fetched_metadata, *bad_spans, *read_errors, *waits,
        *cache_bytes;

    struct lock lock;
    struct condition work;    /* for loaders */
    struct condition changed; /* a span has left the disk, or an errand is due */
    struct spans_source *sources[SPANS_SOURCES_LIMIT] GUARDED_BY(lock);
    unsigned source_count GUARDED_BY(lock);
    struct spans_source upstream_source;
    struct spans_asked defaults; /* in the settings' order */
    struct spans_image *images GUARDED_BY(lock);
    struct spans_layer *layers GUARDED_BY(lock);
    struct spans_layer *left GUARDED_BY(lock); /* to be closed */
    struct spans_idle *idle GUARDED_BY(lock);
    struct spans_queue queues[SPANS_WHYS] GUARDED_BY(lock);
    unsigned loading[SPANS_WHYS] GUARDED_BY(lock); /* requests under way */
    uint32_t uses GUARDED_BY(lock);
    uint64_t held GUARDED_BY(lock);  /* bytes of spans on the disk, of open layers */
    uint64_t fixed GUARDED_BY(lock); /* bytes of indexes and trees of open ones */
    uint64_t idle_bytes GUARDED_BY(lock);
    uint64_t pulling GUARDED_BY(lock); /* bytes of a layer that is being pulled whole */
    bool is_pulling GUARDED_BY(lock);
    int64_t demand_ms GUARDED_BY(lock);     /* clock_ms() of the last demand, or opening */
    int64_t busy_ms GUARDED_BY(lock);       /* when the demands began that have no long pause */
    int64_t background_ms GUARDED_BY(lock); /* when the next background request may begin */
    struct spans_errand *errands GUARDED_BY(lock);
    bool is_posting GUARDED_BY(lock); /* one of them is on its way */
    bool is_ending GUARDED_BY(lock);
    pthread_t loaders[SPANS_LOADERS], keeper;
    unsigned loader_count;
    bool has_keeper;
};

/* ---- spans_sources.c ---- */

/* Finds or opens the tarn at `url`. NULL: the error is set. */
struct spans_source *spans_source_find(struct spans *spans, const char *url, struct error *error);
void spans_source_free(struct spans_source *source);
/* Whom an image asks: the tarn at `from` or those of the settings, then its registry. */
bool spans_asked_set(struct spans *spans, const char *from, struct spans_asked *out,
                     struct error *error);
/* For messages: its URL. */
const char *spans_source_name(const struct spans_source *source);
bool spans_source_is_upstream(const struct spans_source *source);
/* Notes whether the source has answered. */
void spans_source_note(struct spans_source *source, bool answered);

/* How a request is made. */
struct spans_request {
    struct spans *spans;
    struct spans_source *source;
    const struct image_name *image;
    const struct cancel *cancel;
};
struct stream_asking spans_asking(const struct spans_request *request);
/* A stretch of a blob from whichever kind of source. */
bool spans_source_stream(const struct spans_request *request, const struct stream_range *range,
                         stream_taker *take, void *context, struct error *error);

/* ---- spans_layer.c ---- */

/* Bounds of a span in the archive; of the last one behind the end too. */
void spans_layer_bounds(const struct spans_layer *layer, size_t at, uint64_t *offset,
                        uint64_t *length);
/* Which span has the byte at `offset`, which lies within the archive. */
size_t spans_layer_find(const struct spans_layer *layer, uint64_t offset);
/* Where in the data file a span begins: no two spans share a page. */
uint64_t spans_layer_where(const struct spans_layer *layer, size_t at);
uint64_t spans_layer_room(const struct spans_layer *layer, size_t at); /* whole pages */

/* What a layer is, before it is open. */
struct spans_layer_facts {
    struct digest digest, diff_id;
    bool is_whole;
    uint64_t blob_size, tar_size; /* of a whole one; else the index says so */
};
/* The open layer, or the one that the root has, with one reference more. NULL: ERROR_NOT_FOUND, or
 * another error. */
struct spans_layer *spans_layer_take(struct spans *spans, const struct spans_layer_facts *facts,
                                     struct error *error);
/* Keeps an index that has come. */
bool spans_layer_put_index(struct spans *spans, const struct digest *digest,
                           const struct buffer *bytes, struct error *error);
/* One reference less. A layer that nobody refers to any more is closed by spans_layer_sweep(). */
void spans_layer_leave(struct spans *spans, struct spans_layer *layer) REQUIRES(spans->lock);
void spans_layer_sweep(struct spans *spans);
void spans_layer_release(struct spans_layer *layer); /* both */

/* Writes the bytes of a span and its sum. */
bool spans_layer_write(struct spans_layer *layer, size_t at, const void *bytes,
                       struct error *error);
/* Reads all of a span, which is pinned. False: it does not have its sum, or cannot be read. */
bool spans_layer_read(struct spans_layer *layer, size_t at, void *bytes);
/* The same, without giving the bytes. */
bool spans_layer_check(struct spans_layer *layer, size_t at);
/* Marks the layer as verified, or as not, on the disk. */
bool spans_layer_mark(struct spans_layer *layer, bool verified, struct error *error);
/* Removes a span's bytes and sum from the disk. */
void spans_layer_punch(struct spans_layer *layer, size_t at);
/* Opens a folder below `parent_fd`, and makes it first if it should be. -1: the error is set. */
int spans_folder_open(int parent_fd, const char *key, bool make, struct error *error);
/* Deletes a folder of a layer or an image with all in it. */
void spans_folder_delete(int parent_fd, const char *key);
const char *spans_key(const struct digest *digest, char out[static SPANS_KEY_SIZE]);

/* The name by which the image was opened, for people: "HOST/NAME:TAG", "HOST/NAME@DIGEST". */
enum { SPANS_NAME_SIZE = HOST_LIMIT + NAME_LIMIT + TAG_LIMIT + DIGEST_STRING_SIZE };
const char *spans_image_name(const struct spans_image *image, char out[static SPANS_NAME_SIZE]);
const char *spans_layer_key(const struct digest *digest, bool is_whole,
                            char out[static SPANS_KEY_SIZE]);
bool spans_key_parse(const char *key, struct digest *out);
/* Writes a file of the folder in one step. */
bool spans_file_put(int folder_fd, const char *name, const void *bytes, size_t length,
                    struct error *error);

/* ---- spans_budget.c ---- */

/* Makes space for a span on the disk, and counts it. False: there is none. May wait for the disk.
 */
bool spans_budget_reserve(struct spans *spans, struct spans_layer *layer, size_t at);
/* The same for bytes of a layer that is being pulled whole. */
bool spans_budget_pull(struct spans *spans, uint64_t bytes);
/* A span that was counted is not on the disk. */
void spans_budget_return(struct spans *spans, struct spans_layer *layer, size_t at)
    REQUIRES(spans->lock);
void spans_budget_show(struct spans *spans) REQUIRES(spans->lock);
/* Whether all open layers up to this one fit on the disk. */
bool spans_budget_fits(const struct spans *spans, const struct spans_layer *layer)
    REQUIRES(spans->lock);
/* Reads which layers the root has. */
bool spans_budget_scan(struct spans *spans, struct error *error);
/* Deletes the indexes of images that are not open, oldest first, when there are too many. */
void spans_budget_prune(struct spans *spans);
/* A layer is not open any more; it stays on the disk until its space is needed. */
void spans_budget_rest(struct spans *spans, const struct spans_layer *layer) REQUIRES(spans->lock);
/* The layer with this key, if it is on the disk, does not rest any more. */
void spans_budget_wake(struct spans *spans, const char *key) REQUIRES(spans->lock);

/* ---- spans_flight.c ---- */

/* The flight of an absent span, queued if it is new, more urgent if it was less so. The caller gets
 * no reference. NULL: out of memory. */
struct spans_flight *spans_flight_want(struct spans *spans, struct spans_layer *layer, size_t at,
                                       enum spans_why why) REQUIRES(spans->lock);
void spans_flight_queue(struct spans *spans, struct spans_flight *flight) REQUIRES(spans->lock);
void spans_flight_unqueue(struct spans *spans, struct spans_flight *flight) REQUIRES(spans->lock);
/* One reference less. */
void spans_flight_release(struct spans *spans, struct spans_flight *flight) REQUIRES(spans->lock);
/* Ends a flight that no queue has: the readers go on. `error` NULL: its bytes are here. */
void spans_flight_end(struct spans *spans, struct spans_flight *flight, const struct error *error)
    REQUIRES(spans->lock);
/* Ends all that are queued: nobody loads any more. */
void spans_flight_end_all(struct spans *spans) REQUIRES(spans->lock);
/* What a flight knows of its failure. */
void spans_flight_fail(struct spans_flight *flight, const struct error *error);

/* A stretch of one span. */
struct spans_part {
    size_t at;       /* which span */
    uint64_t offset; /* in it */
    size_t length;
    void *out;
};
/* Reads it, from the disk or from the network. */
bool spans_flight_read(struct spans_image *image, struct spans_layer *layer,
                       const struct spans_part *part, const atomic_bool *stop, struct error *error);

/* The disk does not have the span any more, or not the right bytes. It is not pinned. */
void spans_flight_lose(struct spans *spans, struct spans_layer *layer, size_t at)
    REQUIRES(spans->lock);

/* ---- spans_trace.c ---- */

struct spans_start;
struct spans_errand;

/* NULL: out of memory, and the start is not recorded. */
struct spans_start *spans_start_new(struct spans_layer *const *layers, size_t count);
void spans_start_free(struct spans_start *start, size_t layers); /* NULL is allowed */
/* The image has read a span. */
void spans_trace_note(struct spans *spans, struct spans_image *image,
                      const struct spans_layer *layer, size_t at) REQUIRES(spans->lock);
/* Ends the recording. NULL: there is nothing to post. */
struct spans_errand *spans_trace_end(struct spans_image *image);
void spans_errand_free(struct spans_errand *errand); /* with those behind it; NULL is allowed */
/* Leaves a trace to the keeper. NULL is allowed. */
void spans_trace_leave(struct spans *spans, struct spans_errand *errand) REQUIRES(spans->lock);
/* A trace that is to be posted now. NULL: there is none before *wake_ms, which may become less. */
struct spans_errand *spans_trace_next(struct spans *spans, int64_t *wake_ms) REQUIRES(spans->lock);
/* Posts and frees it. */
void spans_trace_post(struct spans *spans, struct spans_errand *errand);
/* Fetches ahead what a trace says. */
void spans_trace_use(struct spans_image *image, const struct buffer *json);

/* ---- spans_keeper.c ---- */

bool spans_keeper_start(struct spans *spans, struct error *error);
void spans_keeper_stop(struct spans *spans);

/* ---- spans_loader.c ---- */

bool spans_loader_start(struct spans *spans, struct error *error);
void spans_loader_stop(struct spans *spans);

#endif
