/* Wipes memory that held a secret. */
#include "base/secret.h"

#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

void secret_free(char **secret) {
    if (*secret)
        explicit_bzero(*secret, strlen(*secret));
    free(*secret);
    *secret = NULL;
}

void secret_buffer_free(struct buffer *buffer) {
    if (buffer->bytes)
        explicit_bzero(buffer->bytes, buffer->capacity);
    buffer_finish(buffer);
}

/* Calls itself once for each level, of which bounded_json_load() allows JSON_DEPTH_LIMIT. */
static void wipe_strings(json_t *json) {
    if (json_is_string(json)) {
        /* The cast is sound because the caller holds the document's only reference. */
        explicit_bzero((char *)json_string_value(json), json_string_length(json));
    } else if (json_is_object(json)) {
        const char *key;
        json_t *member;
        json_object_foreach (json, key, member)
            wipe_strings(member);
    } else if (json_is_array(json)) {
        for (size_t i = 0; i < json_array_size(json); i++)
            wipe_strings(json_array_get(json, i));
    }
}

void secret_json_free(json_t **json) {
    wipe_strings(*json);
    json_decref(*json);
    *json = NULL;
}

void secret_forbid_core_dumps(void) {
    prctl(PR_SET_DUMPABLE, 0);
}
