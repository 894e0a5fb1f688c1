/* The HTTP server of tarn keep: who may ask, and the pages. */
#ifndef CMD_KEEP_SERVER_H
#define CMD_KEEP_SERVER_H

#include "config/config.h"
#include "keep/keeper.h"

struct keep_server;

/* Binds the addresses of keep->listen. Everything that is passed outlives the server. */
struct keep_server *keep_server_new(struct keeper *keeper, const struct config *config,
                                    const struct keep_settings *keep, struct error *error);
void keep_server_free(struct keep_server *server); /* NULL is allowed */

unsigned keep_server_port(const struct keep_server *server);
/* Serves until keep_server_stop(), which any thread may call. */
bool keep_server_run(struct keep_server *server, struct error *error);
void keep_server_stop(struct keep_server *server);

#endif
