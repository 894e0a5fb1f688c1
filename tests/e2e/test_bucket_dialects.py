"""
A tarn over a bucket in each way to speak with one: S3, Google's with a token, and Google's with a
key. The same pulls, faults and cleanings; and faults that come together.
"""

import itertools
import json

import pytest

from kit.content import KIB, MIB, OCI_INDEX, OCI_MANIFEST, digest_of, manifest, noise
from kit.object_store import KEY_ID
from kit.processes import wait_until
from kit.shared_bucket import (data_key, layer_key, pending, put_blob, put_manifest, revision_key,
                               tag_key, used_key, wait_settled, wait_stored)

CONFIG = b'{"config": 1}'
LAYER = noise(300 * KIB, seed=11)
DIGEST = digest_of(LAYER)
HUGE = noise(70 * MIB + 3, seed=12)
HUGE_DIGEST = digest_of(HUGE)
IMAGE = manifest(CONFIG, [LAYER, HUGE])
IMAGE_DIGEST = digest_of(IMAGE)
REPOSITORY = "fake.test/org/app"
DAY = 86400
JANITOR = "tarn/tarn/v1/janitor.json"


class Shared:
    """A store in one of the dialects, and tarns over it."""

    def __init__(self, store, start_tarn, upstream, environment, **bucket):
        self.store, self.start_tarn, self.upstream = store, start_tarn, upstream
        self.environment, self.bucket = environment, bucket

    def start(self, upstream_settings=None, **bucket):
        return self.start_tarn(
            [{"host": "fake.test", "url": self.upstream.url, "default": True, "tag_ttl": "0",
              **(upstream_settings or {})}],
            environment=self.environment,
            bucket=self.store.settings(**{**self.bucket, **bucket}))

    def put_image(self):
        """What a tarn has written for the image."""
        for content in (CONFIG, LAYER, HUGE):
            put_blob(self.store, content, digest_of(content), REPOSITORY)
        put_manifest(self.store, IMAGE, IMAGE_DIGEST, REPOSITORY, OCI_MANIFEST, "1")


@pytest.fixture(params=["s3", "google-token", "google-key"])
def shared(request, make_object_store, start_tarn, upstream):
    if request.param != "google-token":
        store = make_object_store("s3" if request.param == "s3" else "gcs")
        return Shared(store, start_tarn, upstream, store.environment, credentials="aws")
    google = request.getfixturevalue("google")
    store = make_object_store("gcs")
    store.google = google
    return Shared(store, start_tarn, upstream, {"GCE_METADATA_HOST": google.host})


def pull(tarn):
    """Pulls the image, and returns where its parts came from."""
    found = []
    answer = tarn.manifest("org/app", "1")
    assert answer.body == IMAGE
    for content in (CONFIG, LAYER, HUGE):
        answer = tarn.blob("org/app", digest_of(content))
        assert (answer.status, digest_of(answer.body)) == (200, digest_of(content))
        found.append(answer.headers.get("cache-status", ""))
    return found


def keys_of_image():
    return [data_key(digest_of(content)) for content in (CONFIG, LAYER, HUGE, IMAGE)] + \
        [layer_key(REPOSITORY, digest_of(content)) for content in (CONFIG, LAYER, HUGE)] + \
        [revision_key(REPOSITORY, IMAGE_DIGEST), tag_key(REPOSITORY, "1")]


def assert_all_there(store, unfinished=0):
    for content in (CONFIG, LAYER, HUGE, IMAGE):
        assert digest_of(store.get(data_key(digest_of(content)))) == digest_of(content)
    for key in keys_of_image():
        if key.endswith("/link"):
            expected = IMAGE_DIGEST if "_manifests" in key else None
            assert store.get(key).decode() in ((expected,) if expected else
                                               (digest_of(CONFIG), DIGEST, HUGE_DIGEST))
    assert len(store.uploads) == unfinished


# ---- pulls

def test_what_one_tarn_has_fetched_another_serves_without_upstream(shared):
    shared.upstream.image("org/app", [LAYER, HUGE], tag="1", config=CONFIG)
    first = shared.start()
    pull(first)
    wait_stored(shared.store, *keys_of_image(), seconds=60)
    wait_settled(first)
    assert_all_there(shared.store)
    first.stop()
    shared.upstream.stop()
    assert all("detail=bucket" in one for one in pull(shared.start()))


def test_wrong_bytes_are_healed(shared):
    shared.upstream.repository("org/app").add_blob(LAYER)
    put_blob(shared.store, LAYER[:-1] + b"!", DIGEST, REPOSITORY)
    tarn = shared.start()
    assert tarn.blob("org/app", DIGEST).body != LAYER
    assert tarn.blob("org/app", DIGEST).body == LAYER
    wait_until(lambda: shared.store.get(data_key(DIGEST)) == LAYER, "the right bytes")
    assert tarn.metrics()["tarn_bucket_wrong_total"] == 1


