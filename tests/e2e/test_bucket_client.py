"""
The client of the bucket against a strict store, asked by `tarn check-bucket`: dialects, regions,
clocks, credentials that end, faults that pass, and documents that are hostile.
"""

import ssl
import threading
import time

import pytest

from kit import object_documents as documents
from kit.bucket_report import CHECKS, failed
from kit.object_store import KEY_ID

WRITES = "put|create|part|complete"


@pytest.fixture
def google_store(make_object_store, google):
    """A bucket of Google's that knows the tokens that `google` gives."""
    store = make_object_store("gcs")
    store.google = google
    return store


def metadata(google):
    return {"GCE_METADATA_HOST": google.host}


# ---- dialects

def test_google_takes_a_token(google_store, google, check_bucket):
    code, report, _ = check_bucket(google_store, environment=metadata(google))
    assert (code, failed(report)) == (0, {})
    assert (report["bucket"], report["credentials"], report["region"]) == \
        ("gs://cache/tarn", "google", "")
    for request in google_store.requests_of():
        assert request.headers["authorization"].startswith("Bearer ")
        assert not any(name.startswith("x-amz-") for name in request.headers)
    once = google_store.requests_of("put")[-1]
    assert once.headers["x-goog-if-generation-match"] == "0"
    assert not any("x-goog-if-generation-match" in request.headers
                   for request in google_store.requests_of("create|part|complete"))


def test_google_takes_a_key_too(make_object_store, check_bucket):
    store = make_object_store("gcs")
    code, report, _ = check_bucket(store, credentials="aws")
    assert code == 0
    assert list(failed(report)) == ["create_once"]  # it knows no condition in this dialect
    assert not any(name.startswith("x-goog-") for request in store.requests_of()
                   for name in request.headers)


@pytest.mark.parametrize("dialect", ["s3", "gcs"])
def test_a_public_bucket_needs_no_key(make_object_store, check_bucket, dialect):
    store = make_object_store(dialect)
    store.public = True
    code, report, _ = check_bucket(store, environment={}, credentials="anonymous")
    assert (code, report["credentials"]) == (0, "anonymous")
    assert not any("authorization" in request.headers for request in store.requests_of())


def test_a_session_token_is_signed(object_store, check_bucket):
    object_store.identities[KEY_ID].session_token = "FwoGZXIvYXdzEToken"
    code, report, _ = check_bucket(object_store)
    assert (code, failed(report)) == (0, {})


@pytest.mark.parametrize("style", [True, False])
def test_both_styles(object_store, check_bucket, style):
    host = "127.0.0.1" if style else "localhost"
    port = object_store.url.rpartition(":")[2]
    code, report, _ = check_bucket(object_store, path_style=style, endpoint=f"http://{host}:{port}")
    assert (code, failed(report)) == (0, {})
    for request in object_store.requests_of():
        assert request.raw_path.startswith("/cache") is style
        assert request.headers["host"] == ("" if style else "cache.") + f"{host}:{port}"


def test_storage_class_and_encryption_are_said_where_an_object_is_made(object_store, check_bucket):
    code, report, _ = check_bucket(object_store, storage_class="STANDARD_IA", encryption="aws:kms",
                            kms_key="arn:aws:kms:us-east-1:1:key/k")
    assert (code, failed(report)) == (0, {})
    for request in object_store.requests_of():
        makes = request.operation in ("put", "create")
        assert (request.headers.get("x-amz-storage-class") == "STANDARD_IA") is makes
        assert (request.headers.get("x-amz-server-side-encryption") == "aws:kms") is makes
        assert ("x-amz-server-side-encryption-aws-kms-key-id" in request.headers) is makes


def test_googles_words_for_storage_class_and_key(google_store, google, check_bucket):
    code, _, _ = check_bucket(google_store, environment=metadata(google), storage_class="NEARLINE")
    assert code == 0
    assert {request.operation for request in google_store.requests_of()
            if request.headers.get("x-goog-storage-class") == "NEARLINE"} == {"put", "create"}


def test_a_store_behind_tls_is_verified(make_object_store, check_bucket, authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority)
    store = make_object_store(tls=context)
    code, report, _ = check_bucket(store)
    assert code == 1 and "no trusted TLS connection" in failed(report)["list"]
    assert store.count() == 0
    code, report, _ = check_bucket(store, ca=authority[0])
    assert (code, failed(report)) == (0, {})
    # Over TLS the bytes of a part need no hash of their own.
    assert store.requests_of("part")[0].headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"


# ---- what is learnt

@pytest.mark.parametrize("how, status", [("malformed", 400), ("moved", 301), ("temporary", 307)])
def test_each_way_to_name_the_region(object_store, check_bucket, how, status):
    object_store.region, object_store.wrong_region = "eu-central-1", how
    code, report, _ = check_bucket(object_store, region="us-east-1")
    assert (code, report["region"], failed(report)) == (0, "eu-central-1", {})
    assert object_store.count(status=status) == 1


def test_no_region_is_configured(object_store, check_bucket):
    object_store.region = "eu-central-1"
    code, report, _ = check_bucket(object_store, region=None)
    assert (code, report["region"]) == (0, "eu-central-1")


def test_credentials_never_follow_a_redirect(object_store, make_object_store, check_bucket):
    other = make_object_store()
    object_store.region, object_store.wrong_region = "eu-central-1", "moved"
    object_store.moved_to = other.url + "/cache"
    code, _, _ = check_bucket(object_store, region="us-east-1")
    assert code == 0
    assert other.count() == 0


@pytest.mark.parametrize("offset", [-3600, 3600])
def test_a_clock_that_is_off(object_store, check_bucket, offset):
    object_store.clock_offset = offset
    code, report, _ = check_bucket(object_store)
    assert (code, failed(report)) == (0, {})
    assert abs(report["clock_seconds"] + offset) <= 10
    assert object_store.count(status=403) == 1


