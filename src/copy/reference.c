/* Reads and writes references to images. */
#include "copy/reference.h"

#include <stdio.h>
#include "upstream/upstream.h"

static bool refuse(struct text given, const char *why, struct error *error) {
    enum { SHOWN = 300 };
    int length = (int)(given.length < SHOWN ? given.length : SHOWN);
    return error_set(error, ERROR_INVALID, "%.*s: %s", length, given.at, why);
}

static bool is_printable(struct text text) {
    for (size_t i = 0; i < text.length; i++) {
        if ((unsigned char)text.at[i] < ' ' || text.at[i] == 0x7f)
            return false;
    }
    return true;
}

/* ---- oci: and docker-archive: ---- */

static bool parse_layout(struct text given, struct text rest, struct copy_reference *out,
                         struct error *error) {
    const char *colon = rest.length ? memrchr(rest.at, ':', rest.length) : NULL;
    struct text path = rest;
    if (colon) {
        struct text tag = text_from(rest, (size_t)(colon + 1 - rest.at));
        path.length = (size_t)(colon - rest.at);
        if (!reference_is_tag(tag) || !text_copy(tag, out->tag, sizeof out->tag))
            return refuse(given, "what follows the last : is no tag; write oci:DIR[:TAG]", error);
    }
    return (path.length && text_copy(path, out->path, sizeof out->path)) ||
           refuse(given, "it names no folder; write oci:DIR[:TAG]", error);
}

/* NAME:TAG, where NAME may begin with a host. */
static bool parse_archive_name(struct text given, struct text name, enum copy_form form,
                               struct copy_reference *out, struct error *error) {
    const char *slash = memrchr(name.at, '/', name.length);
    const char *begin = slash ? slash : name.at;
    const char *colon = memchr(begin, ':', name.length - (size_t)(begin - name.at));
    const bool is_open = !colon && form == COPY_FORM_TARGET;
    struct text tag = colon     ? text_from(name, (size_t)(colon + 1 - name.at))
                      : is_open ? text_of("")
                                : text_of("latest");
    if (colon)
        name.length = (size_t)(colon - name.at);
    struct text path, host = text_cut(name, '/', &path);
    if (!path.at || !reference_looks_like_host(host)) {
        path = name;
        host = (struct text){0};
    }
    bool ok = (!host.at || reference_is_host(host)) && reference_is_repository(path) &&
              (is_open || reference_is_tag(tag)) && text_copy(tag, out->tag, sizeof out->tag) &&
              text_copy(host, out->name.host, sizeof out->name.host) &&
              text_copy(path, out->name.path, sizeof out->name.path);
    return ok || refuse(given,
                        "what follows the file is no name of an image; write "
                        "docker-archive:FILE[:NAME:TAG]",
                        error);
}

static bool parse_archive(struct text given, struct text rest, enum copy_form form,
                          struct copy_reference *out, struct error *error) {
    struct text name, path = text_cut(rest, ':', &name);
    if (!path.length || !text_copy(path, out->path, sizeof out->path))
        return refuse(given, "it names no file; write docker-archive:FILE[:NAME:TAG]", error);
    return !name.at || parse_archive_name(given, name, form, out, error);
}

/* ---- HOST/NAME ---- */

/* Cuts TAG and DIGEST off. */
static bool cut_image(struct text given, struct text *name, struct text *tag, struct text *digest,
                      struct error *error) {
    *name = text_cut(given, '@', digest);
    const char *slash = name->length ? memrchr(name->at, '/', name->length) : NULL;
    if (!slash)
        return refuse(given,
                      "it is no image of a registry; write HOST/NAME:TAG, for example "
                      "docker.io/library/alpine:3",
                      error);
    const char *colon = memchr(slash, ':', name->length - (size_t)(slash - name->at));
    *tag = (struct text){0};
    if (colon) {
        *tag = text_from(*name, (size_t)(colon + 1 - name->at));
        name->length = (size_t)(colon - name->at);
    }
    return true;
}

static bool parse_name(struct text given, struct text name, struct copy_reference *out,
                       struct error *error) {
    struct text path, host = text_cut(name, '/', &path);
    char canonical[HOST_LIMIT + 1], whole[NAME_LIMIT + 1];
    if (!upstream_canonical_host(host, canonical))
        return refuse(given, "what stands before the first / is no host; write HOST/NAME:TAG",
                      error);
    bool is_short = strcmp(canonical, "docker.io") == 0 && !memchr(path.at, '/', path.length);
    int length =
        snprintf(whole, sizeof whole, "%s%.*s", is_short ? "library/" : "", TEXT_PRINT(path));
    return (length > 0 && length < (int)sizeof whole &&
            repository_name_parse(text_of(canonical), text_of(whole), &out->name)) ||
           refuse(given,
                  "what follows the host is no name of a repository (lower-case letters, digits, "
                  "and . _ - between them, in parts separated by /)",
                  error);
}

