"""tags/list with n, last and Link; referrers with the fallback tag; _catalog of what is cached."""

import json
import re

import pytest

from kit.content import OCI_INDEX, OCI_MANIFEST, descriptor, digest_of, index, manifest
from kit.processes import wait_until

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


# ---- lists that are whole or an error


def pages_of(upstream, *pages):
    """tags/list in pages: (tags, Link), …; each further page has `last=` its number."""
    for number, (tags, link) in reversed(list(enumerate(pages))):
        upstream.fault(rf"/tags/list\?.*last={number}" if number else "/tags/list",
                       status=200, body=json.dumps({"name": "org/app", "tags": tags}).encode(),
                       headers={"Link": link} if link else {})


NEXT = "/v2/org/app/tags/list?n=2&last=1"


@pytest.mark.parametrize("link", [
    f'<{NEXT}>; rel="next"', f"<{NEXT}>;rel=next", f'<https://fake.test{NEXT}>; rel="next"',
    f'<http://internal:5000{NEXT}>; rel="next"', f'<//elsewhere.example{NEXT}>; rel="next"',
    f'</v2/>; rel="help", <{NEXT}>; REL="Next"', f'<{NEXT}>; rel="last next"',
    '<?n=2&last=1>; rel="next"', "<list?last=1>; rel=next"])
def test_the_next_page_is_asked_for_at_the_same_registry(tarn, upstream, link):
    pages_of(upstream, (["a", "b"], link), (["c"], None))
    assert tarn.get("/v2/org/app/tags/list").json()["tags"] == ["a", "b", "c"]


@pytest.mark.parametrize("link", [
    '<ftp://fake.test/x>; rel="next"', f'{NEXT}; rel="next"', f'<{NEXT}; rel="next"',
    f'<https://user:password@fake.test{NEXT}>; rel="next"', f'<{NEXT}>; rel="next',
    f'<{NEXT}{"x" * 3000}>; rel="next"', f'<{NEXT}{"x" * 9000}>; rel="next"'])
def test_a_list_whose_next_page_cannot_be_asked_for_is_an_error(tarn, upstream, link):
    pages_of(upstream, (["a", "b"], link), (["c"], None))
    assert tarn.get("/v2/org/app/tags/list").status == 502
    upstream.heal()
    upstream.repository("org/app").add_manifest(manifest(b"{}", []), tag="whole")
    assert tarn.get("/v2/org/app/tags/list").json()["tags"] == ["whole"]  # nothing was cached


@pytest.mark.parametrize("status", [400, 403, 404, 429, 500, 503])
def test_a_list_whose_second_page_fails_is_an_error(tarn, upstream, status):
    upstream.fault("last=1", status=status, headers={"Retry-After": "1"})
    pages_of(upstream, (["a", "b"], f'<{NEXT}>; rel="next"'))
    expected = status if status in (403, 429) else 502
    assert tarn.get("/v2/org/app/tags/list").status == expected


def test_pages_without_an_end_are_an_error(tarn, upstream):
    upstream.fault("/tags/list", status=200, body=b'{"name":"org/app","tags":["a"]}',
                   headers={"Link": f'<{NEXT}>; rel="next"'})
    assert tarn.get("/v2/org/app/tags/list", timeout=60).status == 502


@pytest.mark.parametrize("body", [b"<html>login</html>", b'{"error":"log in"}', b"[]", b"",
                                  b'{"tags":{}}'])
def test_a_page_of_a_portal_is_no_list(tarn, upstream, repository, body):
    upstream.fault("/tags/list", status=200, body=body)
    assert tarn.get("/v2/org/app/tags/list").status == 502
    upstream.heal()
    assert tarn.get("/v2/org/app/tags/list").json()["tags"] == TAGS
    upstream.fault("/tags/list", status=200, body=body)
    stale = tarn.get("/v2/org/app/tags/list")
    assert stale.json()["tags"] == TAGS and "stale" in stale.cache_status


@pytest.mark.parametrize("body", [b'{"name":"org/app","tags":null}', b'{"name":"org/app"}'])
def test_a_list_without_tags_is_empty(tarn, upstream, repository, body):
    upstream.fault("/tags/list", status=200, body=body)
    assert tarn.get("/v2/org/app/tags/list").json()["tags"] == []


def test_a_thousand_tags_are_asked_for_at_once(tarn, upstream, repository):
    tarn.get("/v2/org/app/tags/list")
    assert [request.query for request in upstream.asked("/tags/list")] == ["n=1000"]


@pytest.mark.parametrize("status", [400, 422])
def test_a_registry_that_refuses_a_thousand_decides_itself(tarn, upstream, repository, status):
    upstream.fault(r"n=1000", status=status)
    assert tarn.get("/v2/org/app/tags/list").json()["tags"] == TAGS


