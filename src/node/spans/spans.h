/*
 * The bytes of images on a node: fetched in spans as they are read, checked, and kept on disk.
 *
 * An image is a few files: file 0 is the EROFS image of its tree, and file n is the uncompressed
 * archive of its layer n - 1, which EROFS takes as its device n (layer/erofs.h). Each read gives
 * bytes that were checked against the digest of their span, or fails: there are no zeros for bytes
 * that are missing, and no short reads. What cannot stream is pulled whole, and then read in the
 * same way.
 *
 * The folder ROOT keeps what was opened and read, at most `cache_size` bytes, so that another
 * process opens it without a network. One process at a time has a ROOT.
 *
 * Threads: any, for every function but spans_open() and spans_close(). Those that say so wait for
 * the network. This room knows no mount, no FUSE and no containerd.
 */
#ifndef SPANS_SPANS_H
#define SPANS_SPANS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "oci/digest.h"

struct upstream_settings;

struct spans_settings {
    const char *root;        /* a folder, which is made when it is not there */
    const char *const *from; /* URLs of tarns, asked in this order; NULL-terminated */
    /* Registries that are asked behind all tarns, with credentials of their own. */
    const struct upstream_settings *upstreams;
    size_t upstream_count;
    uint64_t cache_size; /* bytes on the disk, of spans, indexes and trees together */
    uint64_t background; /* bytes a second at which the rest of an image is fetched; 0: it isn't */
    int64_t wait_ms;     /* how long a read waits while no source answers; not 0 */
    bool trace;          /* record what a start reads, and fetch what earlier starts have read */
    int64_t trace_time_ms; /* how long a start is */
};

/* With every default, from one tarn on this machine, and without a root. */
struct spans_settings spans_settings_default(void);

struct spans;

/* Copies the settings. NULL: ERROR_INVALID (a URL that is none, or one of http to another machine,
 * over which no tree may come), ERROR_BUSY (another process has the root), ERROR_IO, ERROR_MEMORY.
 */
struct spans *spans_open(const struct spans_settings *settings, struct error *error);
/* Every image is released, and no call is under way. Ends within five seconds, whatever hangs. */
void spans_close(struct spans *spans);

/* ---- images ---- */

struct spans_image; /* counted */

/*
 * Opens an image, HOST/NAME:TAG or HOST/NAME@DIGEST, for `platform` ("linux/arm64"; NULL: this
 * machine's) from the tarn at `from` (NULL: those of the settings). Waits for the network, for the
 * index while it is being made, and for all of an image that cannot stream. `*stop` (may be NULL)
 * ends it. NULL: ERROR_INVALID, ERROR_NOT_FOUND, ERROR_DENIED, ERROR_UNAVAILABLE, ERROR_CORRUPT
 * (also a wrong diff ID), ERROR_NO_SPACE and others.
 */
struct spans_image *spans_image_open(struct spans *spans, const char *image, const char *platform,
                                     const char *from, const atomic_bool *stop,
                                     struct error *error);
/* The same for what the root has since an earlier opening, without a network. `digest` is that of
 * the manifest, or of the lowest layers that were opened; `image` is the name to ask for. NULL:
 * ERROR_NOT_FOUND. */
struct spans_image *spans_image_restore(struct spans *spans, const struct digest *digest,
                                        const char *image, const char *from, struct error *error);
/*
 * Whether the image HOST/NAME@DIGEST streams and its lowest layers have this chain ID (image-spec):
 * how many they are, and whether they are all. Their indexes are in the root afterwards. Waits for
 * the network. False: ERROR_NOT_FOUND, and others.
 */
bool spans_image_find(struct spans *spans, const char *image, const struct digest *chain,
                      const atomic_bool *stop, size_t *layers, bool *is_whole, struct error *error);
/* The tree of the lowest layers of such an image, as if it had no others; its digest, for
 * restoring, is then their chain ID. Waits for the network only for what the root does not have. */
struct spans_image *spans_image_open_lowest(struct spans *spans, const char *image, size_t layers,
                                            const atomic_bool *stop, struct error *error);
struct spans_image *spans_image_keep(struct spans_image *image); /* one reference more */
void spans_image_release(struct spans_image *image);             /* NULL is allowed */

/* These do not change while the image is open. */
const struct digest *spans_image_digest(const struct spans_image *image); /* as for restoring */
/* Why it cannot stream: a word of layer/refusal.h, or "absent", "pending", "unknown". "": it can.
 */
const char *spans_image_whole_reason(const struct spans_image *image);
size_t spans_image_files(const struct spans_image *image); /* 1 and the number of layers */
/* Whole pages: zeros stand behind the tree, and behind an archive. */
uint64_t spans_image_file_size(const struct spans_image *image, size_t file);

/*
 * Reads all of `length` bytes, which lie within the file, or fails. Waits for the network at most
 * settings.wait_ms, or until `*stop` (may be NULL) is set; if that is set already, only what is on
 * the disk can be read. False: ERROR_CORRUPT (wrong at every
 * source), ERROR_TIMEOUT (no source has answered), ERROR_CLOSED (stopped), ERROR_RANGE, ERROR_IO,
 * ERROR_MEMORY. The next read of the same bytes asks again.
 */
bool spans_image_read(struct spans_image *image, size_t file, uint64_t offset, void *out,
                      size_t length, const atomic_bool *stop, struct error *error);

enum spans_state {
    SPANS_STREAMING,
    SPANS_COMPLETE, /* all is here, and was verified */
    SPANS_WHOLE,    /* cannot stream; all is here, and was verified */
    SPANS_BAD       /* what came does not have the digests of the image */
};
/* "streaming", "complete", "whole", "bad". */
const char *spans_state_name(enum spans_state state);

struct spans_image_state {
    enum spans_state state;
    uint64_t bytes;            /* compressed, of all layers */
    uint64_t fetched;          /* bytes that came for it, its indexes included */
    uint64_t waits;            /* reads that had to wait for the network */
    double wait_p50, wait_p99; /* seconds; 0 without waits */
    double first_read;         /* seconds from the opening to the end of the first read; -1: none */
    double complete;           /* seconds from the opening; -1: not yet */
    bool traced;               /* what an earlier start has read was fetched ahead */
};
void spans_image_look(struct spans_image *image, struct spans_image_state *out);

#endif
