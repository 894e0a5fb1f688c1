/*
 * Errors are sentences.
 *
 * A function that can fail takes a `struct error *` as its last parameter and returns whether it
 * worked. The kind is for the machine (only registry/ turns it into an HTTP status), the text is
 * for people: what was being done, to what, what went wrong, what to do. Each caller puts its own
 * part in front with error_wrap() on the way up.
 *
 * An error is a plain value without a heap part: it lives on the caller's stack, may be copied with
 * `=`, and can report that memory is out. Zeroed is "no error". A NULL `struct error *` is allowed
 * everywhere and means that the caller does not want to know why.
 */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include <stdbool.h>

enum error_kind {
    ERROR_NONE = 0,
    ERROR_INVALID,      /* the input breaks a rule of its format or grammar */
    ERROR_NOT_FOUND,    /* a source that can know said that the thing does not exist */
    ERROR_DENIED,       /* credentials or rules forbid the request */
    ERROR_RATE_LIMITED, /* upstream asked to slow down; see retry_after_s */
    ERROR_UNAVAILABLE,  /* upstream refused or reset the connection, failed, or sent nonsense */
    ERROR_TIMEOUT,      /* upstream sent nothing for too long */
    ERROR_BUSY,         /* a limit of tarn's own is reached; see retry_after_s */
    ERROR_CORRUPT,      /* bytes do not match their digest */
    ERROR_RANGE,        /* the requested range lies outside the content */
    ERROR_NO_SPACE,     /* the disk is full or over its limit */
    ERROR_IO,           /* a system call failed */
    ERROR_CLOSED,       /* the peer left, or tarn stops: nobody waits for the result */
    ERROR_UNSUPPORTED,  /* the request is understood, but tarn does not offer this */
    ERROR_MEMORY,       /* out of memory */
    ERROR_FILES,        /* tarn, or the machine, has as many files open as it may */
};

/* What failed on the way to upstream, for people in a few words: a status line, the page and
 * `/readyz` show no more. */
enum error_reason {
    ERROR_REASON_NONE = 0,
    ERROR_REASON_NO_HOST,       /* a name could not be looked up */
    ERROR_REASON_NO_CONNECTION, /* refused, or unreachable */
    ERROR_REASON_TLS,           /* no TLS connection */
    ERROR_REASON_CERTIFICATE,   /* the other side's is not trusted */
    ERROR_REASON_ADDRESS,       /* an address that must not be connected to */
    ERROR_REASON_NOT_ASKED,     /* upstream is left alone for now, because it does not respond */
    ERROR_REASON_STOPPING,      /* tarn itself stops: upstream has not failed */
};

struct error {
    enum error_kind kind;
    enum error_reason reason;
    int retry_after_s; /* seconds until another request makes sense; 0: unknown */
    int status;        /* of upstream's response that this error says; 0: none */
    bool doubtful;     /* NOT_FOUND, DENIED: something in front of upstream may have said so */
    bool lasting;      /* UNAVAILABLE: the same request would fail the same way */
    bool reached;      /* the server was there, but cut the connection or led to another that failed
                        */
    char code[32];     /* OCI error code as upstream gave it, or "" */
    char text[600];    /* one or more clauses, printable, without a final newline */
};

/* Sets kind and text, clears the rest. Returns false, so that `return error_set(…);` reads well. */
bool error_set(struct error *error, enum error_kind kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* error_set() with ": " and strerror(errno_value) behind the text. ENOSPC, EDQUOT become
 * ERROR_NO_SPACE, ENOMEM becomes ERROR_MEMORY, EMFILE and ENFILE become ERROR_FILES, ENAMETOOLONG
 * and EILSEQ become ERROR_INVALID; every other errno is ERROR_IO. */
bool error_set_errno(struct error *error, int errno_value, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Adds a reason to an error that was set. Returns false. */
bool error_because(struct error *error, enum error_reason reason);

/* The reason in words that may be shown to everybody: "no such host". NULL: there is none. */
const char *error_reason_text(enum error_reason reason);

/* Puts "<formatted>: " in front of the text; all other members stay. Returns false. */
bool error_wrap(struct error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Makes the error "no error". */
void error_clear(struct error *error);

/* The kind's name for logs and metrics: "not_found", "timeout", ... Never NULL. */
const char *error_kind_name(enum error_kind kind);

#endif