def test_a_full_page_without_a_link_is_not_taken_for_the_end(tarn, upstream):
    tags = [f"t{number:04}" for number in range(2500)]
    for first in (2000, 1000, 0):  # the first rule that matches counts
        upstream.fault(rf"last=t{first - 1:04}" if first else "/tags/list", status=200,
                       body=json.dumps({"name": "x", "tags": tags[first:first + 1000]}).encode())
    assert tarn.get("/v2/org/app/tags/list").json()["tags"] == tags


def test_a_registry_that_ignores_last_is_asked_once_more_only(tarn, upstream):
    tags = [f"t{number:04}" for number in range(1000)]
    upstream.fault("/tags/list", status=200, body=json.dumps({"name": "x", "tags": tags}).encode())
    assert tarn.get("/v2/org/app/tags/list").json()["tags"] == tags
    assert len(upstream.asked("/tags/list")) == 2


def test_lists_are_bounded_by_an_error(tarn, upstream):
    """24 pages of which each alone is allowed."""
    page = json.dumps({"name": "x", "tags": [f"{'x' * 100}{n:06}" for n in range(100000)]}).encode()
    assert len(page) < 16 << 20
    upstream.fault("/tags/list", status=200, body=page,
                   headers={"Link": f'<{NEXT}>; rel="next"'})
    assert tarn.get("/v2/org/app/tags/list", timeout=60).status == 502
    assert len(upstream.asked("/tags/list")) < 5


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


NO_API = [202, 204, 206, 400, 401, 403, 404, 405, 406, 410, 415, 422, 501]  # Harbor before 2.9: 400
NO_INDEX = [b"<html>", b"", b"{}", b'{"errors":[]}', b'{"mediaType":"a/b","manifests":[]}', b"[1]"]


@pytest.fixture(params=[*NO_API, *NO_INDEX], ids=str)
def without_api(request, upstream):
    """An upstream that lacks the referrers API."""
    if isinstance(request.param, int):
        upstream.fault("/referrers/", status=request.param)
    else:
        upstream.fault("/referrers/", status=200, body=request.param)


def test_without_the_api_the_fallback_tag_counts(tarn, repository, subject, without_api):
    entries = [referrer(SIGNATURE)]
    repository.add_manifest(index(entries), OCI_INDEX, tag=subject.replace(":", "-"))
    assert tarn.get(f"/v2/org/app/referrers/{subject}").json()["manifests"] == entries


def test_without_the_api_and_the_tag_the_index_is_empty(tarn, subject, without_api):
    reply = tarn.get(f"/v2/org/app/referrers/{subject}")
    assert (reply.status, reply["Content-Type"]) == (200, OCI_INDEX)
    assert reply.json()["manifests"] == []


@pytest.mark.parametrize("refusal", [401, 403])
def test_referrers_of_what_may_not_be_read_are_denied(tarn, upstream, repository, subject, refusal):
    upstream.fault("/referrers/|/manifests/", method=None, status=refusal)
    assert tarn.get(f"/v2/org/app/referrers/{subject}").status == 403


@pytest.mark.parametrize("fault,status", [
    ({"status": 429, "headers": {"Retry-After": "1"}}, 429), ({"status": 500}, 502),
    ({"status": 502}, 502), ({"status": 503}, 502), ({"reset": True}, 502)])
@pytest.mark.parametrize("path", ["/referrers/", "/manifests/sha256-"])
def test_referrers_of_a_failing_upstream_are_no_empty_index(tarn, upstream, repository, subject,
                                                            path, fault, status):
    if path != "/referrers/":
        upstream.referrers_api = False
    upstream.fault(path, method=None, **fault)
    assert tarn.get(f"/v2/org/app/referrers/{subject}").status == status


def test_an_empty_list_of_referrers_is_not_served_as_stale(tarn, upstream, repository, subject):
    repository.referrers.clear()
    assert tarn.get(f"/v2/org/app/referrers/{subject}").json()["manifests"] == []
    upstream.fault("/referrers/", status=503)
    assert tarn.get(f"/v2/org/app/referrers/{subject}").status == 502


def test_a_list_of_referrers_is_served_as_stale(tarn, upstream, repository, subject):
    entries = tarn.get(f"/v2/org/app/referrers/{subject}").json()["manifests"]
    upstream.fault("/referrers/", status=503)
    stale = tarn.get(f"/v2/org/app/referrers/{subject}")
    assert stale.json()["manifests"] == entries and "stale" in stale.cache_status


