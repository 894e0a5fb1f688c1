/* The list of members, what was before it, and who is down. */
#include "replica/members.h"

#include <stdio.h>
#include <stdlib.h>
#include "base/lock.h"

enum { SHARE_SAMPLES = 1024 }; /* keys that are ranked to tell the shares */

/* What is known of a member's faults. */
struct faults {
    int64_t until_ms; /* it is down until then */
    int64_t pause_ms; /* the last pause; 0: the last thing that it did was to answer */
};

struct former {
    struct member_list list;
    int64_t until_ms; /* its owners are asked until then */
};

struct members {
    struct lock members_lock;
    struct member_list list GUARDED_BY(members_lock);
    struct faults faults[MEMBERS_LIMIT] GUARDED_BY(members_lock); /* as in `list` */
    double shares[MEMBERS_LIMIT] GUARDED_BY(members_lock);        /* the same */
    int self GUARDED_BY(members_lock);                            /* the place; -1: a guest */
    struct former former[FORMER_LISTS] GUARDED_BY(members_lock);  /* the newest first */
    int64_t changed_ms GUARDED_BY(members_lock); /* the list, or who is down, or the start */
};

struct members *members_new(int64_t now_ms) {
    struct members *members = calloc(1, sizeof *members);
    if (!members)
        return NULL;
    lock_init(&members->members_lock);
    lock_acquire(&members->members_lock);
    members->self = -1;
    members->changed_ms = now_ms;
    lock_release(&members->members_lock);
    return members;
}

void members_free(struct members *members) {
    if (!members)
        return;
    lock_finish(&members->members_lock);
    free(members);
}

/* ---- the list ---- */

static void compare(const struct member_list *before, const struct member_list *after,
                    struct members_change *change) {
    *change = (struct members_change){.is_new = !member_list_equal(before, after)};
    for (size_t i = 0; i < after->count; i++) {
        if (member_list_find(before, &after->each[i]) < 0)
            member_list_add(&change->added, &after->each[i]);
    }
    for (size_t i = 0; i < before->count; i++) {
        if (member_list_find(after, &before->each[i]) < 0)
            member_list_add(&change->removed, &before->each[i]);
    }
}

/* What is known of those that stay. */
static void take_faults(struct members *members, const struct member_list *list)
    REQUIRES(members->members_lock) {
    struct faults faults[MEMBERS_LIMIT] = {0};
    for (size_t i = 0; i < list->count; i++) {
        int before = member_list_find(&members->list, &list->each[i]);
        if (before >= 0)
            faults[i] = members->faults[before];
    }
    memcpy(members->faults, faults, sizeof faults);
}

/* Takes milliseconds, so the caller holds no lock. */
static void count_shares(const struct member_list *list, double shares[static MEMBERS_LIMIT]) {
    struct ranking ranking;
    char key[16];
    for (int i = 0; i < SHARE_SAMPLES; i++) {
        snprintf(key, sizeof key, "sample %d", i);
        ranking_of(list, key, &ranking);
        shares[ranking.places[0]] += 1.0 / SHARE_SAMPLES;
    }
}

static void remember_list(struct members *members, int64_t now_ms) REQUIRES(members->members_lock) {
    if (members->list.count == 0)
        return;
    memmove(&members->former[1], &members->former[0],
            (FORMER_LISTS - 1) * sizeof members->former[0]);
    members->former[0] = (struct former){members->list, now_ms + FORMER_MS};
}

void members_set(struct members *members, const struct member_list *list, const struct member *self,
                 int64_t now_ms, struct members_change *change) {
    double shares[MEMBERS_LIMIT] = {0};
    *change = (struct members_change){0};
    if (list->count == 0)
        return;
    lock_acquire(&members->members_lock);
    compare(&members->list, list, change);
    lock_release(&members->members_lock);
    if (change->is_new)
        count_shares(list, shares);
    lock_acquire(&members->members_lock);
    if (change->is_new) {
        remember_list(members, now_ms);
        take_faults(members, list);
        members->list = *list;
        members->changed_ms = now_ms;
        memcpy(members->shares, shares, sizeof shares);
    }
    members->self = self ? member_list_find(&members->list, self) : -1;
    lock_release(&members->members_lock);
}

/* ---- who owns what ---- */

