"""tags/list with n, last and Link; referrers with the fallback tag; _catalog of what is cached."""

import json
import re

import pytest

from kit.content import OCI_INDEX, OCI_MANIFEST, descriptor, digest_of, index, manifest

TAGS = sorted(["1", "1.10", "1.2", "2", "latest", "v1.0.0-rc.1", "_x", "Zeta", "a", "b"])


@pytest.fixture
def repository(upstream):
    repository = upstream.repository("org/app")
    for tag in TAGS:
        repository.add_manifest(manifest(b"{}", []), tag=tag)
    return repository


def next_of(reply):
    """The target of Link rel="next", or None."""
    match = re.search(r'<([^>]*)>;\s*rel="?next"?', reply["Link"] or "")
    return match.group(1) if match else None


def test_all_tags_in_order(tarn, repository):
    reply = tarn.get("/v2/org/app/tags/list")
    assert (reply.status, reply.json()) == (200, {"name": "org/app", "tags": TAGS})
    assert reply["Content-Type"].startswith("application/json")
    assert reply["Link"] is None


def test_the_name_is_the_one_that_was_asked_for(start_tarn, upstream, repository):
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url}])
    name = tarn.get("/v2/fake.test/org/app/tags/list").json()["name"]
    assert name in ("org/app", "fake.test/org/app")


@pytest.mark.parametrize("n", [1, 3, 9, 10, 11, 1000])
def test_n_pages_through_all_tags(tarn, repository, n):
    target, seen, pages = f"/v2/org/app/tags/list?n={n}", [], 0
    while target:
        reply = tarn.get(target)
        tags = reply.json()["tags"]
        assert len(tags) <= n
        seen += tags
        target = next_of(reply)
        assert target is None or target.startswith("/v2/org/app/tags/list?")
        pages += 1
        assert pages <= 12
    assert seen == TAGS


def test_the_next_page_stays_with_the_named_upstream(start_tarn, upstream, repository):
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url}])
    for first in ("/v2/fake.test/org/app/tags/list?n=6", "/v2/org/app/tags/list?n=6&ns=fake.test"):
        reply = tarn.get(first)
        rest = tarn.get(next_of(reply))
        assert reply.json()["tags"] + rest.json()["tags"] == TAGS


def test_last(tarn, repository):
    assert tarn.get("/v2/org/app/tags/list?last=2").json()["tags"] == [
        tag for tag in TAGS if tag > "2"]
    assert tarn.get("/v2/org/app/tags/list?last=zzz").json()["tags"] == []
    assert tarn.get("/v2/org/app/tags/list?n=2&last=1.15").json()["tags"] == ["1.2", "2"]


def test_n_zero_is_an_empty_page(tarn, repository):
    reply = tarn.get("/v2/org/app/tags/list?n=0")
    assert (reply.status, reply.json()["tags"]) == (200, [])


@pytest.mark.parametrize("query", ["n=-1", "n=x", "n=99999999999999999999", "n="])
def test_an_odd_n_is_refused_or_passed_over(tarn, repository, query):
    reply = tarn.get(f"/v2/org/app/tags/list?{query}")
    assert reply.status in (200, 400), reply
    if reply.status == 400:
        assert "errors" in reply.json()


def test_upstreams_pages_are_put_together(tarn, upstream, repository):
    upstream.page_size = 3
    assert tarn.get("/v2/org/app/tags/list").json()["tags"] == TAGS


def test_upstreams_link_may_lead_in_a_circle(tarn, upstream, repository):
    upstream.fault("/tags/list", status=200, headers={
        "Content-Type": "application/json",
        "Link": '</v2/org/app/tags/list?last=a>; rel="next"'},
        body=b'{"name":"org/app","tags":["a"]}')
    reply = tarn.get("/v2/org/app/tags/list", timeout=20)
    assert reply.status in (200, 502)
    if reply.status == 200:
        assert reply.json()["tags"] == ["a"]


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"tags":null}', b'{"tags":[5]}', b"no json",
                                  b'{"tags":["../../x","ok"]}'])
def test_a_tag_list_that_is_none(tarn, upstream, body):
    upstream.fault("/tags/list", status=200, headers={"Content-Type": "application/json"},
                   body=body)
    reply = tarn.get("/v2/org/app/tags/list")
    assert reply.status in (200, 502)
    if reply.status == 200:
        assert set(reply.json()["tags"] or []) <= {"ok"}


# ---- referrers


