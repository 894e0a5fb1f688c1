/* Private to upstream/: what blobs and documents that are pushed have in common. */
#ifndef UPSTREAM_PUSH_PRIVATE_H
#define UPSTREAM_PUSH_PRIVATE_H

#include "upstream/push.h"
#include "upstream/write.h"

enum { PUSH_SCOPE_SIZE = 1024, PUSH_PATH_SIZE = 2 * NAME_LIMIT + 2 };

/* What goes on with one request of a push: filled in by push_call_begin(). */
struct push_call {
    const struct repository *repository;
    const struct push_settings *settings;
    struct peer *peer;               /* taken; NULL: not */
    struct write_response *response; /* owned */
    char path[PUSH_PATH_SIZE];       /* the repository's, as the location knows it */
    char scope[PUSH_SCOPE_SIZE];
    char *url;       /* owned */
    int64_t late_ms; /* as write_request.late_ms, of the requests from now on */
};

/* Takes the peer, and makes the scope: `actions` ("pull,push") in the repository, and to pull from
 * `from` (NULL: nothing). push_call_end() is owed either way. */
bool push_call_begin(struct push_call *call, const struct repository *repository,
                     const struct push_settings *settings, const char *actions, const char *from,
                     struct error *error);
void push_call_end(struct push_call *call);

/* Sets the URL: "/v2/PATH/" and the rest behind it. */
bool push_call_url(struct push_call *call, struct error *error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Sends one request to call->url, or to `url` where it is not NULL. True: there is a response. */
bool push_call_send(struct push_call *call, const char *method, const char *url,
                    const char *const *fields, const struct client_body *body, int64_t answer_ms,
                    struct error *error);

/* How long a response may take, so that time is left for another try. */
int64_t push_answer_ms(const struct push_settings *settings, const struct push_trouble *trouble);

/* Waits before the next try, if the failure may pass and there is patience left. False: the error
 * stands. */
bool push_wait(const struct push_call *call, struct push_trouble *trouble, struct error *error);

/* Whether the same request may succeed a moment later. */
bool push_may_pass(const struct error *error);

bool push_is_success(int status);

#endif
