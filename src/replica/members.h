/*
 * What a replica believes about the others: who they are, who it is itself, who was there before,
 * and who is down.
 *
 * The owner of a key is the first of its ranking that is not down. A tarn that is not in the list
 * is a guest: it asks owners and owns no key.
 *
 * For two minutes after a change, a key's former owners are remembered, because one of them may
 * still be fetching what the owner is asked for: the second of the ranking (when a member has
 * joined, it is the one before), and the first of each earlier list. The own start and a member's
 * return are changes, too.
 *
 * A member is down after a fault, for 5 s at first and twice as long after each further fault, up
 * to a minute. An answer ends it.
 *
 * Threads: any; the list is set by one thread at a time. Times are clock_ms(). Nothing here waits
 * or asks anybody.
 */
#ifndef REPLICA_MEMBERS_H
#define REPLICA_MEMBERS_H

#include <stdint.h>
#include "replica/ranking.h"

enum {
    FORMER_MS = 120000,   /* how long former owners are asked after a change */
    DOWN_FIRST_MS = 5000, /* after the first fault */
    DOWN_MOST_MS = 60000, /* after many */
    FORMER_LISTS = 4,     /* that are remembered; of more changes, the oldest is forgotten */
    FORMER_OWNERS = 1 + FORMER_LISTS,
};

enum member_state { MEMBER_SELF, MEMBER_LIVE, MEMBER_DOWN };

struct members;

/* No members yet. NULL: out of memory. */
struct members *members_new(int64_t now_ms);
void members_free(struct members *members); /* NULL is fine */

/* What a change of the list was. */
struct members_change {
    bool is_new; /* the list is another one than before */
    struct member_list added, removed;
};

/* Takes the list from now on; an empty one is not taken. `self` is the own member; NULL: a guest.
 * A member that joins is not down. */
void members_set(struct members *members, const struct member_list *list, const struct member *self,
                 int64_t now_ms, struct members_change *change);

/* Whom to ask for a key. */
struct members_owner {
    bool is_self;         /* this replica owns the key */
    bool is_nobody;       /* every member is down, or there is none: this replica asks upstream */
    struct member member; /* else: who owns it */
};

/* `skipped` owners in front are passed over, because they did not help. */
void members_owner(struct members *members, const char *key, unsigned skipped, int64_t now_ms,
                   struct members_owner *out);

/* Who may be fetching what has this key, besides the owner and this replica itself. Those that are
 * down are left out. Returns how many; 0: no change was made lately. */
size_t members_former(struct members *members, const char *key, int64_t now_ms,
                      struct member out[static FORMER_OWNERS]);

/* The member has failed: it is down. True: it was not. */
bool members_note_fault(struct members *members, const struct member *member, int64_t now_ms);
/* The member has answered: it is not down. True: it was. */
bool members_note_answer(struct members *members, const struct member *member, int64_t now_ms);

/* Describes the list. Returns how many members there are. `share` is the part of all keys that a
 * member would own if none were down. */
struct member_figures {
    struct member member;
    enum member_state state;
    double share;
};
size_t members_describe(struct members *members, int64_t now_ms,
                        struct member_figures out[static MEMBERS_LIMIT]);

#endif