def test_a_store_that_ignores_ranges_is_read(shared):
    shared.put_image()
    shared.store.fault("get", ignore_range=True)
    shared.upstream.stop()
    pull(shared.start())


@pytest.mark.slow
def test_the_janitor_cleans(shared):
    kept, gone = noise(100, seed=20), [noise(100, seed=21 + number) for number in range(9)]
    put_blob(shared.store, kept, digest_of(kept))
    for number, content in enumerate(gone):
        put_blob(shared.store, content, digest_of(content))
        shared.store.make_older(31 * DAY, data_key(digest_of(content)))
        if number % 2:
            shared.store.put(used_key(digest_of(content)), b"", age=40 * DAY)
    shared.store.page_size = 2
    shared.start()
    wait_until(lambda: shared.store.get(JANITOR), "the janitor has run", 60)
    said = json.loads(shared.store.get(JANITOR))
    assert (said["blobs"], said["removed_blobs"]) == (1, len(gone))
    assert [key for key in shared.store.keys() if "/blobs/" in key or "/used/" in key] == \
        [data_key(digest_of(kept))]


# ---- one fault

CODES = ["InternalError", "SlowDown", "ServiceUnavailable", "TooManyRequests", "RequestTimeout",
         "OperationAborted", "ConditionalRequestConflict"]


@pytest.mark.parametrize("operation, code", [
    ("put", "TooManyRequests"), ("put", "reset"), ("create", "InternalError"), ("create", "reset"),
    ("part", "RequestTimeout"), ("part", "SlowDown"), ("complete", "OperationAborted"),
    ("complete", "ConditionalRequestConflict"), ("complete", "reset")])
def test_a_passing_fault_of_a_write_is_mended(shared, operation, code):
    shared.upstream.image("org/app", [LAYER, HUGE], tag="1", config=CONFIG)
    fault = {"code": code} if code != "reset" else {"reset_after": 0}
    shared.store.fault(operation, times=1, **fault)
    tarn = shared.start()
    pull(tarn)
    wait_stored(shared.store, *keys_of_image(), seconds=60)
    wait_settled(tarn)
    # Nobody knows the id of an upload whose answer was lost: the janitor aborts it a day later.
    assert_all_there(shared.store, unfinished=(operation, code) == ("create", "reset"))
    assert tarn.metrics()["tarn_bucket_up"] == 1


@pytest.mark.parametrize("code", CODES + ["reset", "cut"])
def test_a_passing_fault_of_a_reading_is_mended(shared, code):
    shared.put_image()
    shared.upstream.image("org/app", [LAYER, HUGE], tag="1", config=CONFIG)
    fault = {"reset": {"reset_after": 100 * KIB}, "cut": {"cut_after": 100 * KIB}}.get(
        code, {"code": code})
    for content in (LAYER, HUGE, IMAGE):
        shared.store.fault("get", data_key(digest_of(content)), times=1, **fault)
    tarn = shared.start(read_only=True)
    pull(tarn)
    assert tarn.metrics()["tarn_bucket_up"] == 1


LATE = [("InternalError", True), ("SlowDown", True), ("OperationAborted", True),
        ("PreconditionFailed", True), ("NoSuchUpload", True), ("InvalidPart", False)]


@pytest.mark.parametrize("shared", ["s3"], indirect=True)
@pytest.mark.parametrize("code, at_once", LATE)
def test_an_error_behind_the_200_of_a_completion(shared, code, at_once):
    shared.upstream.repository("org/app").add_blob(HUGE)
    shared.store.fault("complete", times=1, late_code=code)
    tarn = shared.start()
    assert digest_of(tarn.blob("org/app", HUGE_DIGEST).body) == HUGE_DIGEST
    if code == "PreconditionFailed":  # it says that the object is there
        put_blob(shared.store, HUGE, HUGE_DIGEST)
    wait_stored(shared.store, layer_key(REPOSITORY, HUGE_DIGEST), seconds=60 if at_once else 90)
    assert digest_of(shared.store.get(data_key(HUGE_DIGEST))) == HUGE_DIGEST
    wait_settled(tarn)


# ---- faults that come together

