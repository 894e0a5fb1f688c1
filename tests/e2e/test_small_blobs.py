"""
A small blob that is asked for again comes from memory. Its answers are those that come from the
disk, and it counts, is logged and ends as every blob.
"""

import json
import re

import pytest

from kit.cache_files import blob_file, is_held
from kit.content import KIB, digest_of, manifest, noise
from kit.processes import wait_until
from kit.tarn import tarn_command

SMALL = noise(20 * KIB, "small")
TINY = b"{}"
LARGE = noise(65 * KIB, "large")  # comes from the disk each time
DIGEST = digest_of(SMALL)
PATH = f"/v2/org/app/blobs/{DIGEST}"
SIZE = len(SMALL)

ASKED = [
    {},
    {"If-None-Match": f'"{DIGEST}"'},
    {"If-None-Match": "*"},
    {"If-None-Match": f'"{digest_of(TINY)}"'},
    {"Range": "bytes=0-0"},
    {"Range": "bytes=100-199"},
    {"Range": f"bytes={SIZE - 1}-"},
    {"Range": f"bytes=5-{SIZE + 1000}"},
    {"Range": f"bytes=0-{SIZE - 1}"},
    {"Range": "bytes=0-"},
    {"Range": "bytes=-7"},
    {"Range": f"bytes=-{SIZE + 1}"},
    {"Range": "bytes=1-2, 5-6"},
    {"Range": f"bytes=1-2, {SIZE + 5}-"},
    {"Range": f"bytes={SIZE}-"},
    {"Range": f"bytes={SIZE + 5}-{SIZE + 6}, {SIZE + 9}-"},
    {"Range": "bytes=-0"},
    {"Range": "bytes=9-3"},
    {"Range": "pages=1-2"},
    {"Range": "bytes=0-9", "If-Range": f'"{DIGEST}"'},
    {"Range": "bytes=0-9", "If-Range": f'W/"{DIGEST}"'},
    {"Range": "bytes=0-9", "If-Range": '"sha256:other"'},
    {"Range": "bytes=0-9", "If-None-Match": f'"{DIGEST}"'},
    {"Connection": "close"},
]


@pytest.fixture(autouse=True)
def blobs(upstream):
    repository = upstream.repository("org/app")
    for content in (SMALL, TINY, LARGE, b""):
        repository.add_blob(content)
    repository.add_manifest(manifest(TINY, [SMALL, LARGE]), tag="1")


def bring_into_memory(tarn, content=SMALL, repository="org/app"):
    """Asks until the answer is one of those that come from memory: of the third on."""
    tarn.blob(repository, digest_of(content))
    tarn.wait_cached(repository, digest_of(content))
    for _ in range(3):
        assert tarn.blob(repository, digest_of(content)).body == content
    tarn.wait_for_workers()


def what_counts(reply):
    """All of an answer but what differs between any two."""
    headers = {name: value for name, value in reply.headers.items()
               if name not in ("Date", "X-Request-Id")}
    body = reply.body.replace((reply["X-Request-Id"] or "-").encode(), b"ID")  # of an error
    return reply.status, headers, digest_of(body), len(body), reply.complete


def answers(tarn):
    """The answers to all that is asked, of GET and HEAD, with the cache's host named or not."""
    found = []
    for headers in ASKED:
        for method in ("GET", "HEAD"):
            for query in ("", "?ns=fake.test"):
                reply = tarn.get(PATH + query, headers, method=method)
                found.append((headers, method, query, what_counts(reply)))
    return found


def test_the_answers_from_memory_are_those_from_the_disk(start_tarn, upstream):
    where = [{"host": "fake.test", "url": upstream.url, "default": True}]
    tarn = start_tarn(where, manifest_memory="64KiB")  # too little for this blob
    bring_into_memory(tarn)
    from_disk = answers(tarn)
    tarn.stop()
    tarn.settings["manifest_memory"] = "8MiB"
    tarn.start()
    bring_into_memory(tarn)
    upstream.forget_requests()
    for was, now in zip(from_disk, answers(tarn)):
        assert now == was
    assert upstream.asked() == []
    assert {answer[3][0] for answer in from_disk} == {200, 206, 304, 416}


@pytest.mark.parametrize("content", [b"", TINY, SMALL, noise(64 * KIB, "most"), LARGE], ids=len)
def test_every_size_is_whole_from_the_first_answer_to_the_fifth(tarn, upstream, content):
    upstream.repository("org/app").add_blob(content)
    bring_into_memory(tarn, content)
    for _ in range(2):
        reply = tarn.blob("org/app", digest_of(content))
        assert (reply.status, len(reply.body)) == (200, len(content))
        assert digest_of(reply.body) == digest_of(content)
        assert "hit" in reply.cache_status


