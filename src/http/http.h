/*
 * The server side of HTTP/1.1 (RFC 9110, 9112): listener, connections, parser, responses, TLS.
 *
 * Event loops, one a processor, own the connections. A loop reads a request and answers it where it
 * arrives if `handle_now` can do so without waiting. Any other request goes with its connection to
 * a worker, whose thread carries it to its end with plain blocking calls. Then the connection goes
 * back to its loop. A response whose client takes no more for the moment waits in the loop, too,
 * and holds no worker.
 *
 * At the limit of connections, the one that has been idle for longest is closed for a new one;
 * first those of a client address that has its share (struct http_client_limits). If none is idle,
 * the new one is over the limit: it gets one answer if the loop can give it, else 503. A request
 * that has waited for a worker for two seconds while none can be started gets 503.
 *
 * While more than half of the connections are taken, an address that has its share gets a further
 * one only if it has an idle one, which can be closed; else the new one gets one answer if the loop
 * can give it, else 429. A request that would keep more than the share of the connections busy gets
 * 429, unless the loop can answer it. While more than half of the workers are taken, a further
 * request of an address that has its share gets 429, unless the loop can answer it.
 *
 * The parser is strict: a head that could be read in two ways is refused with 400, and the
 * connection is closed. A request's body is read only if the handler asks for it.
 *
 * Threads: a server belongs to the thread that runs it; http_server_stop() may be called from any
 * thread and from a signal handler; an exchange belongs to the thread that calls the handler.
 */
#ifndef HTTP_HTTP_H
#define HTTP_HTTP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/buffer.h"
#include "base/error.h"
#include "base/file_reader.h"
#include "base/pot.h"
#include "base/text.h"

enum http_method {
    HTTP_GET,
    HTTP_HEAD,
    HTTP_POST,
    HTTP_PUT,
    HTTP_PATCH,
    HTTP_DELETE,
    HTTP_OPTIONS,
    HTTP_OTHER
};

enum {
    HTTP_HEAD_LIMIT = 16 << 10,  /* bytes of request line and fields together; more is 431 */
    HTTP_TARGET_LIMIT = 8 << 10, /* bytes of the request target; more is 414 */
    HTTP_FIELD_LIMIT = 64,       /* number of fields; more is 431 */
};

struct http_field {
    struct text name, value; /* value without outer white space */
};

/* A parsed head; every text points into the bytes that were parsed. */
struct http_request {
    enum http_method method;
    struct text method_name;
    struct text path;  /* begins with '/', still percent-encoded */
    struct text query; /* behind the '?', still percent-encoded; length 0 when there is none */
    unsigned minor;    /* HTTP/1.minor: 0 or 1 */
    bool keep_alive;
    bool has_body;           /* Content-Length above 0, or chunked */
    uint64_t content_length; /* 0 when chunked or absent */
    size_t field_count;
    struct http_field fields[HTTP_FIELD_LIMIT];
};

enum http_parse { HTTP_PARSE_DONE, HTTP_PARSE_MORE, HTTP_PARSE_BAD };

/*
 * Parses one request head from the start of `bytes`. DONE: *out is filled and *used says how many
 * bytes the head took. MORE: the head is not complete yet. BAD: *status is the response's (400,
 * 414, 431, 501 or 505), *why a fixed sentence for its body. Pure.
 */
enum http_parse http_parse_head(const char *bytes, size_t length, struct http_request *out,
                                size_t *used, int *status, const char **why);

/* The field's value, of the first if there are several; a text with at == NULL if there is none.
 * Names compare without case. */
struct text http_field(const struct http_request *request, const char *name);

/* The same, but no value either if there are several fields of that name. */
struct text http_field_alone(const struct http_request *request, const char *name);

/* Decodes the value of a query parameter. False when it is absent (*found is then false), given
 * twice or malformed. */
bool http_query(const struct http_request *request, const char *name, char *out, size_t size,
                bool *found);

