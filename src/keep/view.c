/* What is on a node, as far as its list and our own pulls tell. */
#include <string.h>
#include "keep/plan_private.h"

bool plan_list_is_cut(const struct plan_node *node) {
    size_t count = node->node->image_count;
    return count >= KEEP_WHOLE_LIST && count >= node->most_images;
}

static uint64_t smallest_size(const struct keep_node *node) {
    uint64_t smallest = UINT64_MAX;
    for (size_t i = 0; i < node->image_count; i++) {
        if (node->images[i].size > 0 && node->images[i].size < smallest)
            smallest = node->images[i].size;
    }
    return smallest;
}

static const struct keep_node_image *find_listed(const struct plan_wanted *wanted,
                                                 const struct plan_node *node,
                                                 const struct plan_cell *cell) {
    const struct keep_node_image *image = NULL;
    if (wanted->digest_key)
        image = keep_node_find(node->node, wanted->digest_key);
    else
        image = keep_node_find_name(node->node, wanted->tag_key);
    for (size_t i = 0; !image && i < wanted->child_count; i++) {
        if (strcmp(wanted->children[i].architecture, node->node->architecture) == 0)
            image = keep_node_find(node->node, wanted->children[i].digest_key);
    }
    if (!image && cell && cell->pulled_digest)
        image = keep_node_find(node->node, cell->pulled_digest);
    return image;
}

bool plan_is_listed(const struct plan_wanted *wanted, const struct plan_node *node,
                    const struct plan_cell *cell) {
    return find_listed(wanted, node, cell) != NULL;
}

static void set_there(struct plan_cell *cell, struct keep_now now) {
    if (!cell->there) {
        cell->there = true;
        cell->since_s = now.wall_s;
    }
    cell->was_listed = true;
    cell->unlisted = cell->failed = cell->evicted = cell->was_pending = false;
    cell->attempts = cell->deletions = 0;
    cell->retry_ms = cell->retry_s = 0;
}

/* A later list has shown that the image is not there any more. */
static void set_gone(struct plan_keep *keep, struct plan_cell *cell, struct keep_now now) {
    bool again = cell->gone_ms != 0 && now.ms - cell->gone_ms < KEEP_EVICTION_DAY_MS;
    cell->there = cell->unlisted = cell->was_pending = false;
    cell->pulled_ms = 0;
    cell->pulled_digest = cell->pulled_tag = 0;
    cell->gone_ms = now.ms;
    cell->since_s = now.wall_s;
    if (!again)
        return;
    cell->evicted = true;
    cell->retry_ms = now.ms + KEEP_ASK_AGAIN_MS;
    cell->retry_s = now.wall_s + KEEP_ASK_AGAIN_MS / 1000;
    keep->evictions++;
}

static void observe_missing(struct plan_keep *keep, struct plan_wanted *wanted,
                            const struct plan_node *node, struct plan_cell *cell,
                            struct keep_now now) {
    if (!cell || !cell->there)
        return;
    if (cell->pulled_ms != 0 && !cell->was_listed && now.ms - cell->pulled_ms < KEEP_LIST_LAG_MS)
        return;
    if (!plan_list_is_cut(node) || (wanted->size > 0 && wanted->size > smallest_size(node->node))) {
        set_gone(keep, cell, now);
        return;
    }
    /* Nobody knows: ask again in time, but not before a failed attempt may be repeated. */
    int64_t ask_ms = (cell->pulled_ms ? cell->pulled_ms : now.ms) + KEEP_ASK_AGAIN_MS;
    if (!cell->unlisted && cell->retry_ms < ask_ms && ask_ms >= now.ms) {
        cell->retry_ms = ask_ms;
        cell->retry_s = now.wall_s + (ask_ms - now.ms) / 1000;
    }
    cell->unlisted = true;
}

