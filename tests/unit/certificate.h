/* A certificate of its own and its key, for tests of TLS. */
#ifndef TESTS_UNIT_CERTIFICATE_H
#define TESTS_UNIT_CERTIFICATE_H

/* Writes both as PEM files, valid for an hour, with this common name. */
void certificate_write(const char *certificate_path, const char *key_path, const char *name);

#endif
