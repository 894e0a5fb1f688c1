/* Chunked bodies: the data is no longer than what came, and the result is the same in whatever
 * pieces the bytes arrive. */
#include <string.h>
#include "fuzz.h"
#include "http/chunks.h"

/* What came of a body that was read in pieces. */
struct outcome {
    enum chunks_verdict verdict;
    size_t length, used;
    unsigned char *data;
};

static struct outcome read_pieces(const uint8_t *input, size_t length, size_t step) {
    struct outcome outcome = {.data = malloc(length + 1)};
    struct chunks chunks = {0};
    MUST(outcome.data);
    for (size_t at = 0; at < length && outcome.verdict == CHUNKS_MORE; at += step) {
        size_t now = length - at < step ? length - at : step, data = 0, used = 0;
        const char *why = NULL;
        char *piece = malloc(now);
        MUST(piece);
        memcpy(piece, input + at, now);
        outcome.verdict = chunks_read(&chunks, piece, now, &data, &used, &why);
        MUST(data <= now);
        if (outcome.verdict == CHUNKS_BAD) {
            MUST(why);
        } else {
            MUST(used <= now && data <= used);
            memcpy(outcome.data + outcome.length, piece, data);
            outcome.length += data;
            outcome.used += used;
        }
        free(piece);
    }
    return outcome;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t length) {
    struct outcome whole = read_pieces(input, length, length ? length : 1);
    for (size_t step = 1; step <= 16; step += 3) {
        struct outcome pieces = read_pieces(input, length, step);
        MUST(pieces.verdict == whole.verdict);
        if (whole.verdict != CHUNKS_BAD) {
            MUST(pieces.length == whole.length && pieces.used == whole.used);
            MUST(memcmp(pieces.data, whole.data, whole.length) == 0);
        }
        free(pieces.data);
    }
    free(whole.data);
    return 0;
}