@pytest.mark.parametrize("off", [4000, -4000])
@pytest.mark.parametrize("way", ["malformed", "moved", "temporary"])
def test_region_clock_and_rights_are_learnt_at_once(make_object_store, start_tarn, upstream, off,
                                                    way):
    store = make_object_store(region="eu-north-1")
    store.clock_offset, store.wrong_region = off, way
    store.forbidden.add("list")
    shared = Shared(store, start_tarn, upstream, store.environment, region="us-east-1")
    upstream.image("org/app", [LAYER], tag="1", config=CONFIG)
    tarn = shared.start()
    image = tarn.manifest("org/app", "1").body
    assert tarn.blob("org/app", DIGEST).body == LAYER
    wait_stored(store, data_key(DIGEST), layer_key(REPOSITORY, DIGEST), tag_key(REPOSITORY, "1"))
    wait_settled(tarn)
    absent = itertools.count()

    def is_said(words):
        """The first request may have taken longer than tarn is patient: then the next one learns it."""
        if words in tarn.log():
            return True
        tarn.blob("org/app", f"sha256:{next(absent):064x}")
        return False

    for words in ("eu-north-1", "s3:ListBucket is missing", "clock is wrong"):
        wait_until(lambda words=words: is_said(words), f"a line of {words}", pause=0.2)
        assert tarn.log().count(words) == 1
    upstream.stop()
    second = shared.start()
    assert second.manifest("org/app", "1").body == image
    assert second.blob("org/app", DIGEST).headers["cache-status"].endswith("detail=bucket")
    assert second.metrics()["tarn_bucket_up"] == 1


def test_an_expired_token_a_clock_and_a_region_at_once(make_object_store, start_tarn, upstream,
                                                       tmp_path):
    store = make_object_store(region="eu-north-1")
    store.clock_offset = 4000
    store.identities[KEY_ID].session_token = "new-token"
    path = tmp_path / "credentials"

    def write(token):
        path.write_text("[default]\naws_access_key_id = " + KEY_ID + "\naws_secret_access_key = "
                        + store.identities[KEY_ID].secret + f"\naws_session_token = {token}\n")

    write("new-token")
    shared = Shared(store, start_tarn, upstream, {"AWS_SHARED_CREDENTIALS_FILE": str(path)},
                    region="us-east-1")
    put_blob(store, LAYER, DIGEST, REPOSITORY)
    store.fault("get|head", times=1, code="ExpiredToken")
    tarn = shared.start()
    upstream.stop()
    assert tarn.blob("org/app", DIGEST).body == LAYER
    assert "new-token" not in tarn.log()


@pytest.mark.parametrize("shared", ["s3", "google-token"], indirect=True)
@pytest.mark.parametrize("codes", [("SlowDown", "NoSuchUpload"), ("NoSuchUpload", "InternalError"),
                                   ("InternalError", "SlowDown", "ServiceUnavailable")])
@pytest.mark.parametrize("operation", ["part", "complete"])
def test_faults_of_an_upload_one_after_the_other(shared, operation, codes):
    shared.upstream.repository("org/app").add_blob(HUGE)
    for code in codes:
        shared.store.fault(operation, times=1, code=code)
    tarn = shared.start()
    assert digest_of(tarn.blob("org/app", HUGE_DIGEST).body) == HUGE_DIGEST
    wait_stored(shared.store, layer_key(REPOSITORY, HUGE_DIGEST), seconds=90)
    assert digest_of(shared.store.get(data_key(HUGE_DIGEST))) == HUGE_DIGEST
    wait_until(lambda: not shared.store.uploads, "no upload is left")
    wait_settled(tarn)


def test_an_upload_that_is_refused_is_pending_and_aborted(shared):
    shared.upstream.repository("org/app").add_blob(HUGE)
    shared.store.fault("complete", code="AccessDenied")
    tarn = shared.start()
    assert digest_of(tarn.blob("org/app", HUGE_DIGEST).body) == HUGE_DIGEST
    wait_until(lambda: shared.store.count("abort"), "the upload aborted")
    assert f"sha256-{HUGE_DIGEST[7:]}" in pending(tarn)
    assert tarn.metrics()["tarn_bucket_up"] == 1
    shared.store.heal()
    wait_stored(shared.store, layer_key(REPOSITORY, HUGE_DIGEST), seconds=120)
    wait_settled(tarn)


def test_an_index_and_its_images_are_served_without_upstream(shared):
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [
        {"mediaType": OCI_MANIFEST, "digest": IMAGE_DIGEST, "size": len(IMAGE)}]}).encode()
    repository = shared.upstream.repository("org/app")
    repository.add_manifest(IMAGE)
    repository.add_manifest(index, tag="all", media_type=OCI_INDEX)
    first = shared.start()
    assert first.manifest("org/app", "all").body == index
    assert first.manifest("org/app", IMAGE_DIGEST).body == IMAGE
    wait_stored(shared.store, tag_key(REPOSITORY, "all"), revision_key(REPOSITORY, IMAGE_DIGEST))
    wait_settled(first)
    shared.upstream.stop()
    second = shared.start()
    answer = second.manifest("org/app", "all")
    assert (answer.body, answer.headers["content-type"]) == (index, OCI_INDEX)
    answer = second.manifest("org/app", IMAGE_DIGEST)
    assert (answer.body, answer.headers["content-type"]) == (IMAGE, OCI_MANIFEST)
