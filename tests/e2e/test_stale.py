"""Tags that are no longer fresh: tag_ttl, revalidation, stale tags, 404, negative caching."""

import time

import pytest

from kit.client import at_once
from kit.content import KIB, manifest, noise
from kit.processes import wait_until

LAYER = noise(KIB)


@pytest.fixture
def repository(upstream):
    upstream.image("org/app", [LAYER], tag="1")
    return upstream.repositories["org/app"]


@pytest.fixture
def start(start_tarn, upstream):
    def start(tag_ttl, **more):
        top = {key: more.pop(key) for key in ("negative_ttl",) if key in more}
        return start_tarn([{"host": "fake.test", "url": upstream.url, "default": True,
                            "tag_ttl": tag_ttl, **more}], **top)
    return start


def move(repository, tag="1"):
    """The tag names another image from now on."""
    return repository.add_manifest(manifest(b"{}", [noise(30, time.monotonic_ns())]), tag=tag)


def test_within_tag_ttl_upstream_is_not_asked(start, upstream, repository):
    tarn = start("1m")
    first = tarn.manifest("org/app", "1")
    assert "miss" in first.cache_status
    move(repository)
    upstream.forget_requests()
    for _ in range(5):
        again = tarn.manifest("org/app", "1")
        assert again["Docker-Content-Digest"] == first["Docker-Content-Digest"]
        assert "hit" in again.cache_status
    assert upstream.asked() == []


def test_after_tag_ttl_a_head_asks_whether_it_moved(start, upstream, repository):
    tarn = start("0")
    tarn.manifest("org/app", "1")
    upstream.forget_requests()
    again = tarn.manifest("org/app", "1")
    assert again.status == 200
    assert [request.method for request in upstream.asked()] == ["HEAD"]


def test_stale_answers_are_logged_once_for_each_upstream(start_tarn, make_upstream):
    first, second = make_upstream(), make_upstream()
    for one in (first, second):
        for tag in "123":
            one.image("org/app", [LAYER], tag=tag)
    tarn = start_tarn([{"host": "first.test", "url": first.url, "tag_ttl": "0"},
                       {"host": "second.test", "url": second.url, "tag_ttl": "0"}])
    names = [f"{host}/org/app" for host in ("first.test", "second.test")]
    for name in names:
        for tag in "123":
            assert tarn.manifest(name, tag).status == 200
        assert tarn.get(f"/v2/{name}/tags/list").status == 200
    for one in (first, second):
        one.fault(".", status=500, method=None)
    for name in names * 3:
        for tag in "123":
            assert "stale" in tarn.manifest(name, tag).cache_status
        assert "stale" in tarn.get(f"/v2/{name}/tags/list").cache_status
    tarn.logged("cache=stale")
    lines = [line for line in tarn.log().splitlines() if "serving a stale" in line]
    assert sorted(line.split("upstream=")[1].split()[0] for line in lines) == \
        ["first.test", "second.test"], lines


def test_a_tag_that_moved_is_fetched(start, upstream, repository):
    tarn = start("0")
    tarn.manifest("org/app", "1")
    digest = move(repository)
    upstream.forget_requests()
    again = tarn.manifest("org/app", "1")
    assert again["Docker-Content-Digest"] == digest
    assert again.body == repository.manifests[digest][0]
    assert [request.method for request in upstream.asked()] == ["HEAD", "GET"]


def test_a_tag_that_moved_back_is_not_fetched_again(start, upstream, repository):
    tarn = start("0")
    old = tarn.manifest("org/app", "1")["Docker-Content-Digest"]
    move(repository)
    tarn.manifest("org/app", "1")
    repository.tags["1"] = old
    upstream.forget_requests()
    assert tarn.manifest("org/app", "1")["Docker-Content-Digest"] == old
    assert upstream.asked(method="GET") == []


def test_a_short_tag_ttl_ends(start, upstream, repository):
    tarn = start("500ms")
    tarn.manifest("org/app", "1")
    digest = move(repository)
    assert tarn.manifest("org/app", "1")["Docker-Content-Digest"] != digest
    wait_until(lambda: tarn.manifest("org/app", "1")["Docker-Content-Digest"] == digest,
               "the tag's end")


def test_one_revalidation_at_a_time(start, upstream, repository):
    tarn = start("0")
    tarn.manifest("org/app", "1")
    upstream.fault("/manifests/", method=None, delay=0.4)
    upstream.forget_requests()
    for reply in at_once(*[lambda: tarn.manifest("org/app", "1")] * 15):
        assert reply.status == 200
    assert len(upstream.asked()) <= 2


def test_an_upstream_without_digests_in_its_head(start, upstream, repository):
    """Some upstreams respond to HEAD without Docker-Content-Digest: then tarn fetches the bytes."""
    tarn = start("0")
    content = repository.manifests[repository.tags["1"]][0]
    for _ in range(2):
        upstream.fault("/manifests/", method=None, status=200, body=content, headers={
            "Content-Type": "application/vnd.oci.image.manifest.v1+json"})
        reply = tarn.manifest("org/app", "1")
        assert (reply.status, reply.body) == (200, content)
        assert reply["Docker-Content-Digest"] == repository.tags["1"]


