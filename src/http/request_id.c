/* X-Request-Id: the client's, or one that is made. */
#include <string.h>
#include "base/siphash.h"
#include "http/exchange.h"

enum { MADE_LENGTH = 32 };

/* Printable ASCII without what would need an escape in JSON, HTML or a shell's quotes, so that the
 * id can stand in heads, bodies and logs as it is. */
static bool may_be_echoed(struct text id) {
    if (!id.at || id.length == 0 || id.length > HTTP_REQUEST_ID_LIMIT)
        return false;
    for (size_t i = 0; i < id.length; i++) {
        char c = id.at[i];
        if (c < ' ' || c > '~' || c == '"' || c == '\'' || c == '`' || c == '\\' || c == '<' ||
            c == '>')
            return false;
    }
    return true;
}

/* Each thread numbers its ids and hashes the number with a random key of its own. */
static void make_id(char *out) {
    static const char digits[] = "0123456789abcdef";
    static _Thread_local struct siphash_key key;
    static _Thread_local uint64_t number;
    if (number++ == 0)
        siphash_key_fill(&key);
    const struct siphash_tag tag = siphash_tag_of(&key, &number, sizeof number);
    for (size_t i = 0; i < MADE_LENGTH; i++)
        out[i] = digits[tag.parts[i / 16] >> (4 * (i % 16)) & 0xf];
    out[MADE_LENGTH] = '\0';
}

const char *http_exchange_id(struct http_exchange *exchange) {
    if (exchange->id[0])
        return exchange->id;
    struct text asked = http_field_alone(&exchange->request, "X-Request-Id");
    if (!may_be_echoed(asked) || !text_copy(asked, exchange->id, sizeof exchange->id))
        make_id(exchange->id);
    return exchange->id;
}
