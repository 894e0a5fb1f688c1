"""
A status is not believed for itself: what is held stays when a portal answers 200 or a load balancer
404, and bytes with the right digest are served whatever they are.
"""

import hashlib
import json

import pytest

from kit.content import (KIB, OCI_INDEX, OCI_MANIFEST, SCHEMA_1, digest_of, manifest, noise,
                         schema_1)
from kit.processes import wait_until
from kit.tarn import tarn_command

LAYER = noise(KIB)
API = {"Docker-Distribution-Api-Version": "registry/2.0"}
ERRORS = json.dumps({"errors": [{"code": "NAME_UNKNOWN", "message": "gone"}]}).encode()
PORTALS = [b'{"error":"log in"}', b"<html>log in</html>", b"", b"[]", b'"text"', b"{}",
           b'{"schemaVersion":7}', b'{"status":"ok","layers":"none"}']
BALANCERS = [b"default backend - 404", b"<html>404</html>", b"", b'{"message":"no Route matched"}',
             b'{"errors":"x"}', b'{"errors":[]}', b'{"error":{"status":"NOT_FOUND"}}']
both = pytest.mark.parametrize("method", ["GET", "HEAD"])


@pytest.fixture
def repository(upstream):
    upstream.image("org/app", [LAYER], tag="1")
    return upstream.repositories["org/app"]


# ---- 200


@both
@pytest.mark.parametrize("page", PORTALS)
def test_a_portals_200_does_not_replace_a_tag(tarn, upstream, repository, page, method):
    before = tarn.manifest("org/app", "1")
    upstream.fault("/manifests/", method=None, status=200, body=page)
    stale = tarn.manifest("org/app", "1", method=method)
    assert (stale.status, stale["Docker-Content-Digest"]) == (200, before["Docker-Content-Digest"])
    assert "fwd=stale" in stale.cache_status
    tarn.restart()  # nor on the disk
    assert tarn.manifest("org/app", "1").body == before.body


@both
@pytest.mark.parametrize("page", PORTALS)
def test_a_portals_200_is_no_manifest(tarn, upstream, repository, page, method):
    upstream.fault("/manifests/", method=None, status=200, body=page)
    digest = repository.tags["1"]
    assert tarn.manifest("org/app", "1", method=method).status == 502
    assert tarn.manifest("org/app", digest, method=method).status == 502
    upstream.heal()
    assert tarn.manifest("org/app", "1", method=method).status == 200
    assert tarn.manifest("org/app", digest, method=method)["Docker-Content-Digest"] == digest


def test_a_portals_200_is_no_right_to_a_stored_manifest(tarn, upstream, repository):
    """Through another repository, which does not have it."""
    digest = repository.tags["1"]
    assert tarn.manifest("org/app", digest).status == 200
    upstream.fault("/org/other/", method=None, status=200, body=b"<html>log in</html>")
    assert tarn.manifest("org/other", digest).status == 502
    upstream.heal()
    assert tarn.manifest("org/other", digest).status == 404


@pytest.mark.parametrize("member", [{}, {"Docker-Content-Digest": "sha256:nonsense"}])
def test_a_tag_without_a_digest_is_believed_when_it_is_a_manifest(tarn, upstream, repository,
                                                                  member):
    content = repository.manifests[repository.tags["1"]][0]
    upstream.fault("/manifests/", method=None, status=200, body=content,
                   headers={"Content-Type": OCI_MANIFEST, **member})
    reply = tarn.manifest("org/app", "1")
    assert (reply.status, reply.body) == (200, content)


# ---- 404


@both
@pytest.mark.parametrize("page", BALANCERS)
def test_a_load_balancers_404_does_not_end_a_tag(tarn, upstream, repository, page, method):
    before = tarn.manifest("org/app", "1")
    tags = tarn.get("/v2/org/app/tags/list").body
    upstream.fault(".", method=None, status=404, body=page)
    stale = tarn.manifest("org/app", "1", method=method)
    assert (stale.status, stale["Docker-Content-Digest"]) == (200, before["Docker-Content-Digest"])
    assert "fwd=stale" in stale.cache_status
    assert tarn.get("/v2/org/app/tags/list").body == tags
    tarn.restart()
    assert tarn.manifest("org/app", "1", method=method).status == 200


