/* cachemachine's machine specifications. */
#include "keep/machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/json.h"
#include "oci/reference.h"

enum { PATH_SIZE = 200 };

/* One machine while it is read. */
struct reading {
    struct keep_machine *machine;
    struct error *error;
};

static bool refuse(struct reading *reading, const char *path, const char *what) {
    return error_set(reading->error, ERROR_INVALID, "%s%s%s", path, *path ? ": " : "", what);
}

static void *keep(struct reading *reading, size_t size) {
    struct keep_machine *machine = reading->machine;
    void **pieces =
        reallocarray(machine->pieces, machine->piece_count + 1, sizeof *machine->pieces);
    void *piece = pieces ? calloc(1, size) : NULL;
    if (pieces)
        machine->pieces = pieces;
    if (piece)
        machine->pieces[machine->piece_count++] = piece;
    else
        error_set(reading->error, ERROR_MEMORY, "out of memory");
    return piece;
}

static const char *keep_text(struct reading *reading, const char *text) {
    size_t size = strlen(text) + 1;
    char *copy = keep(reading, size);
    return copy ? memcpy(copy, text, size) : NULL;
}

void keep_machine_free(struct keep_machine *machine) {
    if (!machine)
        return;
    for (size_t i = 0; i < machine->piece_count; i++)
        free(machine->pieces[i]);
    free(machine->pieces);
    json_decref(machine->json);
    free(machine);
}

/* ---- values ---- */

static void path_of(const char *path, const char *key, char out[static PATH_SIZE]) {
    snprintf(out, PATH_SIZE, "%.120s%s%.60s", path, *path ? "." : "", key);
    for (char *c = out; *c; c++)
        *c = (unsigned char)*c < ' ' || (unsigned char)*c >= 0x7f ? '?' : *c;
}

/* Whether the object has no other keys than these. */
static bool check_keys(struct reading *reading, const json_t *object, const char *path,
                       const char *const *known) {
    const char *key;
    json_t *value;
    char key_path[PATH_SIZE];
    json_object_foreach ((json_t *)object, key, value) {
        const char *const *name = known;
        while (*name && strcmp(*name, key) != 0)
            name++;
        path_of(path, key, key_path);
        if (!*name)
            return refuse(reading, key_path, "is not a key of this object");
    }
    return true;
}

/* *out stays NULL for a key that is absent, null or "" and not `needed`. */
static bool read_string(struct reading *reading, const json_t *object, const char *path,
                        const char *key, bool needed, const char **out) {
    char key_path[PATH_SIZE];
    const json_t *value = json_object_get(object, key);
    path_of(path, key, key_path);
    if (!value || json_is_null(value))
        return !needed || refuse(reading, key_path, "is missing");
    if (!json_is_string(value))
        return refuse(reading, key_path, "is not a string");
    if (*json_string_value(value))
        *out = json_string_value(value);
    return *out || !needed || refuse(reading, key_path, "is empty");
}

static bool read_number(struct reading *reading, const json_t *object, const char *path,
                        const char *key, bool needed, uint64_t *out, bool *has) {
    char key_path[PATH_SIZE];
    const json_t *value = json_object_get(object, key);
    path_of(path, key, key_path);
    if (!value || (json_is_null(value) && !needed))
        return !needed || refuse(reading, key_path, "is missing");
    if (!json_is_integer(value) || json_integer_value(value) < 0 ||
        json_integer_value(value) > 1000000)
        return refuse(reading, key_path, "is not a whole number from 0 to 1000000");
    *out = (uint64_t)json_integer_value(value);
    if (has)
        *has = true;
    return true;
}