/* A byte range as the client asks for it (RFC 9110 §14.1.2), before the content's size is known. */
struct http_range {
    enum {
        HTTP_RANGE_NONE,
        HTTP_RANGE_FROM,
        HTTP_RANGE_FROM_TO,
        HTTP_RANGE_LAST,
        HTTP_RANGE_SEVERAL
    } kind;
    uint64_t first;   /* FROM, FROM_TO; SEVERAL: the least, of those that have one */
    uint64_t last;    /* FROM_TO: inclusive; SEVERAL: the most; UINT64_MAX: to the end */
    uint64_t count;   /* LAST: how many bytes from the end; SEVERAL: the most; 0: no such range */
    struct text list; /* SEVERAL: the ranges, in the bytes that were parsed */
};

/* Parses the value of a Range field. A single `bytes` range yields its kind. Another unit or a
 * malformed value yields NONE: the whole content is then sent. Pure. */
struct http_range http_range_parse(struct text value);

/* Applies a range to content of `size` bytes: *first and *length say what to send, for NONE the
 * whole, for SEVERAL the one range that covers all that lie in the content (a server may join
 * ranges, RFC 9110 §15.3.7.2). False: the range is unsatisfiable (416). Pure. */
bool http_range_apply(const struct http_range *range, uint64_t size, uint64_t *first,
                      uint64_t *length);

/* ---- one request and its response ---- */

struct http_exchange;

const struct http_request *http_exchange_request(const struct http_exchange *exchange);
const char *http_exchange_client(const struct http_exchange *exchange); /* "1.2.3.4:567", "unix" */

enum { HTTP_REQUEST_ID_LIMIT = 128 };

/* The id of the request, which every response has as X-Request-Id: the client's own if it is at
 * most HTTP_REQUEST_ID_LIMIT characters of printable ASCII without quotes, backslash and angle
 * brackets, and given once, else a new one. It needs no escapes in a head, in JSON or in HTML. */
const char *http_exchange_id(struct http_exchange *exchange);

/* Whoever sends the request is held to no limit of one client address: neither this request nor its
 * connection counts for the address from now on. For `handle` and `handle_now`. */
void http_exempt(struct http_exchange *exchange);

/* Closes the connection after the response, which has `Connection: close`; called before the
 * response begins. */
void http_close_after(struct http_exchange *exchange);

/* What limits by client address count by: an IPv4 address, or the first 64 bits of an IPv6 address
 * with zeros behind them. */
struct http_address {
    unsigned char bytes[16];
};
/* NULL: the client has no address, because it came by a Unix socket. Valid during the exchange. */
const struct http_address *http_exchange_address(const struct http_exchange *exchange);

/* The user that the client's certificate names: the common name of its subject. NULL: the client
 * has sent none, it names nobody, or it has expired. Valid during the exchange; never waits. */
const char *http_exchange_certificate_user(const struct http_exchange *exchange);

/* Whether the request came by an address of side_listen. */
bool http_exchange_is_side(const struct http_exchange *exchange);

/* Whether the request came to a TCP address that only clients on this machine can reach. */
bool http_exchange_is_loopback(const struct http_exchange *exchange);

/* Whether the length of the request's body is known before it comes; *length is then that length,
 * and 0 of a request without a body. False: it is chunked. */
bool http_body_length(const struct http_exchange *exchange, uint64_t *length);

/* Whether all of the body was received; true of a request without one. */
bool http_body_has_ended(const struct http_exchange *exchange);

enum { HTTP_BODY_NOTHING = -1, HTTP_BODY_FAILED = -2 };

/*
 * Receives more of the request's body, without its coding; called by a worker before the response
 * begins. The first call asks a client that waits for "100 Continue" to go on. Waits at most
 * `wait_ms` (0: not at all). Returns the number of bytes; 0: the body has ended;
 * HTTP_BODY_NOTHING: none has come in that time; HTTP_BODY_FAILED: the client left (ERROR_CLOSED),
 * sent nothing for send_timeout_ms or less than the least rate (ERROR_TIMEOUT), or the chunked
 * coding is malformed (ERROR_INVALID). The connection ends with a response to a body that was not
 * received to its end.
 */
