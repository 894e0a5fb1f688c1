/*
 * The files that a configuration names, as far as they are looked at while it is read. Private to
 * config/.
 *
 * A file may be on a file system that hangs, for example of a network server that has gone. A
 * thread of its own reads it (base/file_reader.h), so that whoever loads the configuration waits
 * some seconds at most, and a changed configuration that no longer names the file can be loaded.
 * The reader lasts as long as the process, so that a file has one thread while it hangs, however
 * often the configuration is loaded.
 *
 * Threads: any.
 */
#ifndef CONFIG_FILES_H
#define CONFIG_FILES_H

#include "base/file_reader.h"
#include "login/htpasswd.h"
#include "login/jwks.h"

enum { CONFIG_FILE_PATIENCE_MS = 5000 }; /* then the file system counts as hung */

struct file_reader *config_files(void); /* NULL: out of memory */

/* As file_reader_look(). */
bool config_look(const char *path, struct stat *status, struct error *error);

/* As file_reader_space(). */
bool config_measure(const char *path, struct statvfs *space, struct error *error);

/* As file_reader_read(). */
char *config_read(const char *path, size_t limit, size_t *length, struct error *error);

/* As htpasswd_read() and jwks_read(). */
bool config_read_htpasswd(const char *path, struct htpasswd *out, struct error *error);
bool config_read_jwks(const char *path, struct jwks *out, struct error *error);

#endif