static bool read_tags(struct reading *reading, const json_t *object, const char *path,
                      const char *key, const char *const **out) {
    char key_path[PATH_SIZE];
    const json_t *list = json_object_get(object, key), *value;
    path_of(path, key, key_path);
    if (!list || json_is_null(list))
        return true;
    if (!json_is_array(list))
        return refuse(reading, key_path, "is not a list");
    const char **tags = keep(reading, (json_array_size(list) + 1) * sizeof *tags);
    size_t index, count = 0;
    if (!tags)
        return false;
    json_array_foreach (list, index, value) {
        if (!json_is_string(value))
            return refuse(reading, key_path, "is not a list of strings");
        if (*json_string_value(value))
            tags[count++] = json_string_value(value);
    }
    *out = tags;
    return true;
}

/* ---- repomen ---- */

static bool read_counts(struct reading *reading, const json_t *object, const char *path,
                        struct keep_rubin *out) {
    return read_number(reading, object, path, "num_releases", true, &out->releases, NULL) &&
           read_number(reading, object, path, "num_weeklies", true, &out->weeklies, NULL) &&
           read_number(reading, object, path, "num_dailies", true, &out->dailies, NULL) &&
           read_number(reading, object, path, "cycle", false, &out->cycle, &out->has_cycle) &&
           read_string(reading, object, path, "recommended_tag", false, &out->recommended) &&
           read_tags(reading, object, path, "alias_tags", &out->aliases);
}

/* Sets the repository HOST/NAME; Docker Hub's as tarn knows it, pulled as it was written. */
static bool set_repository(struct reading *reading, const char *path, const char *host,
                           const char *name, struct keep_entry *out) {
    static const char *const hub[] = {"registry.hub.docker.com", "hub.docker.com",
                                      "index.docker.io", "registry-1.docker.io", NULL};
    char written[HOST_LIMIT + NAME_LIMIT + 2], known[HOST_LIMIT + NAME_LIMIT + 16];
    if (!reference_is_host(text_of(host)) || !reference_is_repository(text_of(name)))
        return refuse(reading, path, "is not the name of a repository");
    const char *const *alias = hub;
    while (*alias && strcmp(*alias, host) != 0)
        alias++;
    bool is_hub = *alias || strcmp(host, "docker.io") == 0;
    snprintf(written, sizeof written, "%s/%s", host, name);
    snprintf(known, sizeof known, "%s/%s%s", is_hub ? "docker.io" : host,
             is_hub && !strchr(name, '/') ? "library/" : "", name);
    out->repository = keep_text(reading, known);
    if (strcmp(known, written) != 0)
        out->pull_as = keep_text(reading, written);
    return out->repository && (out->pull_as || strcmp(known, written) == 0);
}

static bool read_rubin(struct reading *reading, const json_t *object, const char *path,
                       struct keep_entry *out) {
    static const char *const known[] = {
        "type",         "registry_url", "repo",  "recommended_tag", "num_releases",
        "num_weeklies", "num_dailies",  "cycle", "alias_tags",      NULL};
    const char *host = NULL, *repo = NULL;
    char key_path[PATH_SIZE];
    out->kind = KEEP_ENTRY_RUBIN;
    path_of(path, "repo", key_path);
    return check_keys(reading, object, path, known) &&
           read_string(reading, object, path, "repo", true, &repo) &&
           read_string(reading, object, path, "registry_url", false, &host) &&
           read_counts(reading, object, path, &out->rubin) &&
           set_repository(reading, key_path, host ? host : "registry.hub.docker.com", repo, out);
}

static bool read_gar(struct reading *reading, const json_t *object, const char *path,
                     struct keep_entry *out) {
    static const char *const known[] = {"type",           "project_id",   "location",
                                        "gar_repository", "gar_image",    "recommended_tag",
                                        "num_releases",   "num_weeklies", "num_dailies",
                                        "cycle",          "alias_tags",   NULL};
    const char *project = NULL, *location = NULL, *repository = NULL, *image = NULL;
    char host[HOST_LIMIT + 1], name[NAME_LIMIT + 1];
    out->kind = KEEP_ENTRY_RUBIN;
    if (!check_keys(reading, object, path, known) ||
        !read_string(reading, object, path, "project_id", true, &project) ||
        !read_string(reading, object, path, "location", true, &location) ||
        !read_string(reading, object, path, "gar_repository", true, &repository) ||
        !read_string(reading, object, path, "gar_image", true, &image) ||
        !read_counts(reading, object, path, &out->rubin))
        return false;
    int host_length = snprintf(host, sizeof host, "%s-docker.pkg.dev", location);
    int name_length = snprintf(name, sizeof name, "%s/%s/%s", project, repository, image);
    if (host_length >= (int)sizeof host || name_length >= (int)sizeof name)
        return refuse(reading, path, "is not the name of a repository");
    return set_repository(reading, path, host, name, out);
}

