/* Metadata images: what is read as a tree can be laid over another one and written again. */
#include "base/buffer.h"
#include "fuzz.h"
#include "layer/erofs.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    static const uint64_t devices[] = {1 << 20, 1 << 16};
    struct error error = {0};
    for (size_t count = 1; count <= 2; count++) {
        struct tree *read = erofs_read(bytes, length, devices, count, &error);
        if (!read)
            continue;
        struct tree *tree = tree_new(64 << 20);
        cleanup_buffer struct buffer image = {0};
        MUST(tree);
        if (tree_merge(tree, read, 1, &error))
            erofs_write(tree, devices, count, &image, &error);
        tree_free(tree);
        tree_free(read);
    }
    return 0;
}
