"""
The object store of the kit is as strict as the services, as independent clients say: boto3, and
docker-registry with its s3 driver. If one of these tests fails, no test of the bucket means much.
"""

import base64
import hashlib
import http.client
import threading
import time

import boto3
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError, ConnectionClosedError, HTTPClientError

from kit import object_documents as documents
from kit.client import fetch
from kit.content import KIB, MIB, noise
from kit.object_signature import Identity, canonical_request, signature
from kit.object_store import KEY_ID, SECRET, StoreRequest
from kit.processes import Program, accepts, free_port, run, wait_until
from kit.tarn import bare_environment
from kit.yaml_text import yaml_text

BLOB = noise(MIB)


def client_of(store, region=None, **more):
    """A boto3 client that does not try again."""
    key_id, identity = next(iter(store.identities.items()))
    options = {"retries": {"total_max_attempts": 1}, "s3": {"addressing_style": "path"},
               "read_timeout": 10, **more}
    return boto3.client("s3", endpoint_url=store.url, region_name=region or store.region,
                        aws_access_key_id=key_id, aws_secret_access_key=identity.secret,
                        aws_session_token=identity.session_token, config=Config(**options))


@pytest.fixture
def client(object_store):
    return client_of(object_store)


def refused(call, *arguments, **named):
    """(status, code) of the error that a call raises."""
    with pytest.raises(ClientError) as caught:
        call(*arguments, **named)
    answer = caught.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def signed(store, method, path, body=b"", region=None, auth=S3SigV4Auth):
    """A request signed by botocore, sent as it is; (status, code)."""
    request = AWSRequest(method, store.url + path, {}, body)
    auth(Credentials(KEY_ID, SECRET), "s3", region or store.region).add_auth(request)
    reply = fetch(store.url + path, dict(request.headers.items()), method=method, body=body)
    return reply.status, documents_code(reply.body)


def documents_code(body):
    return body.partition(b"<Code>")[2].partition(b"</Code>")[0].decode()


# ---- signatures

