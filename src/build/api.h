/*
 * Calls of Google's REST APIs that a build needs: Cloud Build, Cloud Storage, Logging.
 *
 * An access token goes to the API's own origin alone, and no redirect is followed. A call that
 * changes nothing when it is made twice is tried again, with growing pauses, after 408, 429, 5xx
 * and a connection that fails. After 401 a new token is asked for, once. A refusal becomes one
 * sentence: what was asked, the API's status and message, and which role is missing.
 *
 * The names are those of Google's own client libraries; nothing here was tried against Google's
 * live services. An API may be elsewhere: CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDBUILD, …_STORAGE and
 * …_LOGGING, which gcloud reads as well.
 *
 * Threads: any; a call blocks.
 */
#ifndef BUILD_API_H
#define BUILD_API_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "auth/credential.h"
#include "base/buffer.h"
#include "base/cancel.h"
#include "base/error.h"
#include "client/client.h"
#include "client/response.h"

enum api_service { API_CLOUDBUILD, API_STORAGE, API_LOGGING, API_SERVICES };

enum { API_ANSWER_LIMIT = 16 << 20 }; /* bytes of one response */

struct api;

/* NULL: the error says which variable is no URL, or that memory is out. The client, the source and
 * `cancel` (which may be NULL) outlive it. */
struct api *api_new(struct client *client, struct credential_source *source,
                    const struct cancel *cancel, struct error *error);
void api_free(struct api *api); /* NULL is allowed */

/* What ends each call early; may be NULL. */
const struct cancel *api_cancel(const struct api *api);
/* From now on nothing does. */
void api_forget_cancel(struct api *api);

struct api_call {
    enum api_service service;
    const char *method; /* a literal */
    const char *path;   /* with its query: "/v1/projects/p/builds"; or a URL of the API's origin */
    struct text body;   /* empty: none */
    const char *content_type; /* of the body; NULL: application/json */
    const char *field;        /* one more field of the request, "Name: value"; or NULL */
    const char *role;         /* what 403 asks for: "roles/… on …"; NULL: nothing is known */
    bool once;                /* made twice, it would count twice */
    const struct client_field *wanted; /* fields of the response; NULL: none */
    size_t wanted_count;
};

/* What came back. Zero it before the call, and api_answer_finish() it after the call. */
struct api_answer {
    int status;
    struct buffer body;
};
void api_answer_finish(struct api_answer *answer);
#define cleanup_api_answer __attribute__((cleanup(api_answer_finish)))

/* Makes the call. True: a status of 200 to 299, or one of `also`, a list that ends with 0 (NULL:
 * none). False: error->status is that of the refusal; 0: no response came. */
bool api_perform(struct api *api, const struct api_call *call, const int *also,
                 struct api_answer *answer, struct error *error);

/* The same for an answer of JSON. NULL: the error is set. The caller's to json_decref(). */
json_t *api_perform_json(struct api *api, const struct api_call *call, struct error *error);

#endif
