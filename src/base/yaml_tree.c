/* A YAML document as a tree: libyaml's events put together. */
#include "base/yaml_tree.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>
#include "base/secret.h"

static struct yaml_node *node_new(enum yaml_node_kind kind, struct yaml_place place) {
    struct yaml_node *node = calloc(1, sizeof *node);
    if (node) {
        node->kind = kind;
        node->place = place;
    }
    return node;
}

struct yaml_node *yaml_node_new_scalar(struct yaml_place place, struct text text) {
    struct yaml_node *node = node_new(YAML_SCALAR, place);
    if (node && !(node->text = text_dup(text))) {
        free(node);
        return NULL;
    }
    return node;
}

struct yaml_node *yaml_node_new_list(struct yaml_place place) {
    return node_new(YAML_LIST, place);
}

struct yaml_node *yaml_node_new_map(struct yaml_place place) {
    return node_new(YAML_MAP, place);
}

void yaml_node_append(struct yaml_node *parent, struct yaml_node *child) {
    if (parent->last)
        parent->last->next = child;
    else
        parent->first = child;
    parent->last = child;
    parent->count++;
}

void yaml_node_free(struct yaml_node *node) {
    if (!node)
        return;
    for (struct yaml_node *child = node->first, *next; child;
         child = next) { /* the depth is limited */
        next = child->next;
        yaml_node_free(child);
    }
    secret_free(&node->text); /* it may be a password */
    free(node->key);
    free(node);
}

void yaml_node_replace(struct yaml_node *parent, struct yaml_node *old, struct yaml_node *child) {
    struct yaml_node **link = &parent->first;
    while (*link != old)
        link = &(*link)->next;
    child->next = old->next;
    *link = child;
    if (parent->last == old)
        parent->last = child;
    old->next = NULL;
    yaml_node_free(old);
}

bool yaml_node_put(struct yaml_node *map, const char *key, struct yaml_node *child) {
    free(child->key);
    child->key = strdup(key);
    child->key_place = child->place;
    if (!child->key) {
        yaml_node_free(child);
        return false;
    }
    struct yaml_node *old = map->first;
    while (old && strcmp(old->key, key) != 0)
        old = old->next;
    if (old)
        yaml_node_replace(map, old, child);
    else
        yaml_node_append(map, child);
    return true;
}

const struct yaml_node *yaml_node_get(const struct yaml_node *map, const char *key) {
    for (const struct yaml_node *value = map->first; value; value = value->next) {
        if (strcmp(value->key, key) == 0)
            return value;
    }
    return NULL;
}

bool yaml_node_is_null(const struct yaml_node *node) {
    static const char *const words[] = {"", "~", "null", "Null", "NULL"};
    for (size_t i = 0; node->kind == YAML_SCALAR && i < sizeof words / sizeof *words; i++) {
        if (strcmp(node->text, words[i]) == 0)
            return true;
    }
    return false;
}

const char *yaml_node_kind_words(const struct yaml_node *node) {
    if (node->kind == YAML_SCALAR)
        return *node->text ? "a single value" : "nothing";
    return node->kind == YAML_LIST ? "a list" : "a mapping";
}

/* A tree that is being built: the open collections, from the root down, and the key that waits for
 * its value. */
struct builder {
    const char *source;
    struct text bytes;
    struct yaml_problem *problem;
    struct yaml_node *root;
    struct yaml_node *open[YAML_DEPTH_LIMIT];
    unsigned depth;
    char *key;
    struct yaml_place key_place;
    bool ended; /* the first document is complete */
};

static struct yaml_place place_of(const struct builder *builder, yaml_mark_t mark) {
    return (struct yaml_place){builder->source, (unsigned)mark.line + 1, (unsigned)mark.column + 1};
}

static bool refuse(struct builder *builder, struct yaml_place place, const char *why) {
    builder->problem->place = place;
    snprintf(builder->problem->text, sizeof builder->problem->text, "%s", why);
    return false;
}

static bool refuse_for_memory(struct builder *builder, struct yaml_place place) {
    builder->problem->is_memory = true;
    return refuse(builder, place, "out of memory");
}

/* Adds a scalar or a collection that was just opened to its parent. Owns `node` from now on, even
 * if it fails. */
static bool place_node(struct builder *builder, struct yaml_node *node) {
    if (builder->depth == 0) {
        builder->root = node;
        return true;
    }
    struct yaml_node *parent = builder->open[builder->depth - 1];
    if (parent->kind == YAML_MAP) {
        node->key = builder->key;
        node->key_place = builder->key_place;
        builder->key = NULL;
    }
    yaml_node_append(parent, node);
    if (parent->count > (parent->kind == YAML_MAP ? YAML_MAP_LIMIT : YAML_LIST_LIMIT))
        return refuse(builder, node->place, "too many entries");
    return true;
}

static bool expects_key(const struct builder *builder) {
    return builder->depth > 0 && builder->open[builder->depth - 1]->kind == YAML_MAP &&
           !builder->key;
}

