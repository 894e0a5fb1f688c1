/* Archives of layers: the tree of whatever is not refused can be written and read again. */
#include <string.h>
#include "base/cleanup.h"
#include "fuzz.h"
#include "layer/erofs.h"
#include "layer/unpack.h"

static void check_tree(struct tree *tree, uint64_t length) {
    cleanup_buffer struct buffer image = {0}, again = {0};
    struct error error = {0};
    if (!erofs_write(tree, &length, 1, &image, &error))
        return;
    struct tree *read = erofs_read(image.bytes, image.length, &length, 1, &error);
    MUST(read);
    MUST(erofs_write(read, &length, 1, &again, &error));
    MUST(again.length == image.length && memcmp(again.bytes, image.bytes, image.length) == 0);
    tree_free(read);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    struct error error = {0};
    struct tree *tree = tree_new(8 << 20);
    struct tar_reader *reader = tar_reader_new(unpack_entry, tree);
    size_t half = length / 2;
    MUST(tree && reader);
    if (tar_reader_feed(reader, bytes, half, &error) &&
        tar_reader_feed(reader, bytes + half, length - half, &error) &&
        tar_reader_finish(reader, &error))
        check_tree(tree, length);
    tar_reader_free(reader);
    tree_free(tree);
    return 0;
}
