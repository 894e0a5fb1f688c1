/*
 * Lists the repositories in byte order of "HOST/NAME" by walking their directories. Memory is
 * bounded however many there are: of each directory on the way only the next 1024 names are held,
 * and the directory is read again for the names behind them.
 *
 * A list that begins behind a name reads the directories on the way to that name, and none of those
 * whose names all stand before it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include "base/cleanup.h"
#include "oci/reference.h"
#include "store/records.h"
#include "store/root.h"
#include "store/store_private.h"

enum {
    BATCH = 1024,            /* keys of one directory that are held at a time */
    DEPTH_LIMIT = 130,       /* a name of 255 bytes has at most 128 parts; and the hosts */
    KEY_SIZE = NAME_MAX + 2, /* a name and its '/' */
};

/*
 * A directory being walked. Its entry "a" gives two keys: "a", the repository itself, and "a/", all
 * repositories below it. Sorted as bytes, the keys are in the order of the whole names: "a", "a-b",
 * "a/b".
 */
struct level {
    char *keys[2 * BATCH]; /* sorted, owned */
    size_t count, next;
    bool more;           /* the directory has keys behind these */
    char last[KEY_SIZE]; /* the key handed out last, or before the first wanted; "": none */
    bool wants_last;     /* `last` itself was not handed out, and is wanted */
    const char *after;   /* only names behind this are wanted, below this directory; NULL: all */
    size_t path_length;  /* of this directory in walk->path */
};

struct walk {
    struct store *store;
    bool all;        /* also repositories without a manifest */
    size_t names_at; /* where in `path` the host begins */
    bool with_hosts; /* the outermost directory holds hosts */
    char path[PATH_SIZE];
    struct level *levels[DEPTH_LIMIT];
    size_t depth;
};

static int compare_keys(const void *left, const void *right) {
    return strcmp(*(char *const *)left, *(char *const *)right);
}

static void keep_smallest(struct level *level) {
    qsort(level->keys, level->count, sizeof *level->keys, compare_keys);
    while (level->count > BATCH) {
        free(level->keys[--level->count]);
        level->more = true;
    }
}

static bool add_key(struct level *level, const char *name, const char *suffix) {
    char key[KEY_SIZE];
    snprintf(key, sizeof key, "%s%s", name, suffix);
    int order = strcmp(key, level->last);
    if (order < 0 || (order == 0 && !level->wants_last))
        return true;
    if (level->count == 2 * BATCH)
        keep_smallest(level);
    level->keys[level->count] = text_dup(text_of(key));
    return level->keys[level->count] && ++level->count;
}

static bool add_entry(struct level *level, const struct dirent *entry, bool is_hosts) {
    if (entry->d_type != DT_DIR && entry->d_type != DT_UNKNOWN)
        return true;
    struct text name = text_of(entry->d_name);
    if (is_hosts)
        return !reference_is_host(name) || add_key(level, entry->d_name, "/");
    return !reference_is_repository(name) ||
           (add_key(level, entry->d_name, "") && add_key(level, entry->d_name, "/"));
}

/* Reads the keys that follow `level->last`. */
static bool read_batch(struct walk *walk, struct level *level, bool is_hosts, struct error *error) {
    level->count = level->next = 0;
    level->more = false;
    DIR *directory = root_open_directory(walk->store, walk->path);
    if (!directory)
        return errno == 0 ||
               error_set_errno(error, errno, "list %s/%s", walk->store->path, walk->path);
    bool ok = true;
    errno = 0;
    for (struct dirent *entry; ok && (entry = readdir(directory)); errno = 0)
        ok = add_entry(level, entry, is_hosts);
    int reason = ok ? errno : 0;
    closedir(directory);
    keep_smallest(level);
    if (reason)
        return error_set_errno(error, reason, "list %s/%s", walk->store->path, walk->path);
    return ok || error_set(error, ERROR_MEMORY, "list %s/%s: out of memory", walk->store->path,
                           walk->path);
}

/* Whether the directory `records` of the repository at walk->path "/" key has an entry. */
static bool has_record(struct walk *walk, const char *key, const char *records) {
    char path[PATH_SIZE];
    int length = snprintf(path, sizeof path, "%s/%s/%s", walk->path, key, records);
    DIR *directory = length < PATH_SIZE ? root_open_directory(walk->store, path) : NULL;
    bool found = false;
    if (!directory)
        return false;
    for (struct dirent *entry; !found && (entry = readdir(directory));)
        found = entry->d_name[0] != '.';
    closedir(directory);
    return found;
}

/* Whether the repository has a record that makes `walk` list it. */
static bool is_wanted(struct walk *walk, const char *key) {
    static const char *const manifests[] = {"_manifests/sha256", "_manifests/sha512"};
    static const char *const others[] = {"_tags", "_blobs/sha256", "_blobs/sha512"};
    for (size_t i = 0; i < sizeof manifests / sizeof *manifests; i++)
        if (has_record(walk, key, manifests[i]))
            return true;
    for (size_t i = 0; walk->all && i < sizeof others / sizeof *others; i++)
        if (has_record(walk, key, others[i]))
            return true;
    return false;
}

static void level_free(struct level *level) {
    for (size_t i = level->next; i < level->count; i++)
        free(level->keys[i]);
    free(level);
}

