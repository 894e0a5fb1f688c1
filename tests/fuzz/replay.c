/*
 * Runs a fuzz target over a folder of inputs without libFuzzer: its corpus, and the inputs that
 * once broke it (regression-*). Each input is also cut short at some places, because a cut is the
 * most common damage. Writes TAP.
 */
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "base/cleanup.h"
#include "fuzz.h"

enum { CUTS = 64 };

/* A copy of exactly this length, so that a read past its end is seen. */
static void run(const uint8_t *bytes, size_t length) {
    cleanup_free uint8_t *copy = malloc(length ? length : 1);
    MUST(copy);
    if (length)
        memcpy(copy, bytes, length);
    LLVMFuzzerTestOneInput(copy, length);
}

static void run_file(const char *path) {
    FILE *file = fopen(path, "rb");
    struct stat status;
    MUST(file && fstat(fileno(file), &status) == 0);
    size_t length = (size_t)status.st_size;
    cleanup_free uint8_t *bytes = malloc(length ? length : 1);
    MUST(bytes && fread(bytes, 1, length, file) == length);
    fclose(file);
    run(bytes, length);
    size_t step = length / CUTS + 1;
    for (size_t cut = 0; cut < length; cut += step)
        run(bytes, cut);
}

int main(int argc, char **argv) {
    size_t files = 0;
    MUST(argc == 2);
    DIR *folder = opendir(argv[1]);
    MUST(folder);
    for (struct dirent *entry; (entry = readdir(folder));) {
        char path[4096];
        if (entry->d_name[0] == '.')
            continue;
        MUST(snprintf(path, sizeof path, "%s/%s", argv[1], entry->d_name) < (int)sizeof path);
        run_file(path);
        files++;
    }
    closedir(folder);
    printf("%sok 1 - %zu inputs of %s\n1..1\n", files ? "" : "not ", files,
           strrchr(argv[1], '/') ? strrchr(argv[1], '/') + 1 : argv[1]);
    return files == 0;
}
