/*
 * Tags by Rubin Observatory's convention (SQR-059), as cachemachine and nublado read them.
 *
 * `r21_0_1` is a release, `r22_0_0_rc1` a release candidate, `w_2021_22` a weekly, `d_2021_05_27` a
 * daily, and `exp_...` an experimental. Behind them may stand, in this order, a cycle `_c0020.001`
 * or `_csal0020.001` and an RSP build `_rsp19` (either order), a rest `_...`, and an architecture
 * `-arm64`. Anything else is unknown. An alias (`recommended`) is one because the settings say so;
 * it and an unknown tag may end with a cycle without a build, `_c0020`.
 *
 * Numbers may have any number of digits, so they stay texts. Every text of a tag points into the
 * bytes that were parsed, which must live as long. Pure; any thread.
 */
#ifndef KEEP_TAG_H
#define KEEP_TAG_H

#include <stdbool.h>
#include <stdint.h>
#include "base/buffer.h"
#include "base/text.h"

/* In the order of nublado's menu. */
enum keep_tag_kind {
    KEEP_TAG_ALIAS,
    KEEP_TAG_RELEASE,
    KEEP_TAG_WEEKLY,
    KEEP_TAG_DAILY,
    KEEP_TAG_CANDIDATE,
    KEEP_TAG_EXPERIMENTAL,
    KEEP_TAG_UNKNOWN,
    KEEP_TAG_KINDS
};

struct keep_tag {
    struct text tag;
    enum keep_tag_kind kind;
    enum keep_tag_kind inner_kind; /* of an experimental: what stands behind `exp_` */
    unsigned experimental;         /* how many `exp_` stand in front */
    bool has_version;
    bool rsp_first;                            /* the RSP build stands in front of the cycle */
    struct text major, minor, patch;           /* has_version: digits as written; "" counts as 0 */
    struct text pre;                           /* "rc1"; "" */
    struct text cycle, cycle_build, rsp_build; /* digits as written; "" */
    struct text base;                          /* of alias and unknown: without the cycle */
    struct text rest, arch;                    /* "" */
};

/* The empty tag is `latest`. */
void keep_tag_parse(struct text tag, struct keep_tag *out);
void keep_tag_parse_alias(struct text tag, struct keep_tag *out);

/* Below 0, 0, above 0: `a` is older than `b`, the same, newer. Both are of one kind. By version
 * (semantic: a candidate is older than its release), cycle, cycle's build, RSP build, rest; a tag
 * without one of these is older. A tag without architecture is newer than one with. Two without a
 * version compare byte by byte. */
int keep_tag_compare(const struct keep_tag *a, const struct keep_tag *b);

/* Appends the name for people: "Release r21.0.1", "Weekly 2021_22 (SAL Cycle 0020, Build 001)". */
bool keep_tag_append_name(const struct keep_tag *tag, struct buffer *out);

/* The time when an image with this tag was made: the day of a daily, the Thursday of a weekly's ISO
 * week; seconds since 1970. False: the tag does not tell, or there is no such day. */
bool keep_tag_date(const struct keep_tag *tag, int64_t *seconds);

/* Whether the tag's cycle is this number. */
bool keep_tag_has_cycle(const struct keep_tag *tag, uint64_t cycle);

/* Compares two texts of digits as numbers of any size. */
int keep_tag_compare_digits(struct text a, struct text b);

/* Sets *out to the versions of "r26_0_0", "w_2024_10", "26.0.0" or "26.0.0-rc1". False: it is none
 * of these. */
bool keep_tag_parse_version(struct text version, struct keep_tag *out);

/* `a` and `b` have versions. */
int keep_tag_compare_version(const struct keep_tag *a, const struct keep_tag *b);

#endif