static bool is_pattern(struct text tag) {
    return memchr(tag.at, '*', tag.length) || memchr(tag.at, '?', tag.length);
}

/* A pattern consists of a tag's characters and of stars and question marks. */
static bool parse_pattern(struct text given, struct text tag, struct copy_reference *out,
                          struct error *error) {
    bool ok = tag.length <= COPY_PATTERN_LIMIT;
    for (size_t i = 0; ok && i < tag.length; i++) {
        char letter = tag.at[i];
        char text[2] = {letter == '.' || letter == '-' ? 'a' : letter, '\0'};
        ok = letter == '*' || letter == '?' || reference_is_tag(text_of(text));
    }
    return (ok && text_copy(tag, out->pattern, sizeof out->pattern)) ||
           refuse(given, "what follows the : is no pattern of tags", error);
}

static bool parse_tag(struct text given, struct text tag, enum copy_form form,
                      struct copy_reference *out, struct error *error) {
    if (is_pattern(tag))
        return form == COPY_FORM_PATTERN
                   ? parse_pattern(given, tag, out, error)
                   : refuse(given, "a pattern of tags is allowed for the source of a copy only",
                            error);
    return (reference_is_tag(tag) && text_copy(tag, out->tag, sizeof out->tag)) ||
           refuse(given, "what follows the : is no tag (letters, digits, _ . -)", error);
}

static bool parse_image(struct text given, enum copy_form form, struct copy_reference *out,
                        struct error *error) {
    struct text name = {0}, tag = {0}, digest = {0};
    if (!cut_image(given, &name, &tag, &digest, error) || !parse_name(given, name, out, error))
        return false;
    if (form == COPY_FORM_REPOSITORY && (tag.at || digest.at))
        return refuse(given, "a repository is wanted: HOST/NAME without tag and digest", error);
    if (tag.at && !parse_tag(given, tag, form, out, error))
        return false;
    if (digest.at && (out->pattern[0] || !digest_parse(digest, &out->digest)))
        return refuse(given, "what follows the @ is no digest (sha256: and 64 hex digits)", error);
    bool is_open = !tag.at && !digest.at && (form == COPY_FORM_IMAGE || form == COPY_FORM_PATTERN);
    return !is_open || text_copy(text_of("latest"), out->tag, sizeof out->tag);
}

bool copy_reference_parse(struct text text, enum copy_form form, struct copy_reference *out,
                          struct error *error) {
    *out = (struct copy_reference){0};
    if (!is_printable(text) || memchr(text.at ? text.at : "", '\0', text.length))
        return error_set(error, ERROR_INVALID, "a reference has no control characters");
    bool is_registry = !text_starts(text, "oci:") && !text_starts(text, "docker-archive:");
    if (form == COPY_FORM_REPOSITORY && !is_registry)
        return refuse(text, "a repository of a registry is wanted: HOST/NAME", error);
    if (is_registry)
        return parse_image(text, form, out, error);
    out->kind = text_starts(text, "oci:") ? COPY_LAYOUT : COPY_ARCHIVE;
    struct text rest;
    text_cut(text, ':', &rest);
    return out->kind == COPY_LAYOUT ? parse_layout(text, rest, out, error)
                                    : parse_archive(text, rest, form, out, error);
}

/* ---- writing ---- */

const char *copy_reference_place(const struct copy_reference *reference,
                                 char out[static COPY_REFERENCE_SIZE]) {
    if (reference->kind == COPY_REGISTRY)
        snprintf(out, COPY_REFERENCE_SIZE, "%s/%s", reference->name.host, reference->name.path);
    else
        snprintf(out, COPY_REFERENCE_SIZE, "%s:%s",
                 reference->kind == COPY_LAYOUT ? "oci" : "docker-archive", reference->path);
    return out;
}

const char *copy_reference_format(const struct copy_reference *reference,
                                  char out[static COPY_REFERENCE_SIZE]) {
    char digest[DIGEST_STRING_SIZE];
    copy_reference_place(reference, out);
    size_t length = strlen(out);
    char *end = out + length;
    const size_t room = COPY_REFERENCE_SIZE - length;
    const char *tag = reference->pattern[0] ? reference->pattern : reference->tag;
    if (reference->kind == COPY_ARCHIVE && reference->name.path[0])
        snprintf(end, room, ":%s%s%s%s%s", reference->name.host, reference->name.host[0] ? "/" : "",
                 reference->name.path, tag[0] ? ":" : "", tag);
    else
        snprintf(end, room, "%s%s%s%s", tag[0] ? ":" : "", tag,
                 reference->digest.algorithm ? "@" : "", digest_format(&reference->digest, digest));
    return out;
}

const char *copy_reference_manifest(const struct copy_reference *reference,
                                    char out[static DIGEST_STRING_SIZE]) {
    if (reference->digest.algorithm)
        return digest_format(&reference->digest, out);
    snprintf(out, DIGEST_STRING_SIZE, "%s", reference->tag);
    return out;
}
