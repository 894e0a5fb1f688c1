/* A file of the CNCF registry, written as tarn's: the translated tree as YAML. */
#include "config/convert.h"

#include <stdlib.h>
#include <string.h>
#include "base/cleanup.h"
#include "base/file.h"
#include "base/secret.h"
#include "base/yaml_tree.h"
#include "config/distribution.h"

/* The keys that only a translated tree has. */
#define PASSWORD "password"
#define SECRET   "secret"

/* ---- the tree as YAML ---- */

static void write_scalar(struct buffer *out, const char *text) {
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "/_.:+@=~-";
    size_t length = strlen(text);
    bool is_plain = length && strspn(text, plain) == length && !strchr(":+@=~-", *text) &&
                    text[length - 1] != ':';
    if (is_plain) {
        buffer_append_string(out, text);
        return;
    }
    buffer_append_string(out, "\"");
    for (const char *c = text; *c; c++) {
        if (*c == '"' || *c == '\\')
            buffer_printf(out, "\\%c", *c);
        else if ((unsigned char)*c < ' ' || *c == 0x7F)
            buffer_printf(out, "\\x%02x", (unsigned)*c);
        else
            buffer_append(out, c, 1);
    }
    buffer_append_string(out, "\"");
}

static void indent(struct buffer *out, unsigned depth) {
    for (unsigned i = 0; i < depth; i++)
        buffer_append_string(out, "  ");
}

/* Writes the children of a mapping or a list. `continues`: the first stands behind a dash. */
static void write_children(struct config_conversion *out, const struct yaml_node *parent,
                           unsigned depth, bool continues,
                           const struct config_conversion_files *files) {
    for (const struct yaml_node *node = parent->first; node; node = node->next) {
        bool is_item = parent->kind == YAML_LIST;
        const char *key = node->key, *value = node->text;
        if (!is_item && strcmp(key, PASSWORD) == 0) {
            key = "password_file";
            value = files->password;
        } else if (!is_item && strcmp(key, SECRET) == 0) {
            key = "secret_file";
            value = files->secret;
        }
        if (!continues || node != parent->first)
            indent(&out->yaml, depth);
        if (is_item)
            buffer_append_string(&out->yaml, "- ");
        else
            buffer_printf(&out->yaml, "%s:", key);
        if (node->kind == YAML_SCALAR) {
            buffer_append_string(&out->yaml, is_item ? "" : " ");
            write_scalar(&out->yaml, value);
        }
        if (node->kind == YAML_SCALAR || !is_item)
            buffer_append_string(&out->yaml, "\n");
        if (node->kind != YAML_SCALAR)
            write_children(out, node, depth + 1, is_item, files);
    }
}

/* ---- converting ---- */

/* The value of a key anywhere in the tree, or NULL. */
static const char *find(const struct yaml_node *node, const char *key) {
    if (node->key && strcmp(node->key, key) == 0)
        return node->text;
    const char *found = NULL;
    for (const struct yaml_node *child = node->first; child && !found; child = child->next)
        found = find(child, key);
    return found;
}

/* Translates the file once more, which has been found right. */
static bool write_yaml(struct config_reader *reader, struct text bytes, const char *file,
                       const struct config_conversion_files *files, char *const *environment,
                       struct config_conversion *out) {
    cleanup_yaml_node struct yaml_node *root = NULL, *own = NULL;
    if (!config_yaml_read(bytes, file, &reader->problems, &root) || !root ||
        !(own = distribution_translate(reader, root, environment)))
        return false;
    const char *password = find(own, PASSWORD), *secret = find(own, SECRET);
    if ((password && !(out->password = strdup(password))) ||
        (secret && !(out->secret = strdup(secret))))
        return false;
    buffer_printf(&out->yaml,
                  "# Made by `tarn convert-config` from a configuration of the CNCF registry.\n");
    if (password)
        buffer_printf(
            &out->yaml,
            "# The password is in password_file, which only tarn's user should be able to "
            "read.\n");
    if (secret)
        buffer_printf(&out->yaml, "# The bucket's secret is in secret_file, which only tarn's user "
                                  "should be able to read.\n");
    write_children(out, own, 0, false, files);
    return !out->yaml.failed;
}

static bool refuse(struct buffer *problems, const char *file, const char *why) {
    buffer_printf(problems, "%s: %s\n", file, why);
    return false;
}

static bool convert(struct config_reader *reader, struct text bytes, const char *file,
                    const struct config_conversion_files *files, char *const *environment,
                    struct config_conversion *out, struct buffer *problems) {
    out->config = config_parse(bytes, file, NULL, environment, problems);
    if (!out->config)
        return false;
    cleanup_yaml_node struct yaml_node *root = NULL;
    if (!config_yaml_read(bytes, file, &reader->problems, &root) || !root || !distribution_is(root))
        return refuse(problems, file,
                      "is not a configuration of the CNCF registry, which has version: 0.1 at its "
                      "top level");
    return write_yaml(reader, bytes, file, files, environment, out) ||
           refuse(problems, file, "out of memory");
}

bool config_convert(const char *file, const struct config_conversion_files *files,
                    char *const *environment, struct config_conversion *out,
                    struct buffer *problems) {
    *out = (struct config_conversion){0};
    struct text text = {0};
    struct error error = {0};
    cleanup_secret char *bytes =
        file_read_small(file, YAML_SIZE_LIMIT, FILE_ANY, &text.length, NULL, &error);
    if (!bytes)
        return refuse(problems, file, error.text);
    text.at = bytes;
    cleanup_free struct config_reader *reader = calloc(1, sizeof *reader);
    struct config_loaded *loaded = calloc(1, sizeof *loaded);
    if (!reader || !loaded) {
        free(loaded);
        return refuse(problems, file, "out of memory");
    }
    reader->loaded = loaded;
    bool ok = convert(reader, text, file, files, environment, out, problems);
    config_loaded_free(loaded);
    return ok;
}

void config_conversion_finish(struct config_conversion *conversion) {
    config_free(conversion->config);
    buffer_finish(&conversion->yaml);
    secret_free(&conversion->password);
    secret_free(&conversion->secret);
    *conversion = (struct config_conversion){0};
}