/* Skips the keys whose names all stand before `after`. The key "a/" has names behind "a/b", the key
 * "a" has none. No key is longer than level->last, so that the order is the same when a longer part
 * is cut. */
static void start_after(struct level *level, const char *after) {
    const char *slash = strchr(after, '/');
    size_t length = slash ? (size_t)(slash - after) + 1 : strlen(after);
    level->after = after;
    level->wants_last = slash != NULL;
    snprintf(level->last, sizeof level->last, "%.*s", (int)length, after);
}

/* What `after` is below the directory of `key`; NULL: it stands before all names there. */
static const char *after_below(const struct level *level, const char *key) {
    bool is_on_the_way = level->after && text_starts(text_of(level->after), key);
    return is_on_the_way ? level->after + strlen(key) : NULL;
}

/* `after` is borrowed until the walk ends; NULL: all names are wanted. */
static bool push(struct walk *walk, const char *after, struct error *error) {
    struct level *level = calloc(1, sizeof *level);
    if (!level)
        return error_set(error, ERROR_MEMORY, "list %s/%s: out of memory", walk->store->path,
                         walk->path);
    level->path_length = strlen(walk->path);
    level->more = true; /* nothing is read yet */
    if (after)
        start_after(level, after);
    walk->levels[walk->depth++] = level;
    return true;
}

/* Goes into the directory named by `key`, "a/", unless the names below it would be too long. */
static bool descend(struct walk *walk, const char *key, struct error *error) {
    const char *after = after_below(walk->levels[walk->depth - 1], key);
    size_t length = strlen(walk->path);
    size_t left = sizeof walk->path - length;
    int added = snprintf(walk->path + length, left, "/%.*s", (int)strlen(key) - 1, key);
    if (walk->depth < DEPTH_LIMIT && (size_t)added < left &&
        strlen(walk->path) - walk->names_at <= HOST_LIMIT + 1 + NAME_LIMIT)
        return push(walk, after, error);
    walk->path[length] = '\0';
    return true;
}

/* Whether walk->path "/" key is HOST "/" NAME of a repository. */
static bool parse_name(const struct walk *walk, const char *key, struct repository_name *out) {
    char name[PATH_SIZE];
    int length = snprintf(name, sizeof name, "%s/%s", walk->path + walk->names_at, key);
    struct text host, path;
    if (length >= PATH_SIZE)
        return false;
    host = text_cut(text_of(name), '/', &path);
    return path.at && repository_name_parse(host, path, out);
}

/* Hands out the next key of the innermost directory; NULL when there is none left. */
static char *next_key(struct walk *walk, struct error *error, bool *ok) {
    const bool is_hosts = walk->with_hosts && walk->depth == 1;
    struct level *level = walk->levels[walk->depth - 1];
    if (level->next == level->count && level->more)
        *ok = read_batch(walk, level, is_hosts, error);
    if (!*ok || level->next == level->count)
        return NULL;
    char *key = level->keys[level->next++];
    text_copy(text_of(key), level->last, sizeof level->last);
    level->wants_last = false;
    return key;
}

static bool run(struct walk *walk, const char *after,
                bool (*each)(void *context, const struct repository_name *name), void *context,
                struct error *error) {
    bool ok = push(walk, after, error);
    while (ok && walk->depth) {
        cleanup_free char *key = next_key(walk, error, &ok);
        if (!ok)
            break;
        if (!key) {
            level_free(walk->levels[--walk->depth]);
            if (walk->depth)
                walk->path[walk->levels[walk->depth - 1]->path_length] = '\0';
            continue;
        }
        struct repository_name name;
        if (text_ends(text_of(key), "/"))
            ok = descend(walk, key, error);
        else if (parse_name(walk, key, &name) && is_wanted(walk, key) && !each(context, &name))
            break;
    }
    while (walk->depth)
        level_free(walk->levels[--walk->depth]);
    return ok;
}

static const char top[] = "repositories";

/* A walk of the directory of one host, or of all; to be freed. NULL: an error. */
static struct walk *walk_new(struct store *store, const char *host, struct error *error) {
    if (host && !reference_is_host(text_of(host))) {
        error_set(error, ERROR_INVALID, "list the repositories of %.255s: not a host", host);
        return NULL;
    }
    struct walk *walk = calloc(1, sizeof *walk);
    if (!walk) {
        error_set(error, ERROR_MEMORY, "list %s/%s: out of memory", store->path, top);
        return NULL;
    }
    walk->store = store;
    walk->names_at = sizeof top;
    walk->with_hosts = !host;
    snprintf(walk->path, sizeof walk->path, "%s%s%s", top, host ? "/" : "", host ? host : "");
    return walk;
}

bool store_repositories(struct store *store, const char *host, const char *after,
                        bool (*each)(void *context, const struct repository_name *name),
                        void *context, struct error *error) {
    cleanup_free struct walk *walk = walk_new(store, host, error);
    return walk && run(walk, after, each, context, error);
}

bool store_repositories_all(struct store *store, const char *host,
                            bool (*each)(void *context, const struct repository_name *name),
                            void *context, struct error *error) {
    cleanup_free struct walk *walk = walk_new(store, host, error);
    if (walk)
        walk->all = true;
    return walk && run(walk, NULL, each, context, error);
}
