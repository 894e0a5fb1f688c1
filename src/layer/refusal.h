/*
 * Why a layer or an image cannot stream: one word for programs, and a sentence for people.
 *
 * A function of this room that refuses its input sets an error of kind ERROR_INVALID, whose `code`
 * is the word. Any other error (ERROR_MEMORY, ERROR_IO) says nothing about the layer. Pure; any
 * thread.
 */
#ifndef LAYER_REFUSAL_H
#define LAYER_REFUSAL_H

#include <stdbool.h>
#include "base/error.h"
#include "base/text.h"

enum layer_refusal {
    LAYER_FINE,        /* it can stream */
    LAYER_OFF,         /* streaming is switched off */
    LAYER_SMALL,       /* no layer of the image is large enough */
    LAYER_MEDIA_TYPE,  /* the image has something that is no layer of a file system */
    LAYER_COMPRESSION, /* the bytes are not whole streams of gzip or zstd */
    LAYER_TAR,         /* the archive breaks a rule, or has what cannot be shown as a tree */
    LAYER_DIFF_ID,     /* the uncompressed bytes do not match the configuration's diff ID */
    LAYER_SPAN,        /* the bytes cannot be cut into parts that are small enough */
    LAYER_BOMB,        /* far more bytes come out than go in */
    LAYER_SIZE,        /* too large, or too many files */
    LAYER_ERROR        /* something of our own failed, for example the disk */
};

/* The word, "tar"; "" for LAYER_FINE. */
const char *layer_refusal_word(enum layer_refusal refusal);
/* False: it is no such word. */
bool layer_refusal_parse(struct text word, enum layer_refusal *out);

/* Sets the error. Returns false. */
bool layer_refuse(struct error *error, enum layer_refusal refusal, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* What the error of a function of this room says of the layer: LAYER_ERROR if it says nothing. */
enum layer_refusal layer_refusal_of(const struct error *error);

#endif
