/* XML within bounds, over expat. */
#include "base/xml.h"

#include <expat.h>
#include <stdlib.h>
#include <string.h>
#include "base/buffer.h"
#include "base/secret.h"

struct walk {
    const struct xml_sink *sink;
    XML_Parser parser;
    char path[XML_PATH_SIZE];
    size_t path_length;
    unsigned depth;
    /* The text of each open element; its memory is kept for the next element of the level. */
    struct buffer texts[XML_DEPTH_LIMIT];
    struct error failure; /* of kind NONE: expat's own, if any */
};

/* Expat frees what it has parsed without wiping it. */
static void *allocate(size_t size) {
    size_t *memory = size > SIZE_MAX - 16 ? NULL : malloc(size + 16);
    if (!memory)
        return NULL;
    *memory = size;
    return (char *)memory + 16;
}

static void release(void *bytes) {
    if (!bytes)
        return;
    size_t *memory = (size_t *)(void *)((char *)bytes - 16);
    explicit_bzero(bytes, *memory);
    free(memory);
}

static void *reallocate(void *bytes, size_t size) {
    void *moved = allocate(size);
    if (moved && bytes) {
        size_t old = *(size_t *)(void *)((char *)bytes - 16);
        memcpy(moved, bytes, old < size ? old : size);
        release(bytes);
    }
    return moved;
}

static void stop(struct walk *walk) {
    XML_StopParser(walk->parser, XML_FALSE);
}

static void fail(struct walk *walk, enum error_kind kind, const char *why) {
    if (walk->failure.kind == ERROR_NONE)
        error_set(&walk->failure, kind, "XML: %s", why);
    stop(walk);
}

static void on_start(void *context, const XML_Char *name, const XML_Char **attributes) {
    struct walk *walk = context;
    (void)attributes;
    if (walk->failure.kind != ERROR_NONE)
        return;
    const char *colon = strrchr(name, ':');
    name = colon ? colon + 1 : name;
    size_t length = strlen(name);
    if (walk->depth == XML_DEPTH_LIMIT) {
        fail(walk, ERROR_INVALID, "elements are nested too deeply");
        return;
    }
    if (walk->path_length + 1 + length >= sizeof walk->path) {
        fail(walk, ERROR_INVALID, "the names of elements are too long");
        return;
    }
    if (walk->path_length)
        walk->path[walk->path_length++] = '/';
    memcpy(walk->path + walk->path_length, name, length + 1);
    walk->path_length += length;
    buffer_clear(&walk->texts[walk->depth++]);
    if (walk->sink->on_begin &&
        !walk->sink->on_begin(walk->sink->context, walk->path, &walk->failure))
        stop(walk);
}

static void on_finish(void *context, const XML_Char *name) {
    struct walk *walk = context;
    (void)name;
    if (walk->failure.kind != ERROR_NONE)
        return;
    struct buffer *own = &walk->texts[--walk->depth];
    struct text text = {own->length ? own->bytes : "", own->length};
    if (walk->sink->on_end &&
        !walk->sink->on_end(walk->sink->context, walk->path, text, &walk->failure)) {
        stop(walk);
        return;
    }
    char *slash = strrchr(walk->path, '/');
    walk->path_length = slash ? (size_t)(slash - walk->path) : 0;
    walk->path[walk->path_length] = '\0';
}

static void on_text(void *context, const XML_Char *bytes, int length) {
    struct walk *walk = context;
    if (walk->failure.kind != ERROR_NONE || !walk->depth)
        return;
    struct buffer *own = &walk->texts[walk->depth - 1];
    struct buffer moved = {0};
    if (own->length + (size_t)length + 1 >
        own->capacity) { /* grows without leaving a copy behind */
        buffer_reserve(&moved, 2 * own->capacity + (size_t)length + 256);
        buffer_append(&moved, own->bytes, own->length);
        secret_buffer_free(own);
        *own = moved;
    }
    if (!buffer_append(own, bytes, (size_t)length))
        fail(walk, ERROR_MEMORY, "out of memory");
}

static void on_doctype(void *context, const XML_Char *name, const XML_Char *system,
                       const XML_Char *public, int has_subset) {
    (void)name, (void)system, (void)public, (void)has_subset;
    fail(context, ERROR_INVALID, "a document type declaration is not allowed");
}

/* What ended the parser, if no callback did. */
static void take_parser_error(struct walk *walk) {
    enum XML_Error code = XML_GetErrorCode(walk->parser);
    if (walk->failure.kind != ERROR_NONE)
        return;
    if (code == XML_ERROR_NO_MEMORY)
        error_set(&walk->failure, ERROR_MEMORY, "XML: out of memory");
    else
        error_set(&walk->failure, ERROR_INVALID, "XML, line %lu, column %lu: %s",
                  (unsigned long)XML_GetCurrentLineNumber(walk->parser),
                  (unsigned long)XML_GetCurrentColumnNumber(walk->parser) + 1,
                  XML_ErrorString(code));
}

bool xml_walk(const void *bytes, size_t length, const struct xml_sink *sink, struct error *error) {
    static const XML_Memory_Handling_Suite memory = {allocate, reallocate, release};
    struct walk walk = {.sink = sink};
    if (length > XML_LENGTH_LIMIT)
        return error_set(error, ERROR_INVALID, "XML: more than %d bytes", XML_LENGTH_LIMIT);
    walk.parser = XML_ParserCreate_MM(NULL, &memory, NULL);
    if (!walk.parser)
        return error_set(error, ERROR_MEMORY, "XML: out of memory");
    XML_SetUserData(walk.parser, &walk);
    XML_SetElementHandler(walk.parser, on_start, on_finish);
    XML_SetCharacterDataHandler(walk.parser, on_text);
    XML_SetStartDoctypeDeclHandler(walk.parser, on_doctype);
    if (XML_Parse(walk.parser, length ? bytes : "", (int)length, XML_TRUE) != XML_STATUS_OK)
        take_parser_error(&walk);
    XML_ParserFree(walk.parser);
    for (size_t i = 0; i < XML_DEPTH_LIMIT; i++)
        secret_buffer_free(&walk.texts[i]);
    if (walk.failure.kind == ERROR_NONE)
        return true;
    if (error)
        *error = walk.failure;
    return false;
}
