/*
 * Which member is responsible for what: rendezvous hashing.
 *
 * Each member has a score for each key, SHA-256(member, NUL, key), and the members with the highest
 * scores come first. All who have the same list agree on the ranking without a word. When a member
 * joins, it becomes the first for its share of the keys, and the former first is then the second;
 * all other keys stay where they are.
 *
 * A key is a digest for blobs and for manifests by digest, else "HOST/NAME:TAG", "HOST/NAME tags"
 * or "HOST/NAME referrers DIGEST".
 *
 * Pure; any thread.
 */
#ifndef REPLICA_RANKING_H
#define REPLICA_RANKING_H

#include "replica/member.h"

enum { RANKING_KEY_LIMIT = 1024 }; /* bytes of a key that count; none is as long */

/* Places in a list, the first of the ranking first. */
struct ranking {
    size_t count;
    unsigned char places[MEMBERS_LIMIT];
};

void ranking_of(const struct member_list *list, const char *key, struct ranking *out);

#endif
