/* Request heads: every accepted part lies inside the bytes and within the limits, and the result is
 * the same in whatever pieces the bytes arrive. */
#include <string.h>
#include "fuzz.h"
#include "http/http.h"

static void must_be_inside(struct text text, const char *bytes, size_t length) {
    if (text.length)
        MUST(text.at >= bytes && text.at + text.length <= bytes + length);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t length) {
    /* A copy of exactly this length, so that a read past its end is seen. */
    char *bytes = malloc(length ? length : 1);
    MUST(bytes);
    if (length)
        memcpy(bytes, input, length);
    struct http_request request, again;
    size_t used = 0, used_again = 0;
    int status = 0;
    const char *why = NULL;
    enum http_parse parsed = http_parse_head(bytes, length, &request, &used, &status, &why);
    if (parsed == HTTP_PARSE_BAD) {
        MUST(status >= 400 && status < 600 && why);
    } else if (parsed == HTTP_PARSE_DONE) {
        MUST(used > 0 && used <= length && used <= HTTP_HEAD_LIMIT + 4);
        MUST(request.field_count <= HTTP_FIELD_LIMIT);
        MUST(request.path.length && request.path.at[0] == '/');
        must_be_inside(request.method_name, bytes, used);
        must_be_inside(request.path, bytes, used);
        must_be_inside(request.query, bytes, used);
        for (size_t i = 0; i < request.field_count; i++) {
            must_be_inside(request.fields[i].name, bytes, used);
            must_be_inside(request.fields[i].value, bytes, used);
            MUST(!memchr(request.fields[i].value.at, '\n', request.fields[i].value.length));
        }
        /* The bytes after the head do not change the result, and one byte less is not enough. */
        MUST(http_parse_head(bytes, used, &again, &used_again, &status, &why) == HTTP_PARSE_DONE);
        MUST(used_again == used && again.field_count == request.field_count);
        MUST(http_parse_head(bytes, used - 1, &again, &used_again, &status, &why) ==
             HTTP_PARSE_MORE);

        char value[64];
        bool found;
        http_query(&request, "ns", value, sizeof value, &found);
        http_range_parse(http_field(&request, "range"));
    }
    free(bytes);
    return 0;
}
