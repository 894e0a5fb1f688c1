/* Reads, writes and compares platforms. */
#include "copy/platform.h"

#include <stdio.h>
#include <sys/utsname.h>
#include "base/json.h"

static bool is_word(struct text text) {
    for (size_t i = 0; i < text.length; i++) {
        char c = text.at[i];
        bool fine = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    c == '.' || c == '-' || c == '_';
        if (!fine)
            return false;
    }
    return text.length > 0;
}

bool copy_platform_parse(struct text text, struct copy_platform *out) {
    struct text os, architecture, rest;
    *out = (struct copy_platform){0};
    os = text_cut(text, '/', &rest);
    if (!rest.at)
        return false;
    architecture = text_cut(rest, '/', &rest);
    return is_word(os) && is_word(architecture) && (!rest.at || is_word(rest)) &&
           text_copy(os, out->os, sizeof out->os) &&
           text_copy(architecture, out->architecture, sizeof out->architecture) &&
           text_copy(rest.at ? rest : text_of(""), out->variant, sizeof out->variant);
}

const char *copy_platform_format(const struct copy_platform *platform,
                                 char out[static COPY_PLATFORM_SIZE]) {
    snprintf(out, COPY_PLATFORM_SIZE, "%s/%s%s%s", platform->os, platform->architecture,
             platform->variant[0] ? "/" : "", platform->variant);
    return out;
}

struct copy_platform copy_platform_own(void) {
    /* The names of Linux and those of Go, which the specification uses. */
    static const char *const names[][2] = {
        {"x86_64", "linux/amd64"},    {"aarch64", "linux/arm64"}, {"armv7l", "linux/arm/v7"},
        {"armv6l", "linux/arm/v6"},   {"i686", "linux/386"},      {"i386", "linux/386"},
        {"ppc64le", "linux/ppc64le"}, {"s390x", "linux/s390x"},   {"riscv64", "linux/riscv64"},
    };
    struct copy_platform own = {.os = "linux"};
    struct utsname machine;
    if (uname(&machine) != 0)
        return own;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(machine.machine, names[i][0]) == 0)
            copy_platform_parse(text_of(names[i][1]), &own);
    }
    if (!own.architecture[0])
        text_copy((struct text){machine.machine, strnlen(machine.machine, 31)}, own.architecture,
                  sizeof own.architecture);
    return own;
}

/* The variant that is meant where none is named (containerd, platforms.Normalize). */
static const char *variant_of(const struct copy_platform *platform) {
    const char *variant = platform->variant;
    if (strcmp(platform->architecture, "arm64") == 0 && strcmp(variant, "v8") == 0)
        return "";
    return strcmp(platform->architecture, "amd64") == 0 && strcmp(variant, "v1") == 0 ? ""
                                                                                      : variant;
}

/* Whether both name the same variant, and not only one that fits. */
static bool is_variant(const struct copy_platform *wanted, const struct copy_platform *is) {
    return strcmp(variant_of(wanted), variant_of(is)) == 0;
}

bool copy_platform_matches(const struct copy_platform *wanted, const struct copy_platform *is) {
    return strcmp(wanted->os, is->os) == 0 && strcmp(wanted->architecture, is->architecture) == 0 &&
           (!wanted->variant[0] || is_variant(wanted, is));
}

struct copy_platform copy_platform_of(const struct descriptor *descriptor) {
    struct copy_platform platform;
    snprintf(platform.os, sizeof platform.os, "%s", descriptor->os);
    snprintf(platform.architecture, sizeof platform.architecture, "%s", descriptor->architecture);
    snprintf(platform.variant, sizeof platform.variant, "%s", descriptor->variant);
    return platform;
}

/* ---- images that have the platform, or not ---- */

/* "unknown/unknown" is for attestations, which nobody runs. */
static bool is_named(const struct descriptor *entry) {
    return entry->role == DESCRIPTOR_MANIFEST && entry->os[0] && strcmp(entry->os, "unknown") != 0;
}

static bool refuse(const struct manifest *index, const struct copy_platform *wanted,
                   struct error *error) {
    cleanup_buffer struct buffer there = {.limit = 400};
    char text[COPY_PLATFORM_SIZE];
    for (size_t i = 0; i < index->count; i++) {
        struct copy_platform is = copy_platform_of(&index->descriptors[i]);
        if (is_named(&index->descriptors[i]))
            buffer_printf(&there, "%s%s", there.length ? ", " : "",
                          copy_platform_format(&is, text));
    }
    return error_set(error, ERROR_NOT_FOUND, "the image has no platform %s; it has: %s",
                     copy_platform_format(wanted, text),
                     there.length ? there.bytes : "none that it names");
}

const struct descriptor *copy_platform_find(const struct manifest *index,
                                            const struct copy_platform *wanted,
                                            struct error *error) {
    const struct descriptor *found = NULL;
    for (size_t i = 0; i < index->count; i++) {
        const struct descriptor *entry = &index->descriptors[i];
        struct copy_platform is = copy_platform_of(entry);
        if (!is_named(entry) || !copy_platform_matches(wanted, &is))
            continue;
        if (is_variant(wanted, &is)) /* linux/amd64, and not linux/amd64/v3 */
            return entry;
        found = found ? found : entry;
    }
    if (!found)
        refuse(index, wanted, error);
    return found;
}

bool copy_platform_check_config(const struct buffer *config, const struct copy_platform *wanted,
                                struct error *error) {
    char text[2][COPY_PLATFORM_SIZE];
    struct copy_platform is = {0};
    cleanup_json json_t *json = bounded_json_load_by(0, config->bytes, config->length, NULL);
    const char *const names[] = {"os", "architecture", "variant"};
    char *const members[] = {is.os, is.architecture, is.variant};
    for (size_t i = 0; i < 3; i++) {
        const char *value = json_string_value(json_object_get(json, names[i]));
        text_copy(text_of(value ? value : ""), members[i], sizeof is.os);
    }
    if (!is.os[0])
        return error_set(error, ERROR_INVALID, "the image's config does not tell its platform");
    return copy_platform_matches(wanted, &is) ||
           error_set(error, ERROR_NOT_FOUND, "the image has no platform %s; it has: %s",
                     copy_platform_format(wanted, text[0]), copy_platform_format(&is, text[1]));
}
