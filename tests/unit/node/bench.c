/* A folder that stands for a node. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <ftw.h>
#include <limits.h>
#include <sys/stat.h>
#include "node/bench.h"

char node[64];

int node_make(void) {
    strcpy(node, "/tmp/tarn-node-XXXXXX");
    return mkdtemp(node) ? 0 : -1;
}

static int delete_entry(const char *path, const struct stat *status, int type, struct FTW *ftw) {
    (void)status, (void)type, (void)ftw;
    return remove(path);
}

int node_delete(void) {
    return nftw(node, delete_entry, 16, FTW_DEPTH | FTW_PHYS);
}

void put(const char *path, const char *text) {
    char full[PATH_MAX];
    snprintf(full, sizeof full, "%s%s", node, path);
    for (char *slash = full + strlen(node) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        mkdir(full, 0755);
        *slash = '/';
    }
    if (!text)
        return;
    FILE *file = fopen(full, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}
