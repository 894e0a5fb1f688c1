/* The ranking of members for a key. */
#include "replica/ranking.h"

#include <openssl/sha.h>
#include <stdlib.h>

struct score {
    unsigned char bytes[SHA256_DIGEST_LENGTH];
    unsigned char place;
};

static int higher_first(const void *a, const void *b) {
    const struct score *one = a, *other = b;
    return memcmp(other->bytes, one->bytes, sizeof one->bytes);
}

/* A failure of the hash cannot be told to anybody, and would only make replicas disagree. */
static void score(const struct member *member, const char *key, struct score *out) {
    char text[MEMBER_SIZE + RANKING_KEY_LIMIT];
    const size_t name = strlen(member->text) + 1, length = strnlen(key, RANKING_KEY_LIMIT);
    memcpy(text, member->text, name);
    memcpy(text + name, key, length);
    SHA256((const unsigned char *)text, name + length, out->bytes);
}

void ranking_of(const struct member_list *list, const char *key, struct ranking *out) {
    struct score scores[MEMBERS_LIMIT];
    for (size_t i = 0; i < list->count; i++) {
        score(&list->each[i], key, &scores[i]);
        scores[i].place = (unsigned char)i;
    }
    qsort(scores, list->count, sizeof scores[0], higher_first);
    out->count = list->count;
    for (size_t i = 0; i < list->count; i++)
        out->places[i] = scores[i].place;
}
