/* Indexes of layers and images. Their digest is made right, so that what is behind it is reached.
 */
#include <openssl/evp.h>
#include <string.h>
#include "base/cleanup.h"
#include "fuzz.h"
#include "layer/index.h"

enum { SHA256_AT = 480 };

static void seal(uint8_t *bytes, size_t length) {
    uint8_t sum[EVP_MAX_MD_SIZE];
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    EVP_DigestInit_ex(hash, EVP_sha256(), NULL);
    EVP_DigestUpdate(hash, bytes, SHA256_AT);
    EVP_DigestUpdate(hash, bytes + INDEX_HEADER, length - INDEX_HEADER);
    EVP_DigestFinal_ex(hash, sum, NULL);
    EVP_MD_CTX_free(hash);
    memcpy(bytes + SHA256_AT, sum, 32);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    cleanup_free uint8_t *copy = malloc(length + 1);
    struct layer_index layer;
    struct image_index image;
    struct error error = {0};
    MUST(copy);
    memcpy(copy, bytes, length);
    if (length >= INDEX_HEADER)
        seal(copy, length);
    if (layer_index_open(copy, length, &layer, &error)) {
        uint64_t end = 0;
        for (size_t i = 0; i < layer.span_count; i++) {
            MUST(layer.spans[i].out == end);
            end += layer.spans[i].out_length;
            MUST(layer.spans[i].window_at + layer.spans[i].window_length <= layer.windows_length);
            MUST(layer_index_span(&layer, layer.spans[i].out) == &layer.spans[i]);
        }
        tree_free(layer_index_tree(&layer, &error));
        layer_index_finish(&layer);
    }
    if (image_index_open(copy, length, &image, &error)) {
        tree_free(image_index_tree(&image, &error));
        image_index_finish(&image);
    }
    return 0;
}