def referrer(kind, number=0):
    content = manifest(b"{}", [], artifactType=kind, annotations={"number": str(number)})
    return descriptor(content, OCI_MANIFEST, artifactType=kind)


SIGNATURE = "application/vnd.dev.cosign.artifact.sig.v1+json"
SBOM = "application/spdx+json"


@pytest.fixture
def subject(repository):
    digest = repository.tags["latest"]
    repository.referrers[digest] = [referrer(SIGNATURE), referrer(SBOM), referrer(SBOM, 1)]
    return digest


def test_referrers_come_from_upstream(tarn, repository, subject):
    reply = tarn.get(f"/v2/org/app/referrers/{subject}")
    assert (reply.status, reply["Content-Type"]) == (200, OCI_INDEX)
    assert reply.json()["schemaVersion"] == 2
    assert reply.json()["manifests"] == repository.referrers[subject]


def test_referrers_of_one_type(tarn, repository, subject):
    reply = tarn.get(f"/v2/org/app/referrers/{subject}?artifactType={SBOM.replace('+', '%2B')}")
    assert [entry["artifactType"] for entry in reply.json()["manifests"]] == [SBOM, SBOM]
    assert "artifactType" in reply["OCI-Filters-Applied"]


def test_referrers_of_what_nothing_refers_to(tarn, repository):
    reply = tarn.get(f"/v2/org/app/referrers/{digest_of(b'nothing')}")
    assert (reply.status, reply.json()["manifests"]) == (200, [])


def test_referrers_by_the_fallback_tag(tarn, upstream, repository, subject):
    upstream.referrers_api = False
    entries = [referrer(SIGNATURE), referrer(SBOM)]
    repository.add_manifest(index(entries), OCI_INDEX, tag=subject.replace(":", "-"))
    reply = tarn.get(f"/v2/org/app/referrers/{subject}")
    assert (reply.status, reply["Content-Type"]) == (200, OCI_INDEX)
    assert reply.json()["manifests"] == entries
    only = tarn.get(f"/v2/org/app/referrers/{subject}?artifactType={SIGNATURE.replace('+', '%2B')}")
    assert only.json()["manifests"] == entries[:1]


def test_no_referrers_api_and_no_fallback_tag_is_an_empty_index(tarn, upstream, repository,
                                                                subject):
    upstream.referrers_api = False
    reply = tarn.get(f"/v2/org/app/referrers/{subject}")
    assert (reply.status, reply["Content-Type"]) == (200, OCI_INDEX)
    assert reply.json() == {**reply.json(), "schemaVersion": 2, "mediaType": OCI_INDEX,
                            "manifests": []}


def test_referrers_of_a_failing_upstream_are_no_empty_index(tarn, upstream, repository, subject):
    upstream.fault("/referrers/", status=500)
    assert tarn.get(f"/v2/org/app/referrers/{subject}").status == 502


# ---- what is cached


def test_the_catalog_is_what_is_cached(tarn, upstream, repository):
    upstream.image("org/another", [b"x"], tag="1")
    upstream.image("zoo", [b"x"], tag="1")
    assert tarn.get("/v2/_catalog").json()["repositories"] == []
    for name in ("org/another", "org/app", "zoo"):
        tarn.manifest(name, "1")
    asked = len(upstream.asked())
    names = tarn.get("/v2/_catalog").json()["repositories"]
    assert [name.removeprefix("fake.test/") for name in names] == ["org/another", "org/app", "zoo"]
    assert len(upstream.asked()) == asked


def test_the_catalogs_names_can_be_pulled(tarn, upstream, repository):
    tarn.manifest("org/app", "1")
    for name in tarn.get("/v2/_catalog").json()["repositories"]:
        assert tarn.manifest(name, "1").status == 200


def test_the_catalog_has_pages(tarn, upstream):
    names = [f"org/app-{number:02}" for number in range(7)]
    for name in names:
        upstream.image(name, [b"x"], tag="1")
        tarn.manifest(name, "1")
    target, seen = "/v2/_catalog?n=3", []
    while target:
        reply = tarn.get(target)
        page = reply.json()["repositories"]
        assert len(page) <= 3
        seen += page
        target = next_of(reply)
        assert len(seen) <= len(names)
    assert [name.removeprefix("fake.test/") for name in seen] == names


def test_a_list_of_tags_is_json_whatever_is_in_it(tarn, repository):
    json.loads(tarn.get("/v2/org/app/tags/list").body)
