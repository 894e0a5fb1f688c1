/* Writes and checks the file that keeps the page's history. */
#include "registry/page/saved.h"

#include "oci/digest.h"

#define MAGIC "tarn-history 1\n"

enum { MAGIC_LENGTH = sizeof MAGIC - 1, CHECKSUM_LENGTH = 32 };

static void put(struct buffer *out, uint64_t number, size_t bytes) {
    unsigned char little[8];
    for (size_t i = 0; i < bytes; i++)
        little[i] = (unsigned char)(number >> (8 * i));
    buffer_append(out, little, bytes);
}

void saved_put_u32(struct buffer *out, uint32_t number) {
    put(out, number, 4);
}

void saved_put_u64(struct buffer *out, uint64_t number) {
    put(out, number, 8);
}

static uint64_t take_number(struct text *rest, size_t bytes) {
    uint64_t number = 0;
    if (rest->length < bytes)
        return 0;
    for (size_t i = 0; i < bytes; i++)
        number |= (uint64_t)(unsigned char)rest->at[i] << (8 * i);
    *rest = text_from(*rest, bytes);
    return number;
}

uint32_t saved_take_u32(struct text *rest) {
    return (uint32_t)take_number(rest, 4);
}

uint64_t saved_take_u64(struct text *rest) {
    return take_number(rest, 8);
}

void saved_begin(struct buffer *out) {
    buffer_append(out, MAGIC, MAGIC_LENGTH);
}

bool saved_end(struct buffer *out) {
    struct digest digest;
    return !out->failed && digest_of(DIGEST_SHA256, out->bytes, out->length, &digest) &&
           buffer_append(out, digest.bytes, CHECKSUM_LENGTH);
}

size_t saved_length(size_t content) {
    return MAGIC_LENGTH + content + CHECKSUM_LENGTH;
}

bool saved_open(struct text file, size_t content, struct text *rest) {
    struct digest digest;
    const size_t before = MAGIC_LENGTH + content;
    if (file.length != saved_length(content) || memcmp(file.at, MAGIC, MAGIC_LENGTH) != 0 ||
        !digest_of(DIGEST_SHA256, file.at, before, &digest) ||
        memcmp(digest.bytes, file.at + before, CHECKSUM_LENGTH) != 0)
        return false;
    *rest = (struct text){file.at + MAGIC_LENGTH, content};
    return true;
}
