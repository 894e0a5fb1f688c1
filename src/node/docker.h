/*
 * tarn's entries in Docker's daemon.json, and the record of what the file held before.
 *
 * JSON has no comments, so that the record stands in a file of its own beside it: the file's text
 * before, and the texts that tarn wrote. While daemon.json is one of those texts, removing the
 * entries gives back the text before, byte for byte. When somebody has changed it meanwhile, only
 * tarn's entries are taken out. The record is written before daemon.json and deleted after it, so
 * that a crash between the two leaves nothing that cannot be told. Private to node/.
 */
#ifndef NODE_DOCKER_H
#define NODE_DOCKER_H

#include <jansson.h>
#include <sys/stat.h>
#include "base/buffer.h"
#include "node/plan.h"

struct docker {
    json_t *record; /* NULL: there is none */
    const char *record_url;
    char *now; /* what daemon.json holds; NULL: there is none */
    size_t now_length;
    struct stat now_status;

    bool is_change;       /* `after` is to be written, or the file deleted */
    bool exists_after;    /* false: the file is to be deleted */
    bool is_removal;      /* the record is to be deleted */
    struct buffer before; /* without tarn's entries */
    bool existed;         /* false: there would be no file without tarn */
    struct buffer after;  /* what it must hold */
};

/* Reads both files. False: one cannot be read, or the record is none of tarn's. */
bool docker_open(struct docker *docker, struct plan *plan, struct error *error);
void docker_close(struct docker *docker);
#define cleanup_docker __attribute__((cleanup(docker_close)))

/* Finds out what is to be done. What cannot be done is reported as refused. */
bool docker_plan_install(struct docker *docker, struct plan *plan, struct error *error);
bool docker_plan_remove(struct docker *docker, struct plan *plan, struct error *error);

/* Does it, and reports it. */
bool docker_apply(struct docker *docker, struct plan *plan, struct error *error);

#endif
