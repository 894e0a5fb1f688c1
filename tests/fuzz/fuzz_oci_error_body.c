/* Error bodies from upstreams: the texts fit, are printable, and can be written again. */
#include <string.h>
#include "fuzz.h"
#include "oci/error_body.h"

static void must_be_printable(const char *text, size_t size) {
    MUST(strnlen(text, size) < size);
    for (; *text; text++)
        MUST((unsigned char)*text >= 0x20 && *text != 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    char code[32], message[60], code_again[32], message_again[60];
    bool found = error_body_read(bytes, length, code, sizeof code, message, sizeof message);
    must_be_printable(code, sizeof code);
    must_be_printable(message, sizeof message);
    MUST(found == (*code || *message));

    cleanup_buffer struct buffer out = {0};
    MUST(error_body_write(&out, code, message, NULL));
    MUST(error_body_read(out.bytes, out.length, code_again, sizeof code_again, message_again,
                         sizeof message_again) == found);
    MUST(strcmp(code, code_again) == 0 && strcmp(message, message_again) == 0);
    return 0;
}