@both
@pytest.mark.parametrize("headers,body", [({}, ERRORS), (API, b""), (API, b"404 page not found")])
def test_a_registrys_404_ends_a_tag(start_tarn, upstream, repository, headers, body, method):
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True,
                        "tag_ttl": "0"}], negative_ttl="0")
    tarn.manifest("org/app", "1")
    upstream.fault("/manifests/", method=None, status=404, headers=headers, body=body)
    assert tarn.manifest("org/app", "1", method=method).status == 404
    upstream.heal()
    upstream.fault("/manifests/", method=None, status=503)
    assert tarn.manifest("org/app", "1", method=method).status == 502  # nothing is held


@pytest.mark.parametrize("page", BALANCERS)
def test_what_is_not_held_is_404_whoever_says_so(tarn, upstream, repository, page):
    upstream.fault("/manifests/", method=None, status=404, body=page)
    assert tarn.manifest("org/app", "1").status == 404


# ---- a 404 to a HEAD


@pytest.mark.parametrize("kind", ["manifests", "blobs"])
def test_a_404_to_a_head_leaves_the_code_to_the_get(start_tarn, upstream, kind):
    """docker, skopeo and crane send HEAD, then GET."""
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}],
                      negative_ttl="1m")
    path = f"/v2/org/none/{kind}/{digest_of(b'none')}"
    assert tarn.head(path).status == 404
    asked = len(upstream.asked(method="HEAD"))
    assert tarn.head(path).status == 404
    assert len(upstream.asked(method="HEAD")) == asked  # a HEAD believes it
    reply = tarn.get(path)
    assert (reply.status, reply.json()["errors"][0]["code"]) == (404, "NAME_UNKNOWN")
    upstream.forget_requests()
    assert tarn.get(path).json()["errors"][0]["code"] == "NAME_UNKNOWN"
    assert tarn.head(path).status == 404
    assert upstream.asked() == []


def test_a_404_to_the_head_that_revalidates_leaves_the_code_to_the_get(tarn, upstream, repository):
    tarn.manifest("org/app", "1")
    upstream.repositories.clear()
    reply = tarn.manifest("org/app", "1")
    assert (reply.status, reply.json()["errors"][0]["code"]) == (404, "NAME_UNKNOWN")


def test_a_registry_that_finds_manifests_only_by_get_has_them(tarn, upstream, repository):
    upstream.fault("/manifests/", method="HEAD", status=404)
    assert tarn.manifest("org/app", "1", method="HEAD").status == 404
    assert tarn.manifest("org/app", "1").status == 200
    assert tarn.manifest("org/app", "1").status == 200


# ---- a HEAD that does not say enough


@pytest.mark.parametrize("fault", [
    {"content_length": 0}, {"chunked": True}, {"status": 200, "headers": {}},
    {"status": 200, "headers": {"Content-Type": OCI_MANIFEST}}], ids=str)
@pytest.mark.parametrize("by", ["tag", "digest"])
def test_a_head_without_length_or_digest_is_answered_by_a_get(tarn, upstream, repository, fault,
                                                              by):
    digest = repository.tags["1"]
    content = repository.manifests[digest][0]
    upstream.fault("/manifests/", method="HEAD", **fault)
    reply = tarn.manifest("org/app", "1" if by == "tag" else digest, method="HEAD")
    assert (reply.status, reply["Docker-Content-Digest"]) == (200, digest)
    assert int(reply["Content-Length"]) == len(content)
    assert reply["Content-Type"] == OCI_MANIFEST


def test_a_head_with_another_digest_than_was_asked_for_is_not_believed(tarn, upstream, repository):
    digest = repository.tags["1"]
    upstream.fault("/manifests/", method="HEAD", status=200, content_length=9, headers={
        "Content-Type": OCI_MANIFEST, "Docker-Content-Digest": digest_of(b"another")})
    reply = tarn.manifest("org/app", digest, method="HEAD")
    assert (reply.status, reply["Docker-Content-Digest"]) == (200, digest)


# ---- bytes with the digest asked for

