/* What is known of keeps and nodes, and how it changes. step.c says what is to be done. */
#include "keep/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "keep/plan_private.h"

/* ---- cells ---- */

static size_t cell_place(const struct plan_node *node, uint64_t image) {
    size_t low = 0, high = node->cell_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (node->cells[middle]->image < image)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct plan_cell *plan_cell_find(const struct plan_node *node, uint64_t image) {
    size_t place = cell_place(node, image);
    return place < node->cell_count && node->cells[place]->image == image ? node->cells[place]
                                                                          : NULL;
}

struct plan_cell *plan_cell_make(struct keep_plan *plan, struct plan_node *node, uint64_t image) {
    size_t place = cell_place(node, image);
    if (place < node->cell_count && node->cells[place]->image == image)
        return node->cells[place];
    if (node->cell_count == node->cell_capacity) {
        size_t capacity = node->cell_capacity ? node->cell_capacity * 2 : 8;
        struct plan_cell **cells = reallocarray(node->cells, capacity, sizeof(struct plan_cell *));
        if (!cells) {
            plan->no_memory = true;
            return NULL;
        }
        node->cells = cells;
        node->cell_capacity = capacity;
    }
    struct plan_cell *cell = calloc(1, sizeof *cell);
    if (!cell) {
        plan->no_memory = true;
        return NULL;
    }
    cell->image = image;
    memmove(node->cells + place + 1, node->cells + place,
            (node->cell_count - place) * sizeof(struct plan_cell *));
    node->cells[place] = cell;
    node->cell_count++;
    return cell;
}

static void cell_free(struct plan_cell *cell) {
    if (cell->pod)
        cell->pod->cell = NULL;
    free(cell->reason);
    free(cell);
}

/* ---- images ---- */

static void wanted_finish(struct plan_wanted *wanted) {
    free(wanted->name);
    free(wanted->tag);
    free(wanted->digest);
    for (size_t i = 0; i < wanted->platform_count; i++)
        free(wanted->platforms[i]);
    free(wanted->platforms);
    free(wanted->children);
    free(wanted->refusal_text);
}

static void keep_finish(struct plan_keep *keep) {
    for (size_t i = 0; i < keep->count; i++)
        wanted_finish(&keep->wanted[i]);
    free(keep->wanted);
    free(keep->by_key);
    free(keep->name);
}

static bool copy_string(const char *from, char **to) {
    *to = from && *from ? strdup(from) : NULL;
    return *to || !from || !*from;
}

static bool wanted_init(const struct keep_plan *plan, const struct keep_image *image,
                        struct plan_wanted *out) {
    char name[1024];
    *out = (struct plan_wanted){.size = plan_size(image->size)};
    if (!copy_string(image->name, &out->name) || !copy_string(image->tag, &out->tag) ||
        !copy_string(image->digest, &out->digest))
        return false;
    out->platforms = calloc(image->platform_count + 1, sizeof(char *));
    for (size_t i = 0; out->platforms && i < image->platform_count; i++) {
        out->platforms[i] = strdup(image->platforms[i]);
        if (!out->platforms[i])
            return false;
        out->platform_count++;
    }
    if (out->tag) {
        snprintf(name, sizeof name, "%s:%s", out->name, out->tag);
        out->tag_key = keep_names_key(&plan->names, text_of(name));
    }
    if (out->digest)
        out->digest_key = keep_names_key(&plan->names, text_of(out->digest));
    out->key = out->digest_key ? out->digest_key : out->tag_key;
    out->children = calloc(image->child_count + 1, sizeof *out->children);
    for (size_t i = 0; out->children && i < image->child_count; i++) {
        struct plan_child *child = &out->children[out->child_count++];
        memcpy(child->architecture, image->children[i].architecture, sizeof child->architecture);
        child->digest_key = keep_names_key(&plan->names, text_of(image->children[i].digest));
    }
    return out->platforms && out->children;
}

struct plan_keep *plan_find_keep(const struct keep_plan *plan, const char *name) {
    int index = keep_plan_find(plan, name);
    return index < 0 ? NULL : &plan->keeps[index];
}

static struct plan_wanted *find_wanted(const struct plan_keep *keep, uint64_t key) {
    size_t low = 0, high = keep->by_key ? keep->count : 0;
    while (low < high) {
        size_t middle = (low + high) / 2;
        struct plan_wanted *wanted = &keep->wanted[keep->by_key[middle]];
        if (wanted->key == key)
            return wanted;
        if (wanted->key < key)
            low = middle + 1;
        else
            high = middle;
    }
    for (size_t i = 0; !keep->by_key && i < keep->count; i++) {
        if (keep->wanted[i].key == key)
            return &keep->wanted[i];
    }
    return NULL;
}

static int by_key(const void *a, const void *b, void *context) {
    const struct plan_wanted *wanted = context;
    uint64_t left = wanted[*(const uint32_t *)a].key, right = wanted[*(const uint32_t *)b].key;
    return (left > right) - (left < right);
}

/* Makes find_wanted() fast. Out of memory: it stays slow. */
static void index_keep(struct plan_keep *keep) {
    free(keep->by_key);
    keep->by_key = calloc(keep->count + 1, sizeof *keep->by_key);
    for (size_t i = 0; keep->by_key && i < keep->count; i++)
        keep->by_key[i] = (uint32_t)i;
    if (keep->by_key)
        qsort_r(keep->by_key, keep->count, sizeof *keep->by_key, by_key, keep->wanted);
}

void plan_touch(struct keep_plan *plan) {
    for (size_t i = 0; i < plan->node_count; i++)
        plan->nodes[i]->is_dirty = true;
}

/* ---- nodes ---- */

static void node_free(struct keep_plan *plan, struct plan_node *node) {
    for (size_t i = 0; i < node->cell_count; i++)
        cell_free(node->cells[i]);
    free(node->cells);
    free(node->next);
    keep_node_free(node->node, &plan->names);
    free(node);
}

static struct plan_node *add_node(struct keep_plan *plan, uint64_t key) {
    if (plan->node_count == plan->node_capacity) {
        size_t capacity = plan->node_capacity ? plan->node_capacity * 2 : 16;
        struct plan_node **nodes = reallocarray(plan->nodes, capacity, sizeof(struct plan_node *));
        if (!nodes)
            return NULL;
        plan->nodes = nodes;
        plan->node_capacity = capacity;
    }
    struct plan_node *node = calloc(1, sizeof *node);
    struct plan_next *next = calloc(plan->keep_count + 1, sizeof *next);
    if (node && next) {
        node->uid_key = key;
        HASH_ADD(hh, plan->by_uid, uid_key, sizeof node->uid_key, node);
        if (node->hh.tbl) {
            node->next = next;
            node->index = plan->node_count;
            plan->nodes[plan->node_count++] = node;
            return node;
        }
    }
    free(next);
    free(node);
    return NULL;
}

static void remove_node(struct keep_plan *plan, struct plan_node *node) {
    HASH_DELETE(hh, plan->by_uid, node);
    memmove(plan->nodes + node->index, plan->nodes + node->index + 1,
            (plan->node_count - node->index - 1) * sizeof(struct plan_node *));
    plan->node_count--;
    for (size_t i = node->index; i < plan->node_count; i++)
        plan->nodes[i]->index = i;
    for (struct plan_pod *pod = plan->pods; pod; pod = pod->next) {
        if (pod->node_key == node->uid_key) {
            pod->node_key = 0;
            pod->unwanted = true;
        }
    }
    node_free(plan, node);
}

bool keep_plan_set_node(struct keep_plan *plan, const json_t *json, struct keep_now now,
                        struct error *error) {
    struct keep_node *read = keep_node_read(json, &plan->names, error);
    if (!read)
        return false;
    uint64_t key = keep_names_key(&plan->names, text_of(read->uid));
    struct plan_node *node = NULL;
    HASH_FIND(hh, plan->by_uid, &key, sizeof key, node);
    if (!node)
        node = add_node(plan, key);
    if (!node) {
        keep_node_free(read, &plan->names);
        return error_set(error, ERROR_MEMORY, "out of memory while a Node is kept");
    }
    bool is_new = node->node == NULL;
    bool rebooted = !is_new && strcmp(node->node->boot_id, read->boot_id) != 0;
    keep_node_free(node->node, &plan->names);
    node->node = read;
    node->is_dirty = true;
    plan_observe(plan, node, rebooted, now);
    if (is_new)
        plan_bind_pods(plan, now);
    return !plan->no_memory || error_set(error, ERROR_MEMORY, "out of memory");
}

void keep_plan_remove_node(struct keep_plan *plan, const char *uid) {
    uint64_t key = keep_names_key(&plan->names, text_of(uid));
    struct plan_node *node = NULL;
    HASH_FIND(hh, plan->by_uid, &key, sizeof key, node);
    if (node)
        remove_node(plan, node);
}

/* ---- keeps ---- */

struct keep_plan *keep_plan_new(void) {
    struct keep_plan *plan = calloc(1, sizeof *plan);
    if (plan) {
        keep_names_init(&plan->names);
        plan->last_end = &plan->ends;
    }
    return plan;
}

static void free_ends(struct plan_end *end) {
    while (end) {
        struct plan_end *next = end->next;
        free(end->keep);
        free(end->node);
        free(end->image);
        free(end->reason);
        free(end);
        end = next;
    }
}

void keep_plan_free(struct keep_plan *plan) {
    if (!plan)
        return;
    while (plan->pods)
        plan_pod_free(plan, plan->pods);
    while (plan->node_count > 0)
        remove_node(plan, plan->nodes[plan->node_count - 1]);
    for (size_t i = 0; i < plan->keep_count; i++)
        keep_finish(&plan->keeps[i]);
    free_ends(plan->ends);
    free_ends(plan->told);
    free(plan->keeps);
    free(plan->nodes);
    keep_names_finish(&plan->names);
    free(plan);
}

/* Pods lose the keep that they point to, and look for it again. */
static void rebind_all(struct keep_plan *plan, struct keep_now now) {
    for (size_t i = 0; i < plan->keep_count; i++)
        plan->keeps[i].pods = 0;
    for (struct plan_pod *pod = plan->pods; pod; pod = pod->next) {
        pod->owner = NULL;
        struct plan_keep *keep = plan_find_keep(plan, pod->keep);
        const struct plan_wanted *wanted = plan_wanted_of_pod(keep, pod);
        if (pod->cell && keep && (wanted ? wanted->key != pod->cell->image : keep->is_listed)) {
            pod->cell->pod = NULL;
            pod->cell = NULL;
        }
        if (!keep || (keep->is_listed && !wanted))
            pod->unwanted = true;
        if (keep) {
            pod->owner = keep;
            keep->pods++;
        }
    }
    plan_bind_pods(plan, now);
    plan_touch(plan);
}

/* The keep's spec is another one. A pod that still pulls stays with its image until it is gone, so
 * that no second one is created beside it. */
static void give_up_pods(struct keep_plan *plan, const char *keep) {
    for (struct plan_pod *pod = plan->pods; pod; pod = pod->next) {
        if (strcmp(pod->keep, keep) == 0)
            pod->given_up = pod->unwanted = true;
    }
}

/* A cell that no keep wants any more is forgotten. */
static void drop_cells(struct keep_plan *plan) {
    for (size_t n = 0; n < plan->node_count; n++) {
        struct plan_node *node = plan->nodes[n];
        size_t left = 0;
        for (size_t i = 0; i < node->cell_count; i++) {
            bool is_wanted = false;
            for (size_t k = 0; k < plan->keep_count && !is_wanted; k++)
                is_wanted = find_wanted(&plan->keeps[k], node->cells[i]->image) != NULL;
            if (is_wanted)
                node->cells[left++] = node->cells[i];
            else
                cell_free(node->cells[i]);
        }
        node->cell_count = left;
    }
}

/* A keep of a name that was there goes on with its images. */
static void inherit(struct keep_plan *plan, struct plan_keep *keep) {
    struct plan_keep *old = plan_find_keep(plan, keep->name);
    if (!old)
        return;
    bool changes = old->spec != keep->spec && !keep_spec_equal(old->spec, keep->spec);
    keep->wanted = old->wanted;
    keep->count = old->count;
    keep->bytes = old->bytes;
    keep->by_key = old->by_key;
    keep->is_listed = old->is_listed;
    keep->is_outdated = old->is_outdated || changes;
    keep->evictions = old->evictions;
    keep->create_after_ms = old->create_after_ms;
    keep->create_failures = old->create_failures;
    old->wanted = NULL;
    old->by_key = NULL;
    old->count = 0;
    if (changes)
        give_up_pods(plan, keep->name);
}

bool keep_plan_set_keeps(struct keep_plan *plan, const struct keep_spec *const *specs, size_t count,
                         struct keep_now now) {
    struct plan_keep *keeps = calloc(count + 1, sizeof *keeps);
    bool done = keeps != NULL;
    for (size_t i = 0; done && i < count; i++) {
        keeps[i].spec = specs[i];
        keeps[i].name = strdup(specs[i]->name);
        done = keeps[i].name != NULL;
    }
    for (size_t n = 0; done && n < plan->node_count; n++) {
        struct plan_next *next = calloc(count + 1, sizeof *next);
        done = next != NULL;
        if (done) {
            free(plan->nodes[n]->next);
            plan->nodes[n]->next = next;
        }
    }
    if (!done) {
        for (size_t i = 0; keeps && i < count; i++)
            free(keeps[i].name);
        free(keeps);
        return false;
    }
    for (size_t i = 0; i < count; i++)
        inherit(plan, &keeps[i]);
    for (size_t i = 0; i < plan->keep_count; i++)
        keep_finish(&plan->keeps[i]);
    free(plan->keeps);
    plan->keeps = keeps;
    plan->keep_count = count;
    rebind_all(plan, now);
    drop_cells(plan);
    return true;
}

bool keep_plan_set_images(struct keep_plan *plan, const char *name, const struct keep_image *images,
                          size_t count, struct keep_now now) {
    struct plan_keep *keep = plan_find_keep(plan, name);
    if (!keep)
        return true;
    struct plan_keep made = {.wanted = calloc(count + 1, sizeof *made.wanted)};
    for (size_t i = 0; made.wanted && i < count; i++) {
        struct plan_wanted *wanted = &made.wanted[made.count];
        if (!wanted_init(plan, &images[i], wanted)) {
            wanted_finish(wanted);
            keep_finish(&made);
            return false;
        }
        if (find_wanted(&made, wanted->key))
            wanted_finish(wanted);
        else
            made.count++;
    }
    if (!made.wanted)
        return false;
    for (size_t i = 0; i < made.count; i++) {
        const struct plan_wanted *old = find_wanted(keep, made.wanted[i].key);
        if (old && old->size > 0)
            made.wanted[i].size = old->size;
        made.bytes += made.wanted[i].size;
    }
    for (size_t i = 0; i < keep->count; i++)
        wanted_finish(&keep->wanted[i]);
    free(keep->wanted);
    keep->wanted = made.wanted;
    keep->count = made.count;
    keep->bytes = made.bytes;
    index_keep(keep);
    keep->is_listed = true;
    keep->is_outdated = false;
    rebind_all(plan, now);
    drop_cells(plan);
    for (size_t i = 0; i < plan->node_count; i++)
        plan_observe(plan, plan->nodes[i], false, now);
    return !plan->no_memory;
}

/* ---- what is known ---- */

size_t keep_plan_node_count(const struct keep_plan *plan) {
    return plan->node_count;
}

const struct keep_node *keep_plan_node(const struct keep_plan *plan, size_t index) {
    return plan->nodes[index]->node;
}

bool keep_plan_node_list_is_cut(const struct keep_plan *plan, size_t index) {
    return plan_list_is_cut(plan->nodes[index]);
}

size_t keep_plan_pod_count(const struct keep_plan *plan) {
    size_t count = 0;
    for (const struct plan_pod *pod = plan->pods; pod; pod = pod->next)
        count++;
    return count;
}

int keep_plan_find(const struct keep_plan *plan, const char *keep) {
    for (size_t i = 0; i < plan->keep_count; i++) {
        if (strcmp(plan->keeps[i].name, keep) == 0)
            return (int)i;
    }
    return -1;
}

bool keep_plan_is_listed(const struct keep_plan *plan, size_t keep) {
    return plan->keeps[keep].is_listed;
}

size_t keep_plan_image_count(const struct keep_plan *plan, size_t keep) {
    return plan->keeps[keep].count;
}

void keep_plan_image(const struct keep_plan *plan, size_t keep, size_t index,
                     struct keep_image *out) {
    const struct plan_wanted *wanted = &plan->keeps[keep].wanted[index];
    *out = (struct keep_image){.name = wanted->name,
                               .tag = wanted->tag,
                               .digest = wanted->digest,
                               .size = wanted->size,
                               .platforms = (const char *const *)wanted->platforms,
                               .platform_count = wanted->platform_count};
}

int keep_plan_image_index(const struct keep_plan *plan, size_t keep, const char *digest,
                          const char *name, const char *tag) {
    const struct plan_keep *of = &plan->keeps[keep];
    char text[1024];
    snprintf(text, sizeof text, "%s:%s", name ? name : "", tag ? tag : "");
    const struct plan_wanted *found =
        find_wanted(of, keep_names_key(&plan->names, text_of(digest ? digest : text)));
    return found ? (int)(found - of->wanted) : -1;
}

uint64_t keep_plan_evictions(const struct keep_plan *plan, size_t keep) {
    return plan->keeps[keep].evictions;
}

const struct keep_names *keep_plan_names(const struct keep_plan *plan) {
    return &plan->names;
}
