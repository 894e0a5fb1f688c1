/* A refusal of the Kubernetes API: metav1.Status, or whatever stands in front of the server.
 * Private to kubernetes/. */
#ifndef KUBERNETES_STATUS_H
#define KUBERNETES_STATUS_H

#include <jansson.h>
#include "base/error.h"
#include "client/response.h"

/* Sets the error of a response that is none of 200 to 299 (kubernetes_call()). *status: the
 * metav1.Status, the caller's to json_decref(); NULL: the body is none. Returns false. */
bool status_read(const struct client_response *response, json_t **status, struct error *error);

/* The same for the Status of a watch's ERROR event, whose code takes the place of a response's
 * status. `status` may be any JSON, or NULL. Pure. */
bool status_set(const json_t *status, struct error *error);

#endif
