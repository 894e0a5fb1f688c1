/* Reads an order in JSON, checks its members, and runs it. */
#include "admin/order.h"

#include <stdlib.h>
#include <string.h>
#include "admin/bucket_orders.h"
#include "admin/ls.h"
#include "admin/prune.h"
#include "admin/rm.h"
#include "admin/verify.h"
#include "base/cleanup.h"

static bool expected(struct error *error, const char *form) {
    return error_set(error, ERROR_INVALID, "expected %s", form);
}

/* Whether the order has no other members than these. A misspelt member must not count as left out.
 */
static bool has_only(const json_t *order, const char *const *known) {
    const char *name;
    json_t *value;
    if (!json_is_object(order))
        return false;
    json_object_foreach ((json_t *)order, name, value) {
        const char *const *candidate = known;
        while (*candidate && strcmp(*candidate, name) != 0)
            candidate++;
        if (!*candidate)
            return false;
    }
    return true;
}

static const json_t *member(const json_t *order, const char *name) {
    const json_t *value = json_object_get(order, name);
    return json_is_null(value) ? NULL : value;
}

static bool read_whole_number(const json_t *order, const char *name, int64_t *out) {
    const json_t *value = member(order, name);
    *out = value ? json_integer_value(value) : -1;
    return !value || (json_is_integer(value) && *out >= 0);
}

static bool read_boolean(const json_t *order, const char *name, bool *out) {
    const json_t *value = member(order, name);
    *out = json_is_true(value);
    return !value || json_is_boolean(value);
}

/* The strings of the order's "names", NULL-terminated; the list is the caller's, the strings are
 * the order's. NULL: "names" is something else than an array of at most ORDER_NAMES_LIMIT strings.
 */
static const char **read_names(const json_t *order) {
    const json_t *names = member(order, "names");
    return names ? line_read_strings(names, ORDER_NAMES_LIMIT) : calloc(1, sizeof(char *));
}

static bool perform_ls(struct order_target *target, const json_t *order,
                       const struct line_sink *sink, struct error *error) {
    static const char *const known[] = {"names", "bucket", NULL};
    bool bucket;
    bool sound = has_only(order, known) && read_boolean(order, "bucket", &bucket);
    cleanup_free const char **names = sound ? read_names(order) : NULL;
    if (!names)
        return expected(error, "{\"names\":[\"UPSTREAM/REPOSITORY\",…],\"bucket\":false}");
    return bucket ? bucket_orders_ls(target, names, sink, error)
                  : order_ls(target, names, sink, error);
}

static bool perform_du(struct order_target *target, const json_t *order,
                       const struct line_sink *sink, struct error *error) {
    static const char *const known[] = {"bucket", NULL};
    bool bucket;
    return has_only(order, known) && read_boolean(order, "bucket", &bucket)
               ? order_du(target, bucket, sink, error)
               : expected(error, "{\"bucket\":false}");
}

static bool perform_rm(struct order_target *target, const json_t *order,
                       const struct line_sink *sink, struct error *error) {
    static const char *const known[] = {"names", NULL};
    cleanup_free const char **names = has_only(order, known) ? read_names(order) : NULL;
    return names && *names ? order_rm(target, names, sink, error)
                           : expected(error, "{\"names\":[\"UPSTREAM/REPOSITORY:TAG\",…]}");
}

static bool perform_prune(struct order_target *target, const json_t *order,
                          const struct line_sink *sink, struct error *error) {
    static const char *const known[] = {"older_than_ms", "to_size", "dry_run", "bucket", NULL};
    struct prune_options what;
    bool bucket;
    if (!has_only(order, known) ||
        !read_whole_number(order, "older_than_ms", &what.older_than_ms) ||
        !read_whole_number(order, "to_size", &what.to_size) ||
        !read_boolean(order, "dry_run", &what.dry_run) || !read_boolean(order, "bucket", &bucket) ||
        (!bucket && what.older_than_ms < 0 && what.to_size < 0))
        return expected(error, "{\"older_than_ms\":N,\"to_size\":N,\"dry_run\":false,"
                               "\"bucket\":false}, one of the first two at least");
    return bucket ? bucket_orders_prune(target, &what, sink, error)
                  : order_prune(target, &what, sink, error);
}

static bool perform_verify(struct order_target *target, const json_t *order,
                           const struct line_sink *sink, struct error *error) {
    static const char *const known[] = {"repair", "rate", "bucket", NULL};
    struct verify_options what;
    bool bucket;
    if (!has_only(order, known) || !read_boolean(order, "repair", &what.repair) ||
        !read_boolean(order, "bucket", &bucket) || !read_whole_number(order, "rate", &what.rate))
        return expected(error, "{\"repair\":false,\"rate\":BYTES_A_SECOND,\"bucket\":false}");
    return bucket ? bucket_orders_verify(target, &what, sink, error)
                  : order_verify(target, &what, sink, error);
}

bool order_run(struct order_target *target, const char *what, const json_t *order,
               const struct line_sink *sink, struct error *error) {
    static const struct {
        const char *name;
        bool (*perform)(struct order_target *target, const json_t *order,
                        const struct line_sink *sink, struct error *error);
    } orders[] = {{"ls", perform_ls},
                  {"du", perform_du},
                  {"rm", perform_rm},
                  {"prune", perform_prune},
                  {"verify", perform_verify}};
    for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
        if (strcmp(orders[i].name, what) == 0)
            return orders[i].perform(target, order, sink, error);
    }
    return error_set(error, ERROR_INVALID, "there is no order %s", what);
}
