/* The parts of a keeper. Private to keeper.c, lister.c, puller.c, machines.c and the pages. */
#ifndef KEEP_KEEPER_PRIVATE_H
#define KEEP_KEEPER_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include "base/lock.h"
#include "keep/keeper.h"
#include "kubernetes/follow.h"
#include "kubernetes/lease.h"

enum keep_origin { KEEP_CONFIGURED, KEEP_OF_FILE, KEEP_POSTED };

/* A keep in service. */
struct kept {
    const struct keep_spec *spec;
    struct keep_machine *machine; /* NULL: of the configuration */
    enum keep_origin origin;
    struct keep_list *list; /* NULL: not made yet */
    int64_t list_ms;        /* clock_ms(): when to list again */
    int64_t digests_ms;     /* clock_ms(): when to ask for every digest again */
    unsigned failures;
    bool is_stopped; /* DELETEd, until the next start or reload */
    bool is_hidden;  /* it is stopped, or another of its name comes first */
};

/* A request to the cluster. */
struct keeper_job {
    bool is_create;
    uint64_t id;
    char *uid, *name; /* of the pod to delete */
    struct buffer body;
    struct keeper_job *next;
};

/* What was replaced, and what the lister may still read. */
struct keeper_retired {
    struct keep_machine *machine;
    struct keep_list *list;
    void (*release)(void *before); /* of settings; NULL: there are none */
    void *before;
    struct keeper_retired *next;
};

/* Other settings, with the keeps that they bring. */
struct keeper_change {
    const struct keep_settings *keep;
    struct kept *kepts; /* of files, and of the settings; they own their machines */
    size_t count;
};

struct keeper {
    struct keeper_settings settings;
    struct lock state_lock;
    struct condition changed; /* for the thread that steps */
    struct condition stepped; /* for those who wait for what becomes known */
    struct condition jobs_changed;
    struct condition lists_changed;
    struct keep_plan *plan GUARDED_BY(state_lock);
    struct kept *kepts GUARDED_BY(state_lock);
    size_t kept_count GUARDED_BY(state_lock);
    size_t kept_capacity GUARDED_BY(state_lock);
    struct keeper_retired *retired GUARDED_BY(state_lock);
    struct keeper_job *jobs GUARDED_BY(state_lock), **last_job;
    bool has_changed GUARDED_BY(state_lock);
    uint64_t steps GUARDED_BY(state_lock);
    struct keep_actions actions; /* of the thread that steps */

    atomic_bool stop;
    _Atomic int64_t led_ms;          /* clock_ms() since when this process leads; 0: never yet */
    atomic_bool posted_known;        /* which machines were POSTed, or nobody may know */
    struct condition posted_changed; /* some of what follows */
    bool posted_busy GUARDED_BY(state_lock);      /* a thread asks the cluster for them */
    bool must_read_posted GUARDED_BY(state_lock); /* they may be others now */
    bool must_clear_stops GUARDED_BY(state_lock); /* this process has started or was reloaded */
    char posted_version[LEASE_MARK_LIMIT + 1] GUARDED_BY(state_lock); /* as last read; "" */
    struct follow *nodes, *pods;
    struct lease *lease; /* NULL: this process is the only one */
    pthread_t stepper, lister, poster, pullers[KEEPER_REQUESTS];
    unsigned puller_count;
    bool has_stepper, has_lister, has_poster;
};

struct keep_now keeper_now(void);

/* Tells the thread that steps that the plan has changed. */
void keeper_touch(struct keeper *keeper) REQUIRES(keeper->state_lock);

/* How many pulls of the keep ended in this way. */
struct metric *keeper_pulls_metric(const char *keep, enum keep_outcome outcome);

/* machines.c */
/* Which keeps are served has changed: hides what is overridden, and tells the plan. */
bool keeper_serve_keeps(struct keeper *keeper) REQUIRES(keeper->state_lock);
struct kept *keeper_find(struct keeper *keeper, const char *name) REQUIRES(keeper->state_lock);
struct kept *keeper_add(struct keeper *keeper) REQUIRES(keeper->state_lock);

/* lister.c */
void keeper_list(void *keeper); /* a thread */
/* Releases the lock meanwhile. Only by the thread that lists, or when that has ended. */
void keeper_free_retired(struct keeper *keeper) REQUIRES(keeper->state_lock);
void keeper_drop_retired(struct keeper_retired *first);

/* posted.c */
#define KEEPER_MARK "tarn/machines" /* the annotation of the lease with the ConfigMap's version */
void keeper_read_posted(void *keeper);                     /* a thread */
void keeper_posted_marked(void *keeper, const char *mark); /* the lease has another mark */
void keeper_read_posted_again(struct keeper *keeper) REQUIRES(keeper->state_lock);

/* puller.c */
void keeper_send(void *keeper); /* a thread */
bool keeper_add_job(struct keeper *keeper, const struct keep_action *action)
    REQUIRES(keeper->state_lock);
void keeper_free_jobs(struct keeper *keeper);

/* Whether what is known in this state is young enough at `now_ms` to create a pod by it. */
bool keeper_is_fresh(const struct follow_state *state, int64_t now_ms);

/* Whether this process is the one that creates and deletes pods. Any thread, with or without the
 * lock. */
bool keeper_leads(struct keeper *keeper);

/* Whether it leads and knows enough to do so now. Any thread, with or without the lock. */
bool keeper_may_act(struct keeper *keeper);

#endif
