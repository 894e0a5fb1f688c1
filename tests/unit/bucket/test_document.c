/* The XML of an object store. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include "base/buffer.h"
#include "bucket/document.h"

#define LIST(inner)                                                                                \
    "<?xml version=\"1.0\"?>\n<ListBucketResult "                                                  \
    "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">" inner "</ListBucketResult>"

static bool append_entry(void *context, const struct bucket_entry *entry, struct error *error) {
    (void)error;
    return buffer_printf(context, "%s %llu %lld %s\n", entry->key, (unsigned long long)entry->size,
                         (long long)entry->modified_s, entry->upload_id ? entry->upload_id : "-");
}

/* The entries of a list, one a line, "!" and the error if it is refused. */
static bool read_list(const char *xml, bool uploads, struct bucket_page *page, struct buffer *out) {
    struct error error = {0};
    buffer_clear(out);
    if (bucket_document_list(text_of(xml), uploads, page, append_entry, out, &error))
        return true;
    assert_int_equal(error.kind, ERROR_UNAVAILABLE);
    return false;
}

static void test_an_error_tells_code_and_region(void **state) {
    (void)state;
    struct bucket_fault fault;
    assert_true(bucket_document_fault(
        text_of("<?xml version=\"1.0\"?><Error><Code>AuthorizationHeaderMalformed</Code><Message>m"
                "</Message><Region>eu-central-1</Region></Error>"),
        &fault));
    assert_string_equal(fault.code, "AuthorizationHeaderMalformed");
    assert_string_equal(fault.region, "eu-central-1");
}

static void test_what_is_no_code_and_no_region_is_dropped(void **state) {
    (void)state;
    struct bucket_fault fault;
    assert_true(bucket_document_fault(
        text_of("<Error><Code>a b\nc</Code><Region>evil.example/x</Region></Error>"), &fault));
    assert_string_equal(fault.code, "");
    assert_string_equal(fault.region, "");
    assert_false(bucket_document_fault(text_of("<html><Code>X</Code></html>"), &fault));
    assert_false(bucket_document_fault(text_of("no XML"), &fault));
    assert_false(bucket_document_fault(text_of(""), &fault));
    assert_false(bucket_document_fault(
        text_of("<!DOCTYPE e [<!ENTITY a \"b\">]><Error><Code>&a;</Code></Error>"), &fault));
    assert_string_equal(fault.code, "");
}

static void test_a_list_tells_its_entries(void **state) {
    (void)state;
    static struct bucket_page page;
    cleanup_buffer struct buffer out = {0};
    assert_true(read_list(
        LIST("<Name>n</Name><IsTruncated>true</IsTruncated><NextContinuationToken>a+b/=</"
             "NextContinuationToken><Contents><Key>a&amp;b</Key><LastModified>2024-05-01T00:00:00."
             "000Z</LastModified><ETag>\"x\"</ETag><Size>12</Size><Owner><ID>i</ID></Owner>"
             "</Contents><Contents><Key>c</Key><Size>0</Size></Contents>"),
        false, &page, &out));
    assert_string_equal(out.bytes, "a&b 12 1714521600 -\nc 0 0 -\n");
    assert_true(page.truncated);
    assert_string_equal(page.token, "a+b/=");
}

static void test_encoded_keys_are_decoded(void **state) {
    (void)state;
    static struct bucket_page page;
    cleanup_buffer struct buffer out = {0};
    assert_true(read_list(LIST("<Contents><Key>a%2Fb+c%2B</Key><Size>1</Size></Contents>"
                               "<EncodingType>url</EncodingType>"),
                          false, &page, &out));
    assert_string_equal(out.bytes, "a/b c+ 1 0 -\n");
    assert_true(read_list(LIST("<Contents><Key>a%2Fb+c</Key><Size>1</Size></Contents>"), false,
                          &page, &out));
    assert_string_equal(out.bytes, "a%2Fb+c 1 0 -\n");
}