def count(tarn):
    """The counters that a hit of a blob changes."""
    return {name: value for name, value in tarn.metrics().items()
            if re.search(r'type="blob"|handler="blob"', name) and "_bucket" not in name
            and "_sum" not in name}


def changes(tarn, ask):
    before = count(tarn)
    ask()
    wait_until(lambda: count(tarn) != before, "counters")
    return {name: value - before.get(name, 0) for name, value in count(tarn).items()
            if value != before.get(name, 0)}


def test_an_answer_from_memory_is_counted_and_logged_as_one_from_the_disk(start_tarn, upstream):
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}],
                      log={"level": "info", "format": "json"})
    tarn.blob("org/app", DIGEST)
    tarn.wait_cached("org/app", DIGEST)
    tarn.settle()
    asked = {"Range": "bytes=10-19", "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
    from_disk = changes(tarn, lambda: tarn.get(PATH, asked))
    bring_into_memory(tarn)
    from_memory = changes(tarn, lambda: tarn.get(PATH, asked))
    assert from_memory == from_disk
    assert from_memory['tarn_pushed_bytes_total{upstream="fake.test",type="blob"}'] == 10

    def lines():
        found = [json.loads(line) for line in tarn.log().splitlines() if '"trace_id"' in line]
        return found if len(found) == 2 else None
    first, second = wait_until(lines, "two lines of the access log")
    for own in ("time", "seconds", "request_id", "client"):
        first.pop(own), second.pop(own)
    assert first == second and first["bytes"] == 10


def test_what_is_in_memory_is_nobody_elses(tarn, upstream):
    bring_into_memory(tarn)
    upstream.repository("org/other").add_manifest(manifest(TINY, [LARGE]), tag="1")
    assert tarn.blob("org/other", DIGEST).status == 404


def test_a_blob_in_memory_ends_when_an_operator_removes_it(tarn, upstream, program):
    assert tarn.manifest("org/app", "1").status == 200
    bring_into_memory(tarn)
    upstream.repository("org/app").blobs.pop(DIGEST)
    tarn_command(program, "rm", "--config", tarn.config_path, "fake.test/org/app",
                 home=tarn.directory, check=True)
    assert tarn.blob("org/app", DIGEST).status == 404


def test_a_blob_that_is_evicted_is_fetched_again(start_tarn, upstream):
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}],
                      max_size="10MiB")
    bring_into_memory(tarn)
    repository = upstream.repository("org/app")
    number = 0
    while is_held(tarn.root, DIGEST):
        content = noise(2 ** 20, number)
        repository.add_blob(content)
        assert tarn.blob("org/app", digest_of(content)).body == content
        number += 1
        assert number < 60
    upstream.forget_requests()
    assert tarn.blob("org/app", DIGEST).body == SMALL
    assert upstream.asked()


def test_a_blob_that_is_used_in_memory_is_not_the_first_to_be_evicted(start_tarn, upstream):
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}],
                      max_size="10MiB")
    bring_into_memory(tarn)
    repository = upstream.repository("org/app")
    for number in range(30):
        content = noise(2 ** 20, number)
        repository.add_blob(content)
        assert tarn.blob("org/app", digest_of(content)).body == content
        assert tarn.blob("org/app", DIGEST).body == SMALL
    upstream.forget_requests()
    assert tarn.blob("org/app", DIGEST).body == SMALL
    assert upstream.asked() == []


def test_damage_on_the_disk_reaches_no_client_of_a_blob_in_memory(tarn):
    bring_into_memory(tarn)
    path = blob_file(tarn.root, DIGEST)
    path.chmod(0o600)
    path.write_bytes(SMALL[:-1] + b"!")
    for _ in range(3):
        assert tarn.blob("org/app", DIGEST).body == SMALL


def test_wrong_bytes_on_the_disk_do_not_come_into_memory(tarn, upstream):
    tarn.blob("org/app", DIGEST)
    tarn.wait_cached("org/app", DIGEST)
    path = blob_file(tarn.root, DIGEST)
    path.chmod(0o600)
    path.write_bytes(SMALL[:-1] + b"!")
    for _ in range(2):  # then the bytes are checked
        tarn.blob("org/app", DIGEST)
    wait_until(lambda: tarn.blob("org/app", DIGEST).body == SMALL, "the right bytes")
    assert tarn.metrics()["tarn_store_bad_blobs_total"] == 1