VECTORS = [
    ("GET", "/test.txt", "", {"range": "bytes=0-9"}, b"",
     "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"),
    ("PUT", "/test$file.text", "", {"date": "Fri, 24 May 2013 00:00:00 GMT",
                                    "x-amz-storage-class": "REDUCED_REDUNDANCY"},
     b"Welcome to Amazon S3.",
     "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"),
    ("GET", "/", "lifecycle", {}, b"",
     "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
    ("GET", "/", "max-keys=2&prefix=J", {}, b"",
     "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
]


@pytest.mark.parametrize("method, path, query, headers, body, expected", VECTORS)
def test_it_computes_the_published_signatures(method, path, query, headers, body, expected):
    payload = hashlib.sha256(body).hexdigest()
    fields = sorted({"host": "examplebucket.s3.amazonaws.com", "x-amz-date": "20130524T000000Z",
                     "x-amz-content-sha256": payload, **headers}.items())
    request = StoreRequest("", method, "", dict(fields), path, query, fields=fields, raw_path=path)
    canonical = canonical_request(request, [name for name, _ in fields], payload)
    assert signature("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "20130524T000000Z",
                     "20130524/us-east-1/s3/aws4_request", canonical) == expected


@pytest.mark.parametrize("key", ["plain", "a/b c/d+e", "ü/=:@&?#%25", "a//b/./c", "~-._*'()"])
def test_it_accepts_what_boto3_signs(object_store, client, key):
    client.put_object(Bucket="cache", Key=key, Body=BLOB)
    assert object_store.keys() == [key]
    assert client.get_object(Bucket="cache", Key=key)["Body"].read() == BLOB
    assert client.list_objects_v2(Bucket="cache", Prefix=key)["Contents"][0]["Key"] == key


def test_it_refuses_other_secrets_and_key_ids(object_store):
    object_store.put("key", BLOB)
    other = client_of(object_store)
    object_store.identities = {KEY_ID: Identity("another")}
    assert refused(other.get_object, Bucket="cache", Key="key") == (403, "SignatureDoesNotMatch")
    object_store.identities = {}
    assert refused(other.get_object, Bucket="cache", Key="key") == (403, "InvalidAccessKeyId")


def test_it_refuses_requests_without_a_signature_unless_public(object_store):
    object_store.put("key", BLOB)
    assert fetch(f"{object_store.url}/cache/key").status == 403
    object_store.public = True
    assert fetch(f"{object_store.url}/cache/key").body == BLOB


@pytest.mark.parametrize("offset", [-1200, 1200])
def test_it_refuses_a_clock_that_is_off(object_store, client, offset):
    object_store.clock_offset = offset
    assert refused(client.get_object, Bucket="cache", Key="k") == (403, "RequestTimeTooSkewed")


def test_it_wants_the_session_token(object_store):
    object_store.identities[KEY_ID].session_token = "session"
    client = client_of(object_store)
    client.put_object(Bucket="cache", Key="key", Body=b"")
    object_store.identities[KEY_ID].session_token = "another"
    assert refused(client.get_object, Bucket="cache", Key="key") == (400, "InvalidToken")
    object_store.identities[KEY_ID].expired = True
    object_store.token_status = 403
    assert refused(client.get_object, Bucket="cache", Key="key") == (403, "ExpiredToken")


@pytest.mark.parametrize("how, status, code", [
    ("malformed", 400, "AuthorizationHeaderMalformed"), ("moved", 301, "PermanentRedirect"),
    ("temporary", 307, "TemporaryRedirect")])
def test_it_names_the_right_region(object_store, how, status, code):
    object_store.region, object_store.wrong_region = "eu-central-1", how
    assert signed(object_store, "GET", "/cache/key", region="us-east-1") == (status, code)
    assert signed(object_store, "GET", "/cache/key") == (404, "NoSuchKey")
    if how == "malformed":
        assert refused(client_of(object_store, "us-east-1").get_object, Bucket="cache",
                       Key="key") == (404, "NoSuchKey")  # boto3 learns the region and asks again


def test_it_refuses_another_payload_and_headers_that_are_not_signed(object_store):
    store = object_store
    headers = {"x-amz-content-sha256": hashlib.sha256(b"x").hexdigest()}
    request = AWSRequest("PUT", f"{store.url}/cache/key", headers, b"x")
    S3SigV4Auth(Credentials(KEY_ID, SECRET), "s3", store.region).add_auth(request)
    right = dict(request.headers.items())

    def put(body, **more):
        return documents_code(fetch(f"{store.url}/cache/key", {**right, **more}, method="PUT",
                                    body=body).body)

    assert put(b"y") == "XAmzContentSHA256Mismatch"
    assert store.keys() == [] and store.problems == []
    assert put(b"x", **{"x-amz-storage-class": "STANDARD_IA"}) == "AccessDenied"
    assert put(b"x", **{"content-type": "text/plain"}) == "AccessDenied"
    assert put(b"x", **{"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}) == "SignatureDoesNotMatch"
    assert put(b"x") == "" and store.get("key") == b"x"
    assert len(store.problems) == 2
    store.problems.clear()


def test_it_refuses_a_header_that_is_sent_twice(object_store):
    connection = http.client.HTTPConnection(object_store.host, object_store.port, timeout=10)
    connection.putrequest("GET", "/cache/key")
    connection.putheader("x-amz-date", "20130524T000000Z")
    connection.putheader("X-Amz-Date", "20130524T000000Z")
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, documents_code(answer.read())) == (400, "InvalidRequest")
    connection.close()
    assert object_store.problems == ["sent twice: ['x-amz-date']"]
    object_store.problems.clear()


class Unsigned(S3SigV4Auth):
    def payload(self, _request):
        return "UNSIGNED-PAYLOAD"


def test_it_wants_https_for_an_unsigned_payload(object_store):
    assert signed(object_store, "PUT", "/cache/key", body=b"x", auth=Unsigned) == \
        (403, "AccessDenied")
    assert len(object_store.problems) == 1 and object_store.keys() == []
    object_store.problems.clear()


def test_it_knows_a_bucket_in_the_host_name(object_store):
    object_store.put("a/key", BLOB)
    object_store.public = True
    reply = fetch(f"{object_store.url}/a/key", {"Host": f"cache.s3.test:{object_store.port}"})
    assert reply.body == BLOB


# ---- objects

def test_it_serves_ranges(object_store, client):
    object_store.put("key", BLOB)

    def get(wanted):
        answer = client.get_object(Bucket="cache", Key="key", Range=wanted)
        return answer["ContentRange"], answer["Body"].read()

    assert get("bytes=10-19") == (f"bytes 10-19/{MIB}", BLOB[10:20])
    assert get("bytes=-5") == (f"bytes {MIB - 5}-{MIB - 1}/{MIB}", BLOB[-5:])
    assert get(f"bytes={MIB - 1}-{MIB + 5}")[1] == BLOB[-1:]
    assert refused(client.get_object, Bucket="cache", Key="key", Range=f"bytes={MIB}-") == \
        (416, "InvalidRange")
    object_store.put("empty", b"")
    assert refused(client.get_object, Bucket="cache", Key="empty", Range="bytes=0-") == \
        (416, "InvalidRange")
    assert object_store.sent_bytes() == 10 + 5 + 1


def test_absent_keys_look_forbidden_without_the_permission_to_list(object_store, client):
    assert refused(client.get_object, Bucket="cache", Key="key") == (404, "NoSuchKey")
    assert refused(client.head_object, Bucket="cache", Key="key") == (404, "404")
    object_store.forbidden.add("list")
    assert refused(client.get_object, Bucket="cache", Key="key") == (403, "AccessDenied")
    assert refused(client.head_object, Bucket="cache", Key="key") == (403, "403")
    assert refused(client.list_objects_v2, Bucket="cache") == (403, "AccessDenied")
    assert refused(client.get_object, Bucket="another", Key="key") == (404, "NoSuchBucket")


def test_it_checks_checksums(object_store, client):
    wrong = base64.b64encode(hashlib.md5(b"y").digest()).decode()
    assert refused(client.put_object, Bucket="cache", Key="key", Body=b"x",
                   ContentMD5=wrong) == (400, "BadDigest")
    wrong = base64.b64encode(hashlib.sha256(b"y").digest()).decode()
    assert refused(client.put_object, Bucket="cache", Key="key", Body=b"x",
                   ChecksumSHA256=wrong) == (400, "BadDigest")
    assert object_store.keys() == []


def create_once(client, **more):
    """put_object with If-None-Match, which this boto3 does not know."""
    def add(request, **_):
        if "If-None-Match" not in request.headers:
            request.headers["If-None-Match"] = "*"
    client.meta.events.register_first("before-sign.s3.PutObject", add)
    return client.put_object(Bucket="cache", Key="once", **more)


def test_of_many_who_create_one_wins(object_store):
    codes = []

    def race(number):
        try:
            create_once(client_of(object_store), Body=b"%d" % number)
            codes.append(200)
        except ClientError as error:
            codes.append(error.response["Error"]["Code"])

    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes, key=str) == [200] + ["PreconditionFailed"] * 7


def test_conditional_writes_may_be_missing(object_store, client):
    object_store.conditionals = "501"
    assert refused(create_once, client, Body=b"1") == (501, "NotImplemented")
    object_store.conditionals = "ignored"
    create_once(client, Body=b"1")
    create_once(client, Body=b"2")
    assert object_store.get("once") == b"2"


def test_a_write_is_seen_at_once_and_a_delete_of_nothing_is_right(object_store, client):
    client.put_object(Bucket="cache", Key="key", Body=b"1", StorageClass="STANDARD_IA",
                      ServerSideEncryption="aws:kms", SSEKMSKeyId="arn:aws:kms:x")
    assert client.head_object(Bucket="cache", Key="key")["StorageClass"] == "STANDARD_IA"
    client.copy_object(Bucket="cache", Key="copy", CopySource={"Bucket": "cache", "Key": "key"})
    assert object_store.get("copy") == b"1"
    for _ in range(2):
        client.delete_object(Bucket="cache", Key="key")
    client.delete_objects(Bucket="cache", Delete={"Objects": [{"Key": "copy"}, {"Key": "x"}]})
    assert object_store.keys() == []
    object_store.forbidden.add("delete")
    assert refused(client.delete_object, Bucket="cache", Key="key") == (403, "AccessDenied")


# ---- lists

KEYS = sorted(["a", "a/b", "a/c/d", "a/c/e", "b", "A", "é", "a b", "a+b", "\x01", "<&>"],
              key=str.encode)


@pytest.mark.parametrize("page", [1, 2, 1000])
def test_it_lists_in_the_order_of_bytes_page_by_page(object_store, client, page):
    object_store.page_size = page
    for key in KEYS:
        object_store.put(key, b"x")
    for version in ("list_objects_v2", "list_objects"):
        pages = client.get_paginator(version).paginate(Bucket="cache")
        assert [one["Key"] for page in pages for one in page.get("Contents", [])] == KEYS
    after = client.list_objects_v2(Bucket="cache", StartAfter="a/c", MaxKeys=1)["Contents"]
    assert after[0]["Key"] == "a/c/d"
    folders = client.get_paginator("list_objects_v2").paginate(Bucket="cache", Prefix="a/",
                                                               Delimiter="/")
    assert [(one.get("Prefix") or one["Key"]) for page in folders
            for one in page.get("Contents", []) + page.get("CommonPrefixes", [])] == \
        ["a/b", "a/c/"]
    assert refused(client.list_objects_v2, Bucket="cache", ContinuationToken="%") == \
        (400, "InvalidArgument")
    object_store.problems.clear()


# ---- multipart uploads

PARTS = [noise(5 * MIB, seed) for seed in range(2)] + [b"the end"]


def begin(client, key="key", parts=()):
    """(upload id, the list for the completion) of an upload with these parts."""
    upload = client.create_multipart_upload(Bucket="cache", Key=key)["UploadId"]
    done = []
    for number, part in enumerate(parts, 1):
        answer = client.upload_part(Bucket="cache", Key=key, UploadId=upload, PartNumber=number,
                                    Body=part)
        done.append({"PartNumber": number, "ETag": answer["ETag"]})
    return upload, done


def complete(client, upload, parts, key="key"):
    return client.complete_multipart_upload(Bucket="cache", Key=key, UploadId=upload,
                                            MultipartUpload={"Parts": parts})


@pytest.mark.parametrize("blanks", [0, 5])
def test_nothing_is_seen_before_the_completion(object_store, client, blanks):
    object_store.blanks = blanks
    upload, parts = begin(client, parts=PARTS)
    assert object_store.keys() == []
    listed = client.list_parts(Bucket="cache", Key="key", UploadId=upload)["Parts"]
    assert [part["Size"] for part in listed] == [5 * MIB, 5 * MIB, 7]
    assert complete(client, upload, parts)["ETag"].endswith('-3"')
    assert object_store.get("key") == b"".join(PARTS) and object_store.uploads == {}
    assert object_store.received_bytes("key") == len(b"".join(PARTS))


def test_it_refuses_wrong_completions(object_store, client):
    upload, parts = begin(client, parts=PARTS)
    assert refused(complete, client, upload, parts[::-1]) == (400, "InvalidPartOrder")
    wrong = [{**parts[0], "ETag": '"0"'}, *parts[1:]]
    assert refused(complete, client, upload, wrong) == (400, "InvalidPart")
    assert refused(complete, client, upload, [*parts, {**parts[2], "PartNumber": 4}]) == \
        (400, "InvalidPart")
    assert refused(complete, client, "none", parts) == (404, "NoSuchUpload")
    small, small_parts = begin(client, parts=PARTS[::-1])
    assert refused(complete, client, small, small_parts) == (400, "EntityTooSmall")
    assert refused(client.upload_part, Bucket="cache", Key="key", UploadId=upload,
                   PartNumber=10001, Body=b"x") == (400, "InvalidArgument")
    assert object_store.keys() == []
    client.abort_multipart_upload(Bucket="cache", Key="key", UploadId=upload)
    assert refused(client.abort_multipart_upload, Bucket="cache", Key="key", UploadId=upload) == \
        (404, "NoSuchUpload")
    assert len(object_store.problems) == 2
    object_store.problems.clear()


def test_a_completion_may_fail_after_its_200(object_store, client):
    upload, parts = begin(client, parts=PARTS[:1])
    object_store.fault("complete", late_code="InternalError", times=1)
    with pytest.raises(ClientError):
        complete(client, upload, parts)
    assert object_store.requests_of("complete")[0].status == 200
    assert object_store.keys() == []
    complete(client, upload, parts)
    assert object_store.keys() == ["key"]


@pytest.mark.parametrize("page", [2, 1000])
def test_it_lists_uploads(object_store, client, page):
    object_store.page_size = page
    begun = sorted((key, begin(client, key)[0]) for key in ["a", "b/c", "b/c", "b/d", "e"])
    object_store.make_older(90000, "b/c")
    for prefix, expected in [("", begun), ("b/", begun[1:4]), ("x", [])]:
        pages = client.get_paginator("list_multipart_uploads").paginate(Bucket="cache",
                                                                        Prefix=prefix)
        uploads = [one for page in pages for one in page.get("Uploads", [])]
        assert [(one["Key"], one["UploadId"]) for one in uploads] == expected
        old = [one["Key"] for one in uploads if one["Initiated"].timestamp() < time.time() - 86400]
        assert old == (["b/c"] * 2 if expected else [])


def test_the_same_bytes_may_have_other_etags(object_store, client):
    object_store.etags = "random"
    tags = {client.put_object(Bucket="cache", Key="key", Body=b"x")["ETag"] for _ in range(3)}
    assert len(tags) == 3
    upload, parts = begin(client, parts=PARTS)
    complete(client, upload, parts)
    assert object_store.get("key") == b"".join(PARTS)


# ---- faults

@pytest.mark.parametrize("code, status", [("SlowDown", 503), ("InternalError", 500),
                                          ("TooManyRequests", 429)])
def test_it_fails_as_told_and_heals(object_store, client, code, status):
    object_store.put("key", BLOB)
    object_store.fault("get", "^key$", code=code, times=1)
    assert refused(client.get_object, Bucket="cache", Key="key") == (status, code)
    assert client.get_object(Bucket="cache", Key="key")["Body"].read() == BLOB
    assert [(one.operation, one.code, one.status) for one in object_store.requests] == \
        [("get", code, status), ("get", "", 200)]


def test_it_breaks_off_bodies_in_both_directions(object_store, client):
    object_store.put("key", BLOB)
    object_store.public = True
    object_store.fault("get", reset_after=1000, times=1)
    reply = fetch(f"{object_store.url}/cache/key")
    assert (reply.complete, reply.body == BLOB[:1000]) == (False, True)
    object_store.fault("put", upload_reset_after=3000, times=1)
    with pytest.raises((ConnectionClosedError, HTTPClientError)):
        client.put_object(Bucket="cache", Key="other", Body=BLOB)
    assert object_store.requests_of("put")[0].received == 3000
    assert object_store.keys() == ["key"]


def test_it_stalls_in_the_middle_of_an_upload(object_store, client):
    held = object_store.fault("put", upload_hold_after=1000)
    thread = threading.Thread(target=client.put_object,
                              kwargs={"Bucket": "cache", "Key": "key", "Body": BLOB})
    thread.start()
    wait_until(lambda: any(one.received == 1000 for one in object_store.requests), "the stall")
    assert object_store.keys() == []
    held.gate.set()
    thread.join()
    assert object_store.get("key") == BLOB


@pytest.mark.parametrize("fault, expected", [
    ({"flip": 5}, BLOB[:5] + bytes([BLOB[5] ^ 0xff]) + BLOB[6:]), ({"content": b"short"}, b"short"),
    ({"content": BLOB + b"long"}, BLOB + b"long"), ({"content": b""}, b"")])
def test_it_sends_other_bytes(object_store, fault, expected):
    object_store.put("key", BLOB)
    object_store.public = True
    object_store.fault("get", **fault)
    assert fetch(f"{object_store.url}/cache/key").body == expected
    assert object_store.get("key") == BLOB


def test_its_hostile_documents_are_what_they_say():
    assert len(documents.entity_bomb()) < 2 * KIB
    assert documents.huge(size=MIB).count(b"x") > MIB - 1
    assert documents.deep(depth=10).count(b"<Error>") == 10
    assert b"SYSTEM" in documents.external_entity("http://127.0.0.1:1/")


# ---- Google's dialect

@pytest.fixture
def google_store(make_object_store):
    store = make_object_store("gcs")
    store.bearer["token"] = time.time() + 3600
    return store


def google_ask(store, method, path, body=b"", token="token", **headers):
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return fetch(f"{store.url}/cache{path}", {"Authorization": f"Bearer {token}", **sent},
                 method=method, body=body)


def test_google_takes_access_tokens(google_store, google):
    assert google_ask(google_store, "PUT", "/key", BLOB).status == 200
    got = google_ask(google_store, "GET", "/key")
    assert (got.body == BLOB, got["x-goog-generation"]) == (True, "1")
    assert google_ask(google_store, "GET", "/key", token="other").status == 401
    google_store.clock_offset = 7200
    assert google_ask(google_store, "GET", "/key").status == 401
    google_store.clock_offset = 0
    google_store.google = google
    cloud = google.give_access("x", ["https://www.googleapis.com/auth/cloud-platform"])
    assert google_ask(google_store, "GET", "/key", token=cloud).status == 200
    mail = google.give_access("x", ["https://www.googleapis.com/auth/userinfo.email"])
    assert google_ask(google_store, "GET", "/key", token=mail).status == 403


def test_google_creates_once_by_generation_and_not_in_multipart_uploads(google_store):
    once = {"x_goog_if_generation_match": "0"}
    assert google_ask(google_store, "PUT", "/key", b"1", **once).status == 200
    assert google_ask(google_store, "PUT", "/key", b"2", **once).status == 412
    assert google_store.problems == []
    assert google_ask(google_store, "POST", "/key?uploads", **once).status == 400
    assert google_ask(google_store, "PUT", "/key", b"2", If_None_Match="*").status == 400
    assert google_ask(google_store, "PUT", "/key", b"2", x_amz_acl="private").status == 400
    assert google_ask(google_store, "POST", "?delete", b"<Delete/>").status == 501
    assert len(google_store.problems) == 3
    google_store.problems.clear()


def test_google_takes_hmac_keys(google_store):
    client = client_of(google_store, "auto")
    upload, parts = begin(client, parts=PARTS)
    complete(client, upload, parts)
    assert google_store.get("key") == b"".join(PARTS)


def test_s3_takes_no_headers_of_google(object_store):
    assert google_ask(object_store, "GET", "/key").status == 400
    assert fetch(f"{object_store.url}/cache/key", {"x-goog-acl": "x"}).status == 400
    object_store.problems.clear()


# ---- docker-registry

@pytest.mark.slow
def test_docker_registry_keeps_images_in_it(object_store, images, tmp_path):
    port = free_port()
    config = tmp_path / "registry.yml"
    config.write_text(yaml_text({
        "version": 0.1,
        "storage": {"s3": {"accesskey": KEY_ID, "secretkey": SECRET, "region": object_store.region,
                           "regionendpoint": object_store.url, "bucket": object_store.bucket,
                           "secure": False, "rootdirectory": "/kept"},
                    "redirect": {"disable": True}, "delete": {"enabled": True}},
        "http": {"addr": f"127.0.0.1:{port}"}}))
    registry = Program(["docker-registry", "serve", config], tmp_path / "registry.log",
                       bare_environment(tmp_path))
    try:
        registry.wait_ready(lambda: accepts(port))
        run(["skopeo", "copy", "--quiet", "--all", "--src-tls-verify=false",
             "--dest-tls-verify=false", f"docker://{images.address}/lake/app:1",
             f"docker://127.0.0.1:{port}/lake/app:1"])
        run(["skopeo", "copy", "--quiet", "--src-tls-verify=false",
             f"docker://127.0.0.1:{port}/lake/app:1", f"dir:{tmp_path}/copy"])
        assert fetch(f"http://127.0.0.1:{port}/v2/lake/app/tags/list").json()["tags"] == ["1"]
        assert "kept/docker/registry/v2/repositories/lake/app/_manifests/tags/1/current/link" in \
            object_store.keys()
    finally:
        registry.stop()