ODD = {
    "a member twice": b'{"schemaVersion":2,"schemaVersion":2,"config":{},"layers":[]}',
    "no JSON": b"<html>a page</html>",
    "an array": b"[1,2]",
    "empty": b"",
    "not UTF-8": b'{"schemaVersion":2,"layers":[],"x":"\xff"}',
    "too deep": b'{"schemaVersion":2,"x":' + b"[" * 100 + b"]" * 100 + b"}",
    "schema 7": b'{"schemaVersion":7}',
}


@pytest.mark.parametrize("content", ODD.values(), ids=ODD.keys())
@pytest.mark.parametrize("by", ["tag", "digest"])
def test_bytes_with_the_right_digest_are_served_and_cached(tarn, upstream, repository, content, by):
    digest = repository.add_manifest(content, OCI_MANIFEST, tag="odd")
    reference = "odd" if by == "tag" else digest
    for method in ("HEAD", "GET", "GET"):
        reply = tarn.manifest("org/app", reference, method=method)
        assert (reply.status, reply["Docker-Content-Digest"]) == (200, digest)
        assert method == "HEAD" or reply.body == content
    upstream.refuse()
    tarn.restart()
    assert tarn.manifest("org/app", reference).body == content


def test_bytes_by_sha512_may_be_anything(tarn, upstream, repository):
    content = b"no JSON"
    digest = repository.add_manifest(content, OCI_INDEX, algorithm="sha512")
    assert digest == "sha512:" + hashlib.sha512(content).hexdigest()
    assert tarn.manifest("org/app", digest).body == content


@pytest.mark.parametrize("content", [ODD["no JSON"], ODD["an array"]])
def test_commands_say_that_they_cannot_read_a_manifest(tarn, upstream, repository, program,
                                                       tmp_path, content):
    repository.add_manifest(content, OCI_MANIFEST, tag="odd")
    assert tarn.manifest("org/app", "odd").status == 200

    def run(*arguments):
        return tarn_command(program, *arguments, "--config", tarn.config_path, home=tmp_path)

    warm = run("warm", "fake.test/org/app:odd")
    assert warm.returncode != 0 and "manifest: " in warm.stderr + warm.stdout
    listed = run("ls")
    assert listed.returncode == 0 and "odd" in listed.stdout
    assert run("rm", "fake.test/org/app:odd").returncode == 0
    wait_until(lambda: "odd" not in run("ls").stdout, "the tag to be gone")


# ---- schema 1

@pytest.mark.parametrize("by", ["tag", "digest"])
@pytest.mark.parametrize("named", [True, False])
def test_a_signed_manifest_of_schema_1_has_its_payloads_digest(tarn, upstream, by, named):
    content, digest = schema_1()
    headers = {"Content-Type": SCHEMA_1, **({"Docker-Content-Digest": digest} if named else {})}
    upstream.fault("/manifests/", method=None, status=200, body=content, headers=headers)
    for method in ("GET", "HEAD", "GET"):
        reply = tarn.manifest("org/app", "old" if by == "tag" else digest, method=method)
        assert (reply.status, reply["Docker-Content-Digest"]) == (200, digest)
        assert method == "HEAD" or reply.body == content
        assert reply["Content-Type"] == SCHEMA_1
    upstream.refuse()
    assert tarn.manifest("org/app", digest).body == content


@pytest.mark.parametrize("lie", [
    lambda content: content.replace(b"org/app", b"org/bad"),
    lambda content: content.replace(b'"fsLayers": []', b'"fsLayers": {}'),
    lambda content: content.replace(b'"schemaVersion": 1', b'"schemaVersion": 2'),
    lambda content: content.removesuffix(b"\n}") + b',\n"layers": []\n}'])
def test_a_changed_payload_of_schema_1_is_refused(tarn, upstream, lie):
    content, digest = schema_1()
    assert lie(content) != content
    upstream.fault("/manifests/", method=None, status=200, body=lie(content), headers={
        "Content-Type": SCHEMA_1, "Docker-Content-Digest": digest})
    assert tarn.manifest("org/app", digest).status == 502
    assert tarn.manifest("org/app", "old").status == 502
