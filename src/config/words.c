/* Words that the operator wrote: how messages quote them, and which known word an unknown one may
 * stand for. */
#include "config/words.h"

#include <stdio.h>
#include <string.h>

const char *config_quote(const char *value, char out[static QUOTE_SIZE]) {
    static const char ellipsis[] = "…\"";
    size_t used = 0;
    out[used++] = '"';
    for (const unsigned char *c = (const unsigned char *)value; *c; c++) {
        if (used > 64 && (*c & 0xC0) != 0x80) { /* cut only between characters */
            memcpy(out + used, ellipsis, sizeof ellipsis);
            return out;
        }
        /* Bytes from 0x80 on are parts of characters. libyaml has checked them, except in flags. */
        if (*c < 0x20 || *c == 0x7F)
            used += (size_t)sprintf(out + used, "\\x%02x", *c);
        else if (used < QUOTE_SIZE - sizeof ellipsis)
            out[used++] = (char)*c;
    }
    out[used++] = '"';
    out[used] = '\0';
    return out;
}

/* The edit distance (optimal string alignment): insertions, deletions, changes, and swaps of
 * neighbours. */
static size_t distance(const char *a, const char *b) {
    enum { LONGEST = 40 };
    size_t length_a = strlen(a), length_b = strlen(b);
    if (length_a > LONGEST || length_b > LONGEST)
        return LONGEST;
    unsigned char cost[LONGEST + 1][LONGEST + 1];
    for (size_t i = 0; i <= length_a; i++) {
        for (size_t j = 0; j <= length_b; j++) {
            if (i == 0 || j == 0) {
                cost[i][j] = (unsigned char)(i + j);
                continue;
            }
            unsigned least = cost[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (cost[i - 1][j] + 1u < least)
                least = cost[i - 1][j] + 1u;
            if (cost[i][j - 1] + 1u < least)
                least = cost[i][j - 1] + 1u;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                cost[i - 2][j - 2] + 1u < least)
                least = cost[i - 2][j - 2] + 1u;
            cost[i][j] = (unsigned char)least;
        }
    }
    return cost[length_a][length_b];
}

bool config_is_word(const char *word, const char *const *known) {
    for (; *known; known++) {
        if (strcmp(word, *known) == 0)
            return true;
    }
    return false;
}

const char *config_nearest_word(const char *word, const char *const *known) {
    const char *nearest = NULL;
    size_t length = strlen(word);
    size_t least = length / 3 + 2; /* a third of the letters and one more may be wrong */
    for (; *known; known++) {
        bool begins = length >= 3 && strncmp(word, *known, length) == 0;
        size_t apart = begins ? 1 : distance(word, *known);
        if (apart < least && apart < strlen(*known)) {
            least = apart;
            nearest = *known;
        }
    }
    return nearest;
}
