/* One request over a lane of the client's own. */
#include "client/request.h"

#include <string.h>
#include "client/client_private.h"
#include "client/transfer.h"

/* Names the request in front of the error. A query may hold a secret (a signed URL's), and so may
 * the user in a URL: neither is shown. */
static void name_request(const struct client_request *request, struct error *error) {
    const char *host = strstr(request->url, "://"), *start = host ? host + 3 : request->url;
    int length = (int)strcspn(request->url, "?#");
    bool has_user = memchr(start, '@', strcspn(start, "/?#"));
    error_wrap(error, "%s %.*s", request->method, has_user ? 0 : length, request->url);
}

bool client_stream(struct client *client, const struct client_request *request,
                   const struct client_sink *sink, struct client_response *response,
                   struct error *error) {
    *response = (struct client_response){0};
    struct lane *lane = client ? lanes_take(&client->lanes) : NULL;
    bool ok = lane ? transfer_run(lane, request, sink, response, error)
                   : error_set(error, ERROR_MEMORY, "out of memory");
    if (lane)
        lanes_give(&client->lanes, lane);
    if (!ok)
        name_request(request, error);
    return ok;
}

bool client_request(struct client *client, const struct client_request *request,
                    struct client_response *response, struct error *error) {
    bool ok = client_stream(client, request, NULL, response, error);
    if (!ok)
        client_response_wipe(response);
    return ok;
}
