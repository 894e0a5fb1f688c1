/* An htpasswd file in memory: lines `USER:HASH`, with `#` comments. No locks of its own. */
#ifndef LOGIN_HTPASSWD_H
#define LOGIN_HTPASSWD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include "base/error.h"

enum { HTPASSWD_SIZE_LIMIT = 1 << 20, HTPASSWD_NAME_LIMIT = 255, HTPASSWD_HASH_SIZE = 384 };

struct htpasswd { /* zeroed is empty */
    char *bytes;  /* the file; names and hashes point into it */
    size_t length;
    struct htpasswd_user {
        const char *name, *hash;
    } * users;
    size_t count;
};

/* *identity is that of the file that was read; NULL: nobody wants it. False: *out is empty, and the
 * error names file and line. */
bool htpasswd_read(const char *file, struct htpasswd *out, struct stat *identity,
                   struct error *error);
/* The same of the bytes of a file, with a NUL behind them, which are taken over. */
bool htpasswd_parse(char *bytes, size_t length, const char *file, struct htpasswd *out,
                    struct error *error);
void htpasswd_finish(struct htpasswd *htpasswd);

/* The user's hash (the first, if the name is there twice). False: the user is unknown, and `hash`
 * is that of another user, whom `stand_in` chooses, so that checking it takes as much time; "" when
 * there are no users at all. The same name has to come with the same secret `stand_in`, because the
 * hashes of a file may cost differently. The search takes the same time for every name. */
bool htpasswd_find(const struct htpasswd *htpasswd, const char *name, uint64_t stand_in,
                   char hash[static HTPASSWD_HASH_SIZE]);

#endif
