"""Pushes while the disk is full: they pass through, checked, and are not kept."""

import http.client
import threading

import pytest

from kit.client import fetch
from kit.content import KIB, MIB, OCI_MANIFEST, digest_of, manifest, noise
from kit.disk import small_disk_or_skip
from kit.scripted_server import several
from kit.tokens import basic
from kit.writable_registry import WritableRegistry, refusal

ALICE = {"Authorization": basic("alice", "secret")}
CONTENT = noise(6 * MIB)
DIGEST = digest_of(CONTENT)
UPLOADS = "/v2/org/app/blobs/uploads/"


@pytest.fixture
def disk(tmp_path):
    one = small_disk_or_skip(tmp_path / "small", "tmpfs", 8)
    yield one
    one.detach()


@pytest.fixture
def registry():
    for make in several(WritableRegistry):
        yield make()


@pytest.fixture
def tarn(start_tarn, users, registry, disk):
    return start_tarn([{"host": "push.test", "url": registry.url, "push": True, "default": True,
                        "push_patience": "3s"}],
                      clients={"htpasswd": str(users)}, root=str(disk.root))


def blobs(registry):
    return registry.repository("org/app").blobs


def ask(tarn, method, path, body=None, headers=None):
    return fetch(tarn.url + path, {**ALICE, **(headers or {})}, method=method, body=body)


def chunked(tarn, method, place, pieces):
    connection = http.client.HTTPConnection("127.0.0.1", tarn.port, timeout=60)
    connection.request(method, place, iter(pieces), headers=ALICE, encode_chunked=True)
    reply = connection.getresponse()
    reply.body = reply.read()
    connection.close()
    return reply


def pieces(content=CONTENT):
    return [content[at:at + 100_000] for at in range(0, len(content), 100_000)]


def is_kept(tarn, disk, digest):
    return bool(list(disk.root.glob(f"blobs/sha256/**/{digest[7:]}*")))


def nothing_is_left(disk):
    return list((disk.root / "uploads").glob("*")) == []


@pytest.mark.parametrize("way", ["one piece", "chunks", "several pieces", "monolithic"])
@pytest.mark.parametrize("full", ["from the start", "in the middle"])
def test_a_blob_passes_through_a_full_disk(tarn, registry, disk, way, full):
    disk.fill(leave=0 if full == "from the start" else 2 * MIB)
    if way == "monolithic":
        done = ask(tarn, "POST", f"{UPLOADS}?digest={DIGEST}", CONTENT)
    else:
        place = ask(tarn, "POST", UPLOADS)["Location"]
        if way == "chunks":
            sent = chunked(tarn, "PATCH", place, pieces())
            assert sent.status == 202 and sent.headers["Range"] == f"0-{len(CONTENT) - 1}"
            place = sent.headers["Location"]
        else:
            for part in [CONTENT] if way == "one piece" else [CONTENT[:MIB], CONTENT[MIB:]]:
                sent = ask(tarn, "PATCH", place, part)
                assert sent.status == 202, sent
                place = sent["Location"]
        done = ask(tarn, "PUT", f"{place}&digest={DIGEST}")
    assert done.status == 201, done
    assert blobs(registry)[DIGEST] == CONTENT and registry.received == len(CONTENT)
    assert nothing_is_left(disk) and not is_kept(tarn, disk, DIGEST)
    got = ask(tarn, "GET", f"/v2/org/app/blobs/{DIGEST}")
    assert got.body == CONTENT


@pytest.mark.parametrize("leave", [0, 2 * MIB])
def test_a_wrong_digest_is_refused_all_the_same(tarn, registry, disk, leave):
    disk.fill(leave=leave)
    wrong = digest_of(b"other")
    reply = ask(tarn, "POST", f"{UPLOADS}?digest={wrong}", CONTENT)
    assert (reply.status, reply.code) == (400, "DIGEST_INVALID")
    place = chunked(tarn, "PATCH", ask(tarn, "POST", UPLOADS)["Location"], pieces())
    reply = ask(tarn, "PUT", f"{place.headers['Location']}&digest={wrong}")
    assert (reply.status, reply.code) == (400, "DIGEST_INVALID")
    assert registry.writes == [] and registry.sessions == {}
    assert not registry.asked(method="PUT") and nothing_is_left(disk)


@pytest.mark.parametrize("leave", [0, 2 * MIB])
def test_upstream_breaks_off(tarn, registry, disk, leave):
    """What upstream wants again is not here any more: the client is told why, and may try again."""
    disk.fill(leave=leave)
    registry.fail("PATCH", lost=True)
    registry.fail("GET", **refusal(404))
    reply = chunked(tarn, "PATCH", ask(tarn, "POST", UPLOADS)["Location"], pieces())
    assert reply.status == 503, reply.body
    assert reply.headers["Retry-After"] and b"UNAVAILABLE" in reply.body and b"disk" in reply.body
    assert nothing_is_left(disk)
    disk.make_room()
    done = ask(tarn, "POST", f"{UPLOADS}?digest={DIGEST}", CONTENT)
    assert done.status == 201 and blobs(registry)[DIGEST] == CONTENT


def test_upstream_breaks_off_and_says_where_it_stands(tarn, registry, disk):
    """Then the push may go on: what is lost is only what upstream has not acknowledged."""
    disk.fill()
    registry.fail("PATCH", **refusal(503))
    reply = ask(tarn, "POST", f"{UPLOADS}?digest={DIGEST}", CONTENT)
    assert reply.status in (201, 503)
    if reply.status == 503:
        assert "disk" in reply.message and reply["Retry-After"]


def test_manifests_pass_through_a_full_disk(tarn, registry, disk):
    disk.fill()
    registry.repository("org/app").add_blob(b"{}")
    document = manifest(b"{}", [])
    put = ask(tarn, "PUT", "/v2/org/app/manifests/1", document, {"Content-Type": OCI_MANIFEST})
    assert put.status == 201 and registry.writes == [("manifest", "1")]
    assert ask(tarn, "GET", "/v2/org/app/manifests/1").body == document


def test_many_pushes_at_once_pass_through_a_full_disk(tarn, registry, disk):
    disk.fill()
    contents = [noise(1 * MIB, number) for number in range(8)]
    results = [None] * len(contents)

    def push(number):
        content = contents[number]
        results[number] = ask(tarn, "POST", f"{UPLOADS}?digest={digest_of(content)}", content)

    threads = [threading.Thread(target=push, args=(number,)) for number in range(len(contents))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [one.status for one in results] == [201] * len(contents)
    assert all(blobs(registry)[digest_of(content)] == content for content in contents)


def test_a_blob_larger_than_the_cache_passes_through(start_tarn, users, registry):
    tarn = start_tarn([{"host": "push.test", "url": registry.url, "push": True, "default": True}],
                      clients={"htpasswd": str(users)}, max_size="4MiB")
    done = ask(tarn, "POST", f"{UPLOADS}?digest={DIGEST}", CONTENT)
    assert done.status == 201 and blobs(registry)[DIGEST] == CONTENT
    small = noise(300 * KIB)
    assert ask(tarn, "POST", f"{UPLOADS}?digest={digest_of(small)}", small).status == 201
    got = ask(tarn, "GET", f"/v2/org/app/blobs/{digest_of(small)}")
    assert got.body == small and "hit" in got.cache_status
