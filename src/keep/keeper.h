/*
 * Keeps images on nodes: lists the repositories, follows nodes and pods, and creates and deletes
 * the puller pods that the plan (plan.h) asks for.
 *
 * Threads of its own: one lists repositories, one steps through the plan, some send its requests,
 * and follow.h has one each for nodes and pods. All share one lock, which is held while the plan is
 * told, asked or shown, and never during a request.
 */
#ifndef KEEP_KEEPER_H
#define KEEP_KEEPER_H

#include "keep/list.h"
#include "keep/machine.h"
#include "keep/plan.h"
#include "keep/settings.h"
#include "kubernetes/kubernetes.h"
#include "upstream/current.h"

enum {
    KEEPER_REQUESTS = 16,            /* at once, to create and delete pods */
    KEEPER_STALE_MS = 5 * 60 * 1000, /* knowledge older than this creates nothing */
    KEEPER_REQUEST_MS = 4000,        /* for one that creates or deletes; see lease.h */
    KEEPER_POSTED_BYTES = 900 << 10, /* of all machines that were POSTed */
};

struct keeper_settings {
    const struct keep_settings *keep; /* outlive the keeper, or keeper_change() */
    struct kubernetes *kubernetes;
    struct catalog *catalog;
    struct current_upstreams *upstreams;
    const char *namespace;              /* of the puller pods */
    const char *own_namespace;          /* of the lease, and of machines that are POSTed */
    const char *owner_name, *owner_uid; /* our own pod, in that namespace; or NULL */
    const char *machine_secret;         /* pull.secret of machines; NULL: none */
    bool dry_run;                       /* creates and deletes nothing */
    bool once;                          /* the process ends when all is done; it stops no keep */
};

struct keeper;

/* False in `error`: a file of a machine is wrong, or memory is out. */
struct keeper *keeper_new(const struct keeper_settings *settings, struct error *error);
bool keeper_start(struct keeper *keeper, struct error *error);
void keeper_stop(struct keeper *keeper); /* ends the threads; gives the lease up */
void keeper_free(struct keeper *keeper); /* stopped, or never started; NULL is allowed */

/*
 * Other settings for a keeper that may run; its namespace and its lease stay. keeper_prepare()
 * reads the files of machines. NULL: one is wrong, as the error says with its place.
 *
 * keeper_change() takes it over and lists every repository anew. A keep that has gone or has
 * changed ends its pulls, and its pods are deleted; one that has not changed goes on. What DELETE
 * has stopped is there again. `release` is called for `before` when nobody reads the settings of
 * before any more: by another thread, at the latest by keeper_free(). May be NULL. False: out of
 * memory, nothing has changed, and the change is the caller's to give up.
 */
struct keeper_change;
struct keeper_change *keeper_prepare(const struct keeper *keeper, const struct keep_settings *keep,
                                     struct error *error);
void keeper_give_up(struct keeper_change *change); /* NULL is allowed */
bool keeper_change(struct keeper *keeper, struct keeper_change *change,
                   void (*release)(void *before), void *before);

/* ---- what is known; see also pages.h ---- */

/* False with a reason: nodes or pods were never listed. For /readyz. */
bool keeper_is_ready(struct keeper *keeper, char *why, size_t size);

/* Waits until every image is kept or skipped on every eligible node, something has failed, or
 * `deadline_ms` of clock_ms(). 0: all are kept; 1: not, and `report` says what and why, a line
 * each. */
int keeper_wait(struct keeper *keeper, int64_t deadline_ms, struct buffer *report);

/* Waits until the first plan is made, and writes a line for each pull that it wants: node, image,
 * why; as JSON, if `json`. False: not in time. */
bool keeper_write_plan(struct keeper *keeper, int64_t deadline_ms, bool json, struct buffer *out);

/* ---- machines ---- */

/* Takes a machine that was POSTed (and keeps it in the cluster), in place of one of that name.
 * `json` is the body. ERROR_INVALID: it is wrong, with the place; ERROR_NO_SPACE: there would be
 * too many; other kinds: the cluster did not keep it, and nothing has changed. */
bool keeper_post(struct keeper *keeper, struct text json, struct buffer *answer,
                 struct error *error);
/* Takes a machine away, or stops a configured keep until a process starts or is reloaded; with a
 * lease for all processes. A name that nobody has is no error. */
bool keeper_delete(struct keeper *keeper, const char *name, struct error *error);

#endif
