/* The pages of tags and the manifests that an upstream sends for a list of images: a NUL byte ends
 * a response. Whatever it sends, a list that can be written and chosen from is the result, or an
 * error. */
#include <stdio.h>
#include <string.h>
#include "catalog/select.h"
#include "catalog/source.h"
#include "fuzz.h"

struct upstream {
    struct upstream_settings settings;
    struct text rest; /* responses to come */
    unsigned count;   /* of requests */
};

const struct upstream_settings *upstream_settings(const struct upstream *upstream) {
    return &upstream->settings;
}

unsigned upstream_places(const struct upstream *upstream) {
    (void)upstream;
    return 1;
}

void upstream_target_finish(struct upstream_target *target) {
    (void)target;
}

enum head_refusal upstream_judge_head(const struct error *error) {
    (void)error;
    return HEAD_DOUBTFUL;
}

bool upstream_refuses_head(struct upstream *upstream, const struct upstream_request *request) {
    (void)request;
    return upstream->count % 2 == 0;
}

void upstream_note_head(struct upstream *upstream, const struct upstream_request *request,
                        const struct error *refusal) {
    (void)upstream, (void)request, (void)refusal;
}

bool upstream_perform(struct upstream *upstream, const struct upstream_request *request,
                      const struct upstream_sink *sink, struct error *error) {
    struct upstream_head head = {.status = 200};
    if (!upstream->rest.at)
        return error_set(error, upstream->count % 2 ? ERROR_RATE_LIMITED : ERROR_UNAVAILABLE,
                         "no more");
    struct text body = text_cut(upstream->rest, '\0', &upstream->rest);
    upstream->count++;
    if (request->what == UPSTREAM_TAGS && upstream->rest.at && body.length % 2)
        snprintf(head.next, sizeof head.next, "/%u", upstream->count);
    if (request->head_only)
        head.has_digest = digest_of(DIGEST_SHA256, body.at, body.length, &head.digest);
    return sink->on_head(sink->context, &head, error) &&
           (request->head_only || sink->on_bytes(sink->context, body.at, body.length, error));
}

static void check(struct catalog_list *list) {
    struct buffer text = {0};
    for (size_t i = 0; i < list->count; i++) {
        const struct catalog_image *image = &list->images[i];
        for (uint32_t tag = 0; tag < image->tag_count; tag++) {
            MUST(reference_is_tag(text_of(image->tags[tag])));
            MUST(tag == 0 || strcmp(image->tags[tag - 1], image->tags[tag]) < 0);
        }
        catalog_image_append_json(image, &text);
    }
    MUST(!text.failed);
    buffer_finish(&text);
    const struct catalog_selection all = {.all = true};
    size_t count = list->count;
    catalog_list_select(list, &all);
    MUST(list->count == count);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    if (length == 0)
        return 0;
    struct upstream upstream = {.rest = {(const char *)bytes + 1, length - 1}};
    struct catalog_question question = {.no_digests = bytes[0] & 1,
                                        .sizes = bytes[0] & 2,
                                        .jobs = 1,
                                        .digest_of = docker_digest_by_head};
    struct catalog_list list = {0};
    struct error error = {0};
    question.repository.upstream = &upstream;
    MUST(repository_name_parse(text_of("fuzz.test"), text_of("app"), &question.repository.name));
    enum catalog_outcome outcome = docker_list_images(&question, &list, &error);
    MUST(outcome == CATALOG_COMPLETE || error.kind != ERROR_NONE);
    catalog_list_seal(&list);
    check(&list);
    catalog_list_finish(&list);
    return 0;
}
