/* Why a layer cannot stream: words and errors. */
#include "layer/refusal.h"

#include <stdarg.h>
#include <stdio.h>

static const char *const words[] = {
    [LAYER_FINE] = "",
    [LAYER_OFF] = "off",
    [LAYER_SMALL] = "small",
    [LAYER_MEDIA_TYPE] = "media_type",
    [LAYER_COMPRESSION] = "compression",
    [LAYER_TAR] = "tar",
    [LAYER_DIFF_ID] = "diff_id",
    [LAYER_SPAN] = "span",
    [LAYER_BOMB] = "bomb",
    [LAYER_SIZE] = "size",
    [LAYER_ERROR] = "error",
};

const char *layer_refusal_word(enum layer_refusal refusal) {
    return words[refusal];
}

bool layer_refusal_parse(struct text word, enum layer_refusal *out) {
    for (int i = LAYER_OFF; i <= LAYER_ERROR; i++)
        if (text_is(word, words[i])) {
            *out = (enum layer_refusal)i;
            return true;
        }
    return false;
}

bool layer_refuse(struct error *error, enum layer_refusal refusal, const char *format, ...) {
    char text[sizeof((struct error *)0)->text];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    error_set(error, ERROR_INVALID, "%s", text);
    if (error)
        snprintf(error->code, sizeof error->code, "%s", words[refusal]);
    return false;
}

enum layer_refusal layer_refusal_of(const struct error *error) {
    enum layer_refusal refusal = LAYER_ERROR;
    if (error->kind == ERROR_INVALID)
        layer_refusal_parse(text_of(error->code), &refusal);
    return refusal;
}
