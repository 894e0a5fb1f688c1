/* Copies this program with all that it needs. */
#include "node/program.h"

#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/file.h"
#include "client/trust.h"
#include "oci/digest.h"

#define PREFIX "tarn-"

enum {
    FILE_LIMIT = 256 << 20, /* bytes of a program or library */
    HEX_DIGITS = 16,        /* of the digest in the folder's name */
    PROGRAM_MODE = 0755,
};

void program_finish(struct program *program) {
    for (size_t i = 0; i < program->count; i++)
        free(program->files[i].path);
    program->count = 0;
}

bool program_is_folder(const char *name) {
    const char *digits = name + strlen(PREFIX);
    return strncmp(name, PREFIX, strlen(PREFIX)) == 0 && strlen(digits) == HEX_DIGITS &&
           strspn(digits, "0123456789abcdef") == HEX_DIGITS;
}

/* ---- what this process consists of ---- */

static bool add(struct program *program, const char *path, const char *name) {
    if (program->count == PROGRAM_FILES_LIMIT || strlen(name) > NAME_MAX)
        return false;
    char *copy = strdup(path);
    if (!copy)
        return false;
    program->files[program->count].path = copy;
    snprintf(program->files[program->count].name, NAME_MAX + 1, "%s", name);
    program->count++;
    return true;
}

static const char *name_of(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Records the loader that the program's file names. */
static void note_loader(struct program *program, const struct dl_phdr_info *object) {
    for (size_t i = 0; i < object->dlpi_phnum; i++) {
        if (object->dlpi_phdr[i].p_type != PT_INTERP)
            continue;
        const char *path = (const char *)(object->dlpi_addr + object->dlpi_phdr[i].p_vaddr);
        snprintf(program->loader, sizeof program->loader, "%s", name_of(path));
    }
}

/* Called for the program itself, whose name is "", and for each library; the loader is one. What
 * has no path is the kernel's. */
static int visit(struct dl_phdr_info *object, size_t size, void *context) {
    struct program *program = context;
    const char *path = object->dlpi_name;
    (void)size;
    if (!*path) {
        note_loader(program, object);
        return !add(program, "/proc/self/exe", "tarn");
    }
    return strchr(path, '/') && !add(program, path, name_of(path));
}

static bool has(const struct program *program, const char *name) {
    for (size_t i = 0; i < program->count; i++) {
        if (strcmp(program->files[i].name, name) == 0)
            return true;
    }
    return false;
}

static char *read_file(const char *path, size_t *length, struct error *error) {
    char *bytes = file_read_small(path, FILE_LIMIT, FILE_REGULAR, length, NULL, error);
    if (!bytes)
        error_wrap(error, "%s", path);
    return bytes;
}

/* Names the folder by the digest of all names and files. */
static bool name_folder(struct program *program, struct error *error) {
    struct digest digest = {0};
    char text[DIGEST_STRING_SIZE];
    struct digest_hash *hash = digest_hash_new(DIGEST_SHA256);
    bool ok = hash || error_set(error, ERROR_MEMORY, "out of memory");
    for (size_t i = 0; ok && i < program->count; i++) {
        size_t length = 0;
        cleanup_free char *bytes = read_file(program->files[i].path, &length, error);
        ok = bytes != NULL;
        digest_hash_update(hash, program->files[i].name, strlen(program->files[i].name) + 1);
        digest_hash_update(hash, &length, sizeof length);
        if (ok)
            digest_hash_update(hash, bytes, length);
    }
    if (ok)
        digest_hash_finish(hash, &digest);
    digest_hash_free(hash);
    const char *hex = ok ? strchr(digest_format(&digest, text), ':') : NULL;
    if (hex)
        snprintf(program->folder, sizeof program->folder, PREFIX "%.*s", HEX_DIGITS, hex + 1);
    return hex || !ok || error_set(error, ERROR_MEMORY, "out of memory");
}

bool program_find(struct program *program, struct error *error) {
    *program = (struct program){0};
    const char *authorities = trust_system_file();
    if (dl_iterate_phdr(visit, program) != 0)
        return error_set(error, ERROR_MEMORY,
                         "this program has more than %d libraries, or memory "
                         "is out",
                         PROGRAM_FILES_LIMIT);
    if (!*program->loader || !has(program, program->loader))
        return error_set(error, ERROR_INVALID,
                         "the loader of this program is not known, because the program is "
                         "statically linked");
    if (authorities && access(authorities, R_OK) == 0 &&
        !add(program, authorities, "ca-certificates.crt"))
        return error_set(error, ERROR_MEMORY, "out of memory");
    return name_folder(program, error);
}

/* ---- the copy ---- */

/* Whether the file is there in its full length. A file of the folder is written as a whole, so that
 * its length tells whether it is the right one. */
static bool is_there(const struct tree *tree, const char *folder, const char *name, size_t length) {
    struct stat status;
    cleanup_close int fd = tree_open_folder(tree, folder, NULL);
    return fd >= 0 && fstatat(fd, name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
           S_ISREG(status.st_mode) && (status.st_mode & 07777) == PROGRAM_MODE &&
           (size_t)status.st_size == length;
}

bool program_write(const struct program *program, const struct tree *tree, const char *parent,
                   struct error *error) {
    const struct stat mode = {.st_mode = PROGRAM_MODE, .st_uid = geteuid(), .st_gid = getegid()};
    char folder[PATH_MAX], path[PATH_MAX];
    snprintf(folder, sizeof folder, "%s/%s", parent, program->folder);
    for (size_t i = 0; i < program->count; i++) {
        const char *name = program->files[i].name;
        size_t length = 0;
        cleanup_free char *bytes = read_file(program->files[i].path, &length, error);
        if (!bytes)
            return false;
        if (is_there(tree, folder, name, length))
            continue;
        if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
            return error_set(error, ERROR_INVALID, "%s: the name is too long", parent);
        if (!tree_write(tree, path, TREE_NO_FOLLOW, (struct text){bytes, length}, &mode, error))
            return false;
    }
    return true;
}
