/*
 * The XML documents of an object store, within the bounds of base/xml.h. Pure. Private to bucket/.
 */
#ifndef BUCKET_DOCUMENT_H
#define BUCKET_DOCUMENT_H

#include "base/text.h"
#include "bucket/bucket.h"

enum {
    BUCKET_REGION_SIZE = 64,
    BUCKET_TOKEN_LIMIT = 4096, /* bytes of a text in a document */
};

/* What an <Error> says. */
struct bucket_fault {
    char code[BUCKET_CODE_SIZE];     /* letters and digits; "": none */
    char region[BUCKET_REGION_SIZE]; /* where the bucket is: a-z, 0-9, '-'; "": not told */
};

/* Reads an <Error>. False: it is none; *out is then empty. */
bool bucket_document_fault(struct text body, struct bucket_fault *out);

/* Whether a text is the name of a region: it becomes part of a host's name. */
bool bucket_region_is_valid(struct text region);

/* Reads the UploadId of an InitiateMultipartUploadResult. False: ERROR_UNAVAILABLE. */
bool bucket_document_upload(struct text body, char id[static BUCKET_UPLOAD_ID_SIZE],
                            struct error *error);

/*
 * Reads the answer to a completion, white space in front of it skipped. True: it is a
 * CompleteMultipartUploadResult, and fault->code is "", or an <Error>, and fault->code is not.
 * False: it is neither, so that nobody knows whether the upload is complete (ERROR_UNAVAILABLE).
 */
bool bucket_document_completion(struct text body, struct bucket_fault *fault, struct error *error);

/* What a page of a list says beside its entries. */
struct bucket_page {
    bool truncated;
    char token[BUCKET_TOKEN_LIMIT];       /* NextContinuationToken, or NextKeyMarker */
    char id_token[BUCKET_UPLOAD_ID_SIZE]; /* NextUploadIdMarker */
};

/*
 * Reads a ListBucketResult, or a ListMultipartUploadsResult with `uploads`. `on_entry` may be NULL;
 * its keys are as the bucket has them, with any prefix. False: ERROR_UNAVAILABLE (no such document,
 * a truncated page without the place to go on from, a key or number beyond its limits), or what
 * `on_entry` set.
 */
bool bucket_document_list(struct text body, bool uploads, struct bucket_page *page,
                          bool (*on_entry)(void *context, const struct bucket_entry *entry,
                                           struct error *error),
                          void *context, struct error *error);

#endif
