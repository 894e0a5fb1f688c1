"""
The calls of the bucket's client (src/bucket/) against a strict store: large bodies, uploads in
parts, lists in pages, and what breaks off.
"""

import json
import re
import time

import pytest

from kit.bucket_driver import BucketDriver
from kit.content import MIB, assert_same, digest_of, noise
from kit.driver import build_driver
from kit.processes import free_port

BLOB = noise(12 * MIB)
PART = 5 * MIB
KEY = "docker/registry/v2/blobs/sha256/ab/abcd/data"


@pytest.fixture(scope="session")
def bucket_driver(program):
    return build_driver(program, "bucket_driver")


@pytest.fixture
def open_bucket(bucket_driver, tmp_path):
    """open_bucket(store, **settings): a client of the store."""
    made = []

    def make(store, **settings):
        made.append(BucketDriver(bucket_driver, tmp_path, {**store.settings(), **settings},
                                 store.environment))
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def bucket(open_bucket, object_store):
    return open_bucket(object_store)


@pytest.fixture
def blob(tmp_path):
    path = tmp_path / "blob"
    path.write_bytes(BLOB)
    return path


# ---- whole objects

def test_a_file_goes_there_and_comes_back(bucket, object_store, blob):
    sha256 = digest_of(BLOB).partition(":")[2]
    assert bucket.call("put", KEY, file=blob, sha256=sha256)["outcome"] == "done"
    assert_same(object_store.get("tarn/" + KEY), BLOB)
    put, = object_store.requests_of("put")
    assert put.headers["x-amz-content-sha256"] == sha256
    told, got = bucket.get(KEY)
    assert (told["outcome"], told["head"], told["total"]) == ("done", 200, len(BLOB))
    assert_same(got, BLOB)
    head = bucket.call("head", KEY)
    assert (head["outcome"], head["size"]) == ("done", len(BLOB))
    assert abs(head["modified_s"] - time.time()) < 60


@pytest.mark.parametrize("first, last", [(0, 0), (MIB, 2 * MIB - 1), (11 * MIB, None),
                                         (12 * MIB - 1, 99 * MIB)])
def test_a_range_comes_alone(bucket, object_store, first, last):
    object_store.put("tarn/" + KEY, BLOB)
    told, got = bucket.get(KEY, first=first, **({} if last is None else {"last": last}))
    assert (told["outcome"], told["head"], told["total"]) == ("done", 206, len(BLOB))
    assert_same(got, BLOB[first:None if last is None else last + 1])


@pytest.mark.parametrize("size", [0, 5])
def test_a_range_beyond_the_end(bucket, object_store, size):
    object_store.put("tarn/x", b"a" * size)
    told, got = bucket.get("x", first=5, last=9)
    assert (told["outcome"], told["total"], got) == ("outside", size, b"")


def test_wrong_bytes_are_refused_by_the_store_itself(bucket, object_store, blob):
    told = bucket.call("put", "x", file=blob, sha256="0" * 64)
    assert (told["outcome"], told["status"]) == ("refused", 400)
    assert object_store.keys() == []
    object_store.problems.clear()  # this was sent on purpose


def test_what_is_there_is_not_written_again(bucket, object_store):
    assert bucket.call("put", "x", text="one", create_only=True)["outcome"] == "done"
    assert bucket.call("put", "x", text="two", create_only=True)["outcome"] == "present"
    assert object_store.get("tarn/x") == b"one"
    assert bucket.call("put", "x", text="two")["outcome"] == "done"
    assert bucket.call("read", "x")["text"] == "two"


def test_what_is_absent_costs_one_request(bucket, object_store):
    told, _ = bucket.get(KEY)
    assert (told["outcome"], told["status"], told["code"]) == ("absent", 404, "NoSuchKey")
    assert bucket.call("head", KEY)["outcome"] == "absent"
    assert bucket.call("delete", KEY)["outcome"] == "done"
    assert object_store.count() == 3


@pytest.mark.parametrize("key", ["a b", "a+b", "a%2Fb", "ä/ö", "a//b", "~a'()*!", "a&b=c?d#e"])
def test_odd_keys_are_signed_as_they_are(bucket, object_store, key):
    assert bucket.call("put", key, text="x")["outcome"] == "done"
    assert object_store.keys() == ["tarn/" + key]
    assert bucket.call("read", key)["text"] == "x"
    assert [one[0] for one in bucket.call("list")["entries"]] == [key]
    assert bucket.call("delete", key)["outcome"] == "done"
    assert object_store.keys() == []


