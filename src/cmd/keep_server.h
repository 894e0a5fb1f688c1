/* The HTTP server of tarn keep: who may ask, and the pages. */
#ifndef CMD_KEEP_SERVER_H
#define CMD_KEEP_SERVER_H

#include "config/config.h"
#include "keep/keeper.h"

struct keep_server;

/* Binds the addresses of keep->listen. The keeper outlives the server; the settings are copied. */
struct keep_server *keep_server_new(struct keeper *keeper, const struct config *config,
                                    const struct keep_settings *keep, struct error *error);
void keep_server_free(struct keep_server *server); /* NULL is allowed */

unsigned keep_server_port(const struct keep_server *server);
/* Serves until keep_server_stop(), which any thread may call. */
bool keep_server_run(struct keep_server *server, struct error *error);
void keep_server_stop(struct keep_server *server);

/* Other settings for a server that runs: the addresses, who may ask, the prefix of the pages, and
 * what http_server_prepare() allows. NULL: something of it cannot be used. keep_server_change()
 * takes it over and cannot fail. One thread at a time. */
struct keep_server_change;
struct keep_server_change *keep_server_prepare(struct keep_server *server,
                                               const struct config *config,
                                               const struct keep_settings *keep,
                                               struct error *error);
void keep_server_give_up(struct keep_server_change *change); /* NULL is allowed */
void keep_server_change(struct keep_server *server, struct keep_server_change *change);

#endif
