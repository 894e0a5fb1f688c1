/* The XML of an object store: whatever comes, what is read keeps its limits, and a list that is
 * read twice has the same entries. */
#include <string.h>
#include "bucket/document.h"
#include "fuzz.h"

struct seen {
    size_t entries, bytes;
    bool uploads;
};

static bool on_entry(void *context, const struct bucket_entry *entry, struct error *error) {
    struct seen *seen = context;
    (void)error;
    size_t length = strlen(entry->key);
    MUST(length <= BUCKET_KEY_LIMIT);
    MUST((entry->upload_id != NULL) == seen->uploads);
    MUST(!entry->upload_id ||
         (*entry->upload_id && strlen(entry->upload_id) < BUCKET_UPLOAD_ID_SIZE));
    seen->entries++;
    seen->bytes += length;
    return true;
}

static void read_list(struct text body, bool uploads) {
    static struct bucket_page page, again;
    struct seen first = {.uploads = uploads}, second = {.uploads = uploads};
    bool ok = bucket_document_list(body, uploads, &page, on_entry, &first, NULL);
    MUST(bucket_document_list(body, uploads, &again, on_entry, &second, NULL) == ok);
    MUST(first.entries == second.entries && first.bytes == second.bytes);
    MUST(!ok || !page.truncated || page.token[0]);
    MUST(first.entries <= body.length);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    struct text body = {(const char *)bytes, length};
    struct bucket_fault fault;
    char id[BUCKET_UPLOAD_ID_SIZE];
    if (bucket_document_fault(body, &fault) && fault.region[0])
        MUST(bucket_region_is_valid(text_of(fault.region)));
    MUST(strspn(fault.code, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789") ==
         strlen(fault.code));
    MUST(!bucket_document_upload(body, id, NULL) || id[0]);
    bucket_document_completion(body, &fault, NULL);
    read_list(body, false);
    read_list(body, true);
    return 0;
}