@pytest.mark.parametrize("kind", ["an image", "the subject", "a Docker list"])
def test_a_fallback_tag_that_is_no_list_of_referrers_is_none(tarn, upstream, repository, kind):
    """Nexus and others find a manifest by its digest under that tag as well."""
    upstream.referrers_api = False
    content, media_type = index([referrer(SIGNATURE)]), OCI_INDEX
    if kind == "an image":
        content, media_type = manifest(b"{}", []), OCI_MANIFEST
    if kind == "a Docker list":
        media_type = "application/vnd.docker.distribution.manifest.list.v2+json"
        content = json.dumps({**json.loads(content), "mediaType": media_type}).encode()
    subject = digest_of(content if kind == "the subject" else b"another")
    repository.add_manifest(content, media_type, tag=subject.replace(":", "-"))
    reply = tarn.get(f"/v2/org/app/referrers/{subject}")
    assert (reply.status, reply.json()["manifests"]) == (200, [])


@pytest.mark.parametrize("api", [True, False])
def test_a_new_signature_is_seen_after_negative_ttl(start_tarn, upstream, repository, api):
    """cosign: verify an unsigned image, sign it at the registry, verify it through tarn."""
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True,
                        "tag_ttl": "10m"}], negative_ttl="1s")
    upstream.referrers_api = api
    subject = repository.tags["latest"]
    path = f"/v2/org/app/referrers/{subject}"
    assert tarn.get(path).json()["manifests"] == []
    assert "hit" in tarn.get(path).cache_status
    entries = [referrer(SIGNATURE)]
    if api:
        repository.referrers[subject] = entries
    else:
        repository.add_manifest(index(entries), OCI_INDEX, tag=subject.replace(":", "-"))
    wait_until(lambda: tarn.get(path).json()["manifests"] == entries, "the signature", 5)
    upstream.forget_requests()
    assert "hit" in tarn.get(path).cache_status and upstream.asked() == []


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


def test_what_google_adds_to_a_list_of_tags_is_passed_on(tarn, upstream):
    manifests = {digest_of(b"1"): {"tag": ["1"], "imageSizeBytes": "7"},
                 digest_of(b"2"): {"tag": [], "mediaType": "a/b"}}
    first = {"name": "org/app", "tags": ["1"], "child": ["a", "b"], "manifest": {
        digest_of(b"1"): manifests[digest_of(b"1")]}}
    second = {"name": "org/app", "tags": ["2"], "child": ["c"], "manifest": {
        digest_of(b"2"): manifests[digest_of(b"2")]}}
    json_type = {"Content-Type": "application/json"}
    upstream.fault("/tags/list.*last=1", status=200, headers=json_type,
                   body=json.dumps(second).encode())
    upstream.fault("/tags/list", status=200, body=json.dumps(first).encode(),
                   headers={**json_type, "Link": '</v2/org/app/tags/list?last=1>; rel="next"'})
    for _ in range(2):
        assert tarn.get("/v2/org/app/tags/list").json() == {
            "name": "org/app", "tags": ["1", "2"], "child": ["a", "b", "c"], "manifest": manifests}
    page = tarn.get("/v2/org/app/tags/list?n=1")
    assert page.json()["manifest"] == manifests and page.json()["tags"] == ["1"]
    page = tarn.get(next_of(page))
    assert page.json() == {"name": "org/app", "tags": ["2"]}


def test_a_list_of_tags_has_no_odd_members(tarn, upstream):
    upstream.fault("/tags/list", status=200, headers={"Content-Type": "application/json"},
                   body=b'{"name":"org/app","tags":["1"],"manifest":"x","child":{},"other":[1]}')
    assert tarn.get("/v2/org/app/tags/list").json() == {"name": "org/app", "tags": ["1"]}


def test_the_catalog_of_one_upstream(start_tarn, make_upstream):
    """What a client asks for that takes tarn/HOST for the registry's address."""
    registries = {host: make_upstream() for host in ("one.test", "two.test")}
    tarn = start_tarn([{"host": host, "url": registry.url}
                       for host, registry in registries.items()])
    for host, registry in registries.items():
        for name in ("org/a", "org/b", host.replace(".", "-")):
            registry.image(name, [b"x"], tag="1")
            tarn.manifest(f"{host}/{name}", "1")
    for form in ("/v2/{}/_catalog", "/{}/v2/_catalog", "/v2/_catalog?ns={}"):
        names = tarn.get(form.format("two.test")).json()["repositories"]
        assert names == ["org/a", "org/b", "two-test"]
    target, seen = "/v2/one.test/_catalog?n=2", []
    while target:
        reply = tarn.get(target)
        seen += reply.json()["repositories"]
        target = next_of(reply)
    assert seen == ["one-test", "org/a", "org/b"]
    reply = tarn.get("/v2/three.test/_catalog")
    assert (reply.status, reply.code) == (404, "NAME_UNKNOWN")


def test_a_list_of_tags_is_json_whatever_is_in_it(tarn, repository):
    json.loads(tarn.get("/v2/org/app/tags/list").body)
