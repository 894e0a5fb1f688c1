/* Gathers the bytes of responses, and sends them as far as the socket takes them. */
#include "http/unsent.h"

#include <stdlib.h>
#include <string.h>
#include "http/bulkheads.h"

static void drop_content(struct unsent *unsent) {
    if (unsent->content.bytes && unsent->content.release)
        unsent->content.release(unsent->content.owner);
    unsent->content = (struct http_content){0};
    unsent->content_taken = 0;
}

void unsent_finish(struct unsent *unsent) {
    drop_content(unsent);
    buffer_finish(&unsent->bytes);
    unsent->bytes_taken = 0;
}

bool unsent_is_empty(const struct unsent *unsent) {
    return unsent->bytes.length == 0 && !unsent->content.bytes;
}

bool unsent_append(struct unsent *unsent, const void *bytes, size_t length) {
    return !unsent->content.bytes && buffer_append(&unsent->bytes, bytes, length);
}

bool unsent_share(struct unsent *unsent, const struct http_content *content) {
    if (unsent->content.bytes)
        return false;
    if (content->length == 0)
        return true;
    content->keep(content->owner);
    unsent->content = *content;
    unsent->content_taken = 0;
    return true;
}

/* A copy of content, with the memory that it was counted as. */
struct copy {
    struct bulkheads *bulkheads;
    size_t length;
    char bytes[];
};

static void release_copy(void *owner) {
    struct copy *copy = owner;
    bulkheads_give_back_copied(copy->bulkheads, copy->length);
    free(copy);
}

bool unsent_own(struct unsent *unsent, struct bulkheads *bulkheads) {
    const size_t length = unsent->content.length - unsent->content_taken;
    if (!bulkheads_take_copied(bulkheads, length))
        return false;
    struct copy *copy = malloc(sizeof *copy + length);
    if (!copy) {
        bulkheads_give_back_copied(bulkheads, length);
        return false;
    }
    copy->bulkheads = bulkheads;
    copy->length = length;
    memcpy(copy->bytes, (const char *)unsent->content.bytes + unsent->content_taken, length);
    drop_content(unsent);
    unsent->content = (struct http_content){
        .bytes = copy->bytes, .length = length, .owner = copy, .release = release_copy};
    return true;
}

/* Notes that the socket has taken `length` bytes. */
static void take(struct unsent *unsent, size_t length) {
    size_t of_bytes = unsent->bytes.length - unsent->bytes_taken;
    if (length < of_bytes) {
        unsent->bytes_taken += length;
        return;
    }
    buffer_clear(&unsent->bytes);
    unsent->bytes_taken = 0;
    unsent->content_taken += length - of_bytes;
    if (unsent->content.bytes && unsent->content_taken == unsent->content.length)
        drop_content(unsent);
}

bool unsent_send(struct unsent *unsent, struct channel *channel, bool more) {
    while (!unsent_is_empty(unsent)) {
        struct iovec pieces[2];
        int count = 0;
        if (unsent->bytes.length > 0)
            pieces[count++] = (struct iovec){unsent->bytes.bytes + unsent->bytes_taken,
                                             unsent->bytes.length - unsent->bytes_taken};
        if (unsent->content.bytes)
            pieces[count++] = (struct iovec){(char *)unsent->content.bytes + unsent->content_taken,
                                             unsent->content.length - unsent->content_taken};
        ssize_t n = channel_send_now(channel, pieces, count, more);
        if (n == CHANNEL_CLOSED)
            return false;
        if (n == CHANNEL_NOTHING)
            return true;
        take(unsent, (size_t)n);
    }
    return true;
}

bool unsent_move(struct unsent *from, struct unsent *to) {
    size_t length = from->bytes.length - from->bytes_taken;
    bool moved =
        length == 0 || buffer_append(&to->bytes, from->bytes.bytes + from->bytes_taken, length);
    if (moved) {
        to->bytes_taken = 0;
        to->content = from->content;
        to->content_taken = from->content_taken;
        from->content = (struct http_content){0};
        from->content_taken = 0;
    }
    buffer_clear(&from->bytes);
    from->bytes_taken = 0;
    return moved;
}