static void test_unfinished_uploads_are_listed(void **state) {
    (void)state;
    static struct bucket_page page;
    cleanup_buffer struct buffer out = {0};
    assert_true(read_list(
        "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>k</"
        "NextKeyMarker>"
        "<NextUploadIdMarker>i</NextUploadIdMarker><Upload><Key>k</Key><UploadId>i</UploadId>"
        "<Initiated>1970-01-01T00:00:07Z</Initiated></Upload></ListMultipartUploadsResult>",
        true, &page, &out));
    assert_string_equal(out.bytes, "k 0 7 i\n");
    assert_string_equal(page.token, "k");
    assert_string_equal(page.id_token, "i");
}

static void test_a_list_that_is_none_is_refused(void **state) {
    (void)state;
    static const char *const wrong[] = {
        "",
        "x",
        "<Error><Code>X</Code></Error>",
        "<ListBucketResult>",
        LIST("<Contents><Size>1</Size></Contents>"),
        LIST("<Contents><Key></Key><Size>1</Size></Contents>"),
        LIST("<Contents><Key>a</Key><Size>-1</Size></Contents>"),
        LIST("<Contents><Key>a</Key><Size>99999999999999999999</Size></Contents>"),
        LIST("<IsTruncated>true</IsTruncated>"),
        LIST("<a><b><c><d><e><f><g><h></h></g></f></e></d></c></b></a>"),
        LIST("<EncodingType>url</EncodingType><Contents><Key>%zz</Key></Contents>"),
    };
    static struct bucket_page page;
    cleanup_buffer struct buffer out = {0};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        if (read_list(wrong[i], false, &page, &out))
            fail_msg("%s was accepted", wrong[i]);
    }
    cleanup_buffer struct buffer long_key = {0};
    buffer_append_string(&long_key, "<ListBucketResult><Contents><Key>");
    for (int i = 0; i < 1025; i++)
        buffer_append_string(&long_key, "k");
    buffer_append_string(&long_key, "</Key></Contents></ListBucketResult>");
    assert_false(read_list(long_key.bytes, false, &page, &out));
}

static void test_an_upload_has_an_id(void **state) {
    (void)state;
    char id[BUCKET_UPLOAD_ID_SIZE];
    struct error error = {0};
    assert_true(bucket_document_upload(
        text_of("<InitiateMultipartUploadResult><UploadId>a.b-c_/+=</UploadId>"
                "</InitiateMultipartUploadResult>"),
        id, &error));
    assert_string_equal(id, "a.b-c_/+=");
    assert_false(bucket_document_upload(
        text_of("<InitiateMultipartUploadResult></InitiateMultipartUploadResult>"), id, &error));
    assert_false(
        bucket_document_upload(text_of("<InitiateMultipartUploadResult><UploadId>a b</UploadId>"
                                       "</InitiateMultipartUploadResult>"),
                               id, &error));
    assert_string_equal(id, "");
}

static void test_only_the_body_says_that_an_upload_is_complete(void **state) {
    (void)state;
    struct bucket_fault fault;
    struct error error = {0};
    assert_true(bucket_document_completion(
        text_of(
            "  \r\n\t <?xml version=\"1.0\"?>\n   \n<CompleteMultipartUploadResult><ETag>x</ETag>"
            "</CompleteMultipartUploadResult>"),
        &fault, &error));
    assert_string_equal(fault.code, "");
    assert_true(bucket_document_completion(text_of("   <Error><Code>InternalError</Code></Error>"),
                                           &fault, &error));
    assert_string_equal(fault.code, "InternalError");
    assert_false(bucket_document_completion(text_of("      "), &fault, &error));
    assert_false(bucket_document_completion(text_of(""), &fault, &error));
    assert_false(bucket_document_completion(text_of("<html/>"), &fault, &error));
    assert_false(bucket_document_completion(text_of("<Error></Error>"), &fault, &error));
    assert_false(bucket_document_completion(
        text_of("<CompleteMultipartUploadResult><ETag>x</ETag>"), &fault, &error));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_error_tells_code_and_region),
        cmocka_unit_test(test_what_is_no_code_and_no_region_is_dropped),
        cmocka_unit_test(test_a_list_tells_its_entries),
        cmocka_unit_test(test_encoded_keys_are_decoded),
        cmocka_unit_test(test_unfinished_uploads_are_listed),
        cmocka_unit_test(test_a_list_that_is_none_is_refused),
        cmocka_unit_test(test_an_upload_has_an_id),
        cmocka_unit_test(test_only_the_body_says_that_an_upload_is_complete),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
