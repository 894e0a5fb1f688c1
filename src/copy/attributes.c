/* The extended attributes of a file that a layer keeps. */
#include "copy/attributes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include "base/cleanup.h"

enum { VALUE_LIMIT = 64 << 10, NAMES_LIMIT = 64 << 10 }; /* XATTR_SIZE_MAX, XATTR_LIST_MAX */

static bool is_kept(const char *name) {
    return strncmp(name, "user.", 5) == 0 || strcmp(name, "security.capability") == 0;
}

static int compare(const void *a, const void *b) {
    return strcmp(((const struct tar_attribute *)a)->name, ((const struct tar_attribute *)b)->name);
}

/* The names, one behind the other, each with its NUL. NULL with *length 0: there are none. */
static char *list_names(int fd, size_t *length, struct error *error) {
    *length = 0;
    ssize_t size = flistxattr(fd, NULL, 0);
    if (size == 0 || (size < 0 && errno == ENOTSUP))
        return NULL;
    cleanup_free char *names = malloc(NAMES_LIMIT);
    if (!names) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    size = flistxattr(fd, names, NAMES_LIMIT);
    if (size < 0) {
        error_set_errno(error, errno, "cannot list its extended attributes");
        return NULL;
    }
    *length = (size_t)size;
    return take(names);
}

static bool add(struct attributes *attributes, const char *name, const char *value, size_t length,
                struct error *error) {
    struct tar_attribute *list =
        realloc(attributes->list, (attributes->count + 1) * sizeof *attributes->list);
    if (!list)
        return error_set(error, ERROR_MEMORY, "out of memory");
    attributes->list = list;
    struct tar_attribute *own = &list[attributes->count++];
    *own = (struct tar_attribute){.name = strdup(name), .value = {malloc(length + 1), length}};
    if (!own->name || !own->value.at)
        return error_set(error, ERROR_MEMORY, "out of memory");
    memcpy((char *)own->value.at, value, length);
    return true;
}

static bool read_one(struct attributes *attributes, int fd, const char *name, size_t *total,
                     struct error *error) {
    cleanup_free char *value = malloc(VALUE_LIMIT);
    if (!value)
        return error_set(error, ERROR_MEMORY, "out of memory");
    const ssize_t length = fgetxattr(fd, name, value, VALUE_LIMIT);
    if (length < 0 && errno == ENODATA)
        return error_set(error, ERROR_CORRUPT,
                         "its extended attribute %s vanished while it was read", name);
    if (length < 0)
        return error_set_errno(error, errno, "cannot read its extended attribute %s", name);
    *total += (size_t)length;
    if (*total > TAR_RECORDS_LIMIT)
        return error_set(error, ERROR_UNSUPPORTED,
                         "its extended attributes have more than 1 MiB together");
    return add(attributes, name, value, (size_t)length, error);
}

bool attributes_read(struct attributes *attributes, int fd, struct error *error) {
    struct error failure = {0};
    size_t length, total = 0;
    cleanup_free char *names = list_names(fd, &length, &failure);
    if (failure.kind) {
        if (error)
            *error = failure;
        return false;
    }
    for (const char *name = names; name && name < names + length; name += strlen(name) + 1)
        if (is_kept(name) && !read_one(attributes, fd, name, &total, error))
            return false;
    if (attributes->count)
        qsort(attributes->list, attributes->count, sizeof *attributes->list, compare);
    return true;
}

void attributes_finish(struct attributes *attributes) {
    for (size_t i = 0; i < attributes->count; i++) {
        free((char *)attributes->list[i].name);
        free((char *)attributes->list[i].value.at);
    }
    free(attributes->list);
    *attributes = (struct attributes){0};
}