void plan_observe(struct keep_plan *plan, struct plan_node *node, bool rebooted,
                  struct keep_now now) {
    for (size_t i = 0; rebooted && i < node->cell_count; i++) {
        struct plan_cell *cell = node->cells[i];
        cell->there = cell->there && cell->was_listed;
        cell->pulled_ms = 0;
        cell->pulled_tag = 0;
    }
    for (size_t k = 0; k < plan->keep_count; k++) {
        struct plan_keep *keep = &plan->keeps[k];
        for (size_t i = 0; i < keep->count; i++) {
            struct plan_wanted *wanted = &keep->wanted[i];
            struct plan_cell *cell = plan_cell_find(node, wanted->key);
            const struct keep_node_image *image = find_listed(wanted, node, cell);
            if (!image) {
                observe_missing(keep, wanted, node, cell, now);
                continue;
            }
            if (image->size > 0) {
                keep->bytes += plan_size(image->size) - wanted->size;
                wanted->size = plan_size(image->size);
            }
            if (!cell)
                cell = plan_cell_make(plan, node, wanted->key);
            if (cell)
                set_there(cell, now);
        }
    }
    if (node->node->image_count > node->most_images)
        node->most_images = node->node->image_count;
}

/* ---- tags ---- */

static bool image_has_name(const struct keep_node *node, const struct keep_node_image *image,
                           uint64_t name) {
    for (uint32_t i = 0; i < image->name_count; i++) {
        if (node->names[image->first_name + i]->key == name)
            return true;
    }
    return false;
}

bool plan_is_there(const struct plan_keep *keep, const struct plan_wanted *wanted,
                   const struct plan_node *node, const struct plan_cell *cell) {
    if (!cell || !cell->there)
        return false;
    if (keep->spec->pull.by != KEEP_PULL_BY_TAG || !wanted->tag_key)
        return true;
    const struct keep_node_image *image = find_listed(wanted, node, cell);
    if (image && (image_has_name(node->node, image, wanted->tag_key) ||
                  image->name_count >= KEEP_NODE_NAMES_CUT))
        return true;
    if (cell->pulled_tag != wanted->tag_key)
        return !image; /* as last known */
    /* Our pull has set the tag; since then, another pull may have moved it. */
    const struct keep_node_image *other = keep_node_find_name(node->node, wanted->tag_key);
    return !other || other == image || !cell->was_listed;
}

bool plan_must_ask(const struct plan_wanted *wanted, const struct plan_node *node) {
    if (!wanted->tag_key || !wanted->digest_key)
        return true;
    const struct keep_node_image *image = keep_node_find_name(node->node, wanted->tag_key);
    return !image || image != find_listed(wanted, node, NULL);
}

/* ---- room and architecture ---- */

bool plan_has_platform(const struct plan_wanted *wanted, const struct plan_node *node) {
    const char *architecture = node->node->architecture;
    if (wanted->platform_count == 0 || !*architecture)
        return true;
    for (size_t i = 0; i < wanted->platform_count; i++) {
        struct text left = text_of(wanted->platforms[i]);
        struct text os = text_cut(left, '/', &left);
        struct text name = left.at ? text_cut(left, '/', &left) : (struct text){0};
        if (text_is(os, "linux") && text_is(name, architecture))
            return true;
    }
    return false;
}

bool plan_has_room(const struct plan_keep *keep, size_t image, const struct plan_node *node) {
    uint64_t percent = keep->spec->pull.disk_percent, taken = 0;
    if (percent == 0 || node->node->storage == 0)
        return true;
    uint64_t most = node->node->storage / 100 * percent;
    if (keep->bytes <= most) /* which is usual, and soon said */
        return true;
    for (size_t i = 0; i <= image; i++) {
        const struct plan_wanted *wanted = &keep->wanted[i];
        if (!plan_has_platform(wanted, node))
            continue;
        bool fits = wanted->size <= most - taken;
        if (i == image)
            return fits;
        if (fits)
            taken += wanted->size;
    }
    return true;
}
