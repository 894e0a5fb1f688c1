/*
 * Who the members are and which of them is this machine: what the system's resolver and the
 * network interfaces say.
 *
 * Threads: any. Both calls may wait: the resolver for as long as resolv.conf allows.
 */
#ifndef REPLICA_RESOLVE_H
#define REPLICA_RESOLVE_H

#include "base/error.h"
#include "replica/member.h"

/* All addresses of a name, each with the port; the hosts file counts. *left_out is how many
 * addresses there are beyond the limit of a list. False: the name has no address (ERROR_NOT_FOUND),
 * or nobody could tell (ERROR_UNAVAILABLE). */
bool resolve_members(const char *name, unsigned port, struct member_list *list, size_t *left_out,
                     struct error *error);

/* The first member whose address is on one of this machine's interfaces. False: none is. */
bool resolve_own_member(const struct member_list *list, unsigned port, struct member *own);

#endif
