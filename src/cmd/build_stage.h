/* The context of a build in its bucket, for both that build. Private to cmd/build*.c. */
#ifndef CMD_BUILD_STAGE_H
#define CMD_BUILD_STAGE_H

#include "build/staging.h"
#include "cmd/build_context.h"

enum { BUILD_OBJECT_SIZE = 200 };

/* Zeroed: nothing is measured yet. */
struct build_stage {
    struct build_context *context; /* NULL: there is no folder */
    char bucket[STAGING_BUCKET_SIZE], object[BUILD_OBJECT_SIZE];
    char generation[STAGING_GENERATION_SIZE]; /* "": not uploaded */
};

/* Chooses the bucket. The exit status. */
int build_stage_begin(struct build_stage *stage, const struct build_run *run);
/* Reads the folder for its sum, and names the object after it. The exit status. */
int build_stage_measure(struct build_stage *stage, struct build_run *run, const char *folder,
                        bool needs_dockerfile);
/* The context is at its object, which is made if it is not there. */
bool build_stage_upload(struct build_stage *stage, const struct build_run *run,
                        struct error *error);
void build_stage_end(struct build_stage *stage);

#endif