static bool add_scalar(struct builder *builder, const yaml_event_t *event) {
    struct yaml_place place = place_of(builder, event->start_mark);
    struct text text = {(const char *)event->data.scalar.value, event->data.scalar.length};
    if (memchr(text.at, '\0', text.length))
        return refuse(builder, place, "a NUL character is not allowed");
    if (expects_key(builder)) {
        builder->key = text_dup(text);
        builder->key_place = place;
        return builder->key || refuse_for_memory(builder, place);
    }
    struct yaml_node *node = yaml_node_new_scalar(place, text);
    if (!node)
        return refuse_for_memory(builder, place);
    node->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    return place_node(builder, node);
}

static bool open_collection(struct builder *builder, const yaml_event_t *event,
                            enum yaml_node_kind kind) {
    struct yaml_place place = place_of(builder, event->start_mark);
    if (expects_key(builder))
        return refuse(builder, place, "a key must be a plain word, not a list or a mapping");
    if (builder->depth == YAML_DEPTH_LIMIT)
        return refuse(builder, place, "nested too deeply: more than 16 levels");
    struct yaml_node *node = node_new(kind, place);
    if (!node)
        return refuse_for_memory(builder, place);
    if (!place_node(builder, node))
        return false;
    builder->open[builder->depth++] = node;
    return true;
}

static bool handle_event(struct builder *builder, const yaml_event_t *event) {
    const yaml_char_t *anchor = NULL, *tag = NULL;
    if (event->type == YAML_SCALAR_EVENT) {
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
    } else if (event->type == YAML_SEQUENCE_START_EVENT) {
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
    } else if (event->type == YAML_MAPPING_START_EVENT) {
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
    }
    struct yaml_place place = place_of(builder, event->start_mark);
    if (anchor || event->type == YAML_ALIAS_EVENT)
        return refuse(
            builder, place,
            "anchors and aliases (& and *) are not supported; "
            "write the value itself, or put it in quotes if it begins with such a character");
    if (tag)
        return refuse(builder, place,
                      "tags (!) are not supported; put the value in quotes if it begins with such "
                      "a character");

    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        return !builder->ended ||
               refuse(builder, place,
                      "a second YAML document begins here; a file may hold only one");
    case YAML_DOCUMENT_END_EVENT:
        builder->ended = true;
        return true;
    case YAML_SCALAR_EVENT:
        return add_scalar(builder, event);
    case YAML_SEQUENCE_START_EVENT:
        return open_collection(builder, event, YAML_LIST);
    case YAML_MAPPING_START_EVENT:
        return open_collection(builder, event, YAML_MAP);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        builder->depth--;
        return true;
    default:
        return true;
    }
}

/* Whether there is a tab at `place` or in the indentation of its line. */
static bool has_tab(struct text bytes, struct yaml_place place) {
    size_t at = 0;
    for (unsigned line = 1; line < place.line && at < bytes.length; at++)
        line += bytes.at[at] == '\n';
    for (; at < bytes.length && (bytes.at[at] == ' ' || bytes.at[at] == '\t'); at++) {
        if (bytes.at[at] == '\t')
            return true;
    }
    size_t column = 1;
    for (; column < place.column && at < bytes.length && bytes.at[at] != '\n'; at++)
        column++;
    return at < bytes.length && bytes.at[at] == '\t';
}

static void add_syntax_error(struct builder *builder, const yaml_parser_t *parser) {
    struct yaml_place place = place_of(builder, parser->problem_mark);
    if (parser->error == YAML_MEMORY_ERROR) {
        refuse_for_memory(builder, (struct yaml_place){builder->source, 1, 1});
        return;
    }
    if (parser->error ==
        YAML_READER_ERROR) { /* bytes that are not text: libyaml knows only their offset */
        place.line = place.column = 1;
        for (size_t i = 0; i < parser->problem_offset && i < builder->bytes.length; i++) {
            place.column = builder->bytes.at[i] == '\n' ? 1 : place.column + 1;
            place.line += builder->bytes.at[i] == '\n';
        }
    } else if (has_tab(builder->bytes, place)) {
        refuse(builder, place, "not valid YAML: a tab cannot indent; use spaces");
        return;
    }
    builder->problem->place = place;
    snprintf(builder->problem->text, sizeof builder->problem->text, "not valid YAML: %s%s%s",
             parser->problem ? parser->problem : "it cannot be read", parser->context ? " " : "",
             parser->context ? parser->context : "");
}

bool yaml_read(struct text bytes, const char *source, struct yaml_problem *problem,
               struct yaml_node **root) {
    *problem = (struct yaml_problem){0};
    *root = NULL;
    struct builder builder = {.source = source, .bytes = bytes, .problem = problem};
    if (bytes.length > YAML_SIZE_LIMIT)
        return refuse(&builder, (struct yaml_place){source, 1, 1}, "larger than 1 MiB");
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser))
        return refuse_for_memory(&builder, (struct yaml_place){source, 1, 1});
    yaml_parser_set_input_string(&parser, (const unsigned char *)(bytes.at ? bytes.at : ""),
                                 bytes.length);
    bool fine = true;
    for (bool over = false; fine && !over;) {
        yaml_event_t event;
        if (!yaml_parser_parse(&parser, &event)) {
            add_syntax_error(&builder, &parser);
            fine = false;
            break;
        }
        over = event.type == YAML_STREAM_END_EVENT;
        fine = handle_event(&builder, &event);
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    free(builder.key);
    if (fine)
        *root = builder.root;
    else
        yaml_node_free(builder.root);
    return fine;
}
