"""The calls of the bucket's client on real engines: they work, and what an engine refuses is told."""

import threading

import pytest

from kit.bucket_driver import BucketDriver
from kit.bucket_report import bucket_report, failed
from kit.content import MIB, assert_same, digest_of, noise
from kit.driver import build_driver

BLOB = noise(12 * MIB)
PART = 5 * MIB
KEY = "docker/registry/v2/blobs/sha256/ab/abcd/data"


@pytest.fixture(scope="session")
def bucket_driver(program):
    return build_driver(program, "bucket_driver")


@pytest.fixture
def store(engine):
    return engine


@pytest.fixture
def open_bucket(bucket_driver, store, tmp_path):
    made = []

    def make(environment=None, **settings):
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(BucketDriver(bucket_driver, folder, {**store.settings(), **settings},
                                 environment or store.environment))
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def bucket(open_bucket):
    return open_bucket()


@pytest.fixture
def blob(tmp_path):
    path = tmp_path / "blob"
    path.write_bytes(BLOB)
    return path


def test_check_bucket_finds_all_well(store, program, tmp_path):
    code, report, _ = bucket_report(program, tmp_path, store)
    assert (code, failed(report)) == (0, {})
    assert store.keys() == [] and store.uploads == []


def test_a_file_and_its_ranges(bucket, store, blob):
    sha256 = digest_of(BLOB).partition(":")[2]
    assert bucket.call("put", KEY, file=blob, sha256=sha256)["outcome"] == "done"
    assert_same(store.get("tarn/" + KEY), BLOB)
    told, got = bucket.get(KEY)
    assert (told["outcome"], told["total"]) == ("done", len(BLOB))
    assert_same(got, BLOB)
    for first, last in [(0, 0), (MIB, 2 * MIB - 1), (12 * MIB - 1, 99 * MIB)]:
        told, got = bucket.get(KEY, first=first, last=last)
        assert (told["outcome"], told["head"], told["total"]) == ("done", 206, len(BLOB))
        assert_same(got, BLOB[first:last + 1])
    told, _ = bucket.get(KEY, first=len(BLOB), last=len(BLOB) + 1)
    assert told["outcome"] == "outside"
    assert bucket.call("head", KEY)["size"] == len(BLOB)
    assert bucket.call("delete", KEY)["outcome"] == "done"
    assert bucket.get(KEY)[0]["outcome"] == "absent"
    assert bucket.call("head", KEY)["outcome"] == "absent"
    assert bucket.call("delete", KEY)["outcome"] == "done"


def test_wrong_bytes(bucket, store, blob):
    if store.name != "versitygw":
        pytest.skip("this engine takes whatever comes")
    assert bucket.call("put", KEY, file=blob, sha256="0" * 64)["outcome"] == "refused"
    assert store.keys() == []


def test_of_racing_creators_one_wins(open_bucket, store):
    clients = [open_bucket() for _ in range(4)]
    told = []

    def create(number):
        told.append(clients[number].call("put", "x", text=f"by {number}", create_only=True))

    threads = [threading.Thread(target=create, args=(number,)) for number in range(len(clients))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one["outcome"] for one in told) == ["done"] + ["present"] * 3
    assert store.get("tarn/x").startswith(b"by ")


def test_an_upload_in_parts(bucket, store, blob):
    assert bucket.call("begin", KEY, create_only=True)["outcome"] == "done"
    for number, offset in enumerate(range(0, len(BLOB), PART), 1):
        told = bucket.call("part", number=number, file=blob, offset=offset,
                           length=min(PART, len(BLOB) - offset))
        assert told["outcome"] == "done", told
    assert store.keys() == []
    uploads = bucket.call("list", uploads=True)["entries"]
    assert [one[0] for one in uploads] == [KEY]
    assert bucket.call("complete", count=3)["outcome"] == "done"
    assert_same(store.get("tarn/" + KEY), BLOB)
    assert bucket.call("list", uploads=True)["entries"] == []


def test_parts_that_are_too_small_are_told(bucket, store, blob):
    bucket.call("begin", KEY)
    for number in (1, 2):
        assert bucket.call("part", number=number, file=blob, length=1000)["outcome"] == "done"
    told = bucket.call("complete", count=2)
    assert (told["outcome"], told["code"]) == ("refused", "EntityTooSmall")
    for _ in range(2):
        assert bucket.call("abort", KEY)["outcome"] == "done"
    assert store.keys() == [] and store.uploads == []


def test_an_upload_that_is_gone(bucket, blob):
    bucket.call("begin", KEY)
    assert bucket.call("part", number=1, file=blob, length=PART)["outcome"] == "done"
    assert bucket.call("abort", KEY)["outcome"] == "done"
    assert bucket.call("part", number=2, file=blob, length=PART)["outcome"] == "no upload"
    assert bucket.call("complete", count=1)["outcome"] == "no upload"


def test_lists_in_pages(bucket, store):
    keys = [f"blobs/sha256/{number:02x}/{'ab' * 32}/data" for number in range(7)]
    for key in keys:
        assert bucket.call("put", key, text="x")["outcome"] == "done"
    store.put("other", b"")
    assert [one[0] for one in bucket.call("list", page=2)["entries"]] == keys
    after = bucket.call("list", prefix="blobs/", start_after=keys[3], page=2)
    assert [one[0] for one in after["entries"]] == keys[4:]
    assert {one[1] for one in after["entries"]} == {1}
    assert abs(after["date_s"] - after["entries"][0][2]) < 600


@pytest.mark.parametrize("key", ["a b", "a+b", "ä/ö", "~a'()*!", "a&b=c"])
def test_odd_keys(bucket, store, key):
    assert bucket.call("put", key, text="x")["outcome"] == "done"
    assert store.keys() == ["tarn/" + key]
    assert [one[0] for one in bucket.call("list")["entries"]] == [key]
    assert bucket.call("read", key)["text"] == "x"
    assert bucket.call("delete", key)["outcome"] == "done"


def test_a_wrong_secret_is_told(open_bucket, store):
    bucket = open_bucket(environment={**store.environment, "AWS_SECRET_ACCESS_KEY": "wrong"})
    told, _ = bucket.get(KEY)
    assert (told["outcome"], told["code"]) == ("forbidden", "SignatureDoesNotMatch")
    assert "(check the secret key; clock differs by 0 s)" in told["error"]


def test_the_region_is_learnt(open_bucket, store):
    if store.name != "versitygw":
        pytest.skip("this engine takes any region")
    bucket = open_bucket(region="us-west-2")
    assert bucket.call("put", "x", text="x")["outcome"] == "done"
    assert bucket.call("look")["region"] == store.region


def test_a_bucket_that_is_absent(open_bucket, store):
    if store.name != "versitygw":
        pytest.skip("this engine makes a bucket that is absent")
    bucket = open_bucket(url="s3://another")
    told = bucket.call("put", "x", text="x")
    assert (told["outcome"], told["code"]) == ("refused", "NoSuchBucket")
