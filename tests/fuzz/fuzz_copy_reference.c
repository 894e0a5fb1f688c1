/* References of the commands that read and write images, platforms, and names inside archives: an
 * accepted reference is read back from its own spelling, and no name leads out of an archive. */
#include <stdio.h>
#include <string.h>
#include "copy/platform.h"
#include "copy/reference.h"
#include "copy/untar.h"
#include "fuzz.h"
#include "pieces.h"

static void check_reference(struct text text, enum copy_form form) {
    struct copy_reference reference, again;
    struct error error;
    static char spelled[COPY_REFERENCE_SIZE], respelled[COPY_REFERENCE_SIZE];
    if (!copy_reference_parse(text, form, &reference, &error)) {
        MUST(error.kind == ERROR_INVALID && error.text[0] && !strchr(error.text, '\n'));
        return;
    }
    copy_reference_format(&reference, spelled);
    MUST(copy_reference_parse(text_of(spelled), form, &again, &error));
    MUST(strcmp(copy_reference_format(&again, respelled), spelled) == 0);
    MUST(!reference.tag[0] || reference_is_tag(text_of(reference.tag)));
    if (reference.kind == COPY_REGISTRY)
        MUST(reference_is_host(text_of(reference.name.host)) &&
             reference_is_repository(text_of(reference.name.path)));
    if (reference.pattern[0])
        text_matches_glob(reference.pattern, text_of("v1.2.3-rc"));
}

static void check_name(const char *from, const char *name) {
    static char clean[COPY_UNTAR_NAME_LIMIT + 1];
    static char folder[COPY_UNTAR_NAME_LIMIT + 1];
    if (from[0] && !copy_untar_clean_name(NULL, from, folder))
        return;
    if (!copy_untar_clean_name(from[0] ? folder : NULL, name, clean))
        return;
    MUST(clean[0] && clean[0] != '/');
    for (struct text left = text_of(clean); left.at;) {
        struct text part = text_cut(left, '/', &left);
        MUST(part.length && !text_is(part, "..") && !text_is(part, "."));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    struct copy_platform platform, again;
    char shown[COPY_PLATFORM_SIZE];
    rest = (struct text){(const char *)bytes, length};
    struct text first = next_piece(), second = next_piece();
    for (int form = COPY_FORM_IMAGE; form <= COPY_FORM_REPOSITORY; form++)
        check_reference(first, (enum copy_form)form);
    if (copy_platform_parse(first, &platform))
        MUST(copy_platform_parse(text_of(copy_platform_format(&platform, shown)), &again) &&
             copy_platform_matches(&platform, &again));
    char *name = text_dup(first), *from = text_dup(second);
    if (name && from)
        check_name(from, name);
    free(name);
    free(from);
    return 0;
}
