/* What `tarn keep` is told by its configuration. Plain values; whoever fills them owns them. */
#ifndef KEEP_SETTINGS_H
#define KEEP_SETTINGS_H

#include "keep/spec.h"

#define KEEP_DEFAULT_MACHINES      "/etc/cachemachine"
#define KEEP_DEFAULT_PREFIX        "cachemachine"
/* Where cachemachine's pod has its pull secret. */
#define KEEP_DEFAULT_DOCKER_CONFIG "/etc/secrets/.dockerconfigjson"

struct keep_settings {
    const char *const *listen; /* ends with NULL */
    const char *namespace;     /* of the puller pods; NULL: our own */
    int64_t refresh_ms;        /* how often repositories are listed */
    const char *operators;     /* htpasswd file, or "anyone"; NULL: nobody may POST and DELETE */
    const char *lease;         /* "none": this process is the only one */
    const char *machines;      /* folder; NULL: KEEP_DEFAULT_MACHINES, if it is there */
    const char *nublado;       /* the keep that nublado's pages show; NULL: the first */
    const char *prefix;        /* of cachemachine's pages, without slashes */
    const char *kubeconfig;    /* NULL: search */
    const char *docker_config; /* for upstreams without credentials; NULL: see config/ */
    struct keep_spec *keeps;
    size_t keep_count;
};

struct keep_settings keep_settings_default(void);

#endif
