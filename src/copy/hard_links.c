/* The first name of each file that has several. */
#include "copy/hard_links.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

struct key {
    unsigned char bytes[2 * sizeof(uint64_t)]; /* device and inode */
};

struct hard_link {
    struct key key;
    nlink_t unseen; /* names of the file that were not seen yet */
    UT_hash_handle hh;
    char path[];
};

static struct key key_of(const struct stat *status) {
    const uint64_t numbers[] = {status->st_dev, status->st_ino};
    struct key key;
    memcpy(key.bytes, numbers, sizeof key.bytes);
    return key;
}

static size_t bytes_of(const char *path) {
    return sizeof(struct hard_link) + strlen(path) + 1;
}

static void forget(struct hard_links *links, struct hard_link *link) {
    links->bytes -= bytes_of(link->path);
    HASH_DEL(links->links, link);
    free(link);
}

bool hard_links_find(struct hard_links *links, const struct stat *status, struct buffer *first) {
    struct hard_link *link = NULL;
    const struct key key = key_of(status);
    buffer_clear(first);
    if (status->st_nlink < 2)
        return false;
    HASH_FIND(hh, links->links, &key, sizeof key, link);
    if (!link || !buffer_append_string(first, link->path))
        return false;
    if (--link->unseen == 0)
        forget(links, link);
    return true;
}

bool hard_links_add(struct hard_links *links, const struct stat *status, const char *path,
                    struct error *error) {
    if (status->st_nlink < 2)
        return true;
    if (links->bytes + bytes_of(path) > HARD_LINKS_LIMIT)
        return error_set(error, ERROR_UNSUPPORTED,
                         "more hard links than can be kept in mind for one layer; add the folder's "
                         "parts as layers of their own");
    struct hard_link *link = calloc(1, bytes_of(path));
    if (!link)
        return error_set(error, ERROR_MEMORY, "out of memory");
    link->key = key_of(status);
    link->unseen = status->st_nlink - 1;
    memcpy(link->path, path, strlen(path) + 1);
    HASH_ADD(hh, links->links, key, sizeof link->key, link);
    if (!link->hh.tbl) {
        free(link);
        return error_set(error, ERROR_MEMORY, "out of memory");
    }
    links->bytes += bytes_of(path);
    return true;
}

void hard_links_finish(struct hard_links *links) {
    struct hard_link *link, *next;
    HASH_ITER (hh, links->links, link, next)
        forget(links, link);
    *links = (struct hard_links){0};
}
