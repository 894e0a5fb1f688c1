"""How a replica asks others: the other members are scripted."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from kit.client import at_once
from kit.content import KIB, MIB, OCI_MANIFEST, digest_of, manifest, noise
from kit.processes import wait_until
from kit.replicas import addresses, ranking, refusal

BLOB = noise(3 * MIB)
DIGEST = digest_of(BLOB)
PATH = f"/v2/org/app/blobs/{DIGEST}"
WIRE = f"/v2/fake.test/org/app/blobs/{DIGEST}"
FRESH = {"Age": "0", "Cache-Control": "max-age=60"}


@pytest.fixture
def members():
    """Three members, the owner of DIGEST first."""
    return ranking(addresses(3), DIGEST)


@pytest.fixture
def last(make_replica, members, repository):
    """The replica that comes last for DIGEST."""
    return make_replica(members[2], members)


@pytest.fixture
def owner(make_scripted_replica, members):
    return make_scripted_replica(members[0])


@pytest.fixture
def second(make_scripted_replica, members):
    return make_scripted_replica(members[1])


def test_a_blob_comes_from_its_owner_and_is_kept(owner, last, upstream):
    owner.hold("fake.test/org/app", DIGEST, BLOB)
    reply = last.get(PATH)
    assert (reply.status, digest_of(reply.body)) == (200, DIGEST)
    assert "detail=replica" in reply.cache_status
    last.wait_cached("org/app", DIGEST)
    assert upstream.asked() == []
    assert owner.asked_for(WIRE) == ["arriving"]
    assert last.metrics()['tarn_replica_bytes_total{direction="in"}'] == len(BLOB)
    assert last.asks(ask="arriving", answer="held") == 1


def test_the_owner_is_asked_whether_it_arrives_then_former_owners_then_to_fetch(owner, second,
                                                                               last, upstream):
    def fetched(_request):
        return 200, {"Content-Type": "application/octet-stream", "Tarn-Answer": "arriving"}, BLOB
    owner.answer(WIRE, fetched, ask="fetch")
    assert digest_of(last.get(PATH).body) == DIGEST
    assert owner.asked_for(WIRE) == ["arriving", "fetch"]
    assert second.asked_for(WIRE) == ["arriving"]  # a replica that has just started asks it, too
    assert upstream.asked() == []


def test_upstream_is_asked_when_no_replica_helps(owner, second, last, upstream):
    assert digest_of(last.get(PATH).body) == DIGEST
    assert owner.asked_for(WIRE) == ["arriving", "fetch"]
    assert second.asked_for(WIRE)[-1] == "fetch"
    assert upstream.blob_bytes() == len(BLOB)
    assert last.asks(answer="refused") == 2


@pytest.mark.parametrize("status, code, retry", [
    (404, "BLOB_UNKNOWN", None), (403, "DENIED", None), (429, "TOOMANYREQUESTS", "17"),
    (502, "UNAVAILABLE", None), (504, "UNAVAILABLE", None)])
def test_the_owners_word_about_upstream_is_passed_on(owner, second, last, upstream, status, code,
                                                     retry):
    fields = {"Retry-After": retry} if retry else {}
    owner.answer(WIRE, lambda _: refusal(status, "upstream", code, "the owner says so", **fields),
                 ask="fetch")
    reply = last.get(PATH)
    assert (reply.status, reply.code) == (status, code)
    assert "the owner says so" in reply.message
    assert reply["Retry-After"] == retry
    assert upstream.asked() == []
    assert second.asked_for(WIRE, "fetch") == []


@pytest.mark.parametrize("status, answer", [
    (404, None), (401, "upstream"), (401, None), (500, "upstream"), (503, "upstream"), (503, None),
    (302, "upstream"), (200, None), (200, "upstream"), (404, "no"), (404, "nonsense"),
    (400, "upstream")])
def test_anything_else_is_about_that_replica(owner, second, last, upstream, status, answer):
    def answered(_request):
        return (status, {"Content-Type": "application/octet-stream",
                         "Location": "http://127.0.0.1:1/",
                         **({"Tarn-Answer": answer} if answer else {})}, b"not the blob")
    owner.answer(WIRE, answered)
    second.hold("fake.test/org/app", DIGEST, BLOB)
    reply = last.get(PATH)
    assert (reply.status, digest_of(reply.body)) == (200, DIGEST)
    assert upstream.asked() == []


def test_wrong_bytes_cut_whoever_was_sent_any_and_the_replica_is_not_asked_again(
        owner, second, last, upstream):
    wrong = bytearray(BLOB)
    wrong[2 * MIB] ^= 1
    owner.hold("fake.test/org/app", DIGEST, bytes(wrong))
    first = last.get(PATH)
    assert not first.complete
    owner.forget_requests()
    reply = last.get(PATH)
    assert (reply.status, digest_of(reply.body)) == (200, DIGEST)
    assert owner.asked_for(WIRE) == []
    assert upstream.blob_bytes() <= 2 * len(BLOB)
    last.wait_cached("org/app", DIGEST)


def test_a_takeover_after_an_early_end_goes_on_at_the_followers_own_byte(owner, second, last,
                                                                         upstream):
    owner.hold("fake.test/org/app", DIGEST, BLOB)
    owner.fault(WIRE, cut_after=MIB + 12345)
    reply = last.get(PATH)
    assert (reply.status, digest_of(reply.body)) == (200, DIGEST)
    assert upstream.blob_bytes() <= len(BLOB) - MIB
    assert last.metrics()["tarn_replica_takeovers_total"] == 1


def test_a_takeover_after_a_reset_goes_on_at_the_followers_own_byte(owner, second, last, upstream):
    owner.hold("fake.test/org/app", DIGEST, BLOB)
    held = owner.fault(WIRE, hold_after=MIB + 12345)
    with ThreadPoolExecutor(1) as pool:
        pull = pool.submit(last.get, PATH)
        # A reset takes with it what the follower has not read yet.
        wait_until(lambda: last.flights().get(DIGEST, {}).get("bytes", 0) == MIB + 12345,
                   "the bytes to be here")
        owner.refuse()
        reply = pull.result(60)
    held.gate.set()
    assert (reply.status, digest_of(reply.body)) == (200, DIGEST)
    assert upstream.blob_bytes() == len(BLOB) - MIB - 12345
    assert last.metrics()["tarn_replica_takeovers_total"] == 1


def test_a_member_that_refuses_is_down_and_comes_back_when_it_answers(owner, second, last):
    owner.refuse()
    assert digest_of(last.get(PATH).body) == DIGEST
    last.logged("a replica is down")
    owner.listen_again()
    last.logged("a replica is back", 10)


def test_a_silent_member_that_is_alive_is_waited_for(owner, last, upstream):
    owner.hold("fake.test/org/app", DIGEST, BLOB)
    held = owner.fault(WIRE, hold_after=MIB)
    with last.download(PATH) as download:
        download.read(MIB // 2)
        wait_until(lambda: len(owner.asked("/livez")) >= 2, "it to be asked whether it is alive", 20)
        assert upstream.asked() == []
        held.gate.set()
        download.read(len(BLOB))
        assert digest_of(download.body) == DIGEST


def test_a_silent_member_that_does_not_answer_livez_is_down(owner, last, upstream):
    owner.hold("fake.test/org/app", DIGEST, BLOB)
    owner.fault(WIRE, hold_after=MIB)
    owner.fault("/livez", black_hole=True)
    began = time.monotonic()
    reply = last.get(PATH)
    assert (reply.status, digest_of(reply.body)) == (200, DIGEST)
    assert time.monotonic() - began < 20
    assert 0 < upstream.blob_bytes() <= len(BLOB) - MIB // 2
    last.logged("a replica is down")


def test_a_head_goes_to_the_owner_and_is_never_a_download(owner, last, upstream):
    owner.hold("fake.test/org/app", DIGEST, BLOB)
    reply = last.head(PATH)
    assert (reply.status, int(reply["Content-Length"])) == (200, len(BLOB))
    assert [(request.method, request.headers["tarn-ask"]) for request in owner.asked(WIRE)] == \
        [("HEAD", "fetch")]
    assert upstream.asked() == []


def test_credentials_of_clients_go_to_no_replica(owner, last):
    owner.hold("fake.test/org/app", DIGEST, BLOB)
    reply = last.get(PATH, {"Authorization": "Basic dXNlcjpzZWNyZXQ=", "Cookie": "a=b"})
    assert digest_of(reply.body) == DIGEST
    # make_scripted_replica() fails if the owner saw any of it


def test_an_empty_blob_comes_from_a_replica(make_replica, make_scripted_replica, upstream):
    digest = digest_of(b"")
    members = ranking(addresses(2), digest)
    upstream.repository("org/app").add_blob(b"")
    owner = make_scripted_replica(members[0])
    owner.hold("fake.test/org/app", digest, b"")
    tarn = make_replica(members[1], members)
    reply = tarn.get(f"/v2/org/app/blobs/{digest}")
    assert (reply.status, reply.body) == (200, b"")
    assert upstream.asked() == []


def test_ranges_of_a_cold_blob_come_from_the_owner(owner, last, upstream):
    owner.hold("fake.test/org/app", DIGEST, BLOB)
    replies = at_once(*[lambda first=first: last.get(
        PATH, {"Range": f"bytes={first}-{first + 999}"}) for first in range(0, 3 * MIB, 200 * KIB)])
    for first, reply in zip(range(0, 3 * MIB, 200 * KIB), replies):
        assert (reply.status, reply.body == BLOB[first:first + 1000]) == (206, True)
    last.wait_cached("org/app", DIGEST)
    assert upstream.asked() == []


# ---- documents

CONFIG = b"{}"
IMAGE = manifest(CONFIG, [BLOB])
IMAGE_DIGEST = digest_of(IMAGE)
KEY = "fake.test/org/app:1"


@pytest.fixture
def documents(make_replica, make_scripted_replica, upstream):
    """(the scripted owner of the tag, the replica that asks it)"""
    upstream.repository("org/app").add_manifest(IMAGE, tag="1")
    members = ranking(addresses(2), KEY)
    owner = make_scripted_replica(members[0])
    return owner, make_replica(members[1], members, upstreams=[{"tag_ttl": "60s"}])


def held(content=IMAGE, media_type=OCI_MANIFEST, **fields):
    digest = digest_of(content)
    return lambda _request: (200, {"Content-Type": media_type, "Docker-Content-Digest": digest,
                                   "Tarn-Answer": "held", **fields}, content)


def test_a_tag_comes_from_its_owner_and_keeps_its_age(documents, upstream):
    owner, tarn = documents
    owner.answer("/manifests/1$", held(**{"Age": "58", "Cache-Control": "max-age=60"}), ask="fetch")
    reply = tarn.manifest("org/app", "1")
    assert (reply.status, digest_of(reply.body)) == (200, IMAGE_DIGEST)
    assert "detail=replica" in reply.cache_status
    assert "hit" in tarn.manifest("org/app", "1").cache_status
    wait_until(lambda: "hit" not in tarn.manifest("org/app", "1").cache_status,
               "the tag to be past its time", 10)
    assert upstream.asked() == []


def test_a_stale_answer_is_marked_so_and_not_kept(documents, upstream):
    owner, tarn = documents
    owner.answer("/manifests/1$", held(**{"Age": "90", "Cache-Control": "max-age=60"}), ask="fetch")
    for _ in range(2):
        assert "fwd=stale" in tarn.manifest("org/app", "1").cache_status
    assert len(owner.asked_for("/manifests/1$")) == 2
    assert upstream.asked() == []


def test_a_tag_whose_owner_and_upstream_are_gone_is_served_stale(documents, upstream):
    owner, tarn = documents
    owner.answer("/manifests/1$", held(**{"Age": "60", "Cache-Control": "max-age=60"}), ask="fetch")
    assert tarn.manifest("org/app", "1").status == 200
    tarn.settle()
    owner.refuse()
    upstream.refuse()
    reply = tarn.manifest("org/app", "1")
    assert (reply.status, digest_of(reply.body)) == (200, IMAGE_DIGEST)
    assert "fwd=stale" in reply.cache_status
    assert reply.seconds < 12


def test_a_404_is_believed_for_what_is_left_of_negative_ttl(documents, upstream):
    owner, tarn = documents
    mine = [tag for tag in map(str, range(2, 100))
            if ranking([owner.member, tarn.member], f"fake.test/org/app:{tag}")[0] == owner.member]
    known, bare = mine[:2]
    owner.answer(f"/manifests/{known}$", lambda _: refusal(
        404, "upstream", "MANIFEST_UNKNOWN", "gone", **{"Age": "0", "Cache-Control": "max-age=60"}))
    owner.answer(f"/manifests/{bare}$",
                 lambda _: refusal(404, "upstream", "MANIFEST_UNKNOWN", "gone"))
    for tag, times in ((known, 1), (bare, 2)):
        for _ in range(2):
            reply = tarn.manifest("org/app", tag)
            assert (reply.status, reply.code) == (404, "MANIFEST_UNKNOWN")
        assert len(owner.asked_for(f"/manifests/{tag}$")) == times
    assert upstream.asked() == []


@pytest.mark.parametrize("content", [b"<html>", b"{}", IMAGE[:-1], b""])
def test_what_is_not_the_manifest_is_about_that_replica(make_replica, make_scripted_replica,
                                                        upstream, content):
    upstream.repository("org/app").add_manifest(IMAGE)
    members = ranking(addresses(2), IMAGE_DIGEST)
    owner = make_scripted_replica(members[0])
    owner.answer("/manifests/", lambda _request: (
        200, {"Content-Type": OCI_MANIFEST, "Tarn-Answer": "held"}, content))
    tarn = make_replica(members[1], members)
    reply = tarn.manifest("org/app", IMAGE_DIGEST)
    assert (reply.status, digest_of(reply.body)) == (200, IMAGE_DIGEST)
    assert len(upstream.asked("/manifests/")) == 1


def test_a_head_of_a_tag_goes_to_its_owner_as_head(documents, upstream):
    owner, tarn = documents
    owner.answer("/manifests/1$", held(**FRESH))
    reply = tarn.manifest("org/app", "1", method="HEAD")
    assert (reply.status, reply["Docker-Content-Digest"]) == (200, IMAGE_DIGEST)
    assert [request.method for request in owner.asked("/manifests/1$")] == ["HEAD"]
    assert upstream.asked() == []


def test_a_list_of_tags_comes_from_its_owner(make_replica, make_scripted_replica, upstream):
    members = ranking(addresses(2), "fake.test/org/app tags")
    owner = make_scripted_replica(members[0])
    tags = json.dumps({"name": "org/app", "tags": ["1", "2", "3"]}).encode()
    owner.answer("/tags/list$", held(tags, "application/json", **FRESH), ask="fetch")
    tarn = make_replica(members[1], members, upstreams=[{"tag_ttl": "60s"}])
    assert tarn.get("/v2/org/app/tags/list?n=2").json()["tags"] == ["1", "2"]
    assert tarn.get("/v2/org/app/tags/list").json() == {"name": "org/app", "tags": ["1", "2", "3"]}
    assert len(owner.asked_for("/tags/list")) == 1
    assert upstream.asked() == []


def test_referrers_come_from_their_owner(make_replica, make_scripted_replica, upstream):
    members = ranking(addresses(2), f"fake.test/org/app referrers {DIGEST}")
    owner = make_scripted_replica(members[0])
    media_type = "application/vnd.oci.image.index.v1+json"
    index = {"schemaVersion": 2, "mediaType": media_type,
             "manifests": [{"mediaType": OCI_MANIFEST, "digest": IMAGE_DIGEST, "size": len(IMAGE)}]}
    owner.answer("/referrers/", held(json.dumps(index).encode(), media_type, **FRESH), ask="fetch")
    tarn = make_replica(members[1], members, upstreams=[{"tag_ttl": "60s"}])
    for _ in range(2):
        assert tarn.get(f"/v2/org/app/referrers/{DIGEST}").json() == index
    assert len(owner.asked_for("/referrers/")) == 1
    assert upstream.asked() == []


# ---- link_ttl

LINK_TTL = "1h"
YOUNG, OLD = ({"Age": age, "Cache-Control": "max-age=3600"} for age in ("5", "7200"))


@pytest.fixture
def confirming(make_replica, members, repository):
    """The replica that comes last for DIGEST; its upstream is to confirm links."""
    return make_replica(members[2], members, upstreams=[{"link_ttl": LINK_TTL}])


def holding(content, media_type, fields):
    return lambda request: (200, {"Content-Type": media_type, "Tarn-Answer": "held",
                                  "Docker-Content-Digest": digest_of(content), **fields}, content)


@pytest.mark.parametrize("fields, questions", [(YOUNG, 0), ({}, 0), (OLD, 1)],
                         ids=["young", "unknown", "old"])
@pytest.mark.parametrize("by_head", [False, True])
def test_a_blobs_link_is_as_old_as_the_owners(owner, confirming, upstream, fields, questions,
                                              by_head):
    """An old one is confirmed by upstream at the next hit."""
    owner.answer(WIRE, holding(BLOB, "application/octet-stream", fields))
    if by_head:
        assert confirming.head(PATH).status == 200
    assert digest_of(confirming.get(PATH).body) == DIGEST
    confirming.wait_cached("org/app", DIGEST)
    assert digest_of(confirming.get(PATH).body) == DIGEST
    assert len(upstream.asked("/blobs/", method="HEAD")) == questions
    assert upstream.blob_bytes() == 0


@pytest.mark.parametrize("fields, questions", [(YOUNG, 0), (OLD, 1)], ids=["young", "old"])
def test_a_manifests_link_is_as_old_as_the_owners(make_replica, make_scripted_replica, upstream,
                                                  fields, questions):
    upstream.repository("org/app").add_manifest(IMAGE)
    members = ranking(addresses(2), IMAGE_DIGEST)
    owner = make_scripted_replica(members[0])
    owner.answer("/manifests/", holding(IMAGE, OCI_MANIFEST, fields))
    tarn = make_replica(members[1], members, upstreams=[{"link_ttl": LINK_TTL}])
    assert digest_of(tarn.manifest("org/app", IMAGE_DIGEST).body) == IMAGE_DIGEST
    tarn.settle()
    assert digest_of(tarn.manifest("org/app", IMAGE_DIGEST).body) == IMAGE_DIGEST
    assert len(upstream.asked("/manifests/")) == questions
    tarn.restart()
    assert digest_of(tarn.manifest("org/app", IMAGE_DIGEST).body) == IMAGE_DIGEST
    assert len(upstream.asked("/manifests/")) == questions
