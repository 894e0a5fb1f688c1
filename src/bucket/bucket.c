/* The life of a bucket's client. */
#include "bucket/bucket.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/secret.h"
#include "bucket/bucket_private.h"

enum { PROBE_MS = 300 }; /* that a probe may take; when it takes longer, one waits for the next */

static const struct breaker_rule breaker_rule = {
    .failures = 3,
    .span_ms = 0,
    .first_pause_ms = 5000,
    .most_pause_ms = 60000,
};

/* The strings of the settings that are copied. */
static const char **string_of(struct bucket_settings *settings, size_t index) {
    const char **const strings[] = {
        &settings->endpoint,
        &settings->region,
        &settings->aws_profile,
        &settings->aws_file,
        &settings->google.file,
        &settings->google.metadata,
        &settings->google.impersonate,
        &settings->key_id,
        &settings->secret_file,
        &settings->secret,
        &settings->ca_file,
        &settings->storage_class,
        &settings->encryption,
        &settings->kms_key,
    };
    return index < sizeof strings / sizeof *strings ? strings[index] : NULL;
}

static bool copy_settings(const struct bucket_settings *from, struct bucket_settings *to) {
    bool ok = true;
    const char **string;
    *to = *from;
    for (size_t i = 0; (string = string_of(to, i)); i++) {
        if (!*string)
            continue;
        *string = strdup(*string);
        ok = ok && *string;
    }
    to->google.scopes = from->google.scopes ? text_list_dup(from->google.scopes) : NULL;
    return ok && (to->google.scopes || !from->google.scopes);
}

static void free_settings(struct bucket_settings *settings) {
    const char **string;
    char *secret = (char *)settings->secret;
    secret_free(&secret);
    settings->secret = NULL;
    for (size_t i = 0; (string = string_of(settings, i)); i++)
        free((void *)*string);
    free((void *)settings->google.scopes);
}

/* Keys, region or token: whatever the settings say. */
static bool make_sources(struct bucket *bucket) {
    const struct bucket_settings *settings = &bucket->settings;
    if (bucket_settings_credentials(settings) == BUCKET_CREDENTIALS_GOOGLE) {
        bucket->google = google_credential_source(&settings->google);
        if (bucket->google)
            credential_source_set_client(bucket->google, bucket->client);
        return bucket->google != NULL;
    }
    const struct aws_settings aws = {
        .key_id = settings->key_id,
        .secret_file = settings->secret_file,
        .secret = settings->secret,
        .profile = settings->aws_profile,
        .file = settings->aws_file,
        .region = settings->region,
    };
    bucket->aws = aws_source_new(&aws, bucket->client);
    return bucket->aws != NULL;
}

struct bucket *bucket_new(const struct bucket_settings *settings, struct client *client) {
    struct bucket *bucket = client ? calloc(1, sizeof *bucket) : NULL;
    if (!bucket)
        return NULL;
    bucket->client = client;
    snprintf(bucket->label, sizeof bucket->label, "%s://%s",
             settings->address.kind == BUCKET_GOOGLE ? "gs" : "s3", settings->address.name);
    lock_init(&bucket->learnt_lock);
    lock_init(&bucket->watch_lock);
    condition_init(&bucket->watch_changed);
    lanes_init(&bucket->lanes, client);
    breaker_init(&bucket->breaker, &breaker_rule);
    if (!copy_settings(settings, &bucket->settings) || !make_sources(bucket)) {
        bucket_free(bucket);
        return NULL;
    }
    bucket_show_up(bucket, true);
    return bucket;
}

void bucket_free(struct bucket *bucket) {
    if (!bucket)
        return;
    aws_source_free(bucket->aws);
    credential_source_free(bucket->google);
    lanes_finish(&bucket->lanes);
    breaker_finish(&bucket->breaker);
    lock_finish(&bucket->learnt_lock);
    condition_finish(&bucket->watch_changed);
    lock_finish(&bucket->watch_lock);
    free_settings(&bucket->settings);
    free(bucket);
}

const struct bucket_settings *bucket_settings(const struct bucket *bucket) {
    return &bucket->settings;
}

const char *bucket_label(const struct bucket *bucket) {
    return bucket->label;
}

bool bucket_is_up(const struct bucket *bucket) {
    return atomic_load(&bucket->is_up);
}

bool bucket_works(const struct bucket *bucket) {
    return bucket_is_up(bucket) || atomic_load(&bucket->is_slow);
}

void bucket_watch(struct bucket *bucket, int64_t until_ms) {
    atomic_store(&bucket->is_watched, true);
    lock_acquire(&bucket->watch_lock);
    while (!bucket->watcher_called && clock_ms() < until_ms)
        condition_wait_until(&bucket->watch_changed, &bucket->watch_lock, until_ms);
    bucket->watcher_called = false;
    lock_release(&bucket->watch_lock);
}

void bucket_call_watcher(struct bucket *bucket) {
    lock_acquire(&bucket->watch_lock);
    bucket->watcher_called = true;
    condition_broadcast(&bucket->watch_changed);
    lock_release(&bucket->watch_lock);
}

int64_t bucket_works_from_ms(struct bucket *bucket) {
    if (bucket_works(bucket))
        return 0;
    const int64_t asks_ms = bucket_asks_from_ms(bucket);
    const int64_t probe_ms = asks_ms ? asks_ms : clock_ms();
    return atomic_load(&bucket->is_watched) ? probe_ms + PROBE_MS : asks_ms;
}

int64_t bucket_asks_from_ms(struct bucket *bucket) {
    int64_t now = clock_ms(), wait = breaker_wait_ms(&bucket->breaker, now);
    return wait ? now + wait : 0;
}
