/* traceparent and tracestate: what is taken has the right form, and is taken again as it is. */
#include <string.h>
#include "base/trace.h"
#include "fuzz.h"

static void read_state(struct text value) {
    char state[TRACE_STATE_SIZE] = "", again[TRACE_STATE_SIZE] = "";
    if (!trace_add_state(value, state)) {
        MUST(state[0] == '\0');
        return;
    }
    MUST(strlen(state) <= TRACE_STATE_LENGTH);
    MUST(trace_add_state(text_of(state), again) && strcmp(state, again) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    char parent[TRACE_PARENT_SIZE], again[TRACE_PARENT_SIZE];
    read_state((struct text){(const char *)bytes, length});
    if (!trace_parse((struct text){(const char *)bytes, length}, parent)) {
        MUST(parent[0] == '\0' && trace_id(parent).length == 0);
        return 0;
    }
    MUST(strlen(parent) == TRACE_PARENT_LENGTH);
    MUST(strspn(parent, "0123456789abcdef-") == TRACE_PARENT_LENGTH);
    MUST(trace_id(parent).length == TRACE_ID_LENGTH);
    MUST(trace_parse(text_of(parent), again) && strcmp(parent, again) == 0);
    return 0;
}
