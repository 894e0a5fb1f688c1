/* Keeps what the bucket's answers have taught, and tells people once. */
#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "bucket/bucket_private.h"

enum {
    LISTS_MS = 600000, /* how long the rights that were seen are believed */
    SMALL_AHEAD_S = 5, /* a smaller difference of the clocks may be the network's */
};

#define DEFAULT_REGION "us-east-1"

void bucket_learnt(struct bucket *bucket, struct bucket_learnt *out) {
    lock_acquire(&bucket->learnt_lock);
    *out = bucket->learnt;
    lock_release(&bucket->learnt_lock);
    if (clock_ms() >= out->lists_until_ms)
        out->lists = LISTS_UNKNOWN;
}

void bucket_region(struct bucket *bucket, char out[static BUCKET_REGION_SIZE]) {
    char found[AWS_REGION_SIZE] = "";
    struct bucket_learnt learnt;
    bucket_learnt(bucket, &learnt);
    if (!learnt.region[0] && bucket->aws)
        aws_source_region(bucket->aws, found);
    const char *region = learnt.region[0]                                 ? learnt.region
                         : found[0]                                       ? found
                         : bucket->settings.address.kind == BUCKET_GOOGLE ? "auto"
                                                                          : DEFAULT_REGION;
    snprintf(out, BUCKET_REGION_SIZE, "%s", region);
}

void bucket_learn_region(struct bucket *bucket, const char *region) {
    lock_acquire(&bucket->learnt_lock);
    snprintf(bucket->learnt.region, sizeof bucket->learnt.region, "%s", region);
    bucket->learnt.changes++;
    lock_release(&bucket->learnt_lock);
    if (!atomic_exchange(&bucket->region_told, true))
        log_at(LOG_WARN,
               "the bucket is in another region, which is used: write it into "
               "bucket.region",
               LOG_STRING("bucket", bucket->label), LOG_STRING("region", region));
}

void bucket_note_date(struct bucket *bucket, int64_t date_s) {
    if (date_s)
        atomic_store(&bucket->ahead_s, clock_wall_s() - date_s);
}

bool bucket_learn_clock(struct bucket *bucket, int64_t date_s) {
    if (!date_s)
        return false;
    int64_t behind = date_s - clock_wall_s();
    lock_acquire(&bucket->learnt_lock);
    bucket->learnt.clock_s = behind;
    bucket->learnt.changes++;
    lock_release(&bucket->learnt_lock);
    if (!atomic_exchange(&bucket->clock_told, true))
        log_at(LOG_WARN,
               "this machine's clock is wrong by the bucket's clock, which is used to "
               "sign requests",
               LOG_STRING("bucket", bucket->label), LOG_NUMBER("clock_seconds", -behind));
    return true;
}

void bucket_learn_condition(struct bucket *bucket) {
    lock_acquire(&bucket->learnt_lock);
    bucket->learnt.conditions_unknown = true;
    lock_release(&bucket->learnt_lock);
    if (!atomic_exchange(&bucket->conditions_told, true))
        log_at(LOG_INFO, "the bucket knows no conditional writes: objects are written without",
               LOG_STRING("bucket", bucket->label));
}

void bucket_learn_renewal(struct bucket *bucket) {
    lock_acquire(&bucket->learnt_lock);
    bucket->learnt.changes++;
    lock_release(&bucket->learnt_lock);
}

void bucket_learn_lists(struct bucket *bucket, enum bucket_lists lists) {
    lock_acquire(&bucket->learnt_lock);
    bucket->learnt.lists = lists;
    bucket->learnt.lists_until_ms = clock_ms() + LISTS_MS;
    lock_release(&bucket->learnt_lock);
}

void bucket_look(struct bucket *bucket, struct bucket_facts *out) {
    char source[AWS_DESCRIPTION_SIZE] = "";
    struct bucket_learnt learnt;
    struct bucket_endpoint endpoint;
    char region[BUCKET_REGION_SIZE], url[BUCKET_ENDPOINT_URL_SIZE];
    *out = (struct bucket_facts){.clock_seconds = 0};
    bucket_learnt(bucket, &learnt);
    bucket_region(bucket, region);
    bucket_endpoint_make(&bucket->settings, region, &endpoint);
    snprintf(out->endpoint, sizeof out->endpoint, "%s", bucket_endpoint_url(&endpoint, url));
    if (!bucket_bears_token(bucket))
        snprintf(out->region, sizeof out->region, "%s", region);
    enum bucket_credentials kind = bucket_settings_credentials(&bucket->settings);
    if (kind == BUCKET_CREDENTIALS_ANONYMOUS)
        snprintf(source, sizeof source, "anonymous");
    else if (kind == BUCKET_CREDENTIALS_GOOGLE)
        snprintf(source, sizeof source, "google");
    else
        aws_source_describe(bucket->aws, source);
    snprintf(out->credentials, sizeof out->credentials, "%.290s", source);
    int64_t ahead = atomic_load(&bucket->ahead_s);
    out->clock_seconds = ahead > -SMALL_AHEAD_S && ahead < SMALL_AHEAD_S ? 0 : ahead;
    out->lists_forbidden = learnt.lists == LISTS_FORBIDDEN;
    out->conditions_unknown = learnt.conditions_unknown;
}