# ---- credentials that end

def test_an_expired_token_is_exchanged_once(object_store, check_bucket, tmp_path):
    file = tmp_path / "credentials"
    identity = object_store.identities[KEY_ID]
    identity.session_token = "FwoGZXIvYXdzEFirst"

    def write():
        file.write_text("[default]\n" + "".join(
            f"{name.lower()} = {value}\n" for name, value in object_store.environment.items()))

    write()
    expired = []

    def expire(request):
        expired.append(request)
        identity.session_token = "FwoGZXIvYXdzESecond"
        write()
        return True

    object_store.fault("get", code="ExpiredToken", when=expire, times=1)
    code, report, _ = check_bucket(object_store, environment={"AWS_SHARED_CREDENTIALS_FILE": str(file)})
    assert (code, failed(report)) == (0, {})
    assert expired


@pytest.mark.parametrize("code, status", [("ExpiredToken", 400), ("ExpiredToken", 403),
                                          ("InvalidToken", 400)])
def test_a_token_that_stays_refused_is_tried_once_more(object_store, check_bucket, code, status):
    object_store.fault("list", code=code, status=status)
    exit_code, report, _ = check_bucket(object_store)
    assert exit_code == 0
    assert f"{status} {code}" in failed(report)["list"]
    assert object_store.count("list") == 2


def test_googles_401_asks_for_another_token(google_store, google, check_bucket):
    google_store.fault("list", status=401, times=1)
    code, report, _ = check_bucket(google_store, environment=metadata(google))
    assert (code, failed(report)) == (0, {})
    assert google_store.count("list") == 2


# ---- faults that pass

@pytest.mark.parametrize("fault", [
    {"code": "SlowDown"}, {"code": "InternalError"}, {"code": "ServiceUnavailable"},
    {"code": "TooManyRequests"}, {"code": "RequestTimeout"}, {"code": "OperationAborted"},
    {"status": 502}, {"status": 504, "body": b"<html>gateway</html>"}, {"drop": True},
    {"reset": True}], ids=str)
@pytest.mark.parametrize("operation", ["put", "get", "create", "part", "complete", "list"])
def test_one_failure_passes(object_store, check_bucket, operation, fault):
    object_store.fault(operation, times=1, **fault)
    code, report, _ = check_bucket(object_store)
    assert (code, failed(report)) == (0, {})
    assert object_store.keys() == [] and object_store.uploads == {}


@pytest.mark.parametrize("late", ["InternalError", "SlowDown"])
def test_a_completion_that_fails_behind_its_200_is_sent_again(object_store, check_bucket, late):
    object_store.fault("complete", late_code=late, times=1)
    code, report, _ = check_bucket(object_store)
    assert (code, failed(report)) == (0, {})
    assert object_store.count("complete") == 2


def test_a_completion_that_is_refused_behind_its_200_is_told(object_store, check_bucket):
    object_store.fault("complete", late_code="InvalidPart")
    code, report, _ = check_bucket(object_store)
    assert code == 1
    assert list(failed(report)) == ["multipart"]
    assert "InvalidPart" in failed(report)["multipart"]
    assert object_store.uploads == {}


@pytest.mark.parametrize("first", [True, False])
def test_a_completion_takes_its_time(object_store, check_bucket, first):
    object_store.blanks, object_store.blank_pause, object_store.blanks_first = 6, 0.5, first
    code, report, _ = check_bucket(object_store)
    assert (code, failed(report)) == (0, {})
    assert object_store.count("complete") == 1


def test_a_body_that_breaks_off_is_read_again(object_store, check_bucket):
    object_store.fault("get", reset_after=10, times=1)
    code, report, _ = check_bucket(object_store)
    assert (code, failed(report)) == (0, {})


# ---- hostile answers

@pytest.mark.parametrize("body", [
    documents.entity_bomb("ListBucketResult"), documents.entity_bomb(),
    documents.deep("ListBucketResult"), documents.huge(size=4 << 20), b"", b"\xff\xfe<a/>",
    b"<ListBucketResult>", b"{}"], ids=["bomb", "error bomb", "deep", "huge", "empty", "utf16",
                                        "open", "json"])
@pytest.mark.parametrize("status", [200, 403])
def test_hostile_documents_are_refused(object_store, check_bucket, body, status):
    object_store.fault("list", status=status, body=body)
    started = time.monotonic()
    code, report, _ = check_bucket(object_store)
    assert code in (0, 1)
    assert "list" in failed(report)
    assert time.monotonic() - started < 25


def test_an_external_entity_is_not_fetched(object_store, make_object_store, check_bucket):
    other = make_object_store()
    object_store.fault("list", status=400,
                       body=documents.external_entity(other.url + "/secret"))
    check_bucket(object_store)
    assert other.count() == 0


def test_an_answer_that_repeats_what_was_sent_reaches_nobody(object_store, check_bucket):
    def repeat(request):
        fault.body = documents.error("X" + request.headers["authorization"],
                                     request.headers["authorization"])
        return True

    fault = object_store.fault(WRITES, status=403, when=repeat)
    code, report, errors = check_bucket(object_store)
    assert code == 1
    assert "AWS4-HMAC" not in str(report) + errors


def test_a_silent_store_is_left_in_time(object_store, check_bucket):
    gate = threading.Event()
    object_store.fault("put", hold_head=True, gate=gate)
    started = time.monotonic()
    code, report, _ = check_bucket(object_store)
    gate.set()
    assert code == 1
    assert time.monotonic() - started < 30
    assert [one["name"] for one in report["checks"]] == CHECKS
