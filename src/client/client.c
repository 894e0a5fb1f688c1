/* The life of a client. */
#include "client/client.h"

#include <curl/curl.h>
#include <stdlib.h>
#include "client/client_private.h"

/* libcurl counts its starts and ends, and guards them by a lock of its own since 7.84. */
struct client *client_new(void) {
    struct client *client = calloc(1, sizeof *client);
    if (!client)
        return NULL;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        free(client);
        return NULL;
    }
    trust_init(&client->trust);
    lanes_init(&client->lanes, client);
    return client;
}

void client_free(struct client *client) {
    if (!client)
        return;
    lanes_finish(&client->lanes);
    trust_finish(&client->trust);
    curl_global_cleanup();
    free(client);
}