ssize_t http_receive(struct http_exchange *exchange, void *out, size_t size, int wait_ms,
                     struct error *error);

/* The client's socket, for poll(): when it can be read, http_receive() may have more. */
int http_body_fd(const struct http_exchange *exchange);

/*
 * Appends the request's body, at most `limit` bytes, to `body`; called before the response begins.
 * A request without a body appends nothing. False: the body is longer (ERROR_INVALID), is chunked
 * (ERROR_UNSUPPORTED), did not arrive within head_timeout_ms (ERROR_TIMEOUT), or as http_receive().
 */
bool http_read_body(struct http_exchange *exchange, size_t limit, struct buffer *body,
                    struct error *error);

/* Adds a field to the response; called before http_respond() or http_begin(). A value with CR, LF
 * or NUL is left out. At most 8 KiB of fields. */
void http_add_field(struct http_exchange *exchange, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

enum { HTTP_REASON_LIMIT = 100 };

/* Sets the reason phrase of the response, for people whose program shows the status line only. Its
 * first HTTP_REASON_LIMIT bytes are sent, those that are printable ASCII. `reason` must live until
 * the response has begun. */
void http_set_reason(struct http_exchange *exchange, const char *reason);

/* Sends the whole response, with a body from memory, which is copied if the client does not take it
 * at once. When 32 MiB of bodies longer than 64 KiB are kept for their clients, a worker waits for
 * the client of a further one. To HEAD only the head is sent, with the body's length. */
void http_respond(struct http_exchange *exchange, int status, const char *content_type,
                  const void *body, size_t length);

/* Bytes of an owner that several responses share. The functions are called by any thread. */
struct http_content {
    const void *bytes;
    size_t length;
    void *owner;
    void (*keep)(void *owner); /* one more reference, until release() */
    void (*release)(void *owner);
};

/* As http_respond(), but what the client does not take at once stays with its owner, however long
 * that is, and nobody waits. */
void http_respond_shared(struct http_exchange *exchange, int status, const char *content_type,
                         const struct http_content *content);

/* The part of a response's head that is the same whenever the response is sent: all but Date,
 * Connection and the fields that http_add_field() adds. Immutable, so that threads may share it. */
struct http_composed;

/* NULL: out of memory, or the head would be too long. The caller frees it with free(). */
struct http_composed *http_compose(int status, const char *content_type, uint64_t length,
                                   const struct http_field *fields, size_t count);

/* Sends a composed response. `content` has the length that was composed; NULL sends the head only,
 * which is right for HEAD and for a status without a body. */
void http_respond_composed(struct http_exchange *exchange, const struct http_composed *composed,
                           const struct http_content *content);

enum { HTTP_UNKNOWN_LENGTH = -1 };

/* Begins a response of `length` bytes, or of HTTP_UNKNOWN_LENGTH: then it is chunked (to an
 * HTTP/1.0 client: ERROR_UNSUPPORTED). To HEAD only the head is sent, and the sends below do
 * nothing. False: the client left. `content_type` may be NULL. */
bool http_begin(struct http_exchange *exchange, int status, const char *content_type,
                int64_t length, struct error *error);

/* Sends more of the body. May wait for the client. False: the client left (ERROR_CLOSED), or took
 * nothing for send_timeout_ms (ERROR_TIMEOUT). More than the announced length is a mistake of the
 * caller: the connection is cut. */
bool http_send(struct http_exchange *exchange, const void *bytes, size_t length,
               struct error *error);

/* Bytes of a file. */
struct http_file {
    int fd;
    uint64_t offset, length;
    bool must_copy; /* the bytes may change soon after the call, so sendfile() cannot be used */
};

/*
 * Sends bytes of a file as more of the body. *sent says how many the connection has taken. If they
 * are fewer than file->length, the client takes no more for the moment, and the handler should call
 * http_park() and return. False: as http_send(), or ERROR_IO because the file cannot be read or is
 * too short.
 */
bool http_send_file(struct http_exchange *exchange, const struct http_file *file, uint64_t *sent,
                    struct error *error);

/*
 * Makes the connection wait in its loop, without a worker, until the client takes more. Then
 * `resume` is called once on a worker, with the same exchange, and goes on with the response. It is
 * also called when the client has left or takes nothing for send_timeout_ms; the sends then fail.
 * The handler must return at once after the call, and leaves the response to `resume`.
 */
void http_park(struct http_exchange *exchange,
               void (*resume)(void *state, struct http_exchange *exchange), void *state);

/* Whether the client is still there; false once it has closed or reset the connection. For a
 * handler that waits. Never blocks, reads nothing. */
bool http_client_is_there(const struct http_exchange *exchange);

/*
 * Cuts the connection with an RST, so that the client cannot take the bytes that it has for a whole
 * body. A handler that returns before its response is complete has its connection cut in the same
 * way.
 */
void http_abort(struct http_exchange *exchange);

int http_exchange_status(const struct http_exchange *exchange);    /* 0: no response has begun */
uint64_t http_exchange_sent(const struct http_exchange *exchange); /* body bytes sent */
/* Bytes of the request's body that the handler has taken. */
uint64_t http_exchange_received(const struct http_exchange *exchange);

/* ---- the server ---- */

/* What one client address may take while others want it, too (base/pot.h). */
struct http_client_limits {
    unsigned connections; /* percent of max_connections, 1 to 100; 100: no share */
    unsigned requests;    /* percent of max_workers, 1 to 100; 100: no share */
    /* Bytes a second that a client must send or take when a worker waits for it while all workers
     * are taken; else the connection is cut. 0: none. */
    uint64_t least_rate;
};

/* Versions of TLS. The server speaks none older. */
enum http_tls_version { HTTP_TLS_1_2, HTTP_TLS_1_3 };

/* Begin with http_server_settings_default() and change what must differ: with a limit or a timeout
 * of 0 a server cannot work. */
struct http_server_settings {
    /* "0.0.0.0:5000", "[::]:5000", "localhost:5000", ":5000". "unix:/path" is a socket file that
     * only its owner can use, always without TLS; all its clients are called "unix". */
    const char *const *listen;
    size_t listen_count;
    /* Further addresses of that kind, always without TLS. http_exchange_is_side() tells whether a
     * request came by one of them. */
    const char *const *side_listen;
    size_t side_listen_count;
    /* "Name: value" that each response gets. NULL-terminated; NULL: none. */
    const char *const *fields;
    unsigned loops;              /* threads of event loops; 0: as many as there are processors */
    atomic_uint max_connections; /* open at once, idle ones included */
    unsigned max_workers; /* requests in progress at once, those that a loop answers excepted */
    atomic_int head_timeout_ms; /* from a head's first byte to its last */
    atomic_int idle_timeout_ms; /* between requests */
    atomic_int send_timeout_ms; /* a client that accepts nothing for so long is cut */
    atomic_int grace_ms;        /* how long http_server_run() lets requests finish; may be 0 */
    struct http_client_limits per_client;
    const char *tls_certificate,
        *tls_key; /* PEM files, read again when they change; NULL: no TLS; copied */
    /* PEM file of the authorities that clients' certificates are checked against, with TLS only;
     * read again, too. NULL: clients are not asked for certificates. */
    const char *tls_client_ca;
    enum http_tls_version tls_minimum; /* clients that speak older versions only are refused */
    /* Answers one request; called on worker threads, many at once. If it begins no response, the
     * client gets 500. */
    void (*handle)(void *context, struct http_exchange *exchange);
    /*
     * Answers a request without a body at once, or returns false and leaves the exchange as it was;
     * `handle` is then called on a worker. Called on the threads of the loops, which all other
     * connections wait for: it must not wait for a disk, for another host, or for a lock that is
     * held during such a wait. It may call http_add_field(), http_respond(),
     * http_respond_shared(), http_respond_composed(), and http_begin() for a response without a
     * body. NULL: every request goes to a worker.
     */
    bool (*handle_now)(void *context, struct http_exchange *exchange);
    /* Writes the JSON body of a response that `handle` does not make: for a refused head, or at a
     * limit. `id` is the request's (http_exchange_id()). NULL: the body is plain text. */
    void (*error_body)(int status, const char *why, const char *id, char *out, size_t size);
    /* Called after each response that neither `handle` nor `handle_now` makes, on the thread of a
     * loop or a worker; it must not wait. `why` is the message of the response. If the head could
     * not be parsed, the method is HTTP_OTHER, and every text is empty. NULL: nobody is told. */
    void (*refused)(void *context, struct http_exchange *exchange, const char *why);
    void *context;
};

/* The default limits and timeouts, which are defined here only. The caller still sets the addresses
 * and the handler. */
struct http_server_settings http_server_settings_default(void);

/* Which file of a certificate and its key is wrong. */
enum http_pair_fault { HTTP_PAIR_CERTIFICATE, HTTP_PAIR_KEY };

/* Whether a server can use the two PEM files. False: *fault and `error` say which it cannot use,
 * and why; a key that belongs to another certificate is a wrong key. `files` reads them, and a file
 * system that hangs is a reason after some seconds; NULL: out of memory. */
bool http_check_certificate(struct file_reader *files, const char *certificate, const char *key,
                            enum http_pair_fault *fault, struct error *error);

/* Whether a server can check clients' certificates by this PEM file of authorities. */
bool http_check_authorities(struct file_reader *files, const char *client_ca, struct error *error);

struct http_server;

/* Binds and listens, but accepts no connection yet. The texts that `settings` points to need not
 * outlive the call. */
struct http_server *http_server_new(const struct http_server_settings *settings,
                                    struct error *error);
void http_server_free(struct http_server *server);
unsigned http_server_port(const struct http_server *server); /* of the first address, for port 0 */

/* Serves until http_server_stop(). Then it stops accepting, lets requests in progress finish within
 * grace_ms, cuts the rest and returns. False: the server could not begin. */
bool http_server_run(struct http_server *server, struct error *error);
void http_server_stop(struct http_server *server); /* async-signal-safe */
/* The same, with another grace_ms. Not for a signal handler. */
void http_server_stop_within(struct http_server *server, int grace_ms);

/*
 * Other settings for a server that runs: the addresses, the fields, max_connections, the four
 * times, per_client, and what TLS has. Whether there is TLS, the threads and the handlers stay.
 *
 * http_server_prepare() opens the new addresses and reads the files. NULL: something of it cannot
 * be used, and nothing has changed. http_server_give_up() closes and frees it all (NULL is
 * allowed). http_server_change() takes it over and cannot fail: connections that are open stay,
 * with the certificate, the version of TLS and the send timeout with which they began; sockets of
 * addresses that are gone are closed when it returns. One thread at a time, any thread.
 */
struct http_change;
struct http_change *http_server_prepare(const struct http_server *server,
                                        const struct http_server_settings *settings,
                                        struct error *error);
void http_server_give_up(struct http_change *change);
void http_server_change(struct http_server *server, struct http_change *change);

/* The pot of all workers, for the shares of the rooms below (base/pot.h). As old as the server. */
const struct pot *http_server_workers(const struct http_server *server);

struct http_server_figures {
    unsigned connections; /* within the limit */
    unsigned unsent;      /* those of them whose response waits until the client takes more */
    unsigned workers, workers_busy;
};
struct http_server_figures http_server_figures(const struct http_server *server);

#endif
