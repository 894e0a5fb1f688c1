/* Private to replica/: what questions to other replicas (asker.c) and orders (order.c) share. */
#ifndef REPLICA_ASKER_PRIVATE_H
#define REPLICA_ASKER_PRIVATE_H

#include "base/buffer.h"
#include "client/lane.h"
#include "client/request.h"
#include "replica/asker.h"
#include "replica/watch.h"

enum {
    ASKER_SILENT_MS = 2000, /* without a head or a byte: /livez is asked */
    ASKER_REFUSAL_LIMIT = 16 << 10,
    ASKER_SIGNED_LINES = 3, /* of a head, which asker_sign() writes */
};

struct replica_asker {
    struct replica_asker_settings settings;
    struct lanes lanes;
    char *authorities;     /* owned; NULL: the system's */
    struct client_tls tls; /* of every request, if there is TLS */
    struct watch *watch;
};

/* The lines of the head. */
struct ask_lines {
    char ask[64], input[SIGNATURE_INPUT_SIZE + 24], signature[SIGNATURE_SIZE + 16], range[80];
    const char *all[ASKER_SIGNED_LINES + 5];
};

/* Appends the URL of a path at the member. */
void asker_make_url(const struct replica_asker *asker, const struct member *member,
                    const char *path, struct buffer *url);

/* Writes the question and its signature. Returns how many lines there are; 0: out of memory. */
size_t asker_sign(const struct replica_asker *asker, const struct signed_request *request,
                  struct ask_lines *lines);

/* Whether the member answers its /livez within a second, over a connection of its own. */
bool asker_is_alive(struct replica_asker *asker, const struct member *member,
                    const struct cancel *cancel, struct error *error);

/* Nothing has come from a member just now: after ASKER_SILENT_MS since *heard_ms it is asked for
 * its /livez. False: it gives no sign of life (*is_gone), or the request is cancelled. */
bool asker_check_silence(struct replica_asker *asker, const struct member *member,
                         const struct cancel *cancel, int64_t *heard_ms, bool *is_gone,
                         struct error *error);

/* Whether an error is about this tarn, and says nothing of the member that was asked. */
bool asker_is_own_fault(const struct error *error);

/* The member gives no answer. */
void asker_note_down(struct replica_asker *asker, const struct member *member,
                     const struct error *error);

/* Reads the error body of a refusal, without the id that the other replica gave the request. */
void asker_read_refusal(const struct client_response *response, struct error *out);

#endif
