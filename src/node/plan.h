/*
 * What has to be done to the files that tarn alone writes on a node: those that are there, those
 * that are wanted, and the folders that tarn made for them.
 *
 * First everything is looked at (plan_open(), plan_want(), plan_check()), then everything is done
 * (plan_apply()). The tree is locked from beginning to end. Private to node/.
 */
#ifndef NODE_PLAN_H
#define NODE_PLAN_H

#include <jansson.h>
#include "node/mark.h"
#include "node/mirror.h"
#include "node/tree.h"

enum plan_state {
    PLAN_ABSENT,
    PLAN_OURS,    /* has the mark, and is as tarn wrote it */
    PLAN_FOREIGN, /* somebody else's, or edited */
};

struct plan_file {
    enum mirror_engine engine;
    char *path;
    enum plan_state state;
    char why[160];    /* FOREIGN: a clause */
    bool is_edited;   /* OURS: it is not as tarn wrote it, and is to be restored */
    struct mark mark; /* OURS */
    char *bytes;      /* OURS: what it holds; owned */
    size_t length;
    bool is_wanted;
    bool is_unwanted;   /* it is to be deleted */
    struct buffer body; /* wanted: what it must hold behind the mark */
};

struct plan {
    const struct mirror_settings *settings;
    struct tree tree;
    struct plan_file *files;
    size_t count;
    char **folders; /* that tarn made */
    size_t folder_count;
    bool was_refused; /* a file was reported as refused */
};

/* Locks the tree, and finds all files that have the mark. */
bool plan_open(struct plan *plan, const struct mirror_settings *settings, struct error *error);
void plan_close(struct plan *plan);
#define cleanup_plan __attribute__((cleanup(plan_close)))

/* The file must hold `body`, whose bytes are taken over. */
bool plan_want(struct plan *plan, enum mirror_engine engine, const char *path, struct buffer *body,
               struct error *error);

/* Records folders that tarn made, by a list of paths that tarn wrote. */
bool plan_add_folders(struct plan *plan, const json_t *folders, struct error *error);
/* Records that tarn will make the folders of the file that are missing. */
bool plan_add_missing(struct plan *plan, const char *path, struct error *error);

/* Makes a wanted file that tarn has not written yet somebody else's, because of `why`, a clause. */
void plan_forbid(struct plan *plan, const char *path, const char *why);

/* The recorded folders that are folders of a file of tarn's, in order; NULL: out of memory. Each
 * file's mark has all of them, so that they are known also when somebody deletes a file. */
json_t *plan_list_folders(const struct plan *plan);

/* Reports the files that are wanted or unwanted but are somebody else's. */
void plan_check(struct plan *plan);

/* Does it, and reports it. */
bool plan_apply(struct plan *plan, struct error *error);

/* Deletes the folders that tarn made and that are empty. */
void plan_delete_folders(const struct plan *plan);

/* Reports a change; a refusal is also recorded. */
void plan_report(struct plan *plan, enum mirror_engine engine, enum mirror_action action,
                 const char *path, struct text content_or_why);

#endif
