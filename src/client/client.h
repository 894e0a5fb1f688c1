/*
 * The HTTP client of the whole program, over libcurl: every request to a registry, a token service
 * or any other server goes through it.
 *
 * client/request.h sends one request and brings back its response, whole or as a stream. A caller
 * that needs connections of its own keeps a pool of lanes (client/lane.h) and runs transfers over
 * them (client/transfer.h). Each further header is about one thing: which addresses may be
 * connected to, the parts of a URL, the environment's proxies, redirects, challenges.
 *
 * The program makes one client and passes it down. The client holds what all its requests share:
 * the trusted certificates, and the connections that are kept between requests. Threads: any.
 */
#ifndef CLIENT_CLIENT_H
#define CLIENT_CLIENT_H

struct client;

/* NULL: out of memory, or libcurl cannot be started. A request through NULL fails with
 * ERROR_MEMORY, so that a command that makes one request need not check. */
struct client *client_new(void);

/* No request is under way, and every pool of lanes that uses the client is finished. NULL is fine.
 */
void client_free(struct client *client);

static inline void client_free_call(struct client **client) {
    client_free(*client);
}

/* client_free() at the end of the scope. */
#define cleanup_client __attribute__((cleanup(client_free_call)))

#endif
