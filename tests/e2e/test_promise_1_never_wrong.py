"""Promise 1: a client that receives Content-Length bytes has the right bytes."""

import pytest

from kit.client import at_once, raw
from kit.content import KIB, MIB, OCI_MANIFEST, digest_of, manifest, noise

BLOB = noise(6 * MIB)
DIGEST = digest_of(BLOB)


def never_a_wrong_whole(reply):
    """Asserts the promise for one response."""
    if reply.status in (200, 206) and reply.complete:
        assert reply.body == BLOB


def refuses_once_and_recovers(tarn, upstream):
    """No client gets a whole body while upstream sends wrong bytes; later every client does."""
    lie = tarn.blob("org/app", DIGEST, timeout=8)
    assert lie.status in (0, 200, 206, 502), lie
    if lie.status != 502:
        assert not lie.complete
        assert len(lie.body) < len(BLOB)
    assert DIGEST.partition(":")[2] not in [path.name for path in
                                            (tarn.root / "blobs").rglob("*")]
    upstream.heal()
    truth = tarn.blob("org/app", DIGEST)
    assert (truth.status, truth.complete) == (200, True)
    assert truth.body == BLOB


@pytest.mark.parametrize("offset", [0, 1, len(BLOB) // 2, len(BLOB) - 1],
                         ids=["first byte", "second byte", "middle", "last byte"])
def test_a_wrong_byte_anywhere_never_makes_a_whole_body(tarn, upstream, repository, offset):
    upstream.fault("/blobs/", flip=offset)
    refuses_once_and_recovers(tarn, upstream)


@pytest.mark.parametrize("size", [1, 2, 100, 5000, 70 * KIB])
def test_a_small_blob_of_wrong_bytes_is_no_whole_body_either(tarn, upstream, size):
    content = noise(size)
    digest = upstream.repository("org/app").add_blob(content)
    upstream.fault("/blobs/", flip=size - 1)
    lie = tarn.blob("org/app", digest, timeout=8)
    assert lie.status == 502 or not lie.complete, lie
    upstream.heal()
    assert tarn.blob("org/app", digest).body == content


def test_the_last_bytes_are_held_back_until_the_digest_matches(tarn, upstream, repository):
    upstream.fault("/blobs/", flip=0)
    with tarn.download(f"/v2/org/app/blobs/{DIGEST}") as download:
        assert download.read_what_comes(8), "the connection was to be cut"
        assert len(download.body) < len(BLOB)


def test_asking_for_all_of_it_as_a_range_is_asking_for_the_whole(tarn, upstream, repository):
    upstream.fault("/blobs/", flip=len(BLOB) - 1)
    reply = tarn.blob("org/app", DIGEST, {"Range": "bytes=0-"}, timeout=8)
    assert reply.status == 502 or not reply.complete
    reply = tarn.blob("org/app", DIGEST, {"Range": f"bytes=0-{len(BLOB) - 1}"}, timeout=8)
    assert reply.status == 502 or not reply.complete
    reply = tarn.blob("org/app", DIGEST, {"Range": f"bytes=-{len(BLOB)}"}, timeout=8)
    assert reply.status == 502 or not reply.complete


def test_nothing_is_appended_to_a_body_that_has_begun(tarn, upstream, repository):
    upstream.fault("/blobs/", flip=len(BLOB) - 1)
    request = f"GET /v2/org/app/blobs/{DIGEST} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    head, _, body = raw(tarn.port, request, timeout=8).partition(b"\r\n\r\n")
    assert b" 200 " in head.split(b"\r\n")[0]
    assert len(body) < len(BLOB)
    assert body == BLOB[:len(body)]


def test_content_that_is_shorter_than_the_digest_says(tarn, upstream, repository):
    upstream.fault("/blobs/", content=BLOB[:-1])
    refuses_once_and_recovers(tarn, upstream)


def test_content_that_is_longer_than_the_digest_says(tarn, upstream, repository):
    upstream.fault("/blobs/", content=BLOB + b"{}")
    refuses_once_and_recovers(tarn, upstream)


def test_other_content_of_the_right_length(tarn, upstream, repository):
    upstream.fault("/blobs/", content=noise(len(BLOB), seed=7))
    refuses_once_and_recovers(tarn, upstream)


def test_a_proxys_page_with_status_200(tarn, upstream, repository):
    upstream.fault("/blobs/", status=200, headers={"Content-Type": "text/html"},
                   body=b"<html><body>Please log in to this network</body></html>")
    refuses_once_and_recovers(tarn, upstream)


def test_a_body_longer_than_announced(tarn, upstream, repository):
    upstream.fault("/blobs/", extra=b"and more", times=3)
    never_a_wrong_whole(tarn.blob("org/app", DIGEST, timeout=8))
    upstream.heal()
    assert tarn.blob("org/app", DIGEST).body == BLOB


@pytest.mark.parametrize("announced", [0, 1, len(BLOB) - 1])
def test_a_length_that_is_announced_too_small(tarn, upstream, repository, announced):
    upstream.fault("/blobs/", content_length=announced, ignore_range=True)
    refuses_once_and_recovers(tarn, upstream)


def test_a_length_that_is_announced_too_large(tarn, upstream, repository):
    upstream.fault("/blobs/", content_length=len(BLOB) + 10, ignore_range=True, times=4)
    never_a_wrong_whole(tarn.blob("org/app", DIGEST, timeout=8))
    upstream.heal()
    assert tarn.blob("org/app", DIGEST).body == BLOB


def test_a_wrong_length_is_not_told_to_anyone_as_the_right_one(tarn, upstream, repository):
    upstream.fault("/blobs/", content=BLOB[:1000])
    for reply in at_once(*[lambda: tarn.blob("org/app", DIGEST, timeout=8)] * 4):
        assert reply.status == 502 or not reply.complete


@pytest.mark.parametrize("shape", ["chunked", "until_close"])
def test_content_of_unknown_length_is_right_or_cut(tarn, upstream, repository, shape):
    upstream.fault("/blobs/", **{shape: True})
    reply = tarn.blob("org/app", DIGEST)
    assert (reply.status, reply.complete) == (200, True)
    assert reply.body == BLOB


@pytest.mark.parametrize("shape", ["chunked", "until_close"])
def test_wrong_content_of_unknown_length_is_never_whole(tarn, upstream, repository, shape):
    upstream.fault("/blobs/", flip=5, **{shape: True})
    refuses_once_and_recovers(tarn, upstream)


def test_a_connection_that_ends_early_without_a_length_is_never_a_whole_body(
        tarn, upstream, repository):
    upstream.fault("/blobs/", until_close=True, cut_after=len(BLOB) // 2, ignore_range=True)
    reply = tarn.blob("org/app", DIGEST, timeout=8)
    assert reply.status == 502 or not reply.complete


def test_every_client_of_a_lying_flight_is_cut(tarn, upstream, repository):
    upstream.fault("/blobs/", flip=len(BLOB) - 1, bytes_per_second=20 * MIB)
    replies = at_once(*[lambda: tarn.blob("org/app", DIGEST, timeout=8)] * 8)
    assert not any(reply.status == 200 and reply.complete for reply in replies)


def test_the_log_says_which_upstream_sent_wrong_bytes(tarn, upstream, repository):
    upstream.fault("/blobs/", flip=3)
    tarn.blob("org/app", DIGEST, timeout=8)
    tarn.logged(r"(?m)^.*\b(warn|error|WARN|ERROR)\b.*fake\.test.*$")


def test_a_manifest_by_digest_of_other_bytes_is_refused_and_not_kept(tarn, upstream):
    content = manifest(b"{}", [b"layer"])
    digest = upstream.repository("org/app").add_manifest(content)
    upstream.fault("/manifests/", content=content.replace(b"2", b"3"))
    refused = tarn.manifest("org/app", digest)
    assert (refused.status, refused.code) == (502, "UNAVAILABLE"), refused
    upstream.heal()
    assert tarn.manifest("org/app", digest).body == content


def test_a_tag_whose_bytes_are_not_what_upstream_says_they_are(tarn, upstream):
    repository = upstream.repository("org/app")
    content = manifest(b"{}", [b"layer"])
    repository.add_manifest(content, tag="1")
    upstream.fault("/manifests/", content=content + b" ")
    refused = tarn.manifest("org/app", "1")
    assert (refused.status, refused.code) == (502, "UNAVAILABLE"), refused
    upstream.heal()
    assert tarn.manifest("org/app", "1").body == content


def test_a_manifest_cut_in_the_middle_is_never_handed_on(tarn, upstream):
    content = manifest(b"{}", [b"layer"])
    digest = upstream.repository("org/app").add_manifest(content, tag="1")
    for reference in ("1", digest):
        upstream.fault("/manifests/", cut_after=20)
        assert tarn.manifest("org/app", reference).status in (502, 504)
        upstream.heal()
    assert tarn.manifest("org/app", "1").body == content


def test_a_manifest_larger_than_any_registry_takes_is_refused(tarn, upstream):
    content = manifest(b"{}", [b"layer"], annotations={"x": "y" * (5 * MIB)})
    digest = upstream.repository("org/app").add_manifest(content)
    assert tarn.manifest("org/app", digest).status == 502
    assert tarn.get("/readyz").status == 200


def test_the_empty_blob(tarn, upstream):
    digest = upstream.repository("org/app").add_blob(b"")
    for _ in range(2):
        reply = tarn.blob("org/app", digest)
        assert (reply.status, reply["Content-Length"], reply.body) == (200, "0", b"")


def test_sha512_digests_are_checked_as_well(tarn, upstream):
    repository = upstream.repository("org/app")
    digest = repository.add_blob(BLOB, "sha512")
    upstream.fault("/blobs/", flip=9)
    lie = tarn.blob("org/app", digest, timeout=8)
    assert lie.status == 502 or not lie.complete
    upstream.heal()
    assert tarn.blob("org/app", digest).body == BLOB
    content = manifest(b"{}", [BLOB])
    digest = repository.add_manifest(content, OCI_MANIFEST, algorithm="sha512")
    reply = tarn.manifest("org/app", digest)
    assert (reply.body, reply["Docker-Content-Digest"]) == (content, digest)
