/* Reads htpasswd files. */
#include "login/htpasswd.h"

#include <crypt.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/text.h"

void htpasswd_finish(struct htpasswd *htpasswd) {
    free(htpasswd->users);
    if (htpasswd->bytes)
        OPENSSL_cleanse(htpasswd->bytes, htpasswd->length);
    free(htpasswd->bytes);
    *htpasswd = (struct htpasswd){0};
}

/* Whether libcrypt could ever compute `hash`. A traditional (DES) hash has no prefix, so a
 * plain-text password may look like one; such a password then matches nothing. */
static bool is_hash(const char *hash) {
    static const char letters[] =
        "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    if (strlen(hash) >= HTPASSWD_HASH_SIZE)
        return false;
    if (*hash != '$' && *hash != '_' && (strlen(hash) != 13 || strspn(hash, letters) != 13))
        return false;
    int answer = crypt_checksalt(hash);
    return answer == CRYPT_SALT_OK || answer == CRYPT_SALT_METHOD_LEGACY ||
           answer == CRYPT_SALT_TOO_CHEAP;
}

/* Adds the user of one line, unless the line is empty or a comment. */
static bool read_line(struct htpasswd *out, char *line, const char *file, size_t number,
                      struct error *error) {
    line[strcspn(line, "\r")] = '\0';
    if (*line == '\0' || *line == '#')
        return true;
    char *colon = strchr(line, ':');
    if (!colon || colon == line || colon - line > HTPASSWD_NAME_LIMIT)
        return error_set(error, ERROR_INVALID, "%s:%zu: expected USER:HASH, as htpasswd -B writes",
                         file, number);
    *colon = '\0';
    char *hash = colon + 1;
    hash[strcspn(hash, ":")] = '\0'; /* further parts are comments */
    if (!is_hash(hash))
        return error_set(error, ERROR_INVALID,
                         "%s:%zu: the password of user %.60s is not a hash that tarn knows; write "
                         "it with htpasswd -B",
                         file, number, line);
    struct htpasswd_user *more = realloc(out->users, (out->count + 1) * sizeof *more);
    if (!more)
        return error_set(error, ERROR_MEMORY, "%s: out of memory", file);
    out->users = more;
    more[out->count++] = (struct htpasswd_user){line, hash};
    return true;
}

bool htpasswd_parse(char *bytes, size_t length, const char *file, struct htpasswd *out,
                    struct error *error) {
    *out = (struct htpasswd){.bytes = bytes, .length = length};
    bool fine = !memchr(bytes, '\0', length) ||
                error_set(error, ERROR_INVALID, "htpasswd file %s: holds a NUL byte", file);
    char *line = bytes;
    for (size_t number = 1; fine && line && *line; number++) {
        char *end = strchr(line, '\n'), *next = end ? end + 1 : line + strlen(line);
        if (end)
            *end = '\0';
        fine = read_line(out, line, file, number, error);
        line = next;
    }
    if (!fine)
        htpasswd_finish(out);
    return fine;
}

bool htpasswd_read(const char *file, struct htpasswd *out, struct stat *identity,
                   struct error *error) {
    size_t length;
    *out = (struct htpasswd){0};
    char *bytes =
        file_read_small(file, HTPASSWD_SIZE_LIMIT, FILE_REGULAR, &length, identity, error);
    if (!bytes)
        return error_wrap(error, "htpasswd file %s", file);
    return htpasswd_parse(bytes, length, file, out, error);
}

bool htpasswd_find(const struct htpasswd *htpasswd, const char *name, uint64_t stand_in,
                   char hash[static HTPASSWD_HASH_SIZE]) {
    bool known = false;
    size_t found = htpasswd->count ? (size_t)(stand_in % htpasswd->count) : 0;
    for (size_t i = 0; i < htpasswd->count; i++) {
        if (strcmp(htpasswd->users[i].name, name) == 0 && !known) {
            known = true;
            found = i;
        }
    }
    hash[0] = '\0';
    if (htpasswd->count) /* is_hash() made sure that it fits */
        text_copy(text_of(htpasswd->users[found].hash), hash, HTPASSWD_HASH_SIZE);
    return known;
}
