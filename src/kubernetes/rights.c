/* Asks a cluster who we are and what we may do. */
#include "kubernetes/rights.h"

#include <stdio.h>
#include <string.h>
#include "base/json.h"

/* Posts a review and takes over the reviewed object. */
static json_t *post(struct kubernetes *kubernetes, const char *resource, const char *path,
                    const json_t *review, struct error *error) {
    cleanup_buffer struct buffer body = {0};
    json_t *answer = NULL;
    if (!bounded_json_dump(review, JSON_COMPACT, &body)) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    struct kubernetes_call call = {
        .verb = "create", .resource = resource, .path = path, .body = {body.bytes, body.length}};
    if (!kubernetes_call(kubernetes, &call, &answer, error))
        return NULL;
    if (!answer)
        error_set(error, ERROR_UNAVAILABLE, "Kubernetes: create %s: an empty response", resource);
    return answer;
}

bool rights_check(struct kubernetes *kubernetes, const struct right *right, bool *allowed,
                  struct error *error) {
    cleanup_json json_t *review =
        json_pack("{s:s, s:s, s:{s:{s:s, s:s, s:s, s:s*, s:s*}}}", "apiVersion",
                  "authorization.k8s.io/v1", "kind", "SelfSubjectAccessReview", "spec",
                  "resourceAttributes", "group", right->group, "resource", right->resource, "verb",
                  right->verb, "namespace", right->namespace, "name", right->name);
    cleanup_json json_t *answer =
        post(kubernetes, "selfsubjectaccessreviews",
             "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review, error);
    if (!answer)
        return false;
    const json_t *said = json_object_get(json_object_get(answer, "status"), "allowed");
    *allowed = json_is_true(said);
    return json_is_boolean(said) ||
           error_set(error, ERROR_UNAVAILABLE,
                     "Kubernetes: create selfsubjectaccessreviews: the response does not say "
                     "whether it is allowed");
}

bool rights_whoami(struct kubernetes *kubernetes, char *out, size_t size, struct error *error) {
    cleanup_json json_t *review = json_pack("{s:s, s:s}", "apiVersion", "authentication.k8s.io/v1",
                                            "kind", "SelfSubjectReview");
    cleanup_json json_t *answer =
        post(kubernetes, "selfsubjectreviews", "/apis/authentication.k8s.io/v1/selfsubjectreviews",
             review, error);
    if (!answer)
        return false;
    const json_t *user = json_object_get(json_object_get(answer, "status"), "userInfo");
    const char *name = json_string_value(json_object_get(user, "username"));
    if (!name || !*name)
        return error_set(error, ERROR_UNAVAILABLE,
                         "Kubernetes: create selfsubjectreviews: the response has no username");
    snprintf(out, size, "%s", name);
    for (char *c = out; *c; c++)
        *c = (unsigned char)*c < ' ' || *c == 0x7f ? ' ' : *c;
    return true;
}
