/* A configuration of the CNCF registry while it is translated: which keys it sets, and tarn's tree,
 * which grows. Private to config/; distribution.c says what each key becomes. */
#ifndef CONFIG_TRANSLATION_H
#define CONFIG_TRANSLATION_H

#include <stdint.h>
#include "base/yaml_tree.h"
#include "config/distribution_keys.h"
#include "config/reader.h"

struct translation {
    struct config_reader *reader;
    char *const *environment;
    struct yaml_place start;                               /* of the file */
    const struct yaml_node *found[DISTRIBUTION_KEY_LIMIT]; /* the key's value; NULL: not set */
    struct yaml_node *own;                                 /* tarn's tree */
    struct yaml_node *upstream;                            /* in it; NULL until there is one */
};

/* ---- what the file says ---- */

/* Finds the keys of the file, below `path` ("": all). Adds a warning for each that is ignored, and
 * a problem for each that is refused, has a value of the wrong kind, or appears twice. */
void translation_read_section(struct translation *translation, const struct yaml_node *map,
                              const char *path);

/* The value of a key of the table; NULL: not set. */
const struct yaml_node *translation_find(const struct translation *translation, const char *name);

/* The value as a type. False, NULL: the key is not set, or a problem was added. */
bool translation_read_boolean(struct translation *translation, const char *name, bool *out);
bool translation_read_time(struct translation *translation, const char *name, int64_t *ms);
/* One of `words` (NULL-terminated), in whatever case. */
const char *translation_read_word(struct translation *translation, const char *name,
                                  const char *const *words);

/* ---- what is wrong with it ---- */

/* `node`: where; NULL: the file. */
void translation_add_problem(struct translation *translation, const struct yaml_node *node,
                             const char *path, const char *why);
/* Whether `node` is of another kind than `kind`, for which a problem was added. */
bool translation_refuse_kind(struct translation *translation, const struct yaml_node *node,
                             enum yaml_node_kind kind, const char *path, const char *wanted);
/* Warns that a key is ignored. `shown` is the key as it is to be printed. */
void translation_warn_ignored(struct translation *translation, const struct yaml_node *node,
                              const char *shown, const char *why);
void translation_warn_at(struct translation *translation, const struct yaml_place *place,
                         const char *shown, const char *why);

/* ---- tarn's tree ---- */

/* Puts the text at `key` ("log.level") below `map`, with the place of `from` (NULL: the file's). */
void translation_put(struct translation *translation, struct yaml_node *map, const char *key,
                     const struct yaml_node *from, const char *value);
/* Puts the text of a key, if it is set, at the key of tarn's that the table names. */
void translation_pass(struct translation *translation, const char *name);
void translation_put_time(struct translation *translation, const char *key,
                          const struct yaml_node *from, int64_t ms);

#endif