static bool is_down(struct members *members, int place, int64_t now_ms)
    REQUIRES(members->members_lock) {
    return place != members->self && now_ms < members->faults[place].until_ms;
}

void members_owner(struct members *members, const char *key, unsigned skipped, int64_t now_ms,
                   struct members_owner *out) {
    struct ranking ranking;
    *out = (struct members_owner){.is_nobody = true};
    lock_acquire(&members->members_lock);
    ranking_of(&members->list, key, &ranking);
    for (size_t i = 0; i < ranking.count && out->is_nobody; i++) {
        const int place = ranking.places[i];
        if (is_down(members, place, now_ms) || skipped-- > 0)
            continue;
        out->is_nobody = false;
        out->is_self = place == members->self;
        out->member = members->list.each[place];
    }
    lock_release(&members->members_lock);
}

/* A former owner is asked even if it has left the list, because it may be draining. */
static bool may_be_asked(struct members *members, const struct member *member,
                         const struct member *owner, int64_t now_ms)
    REQUIRES(members->members_lock) {
    const int place = member_list_find(&members->list, member);
    return !member_equal(member, owner) &&
           (place < 0 || (place != members->self && !is_down(members, place, now_ms)));
}

static size_t add_former(struct members *members, const struct member *member,
                         const struct member *owner, int64_t now_ms, struct member *out,
                         size_t count) REQUIRES(members->members_lock) {
    for (size_t i = 0; i < count; i++) {
        if (member_equal(&out[i], member))
            return count;
    }
    if (may_be_asked(members, member, owner, now_ms))
        out[count++] = *member;
    return count;
}

size_t members_former(struct members *members, const char *key, int64_t now_ms,
                      struct member out[static FORMER_OWNERS]) {
    struct members_owner owner;
    struct ranking ranking;
    size_t count = 0;
    members_owner(members, key, 0, now_ms, &owner);
    lock_acquire(&members->members_lock);
    if (now_ms < members->changed_ms + FORMER_MS) {
        ranking_of(&members->list, key, &ranking);
        if (ranking.count > 1)
            count = add_former(members, &members->list.each[ranking.places[1]], &owner.member,
                               now_ms, out, count);
    }
    for (size_t i = 0; i < FORMER_LISTS; i++) {
        const struct former *former = &members->former[i];
        if (now_ms >= former->until_ms)
            break;
        ranking_of(&former->list, key, &ranking);
        count = add_former(members, &former->list.each[ranking.places[0]], &owner.member, now_ms,
                           out, count);
    }
    lock_release(&members->members_lock);
    return count;
}

/* ---- who is down ---- */

bool members_note_fault(struct members *members, const struct member *member, int64_t now_ms) {
    lock_acquire(&members->members_lock);
    const int place = member_list_find(&members->list, member);
    const bool is_new = place >= 0 && place != members->self && !is_down(members, place, now_ms);
    if (is_new) {
        struct faults *faults = &members->faults[place];
        const int64_t next_ms = faults->pause_ms ? faults->pause_ms * 2 : DOWN_FIRST_MS;
        faults->pause_ms = next_ms < DOWN_MOST_MS ? next_ms : DOWN_MOST_MS;
        faults->until_ms = now_ms + faults->pause_ms;
        members->changed_ms = now_ms;
    }
    lock_release(&members->members_lock);
    return is_new;
}

bool members_note_answer(struct members *members, const struct member *member, int64_t now_ms) {
    lock_acquire(&members->members_lock);
    const int place = member_list_find(&members->list, member);
    const bool was_down = place >= 0 && is_down(members, place, now_ms);
    if (place >= 0)
        members->faults[place] = (struct faults){0};
    if (was_down)
        members->changed_ms = now_ms;
    lock_release(&members->members_lock);
    return was_down;
}

size_t members_describe(struct members *members, int64_t now_ms,
                        struct member_figures out[static MEMBERS_LIMIT]) {
    lock_acquire(&members->members_lock);
    const size_t count = members->list.count;
    for (size_t i = 0; i < count; i++) {
        const int place = (int)i;
        out[i] = (struct member_figures){
            .member = members->list.each[i],
            .state = place == members->self            ? MEMBER_SELF
                     : is_down(members, place, now_ms) ? MEMBER_DOWN
                                                       : MEMBER_LIVE,
            .share = members->shares[i],
        };
    }
    lock_release(&members->members_lock);
    return count;
}