/* Splits the URL of an image, which is a name with a tag or a digest. */
static bool set_image(struct reading *reading, const char *path, const char *url,
                      struct keep_entry *out) {
    struct image_name image;
    struct text digest, rest = text_cut(text_of(url), '@', &digest);
    struct digest parsed;
    if (!image_name_parse(rest, &image, NULL) || image.reference.is_digest ||
        (digest.at && !digest_parse(digest, &parsed)))
        return refuse(reading, path, "is not the name of an image");
    if (!set_repository(reading, path, *image.host ? image.host : "docker.io", image.repository,
                        out))
        return false;
    const char *last = memrchr(rest.at, '/', rest.length);
    bool has_tag = memchr(last ? last : rest.at, ':',
                          last ? rest.length - (size_t)(last - rest.at) : rest.length) != NULL;
    out->url = url;
    if (digest.at)
        out->digest = digest.at; /* it ends the URL, so that it ends with a NUL */
    if (!has_tag && digest.at)
        return true;
    out->tag = keep_text(reading, image.reference.tag);
    return out->tag != NULL;
}

static bool read_simple_image(struct reading *reading, const json_t *object, const char *path,
                              struct keep_entry *out) {
    static const char *const known[] = {"name", "image_url", "image_hash", NULL};
    const char *url = NULL, *hash = NULL;
    struct digest parsed;
    char key_path[PATH_SIZE];
    if (!json_is_object(object))
        return refuse(reading, path, "is not an object");
    out->kind = KEEP_ENTRY_IMAGE;
    path_of(path, "image_url", key_path);
    if (!check_keys(reading, object, path, known) ||
        !read_string(reading, object, path, "name", true, &out->name) ||
        !read_string(reading, object, path, "image_url", true, &url) ||
        !read_string(reading, object, path, "image_hash", false, &hash) ||
        !set_image(reading, key_path, url, out))
        return false;
    path_of(path, "image_hash", key_path);
    if (hash && !digest_parse(text_of(hash), &parsed))
        return refuse(reading, key_path, "is not a digest");
    if (hash)
        out->digest = hash;
    return true;
}

static bool read_repoman(struct reading *reading, const json_t *object, size_t index) {
    static const char *const simple[] = {"type", "images", NULL};
    struct keep_spec *spec = &reading->machine->spec;
    char path[PATH_SIZE], item_path[PATH_SIZE];
    const char *type = NULL;
    snprintf(path, sizeof path, "repomen[%zu]", index);
    if (!json_is_object(object))
        return refuse(reading, path, "is not an object");
    if (!read_string(reading, object, path, "type", true, &type))
        return false;
    if (strcmp(type, "RubinRepoMan") == 0)
        return read_rubin(reading, object, path, &spec->entries[spec->entry_count++]);
    if (strcmp(type, "RubinRepoGar") == 0)
        return read_gar(reading, object, path, &spec->entries[spec->entry_count++]);
    path_of(path, "type", item_path);
    if (strcmp(type, "SimpleRepoMan") != 0)
        return refuse(reading, item_path,
                      "is not one of RubinRepoMan, RubinRepoGar, SimpleRepoMan");
    const json_t *images = json_object_get(object, "images"), *image;
    path_of(path, "images", item_path);
    if (!check_keys(reading, object, path, simple))
        return false;
    if (!json_is_array(images))
        return refuse(reading, item_path, images ? "is not a list" : "is missing");
    size_t at;
    json_array_foreach (images, at, image) {
        snprintf(item_path, sizeof item_path, "%.100s.images[%zu]", path, at);
        if (!read_simple_image(reading, image, item_path, &spec->entries[spec->entry_count++]))
            return false;
    }
    return true;
}