# ---- parts

def send_parts(bucket, blob, size=PART):
    count = -(-len(BLOB) // size)
    for number in range(1, count + 1):
        offset = (number - 1) * size
        told = bucket.call("part", number=number, file=blob, offset=offset,
                           length=min(size, len(BLOB) - offset))
        assert told["outcome"] == "done", told
    return count


def test_an_upload_in_parts(bucket, object_store, blob):
    assert bucket.call("begin", KEY, create_only=True)["outcome"] == "done"
    count = send_parts(bucket, blob)
    assert object_store.keys() == []
    assert bucket.call("complete", count=count)["outcome"] == "done"
    assert_same(object_store.get("tarn/" + KEY), BLOB)
    assert [request.received for request in object_store.requests_of("part")] == \
        [PART, PART, len(BLOB) - 2 * PART]
    assert object_store.uploads == {}


def test_an_object_that_came_meanwhile_stays(bucket, object_store, blob):
    bucket.call("begin", KEY, create_only=True)
    count = send_parts(bucket, blob)
    object_store.put("tarn/" + KEY, BLOB)
    assert bucket.call("complete", count=count)["outcome"] == "present"
    assert bucket.call("abort", KEY)["outcome"] == "done"
    assert bucket.call("abort", KEY)["outcome"] == "done"  # it is gone already
    assert object_store.uploads == {}


def test_an_upload_that_somebody_aborted(bucket, object_store, blob):
    bucket.call("begin", KEY)
    assert bucket.call("part", number=1, file=blob, length=PART)["outcome"] == "done"
    object_store.uploads.clear()
    assert bucket.call("complete", count=1)["outcome"] == "no upload"
    assert bucket.call("part", number=2, file=blob, length=PART)["outcome"] == "no upload"


@pytest.mark.parametrize("fault", [{"upload_reset_after": 3 * MIB}, {"upload_reset_after": 0},
                                   {"early": True, "status": 503}], ids=str)
def test_a_part_that_breaks_off_is_sent_again(bucket, object_store, blob, fault):
    object_store.fault("part", times=1, **fault)
    bucket.call("begin", KEY)
    count = send_parts(bucket, blob)
    assert bucket.call("complete", count=count)["outcome"] == "done"
    assert_same(object_store.get("tarn/" + KEY), BLOB)


def test_a_lost_answer_to_a_completion_is_looked_for(bucket, object_store, blob):
    bucket.call("begin", KEY)
    count = send_parts(bucket, blob)
    object_store.fault("complete", cut_after=0, times=1)  # it has worked, and nobody hears of it
    assert bucket.call("complete", count=count)["outcome"] == "done"
    assert_same(object_store.get("tarn/" + KEY), BLOB)


# ---- lists

def test_lists_come_in_pages_and_in_order(bucket, object_store):
    object_store.page_size = 2
    keys = sorted(f"blobs/{one}" for one in ("a", "b c", "d+e", "ä", "f&g", "h"))
    for key in keys:
        object_store.put("tarn/" + key, b"x" * len(key))
    object_store.put("tarn-other/blobs/z", b"")
    object_store.put("tarn/other", b"")
    told = bucket.call("list", prefix="blobs/")
    assert [one[0] for one in told["entries"]] == sorted(keys, key=str.encode)
    assert [one[1] for one in told["entries"]] == [len(one[0]) for one in told["entries"]]
    assert abs(told["date_s"] - time.time()) < 60
    assert object_store.count("list") == 3
    after = bucket.call("list", prefix="blobs/", start_after="blobs/d+e")
    assert [one[0] for one in after["entries"]] == [key for key in sorted(keys, key=str.encode)
                                                   if key.encode() > b"blobs/d+e"]


def test_a_page_that_is_too_long_is_asked_for_in_smaller_ones(bucket, object_store):
    keys = [f"{number:04d}{'k' * 950}" for number in range(1010)]
    for key in keys:
        object_store.put("tarn/" + key, b"")
    told = bucket.call("list")
    assert told["outcome"] == "done", told["error"]
    assert [one[0] for one in told["entries"]] == keys
    assert 5 <= object_store.count("list") <= 10
    assert bucket.call("look")["up"] is True
    assert "refuses" not in bucket.log()


def test_unfinished_uploads_are_listed(bucket, object_store):
    object_store.page_size = 1
    begun = {bucket.call("begin", key)["id"]: key for key in ("a/x", "a/x", "a/y", "b")}
    object_store.make_older(90000, "tarn/a/y")
    told = bucket.call("list", prefix="a/", uploads=True)
    assert sorted((one[3], one[0]) for one in told["entries"]) == \
        sorted((upload, key) for upload, key in begun.items() if key != "b")
    assert {one[0] for one in told["entries"] if time.time() - one[2] > 86400} == {"a/y"}
    for upload, key in begun.items():
        assert bucket.call("abort", key, id=upload)["outcome"] == "done"
    assert object_store.uploads == {}


# ---- time, and what breaks off

@pytest.mark.parametrize("fault", [{"hold_head": True}, {"black_hole": True}, {"hold_after": 0}],
                         ids=str)
def test_a_silent_store_is_waited_for_as_long_as_said(bucket, object_store, fault):
    object_store.put("tarn/x", b"x" * 1000)
    object_store.fault("get", **fault)
    told, got = bucket.get("x", within_ms=1000)
    assert told["outcome"] in ("unreachable", "cut")
    assert got == b""
    assert told["ms"] < 1500 + 1000  # the machine of the test may be busy


def test_a_slow_store_is_asked_once(bucket, object_store):
    object_store.put("tarn/x", b"x")
    assert bucket.get("x")[1] == b"x"  # the connection is kept
    object_store.fault("get", delay=1.5)
    assert bucket.get("x", within_ms=2900)[1] == b"x"
    assert object_store.count("get") == 2


@pytest.mark.parametrize("fault", [{"cut_after": MIB}, {"reset_after": MIB}], ids=str)
def test_the_rest_of_a_body_that_breaks_off_is_the_callers(bucket, object_store, fault):
    object_store.put("tarn/x", BLOB)
    object_store.fault("get", **fault)
    told, got = bucket.get("x")
    assert told["outcome"] == "cut"
    assert got == BLOB[:len(got)] and len(got) <= MIB
    assert object_store.count("get") == 1


def test_a_body_that_stands_still_is_left(bucket, object_store):
    object_store.put("tarn/x", BLOB)
    object_store.fault("get", hold_after=MIB)
    told, got = bucket.get("x")
    assert told["outcome"] == "cut"
    assert_same(got, BLOB[:MIB])
    assert 4000 < told["ms"] < 15000


def test_a_dead_store_is_left_alone_and_asked_again(open_bucket, object_store):
    bucket = open_bucket(object_store, endpoint=f"http://127.0.0.1:{free_port()}")
    for _ in range(3):
        assert bucket.call("head", "x", tries=1)["outcome"] == "unreachable"
    assert bucket.call("look")["up"] is False
    assert bucket.call("head", "x")["outcome"] == "down"
    assert "it is left alone for a while" in bucket.log()


def test_a_store_that_may_not_be_listed(bucket, object_store):
    object_store.forbidden.add("list")
    for _ in range(5):
        assert bucket.call("head", KEY)["outcome"] == "absent"
        assert bucket.get(KEY)[0]["outcome"] == "absent"
    assert object_store.count("list") == 1
    told = bucket.call("look")
    assert (told["up"], told["lists_forbidden"]) == (True, True)
    assert bucket.log().count("(s3:ListBucket is missing: absent keys look forbidden)") == 1
    object_store.put("tarn/" + KEY, b"x")
    assert bucket.call("read", KEY)["text"] == "x"


def test_a_clock_that_is_off_is_told_once(bucket, object_store):
    object_store.clock_offset = 1200
    for _ in range(3):
        assert bucket.get(KEY)[0]["outcome"] == "absent"
    assert object_store.count(status=403) == 1
    assert bucket.log().count("clock is wrong") == 1


def test_a_region_that_is_learnt_is_told_once(bucket, object_store):
    object_store.region = "eu-west-9"
    for _ in range(3):
        assert bucket.call("put", "x", text="x")["outcome"] == "done"
    assert object_store.count(status=400) == 1
    assert bucket.log().count("region=eu-west-9") == 1


def test_no_secret_is_logged(bucket, object_store):
    object_store.forbidden |= {"read", "write"}
    told = [bucket.call("head", "x"), bucket.get("x")[0], bucket.call("put", "x", text="x")]
    object_store.fault("get", code="SignatureDoesNotMatch")
    told.append(bucket.get("x")[0])
    said = json.dumps(told) + bucket.log()
    # The emulator's clock is ours, but a second may begin in between.
    assert re.search(r"403 SignatureDoesNotMatch \(check the secret key; clock differs by -?[01] s\)",
                     said)
    for secret in object_store.environment.values():
        assert secret not in said
