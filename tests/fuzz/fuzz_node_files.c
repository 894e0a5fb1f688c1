/* Files of a node: an edit of daemon.json changes the one list and can be undone, and what has a
 * mark, or names a folder, is found without a fault. */
#include <stdlib.h>
#include "base/json.h"
#include "fuzz.h"
#include "node/containerd.h"
#include "node/daemon_json.h"
#include "node/kubelet.h"
#include "node/mark.h"
#include "node/render.h"

#define KEY   "registry-mirrors"
#define VALUE "http://127.0.0.1:5000"

/* `text` ends with a NUL. */
static void check_edits(struct text text) {
    cleanup_buffer struct buffer added = {0}, removed = {0};
    struct error error;
    cleanup_json json_t *before = daemon_json_load(text, NULL);
    bool had = daemon_json_has(before, KEY, VALUE);
    bool ok = daemon_json_add(text, KEY, VALUE, &added, &error);
    MUST(ok || error.kind == ERROR_INVALID);
    if (!ok)
        return;
    struct text edited = {added.bytes, added.length};
    cleanup_json json_t *after = daemon_json_load(edited, &error);
    MUST(before && after && daemon_json_has(after, KEY, VALUE));
    if (had)
        return;
    MUST(daemon_json_remove(edited, KEY, VALUE, !json_object_get(before, KEY), &removed, &error));
    cleanup_json json_t *rest =
        daemon_json_load((struct text){removed.bytes, removed.length}, &error);
    MUST(json_equal(before, rest));
}

static void check_mark(struct text text) {
    struct mark mark;
    cleanup_buffer struct buffer again = {0};
    if (mark_read(text, &mark) == MARK_FOUND) {
        MUST(mark.url[0] != '\0' || text.length > 0);
        cleanup_json json_t *folders = json_array();
        MUST(mark_write(mark.url, folders, (struct text){0}, &again));
    }
    mark_finish(&mark);
}

static void check_render(struct text text) {
    static const struct mirror_registry registry = {"a", "https://a", NULL, NULL};
    const struct mirror_settings settings = {
        .url = VALUE, .registries = &registry, .registry_count = 1};
    cleanup_buffer struct buffer rest = {0};
    MUST(render_without_listed(&settings, text, &rest) && rest.length <= 2 * text.length + 1);
}

static void check_containerd(struct text text) {
    cleanup_containerd_file struct containerd_file file = {0};
    struct error error;
    for (int is_template = 0; is_template <= 1; is_template++) {
        bool ok = containerd_read_file(text, is_template, &file, &error);
        MUST(ok || error.kind == ERROR_INVALID);
        MUST(strlen(file.config_path) < sizeof file.config_path);
        containerd_names_folder(text_of(file.config_path), "/etc/containerd/certs.d");
        containerd_file_finish(&file);
    }
}

static void check_kubelet(struct text text) {
    struct text value = kubelet_find_flag(text, "flag");
    MUST(!value.at || (value.at > text.at && value.at + value.length <= text.at + text.length));
    MUST(!value.length || !memchr(value.at, ' ', value.length));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    char *copy = malloc(length + 1);
    if (!copy)
        return 0;
    memcpy(copy, bytes, length);
    copy[length] = '\0';
    struct text text = {copy, length};
    check_edits(text);
    check_mark(text);
    check_render(text);
    check_containerd(text);
    check_kubelet(text);
    free(copy);
    return 0;
}