/* ---- machines ---- */

static bool read_labels(struct reading *reading, const json_t *labels) {
    struct keep_nodes *nodes = &reading->machine->spec.nodes;
    const char *key;
    json_t *value;
    char path[PATH_SIZE];
    if (!json_is_object(labels))
        return refuse(reading, "labels", labels ? "is not an object" : "is missing");
    nodes->labels = keep(reading, (json_object_size(labels) + 1) * sizeof *nodes->labels);
    json_object_foreach ((json_t *)labels, key, value) {
        path_of("labels", key, path);
        if (!json_is_string(value))
            return refuse(reading, path, "is not a string");
        if (nodes->labels)
            nodes->labels[nodes->label_count++] = (struct keep_pair){key, json_string_value(value)};
    }
    return nodes->labels != NULL;
}

/* How many entries the repomen make. */
static size_t count_entries(const json_t *repomen) {
    size_t count = 0, index;
    const json_t *repoman;
    json_array_foreach (repomen, index, repoman) {
        const json_t *images = json_object_get(repoman, "images");
        count += images ? json_array_size(images) : 1;
    }
    return count;
}

static bool read_machine(struct reading *reading, const char *secret) {
    static const char *const known[] = {"name", "labels", "repomen", NULL};
    struct keep_machine *machine = reading->machine;
    struct keep_spec *spec = &machine->spec;
    if (!json_is_object(machine->json))
        return refuse(reading, "", "a machine is an object with name, labels and repomen");
    if (!check_keys(reading, machine->json, "", known) ||
        !read_string(reading, machine->json, "", "name", true, &spec->name) ||
        !read_labels(reading, json_object_get(machine->json, "labels")))
        return false;
    if (!keep_name_is_valid(spec->name))
        return refuse(reading, "name",
                      "is not the name of a keep: at most 63 letters, digits and \"-_.\", with a "
                      "letter or digit at both ends");
    const json_t *repomen = json_object_get(machine->json, "repomen"), *repoman;
    if (!json_is_array(repomen))
        return refuse(reading, "repomen", repomen ? "is not a list" : "is missing");
    size_t entries = count_entries(repomen), index;
    if (entries > KEEP_IMAGE_LIMIT)
        return error_set(reading->error, ERROR_NO_SPACE, "repomen: has more than %d images",
                         KEEP_IMAGE_LIMIT);
    spec->entries = keep(reading, (entries + 1) * sizeof *spec->entries);
    spec->pull = keep_pull_default();
    spec->pull.secret = secret;
    if (!spec->entries)
        return false;
    json_array_foreach (repomen, index, repoman) {
        if (!read_repoman(reading, repoman, index))
            return false;
    }
    return true;
}

struct keep_machine *keep_machine_read(struct text bytes, const char *secret, struct error *error) {
    struct keep_machine *machine = calloc(1, sizeof *machine);
    struct reading reading = {machine, error};
    if (!machine)
        error_set(error, ERROR_MEMORY, "out of memory");
    else if ((machine->json =
                  bounded_json_load_by(JSON_REJECT_DUPLICATES, bytes.at, bytes.length, error)) &&
             read_machine(&reading, secret))
        return machine;
    keep_machine_free(machine);
    return NULL;
}

json_t *keep_machine_labels(const struct keep_spec *spec) {
    json_t *labels = json_object();
    for (size_t i = 0; i < spec->nodes.label_count; i++)
        json_object_set_new(labels, spec->nodes.labels[i].key,
                            json_string(spec->nodes.labels[i].value));
    return labels;
}
