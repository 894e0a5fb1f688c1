/* Lists a repository's records by the names in the directories of its tags and links. */
#include "store/record_names.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
#include "base/clock.h"
#include "store/root.h"
#include "store/store_private.h"

static bool cannot_list(struct store *store, const char *path, struct error *error) {
    return error_set_errno(error, errno, "list %s/%s", store->path, path);
}

/* Calls `each` with every name in a directory; a missing directory has none. */
static bool each_name(struct store *store, const char *path, struct error *error,
                      bool (*each)(void *context, const char *name), void *context) {
    DIR *directory = root_open_directory(store, path);
    if (!directory)
        return errno == 0 || cannot_list(store, path, error);
    bool wanted = true;
    errno = 0;
    for (struct dirent *entry; wanted && (entry = readdir(directory)); errno = 0)
        wanted = each(context, entry->d_name);
    bool ok = !wanted || errno == 0 || cannot_list(store, path, error);
    closedir(directory);
    return ok;
}

struct link_listing {
    enum digest_algorithm algorithm;
    bool (*each)(void *context, const struct digest *digest);
    void *context;
    bool wanted;
};

static bool give_link(void *context, const char *name) {
    struct link_listing *listing = context;
    struct digest digest;
    char text[DIGEST_STRING_SIZE];
    int length =
        snprintf(text, sizeof text, "%s:%s", digest_algorithm_name(listing->algorithm), name);
    if (length < (int)sizeof text && digest_parse(text_of(text), &digest))
        listing->wanted = listing->each(listing->context, &digest);
    return listing->wanted;
}

const char *record_names_folder(enum link_kind kind) {
    return kind == LINK_BLOB ? LINKED_BLOBS : LINKED_MANIFESTS;
}

bool record_names_of_links(struct store *store, const struct repository_name *repository,
                           enum link_kind kind,
                           bool (*each)(void *context, const struct digest *digest), void *context,
                           struct error *error) {
    static const enum digest_algorithm algorithms[] = {DIGEST_SHA256, DIGEST_SHA512};
    struct link_listing listing = {.each = each, .context = context, .wanted = true};
    bool ok = true;
    for (size_t i = 0; i < 2 && ok && listing.wanted; i++) {
        char path[PATH_SIZE];
        listing.algorithm = algorithms[i];
        store_path_links(path, repository, record_names_folder(kind), algorithms[i]);
        ok = each_name(store, path, error, give_link, &listing);
    }
    return ok;
}

struct tag_names {
    bool ignores_case;
    const char *directory;
    bool (*each)(void *context, const char *name);
    void *context;
};

static bool give_tag_name(void *context, const char *name) {
    const struct tag_names *names = context;
    char tag[TAG_SIZE];
    return !store_path_tag_of_file(name, names->ignores_case, tag) ||
           names->each(names->context, tag);
}

bool record_names_of_tags(struct store *store, const struct repository_name *repository,
                          bool (*each)(void *context, const char *tag), void *context,
                          struct error *error) {
    char path[PATH_SIZE];
    store_path_tags(path, repository);
    struct tag_names names = {store->ignores_case, path, each, context};
    return each_name(store, path, error, give_tag_name, &names);
}

static bool give_lost_tag(void *context, const char *name) {
    const struct tag_names *names = context;
    char tag[TAG_SIZE], path[PATH_SIZE];
    return name[0] == '.' || store_path_tag_of_file(name, names->ignores_case, tag) ||
           snprintf(path, sizeof path, "%s/%s", names->directory, name) >= PATH_SIZE ||
           names->each(names->context, path);
}

bool record_names_of_lost_tags(struct store *store, const struct repository_name *repository,
                               bool (*each)(void *context, const char *path), void *context,
                               struct error *error) {
    char path[PATH_SIZE];
    store_path_tags(path, repository);
    struct tag_names names = {store->ignores_case, path, each, context};
    return !store->ignores_case || each_name(store, path, error, give_lost_tag, &names);
}

struct tag_listing {
    struct store *store;
    const struct repository_name *repository;
    bool (*each)(void *context, const char *tag, const struct tag_record *record);
    void *context;
};

static bool give_tag(void *context, const char *name) {
    const struct tag_listing *listing = context;
    struct tag_record record;
    return !store_tag_get(listing->store, listing->repository, name, &record) ||
           listing->each(listing->context, name, &record);
}

bool store_tags(struct store *store, const struct repository_name *repository,
                bool (*each)(void *context, const char *tag, const struct tag_record *record),
                void *context, struct error *error) {
    struct tag_listing listing = {store, repository, each, context};
    return record_names_of_tags(store, repository, give_tag, &listing, error);
}

struct manifest_listing {
    struct store *store;
    const struct repository_name *repository;
    bool (*each)(void *context, const struct digest *digest);
    void *context;
};

static bool give_manifest(void *context, const struct digest *digest) {
    const struct manifest_listing *listing = context;
    return !store_has_link_manifest(listing->store, listing->repository, digest, NULL, 0) ||
           listing->each(listing->context, digest);
}

bool store_links(struct store *store, const struct repository_name *repository, enum link_kind kind,
                 bool (*each)(void *context, const struct digest *digest), void *context,
                 struct error *error) {
    struct manifest_listing believed = {store, repository, each, context};
    if (kind == LINK_MANIFEST)
        return record_names_of_links(store, repository, kind, give_manifest, &believed, error);
    return record_names_of_links(store, repository, kind, each, context, error);
}

bool store_link_delete(struct store *store, const struct repository_name *repository,
                       enum link_kind kind, const struct digest *digest, struct error *error) {
    char path[PATH_SIZE];
    if (!store_path_link(path, repository, record_names_folder(kind), digest))
        return error_set(error, ERROR_INVALID, "delete a link of %s/%s: not a digest",
                         repository->host, repository->path);
    return root_delete_record(store, path, error);
}

void store_link_touch(struct store *store, const struct repository_name *repository,
                      enum link_kind kind, const struct digest *digest) {
    enum { GRANULARITY_S = 3600 };
    char path[PATH_SIZE];
    struct stat state;
    if (store_path_link(path, repository, record_names_folder(kind), digest) &&
        root_stat(store, path, &state) &&
        clock_wall_s() - (int64_t)state.st_mtim.tv_sec >= GRANULARITY_S)
        utimensat(store->root, path, NULL, AT_SYMLINK_NOFOLLOW);
}