def test_stale_at_once_when_upstream_is_dead(start, upstream, repository):
    tarn = start("0")
    fresh = tarn.manifest("org/app", "1")
    upstream.refuse()
    stale = tarn.manifest("org/app", "1")
    assert (stale.status, stale.body) == (200, fresh.body)
    assert "fwd=stale" in stale.cache_status
    assert stale.seconds < 5


@pytest.mark.serial
def test_stale_within_5_seconds_when_upstream_is_silent(start, upstream, repository):
    tarn = start("0", connect_timeout="20s", stall_timeout="20s", first_byte_timeout="20s")
    tarn.manifest("org/app", "1")
    upstream.fault("/v2/", method=None, black_hole=True)
    stale = tarn.manifest("org/app", "1")
    assert stale.status == 200
    assert "fwd=stale" in stale.cache_status
    assert stale.seconds < 6


def test_a_stale_tag_becomes_fresh_when_upstream_is_back(start, upstream, repository):
    tarn = start("0")
    tarn.manifest("org/app", "1")
    upstream.refuse()
    assert tarn.manifest("org/app", "1").status == 200
    digest = move(repository)
    upstream.listen_again()
    wait_until(lambda: tarn.manifest("org/app", "1")["Docker-Content-Digest"] == digest,
               "the new tag", 30, pause=0.1)


def test_many_clients_of_a_silent_upstream_all_get_the_stale_tag(start, upstream, repository):
    tarn = start("0")
    tarn.manifest("org/app", "1")
    upstream.fault("/v2/", method=None, black_hole=True)
    for reply in at_once(*[lambda: tarn.manifest("org/app", "1")] * 20):
        assert reply.status == 200
        assert reply.seconds < 7


def test_a_404_ends_the_tag(start, upstream, repository):
    tarn = start("0", negative_ttl="0")
    digest = tarn.manifest("org/app", "1")["Docker-Content-Digest"]
    del repository.tags["1"]
    gone = tarn.manifest("org/app", "1")
    assert (gone.status, gone.code) == (404, "MANIFEST_UNKNOWN")
    upstream.refuse()
    assert tarn.manifest("org/app", "1").status != 200
    assert tarn.manifest("org/app", digest).status == 200


def test_a_404_within_tag_ttl_does_not_end_it_yet(start, upstream, repository):
    tarn = start("1m")
    tarn.manifest("org/app", "1")
    del repository.tags["1"]
    assert tarn.manifest("org/app", "1").status == 200


def test_keep_deleted_keeps_the_tag(start, upstream, repository):
    tarn = start("0", keep_deleted=True)
    digest = tarn.manifest("org/app", "1")["Docker-Content-Digest"]
    del repository.tags["1"]
    assert tarn.manifest("org/app", "1")["Docker-Content-Digest"] == digest
    tarn.restart()
    assert tarn.manifest("org/app", "1")["Docker-Content-Digest"] == digest


def test_a_404_is_believed_for_a_moment(start, upstream, repository):
    tarn = start("1m", negative_ttl="1s")
    for _ in range(5):
        assert tarn.manifest("org/app", "new").status == 404
    assert len(upstream.asked("/manifests/new")) <= 2
    digest = move(repository, "new")
    wait_until(lambda: tarn.manifest("org/app", "new")["Docker-Content-Digest"] == digest,
               "the 404 to be forgotten", pause=0.1)


def test_negative_ttl_0_asks_each_time(start, upstream, repository):
    tarn = start("0", negative_ttl="0")
    assert tarn.manifest("org/app", "new").status == 404
    digest = move(repository, "new")
    assert tarn.manifest("org/app", "new")["Docker-Content-Digest"] == digest


def test_a_denial_does_not_end_the_tag(start, upstream, repository):
    tarn = start("0")
    tarn.manifest("org/app", "1")
    upstream.fault("/v2/", method=None, status=403)
    assert tarn.manifest("org/app", "1").status == 200


def test_tags_survive_a_restart(start, upstream, repository):
    tarn = start("1m")
    digest = tarn.manifest("org/app", "1")["Docker-Content-Digest"]
    tarn.restart()
    upstream.forget_requests()
    assert tarn.manifest("org/app", "1")["Docker-Content-Digest"] == digest
    assert upstream.asked() == []


def test_it_starts_with_a_dead_upstream_and_serves_the_stale_tag(start, upstream, repository):
    tarn = start("0")
    digest = tarn.manifest("org/app", "1")["Docker-Content-Digest"]
    tarn.stop()
    upstream.refuse()
    tarn.start()
    stale = tarn.manifest("org/app", "1")
    assert stale["Docker-Content-Digest"] == digest
    assert "fwd=stale" in stale.cache_status
    assert tarn.manifest("org/app", "1", method="HEAD")["Docker-Content-Digest"] == digest


def test_a_fresh_tag_is_not_asked_for_by_head_either(start, upstream, repository):
    tarn = start("1m")
    tarn.manifest("org/app", "1")
    upstream.forget_requests()
    assert tarn.manifest("org/app", "1", method="HEAD").status == 200
    assert upstream.asked() == []


def test_lists_of_tags_go_stale_as_well(start, upstream, repository):
    tarn = start("0")
    assert tarn.get("/v2/org/app/tags/list").json()["tags"] == ["1"]
    upstream.refuse()
    reply = tarn.get("/v2/org/app/tags/list")
    assert (reply.status, reply.json()["tags"]) == (200, ["1"])
