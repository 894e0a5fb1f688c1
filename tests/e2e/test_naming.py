"""Three ways to name an upstream, all at once on one port."""

import re

import pytest

from kit.content import KIB, digest_of, manifest, noise
from kit.tokens import TokenService

LAYER = noise(10 * KIB)
DIGEST = digest_of(LAYER)


@pytest.fixture
def lake(start_tarn, make_upstream):
    """tarn before three registries, the first of them the default."""
    registries = {host: make_upstream() for host in ("default.test", "other.test", "docker.io")}
    for host, registry in registries.items():
        for name in ("org/app", "library/busybox", "deep/er/na/me"):
            registry.image(name, [LAYER], tag="1", config=f'"{host}"'.encode())
    lake = start_tarn([{"host": host, "url": registry.url, "tag_ttl": "0",
                        "default": host == "default.test"}
                       for host, registry in registries.items()])
    lake.registries = registries
    return lake


def came_from(lake, reply, host, repository="org/app"):
    expected = lake.registries[host].repositories[repository].tags["1"]
    assert (reply.status, reply["Docker-Content-Digest"]) == (200, expected), reply


def test_ns_names_the_upstream(lake):
    reply = lake.get("/v2/org/app/manifests/1?ns=other.test")
    came_from(lake, reply, "other.test")
    assert reply["OCI-Namespace"] == "other.test"


def test_ns_works_for_blobs_tags_and_referrers(lake):
    assert lake.get(f"/v2/org/app/blobs/{DIGEST}?ns=other.test").body == LAYER
    assert lake.get("/v2/org/app/tags/list?ns=other.test").json()["tags"] == ["1"]
    assert lake.get(f"/v2/org/app/referrers/{DIGEST}?ns=other.test").status == 200
    assert lake.registries["default.test"].connections == 0


def test_v2_with_ns(lake):
    assert lake.get("/v2/?ns=other.test").status == 200


def test_the_first_part_of_the_path_names_the_upstream(lake):
    came_from(lake, lake.get("/v2/other.test/org/app/manifests/1"), "other.test")
    came_from(lake, lake.get("/v2/other.test/deep/er/na/me/manifests/1"), "other.test",
              "deep/er/na/me")
    assert lake.get(f"/v2/other.test/org/app/blobs/{DIGEST}").body == LAYER
    tags = lake.get("/v2/other.test/org/app/tags/list").json()
    assert tags["tags"] == ["1"]


def test_the_default_serves_names_without_a_host(lake):
    came_from(lake, lake.get("/v2/org/app/manifests/1"), "default.test")
    came_from(lake, lake.get("/v2/deep/er/na/me/manifests/1"), "default.test", "deep/er/na/me")


def test_ns_and_a_path_without_host_beat_the_default(lake):
    came_from(lake, lake.get("/v2/org/app/manifests/1?ns=docker.io"), "docker.io")
    assert lake.registries["default.test"].connections == 0


@pytest.mark.parametrize("host", ["docker.io", "index.docker.io", "registry-1.docker.io"])
def test_docker_hub_under_each_of_its_names(lake, host):
    came_from(lake, lake.get(f"/v2/{host}/library/busybox/manifests/1"), "docker.io",
              "library/busybox")
    came_from(lake, lake.get(f"/v2/library/busybox/manifests/1?ns={host}"), "docker.io",
              "library/busybox")


@pytest.mark.parametrize("host", ["docker.io", "index.docker.io", "registry-1.docker.io"])
def test_library_is_added_for_docker_hub(lake, host):
    for path in (f"/v2/{host}/busybox/manifests/1", f"/v2/busybox/manifests/1?ns={host}"):
        came_from(lake, lake.get(path), "docker.io", "library/busybox")
    assert lake.get(f"/v2/busybox/blobs/{DIGEST}?ns={host}").body == LAYER


def test_library_is_added_for_docker_hub_alone(lake):
    assert lake.get("/v2/other.test/busybox/manifests/1").status == 404
    assert lake.registries["other.test"].asked("library") == []
    assert lake.registries["other.test"].asked("/v2/busybox/manifests/1")


def test_hosts_are_compared_without_case(lake):
    came_from(lake, lake.get("/v2/org/app/manifests/1?ns=OTHER.Test"), "other.test")


def test_the_same_image_by_two_names_is_fetched_once(lake):
    lake.get(f"/v2/other.test/org/app/blobs/{DIGEST}")
    lake.wait_cached("other.test/org/app", DIGEST)
    other = lake.registries["other.test"]
    other.forget_requests()
    assert lake.get(f"/v2/org/app/blobs/{DIGEST}?ns=other.test").body == LAYER
    assert other.asked() == []


@pytest.mark.parametrize("path", [
    "/unknown.test/v2/org/app/manifests/1",
    "/v2/org/app/manifests/1?ns=unknown.test",
    "/v2/unknown.test:5000/org/app/tags/list",
    f"/v2/localhost/org/app/blobs/{DIGEST}",
    f"/v2/org/app/referrers/{DIGEST}?ns=sub.other.test",
])
def test_an_unknown_host_is_refused_without_a_connection(lake, path):
    reply = lake.get(path)
    assert (reply.status, reply.code) == (404, "NAME_UNKNOWN")
    assert [registry.connections for registry in lake.registries.values()] == [0, 0, 0]


@pytest.mark.parametrize("host", ["other.test", "OTHER.test", "other.test:443"])
@pytest.mark.parametrize("ns", ["other.test", "Other.Test"])
def test_a_host_named_by_path_and_ns_is_no_part_of_the_repository(lake, host, ns):
    """What containerd sends with override_path = true and [host."http://tarn/v2/HOST"]."""
    came_from(lake, lake.get(f"/v2/{host}/org/app/manifests/1?ns={ns}"), "other.test")
    assert lake.get(f"/v2/{host}/org/app/blobs/{DIGEST}?ns={ns}").body == LAYER
    assert lake.get(f"/v2/{host}/org/app/tags/list?ns={ns}").json()["tags"] == ["1"]


def test_docker_hub_may_be_named_twice_by_any_two_of_its_names(lake):
    for host in ("docker.io", "index.docker.io", "registry-1.docker.io"):
        for ns in ("docker.io", "index.docker.io"):
            came_from(lake, lake.get(f"/v2/{host}/busybox/manifests/1?ns={ns}"), "docker.io",
                      "library/busybox")


def test_another_host_in_the_path_is_part_of_the_repository_of_ns(lake):
    lake.registries["other.test"].image("default.test/app", [LAYER], tag="1")
    came_from(lake, lake.get("/v2/default.test/app/manifests/1?ns=other.test"), "other.test",
              "default.test/app")
    assert lake.registries["default.test"].connections == 0


@pytest.mark.parametrize("query", ["", "?ns=other.test"])
def test_a_host_before_v2_names_the_upstream(lake, query):
    """What dockerd and containerd ask for when a mirror's address is http://tarn/HOST."""
    assert lake.get(f"/other.test/v2/{query}").status == 200
    came_from(lake, lake.get(f"/other.test/v2/org/app/manifests/1{query}"), "other.test")
    assert lake.get(f"/other.test/v2/org/app/blobs/{DIGEST}{query}").body == LAYER
    came_from(lake, lake.get(f"/docker.io/v2/busybox/manifests/1{query[:0]}"), "docker.io",
              "library/busybox")
    assert lake.get(f"/other.test/v2/org/nope/manifests/1{query}").code


def test_the_next_page_of_a_list_below_a_host_is_below_it(lake):
    for tag in ("2", "3"):
        lake.registries["other.test"].image("org/app", [LAYER], tag=tag)
    reply = lake.get("/other.test/v2/org/app/tags/list?n=2")
    assert reply.json() == {"name": "org/app", "tags": ["1", "2"]}
    next_page = reply["Link"].split(">")[0].lstrip("<")
    assert lake.get(next_page).json()["tags"] == ["3"]


def test_a_domain_scoped_repository_is_one_of_the_default_upstream(lake):
    """gcr.io has repositories like example.com/project/app."""
    lake.registries["default.test"].image("example.com/project/app", [LAYER], tag="1")
    path = "example.com/project/app"
    came_from(lake, lake.get(f"/v2/{path}/manifests/1"), "default.test", path)
    assert lake.get(f"/v2/{path}/blobs/{DIGEST}").body == LAYER
    reply = lake.get("/v2/unknown.test/org/app/manifests/1")
    assert (reply.status, reply.code) == (404, "NAME_UNKNOWN")
    assert lake.registries["other.test"].connections == 0


def test_docker_hub_as_default_gets_no_name_with_a_host_in_front(start_tarn, upstream):
    tarn = start_tarn([{"host": "docker.io", "url": upstream.url, "default": True}])
    reply = tarn.manifest("unknown.test/org/app", "1")
    assert (reply.status, reply.code) == (404, "NAME_UNKNOWN")
    assert "no upstream is configured for unknown.test" in reply.message
    assert upstream.connections == 0


@pytest.mark.parametrize("query", ["ns=a%00b", "ns=%zz", "ns=a/b", "ns=..",
                                   "ns=other.test&ns=docker.io", "ns=http://other.test",
                                   "ns=x%0d%0aSet-Cookie:%20a"])
def test_an_odd_ns_is_refused(lake, query):
    reply = lake.get(f"/v2/org/app/manifests/1?{query}")
    assert reply.status in (400, 404), reply
    assert reply["Set-Cookie"] is None


def test_other_parameters_are_passed_over(lake):
    came_from(lake, lake.get("/v2/org/app/manifests/1?a=b&ns=other.test&c"), "other.test")


def test_ns_may_be_encoded(lake):
    came_from(lake, lake.get("/v2/org/app/manifests/1?ns=other%2Etest"), "other.test")


def test_a_bare_name_is_not_served_by_an_upstream_that_is_not_the_default(start_tarn, upstream):
    upstream.image("org/app", [LAYER], tag="1")
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url}])
    assert tarn.manifest("org/app", "1").status != 200
    assert upstream.connections == 0


def test_an_upstream_with_a_port(start_tarn, upstream):
    upstream.image("org/app", [LAYER], tag="1")
    tarn = start_tarn([{"host": f"127.0.0.1:{upstream.port}", "url": upstream.url}])
    assert tarn.manifest(f"127.0.0.1:{upstream.port}/org/app", "1").status == 200
    reply = tarn.get(f"/v2/org/app/manifests/1?ns=127.0.0.1:{upstream.port}")
    assert reply.status == 200
    reply = tarn.get(f"/v2/org/app/manifests/1?ns=127.0.0.1%3A{upstream.port}")
    assert reply.status == 200


def test_a_pattern_serves_every_host_it_matches(start_tarn, upstream):
    upstream.image("org/app", [LAYER], tag="1")
    tarn = start_tarn([{"host": "*.mirror.test", "url": upstream.url}])
    assert tarn.manifest("a.mirror.test/org/app", "1").status == 200
    assert tarn.get("/v2/org/app/manifests/1?ns=b.mirror.test").status == 200
    for host in ("mirror.test", "a.b.mirror.test", "amirror.test", "a.mirror.test.evil.test"):
        assert tarn.manifest(f"{host}/org/app", "1").status == 404


def test_an_exact_host_wins_over_a_pattern(start_tarn, make_upstream):
    pattern, exact = make_upstream(), make_upstream()
    exact.image("org/app", [LAYER], tag="1")
    tarn = start_tarn([{"host": "*.mirror.test", "url": pattern.url},
                       {"host": "a.mirror.test", "url": exact.url}])
    assert tarn.manifest("a.mirror.test/org/app", "1").status == 200
    assert pattern.connections == 0


def test_an_upstream_below_a_path(start_tarn, upstream):
    content = manifest(b"{}", [])
    upstream.fault("^/prefix/v2/org/app/manifests/1", status=200, body=content, headers={
        "Content-Type": "application/vnd.oci.image.manifest.v1+json"})
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url + "/prefix", "default": True}])
    assert tarn.manifest("org/app", "1").body == content


@pytest.mark.parametrize("below,prefix", [("", "proj/hub"), ("/v2/proj/hub", None),
                                          ("/v2/proj/hub/", None), ("/v2", "proj/hub")])
def test_a_cache_behind_a_prefix(start_tarn, upstream, below, prefix):
    """A project of Harbor, a remote repository of Artifact Registry, a rule of ECR."""
    upstream.tokens = TokenService()
    upstream.image("proj/hub/library/busybox", [LAYER], tag="1")
    settings = {"prefix": prefix} if prefix else {}
    tarn = start_tarn([{"host": "docker.io", "url": upstream.url + below, "default": True,
                        "repositories": ["library/*"], **settings}])
    for name in ("busybox", "library/busybox", "docker.io/busybox"):
        assert tarn.manifest(name, "1").status == 200
        assert tarn.blob(name, DIGEST).body == LAYER
    reply = tarn.get("/v2/busybox/tags/list")
    assert reply.json() == {"name": "busybox", "tags": ["1"]}
    assert tarn.get(f"/v2/busybox/referrers/{DIGEST}").status == 200
    scopes = {scope for scope, *_ in upstream.tokens.given.values()}
    assert scopes == {"repository:proj/hub/library/busybox:pull"}
    assert not [request for request in upstream.asked("^/v2/.")
                if not request.path.startswith("/v2/proj/hub/library/busybox/")]
    assert tarn.manifest("proj/hub/library/busybox", "1").status == 403


def test_a_prefix_is_for_the_url_alone(start_tarn, make_upstream):
    cache, registry = make_upstream(), make_upstream()
    registry.image("org/app", [LAYER], tag="1")
    cache.refuse()
    tarn = start_tarn([{"host": "fake.test", "url": cache.url, "prefix": "proj",
                        "fallbacks": [registry.url]}])
    assert tarn.manifest("fake.test/org/app", "1").status == 200


@pytest.mark.parametrize("path,code", [
    ("/v2/UPPER/case/manifests/1", "NAME_INVALID"),
    ("/v2/org//app/manifests/1", "NAME_INVALID"),
    ("/v2/org/-app/manifests/1", "NAME_INVALID"),
    ("/v2/org/app../manifests/1", "NAME_INVALID"),
    ("/v2/org/" + "a" * 256 + "/manifests/1", "NAME_INVALID"),
    ("/v2/../../etc/manifests/passwd", None),
    ("/v2/org/%2e%2e/manifests/1", None),
    ("/v2/org/app/manifests/sha256:short", "DIGEST_INVALID"),
    ("/v2/org/app/manifests/md5:d41d8cd98f00b204e9800998ecf8427e", "DIGEST_INVALID"),
    ("/v2/org/app/blobs/sha256:" + "A" * 64, "DIGEST_INVALID"),
    ("/v2/org/app/blobs/sha256:" + "a" * 65, "DIGEST_INVALID"),
    ("/v2/org/app/blobs/latest", "DIGEST_INVALID"),
    ("/v2/org/app/blobs/sha256:" + "a" * 62 + "/.", None),
    ("/v2/org/app/referrers/latest", "DIGEST_INVALID"),
])
def test_what_breaks_the_grammar_is_400_and_goes_nowhere(lake, path, code):
    reply = lake.get(path)
    assert reply.status == 400 if code else reply.status in (400, 404), reply
    if code:
        assert reply.code == code
    assert [registry.connections for registry in lake.registries.values()] == [0, 0, 0]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("reference", [".INVALID_MANIFEST_NAME", "a" * 129, "a" * 5000, "a%20b",
                                       "-1", "%00"])
def test_a_malformed_tag_is_a_manifest_that_nobody_has(lake, method, reference):
    """The conformance tests of distribution-spec 1.1 want 404 for .INVALID_MANIFEST_NAME."""
    reply = lake.get(f"/v2/org/app/manifests/{reference}", method=method)
    assert reply.status == 404
    if method == "GET":
        assert reply.code == "MANIFEST_UNKNOWN"
        assert "no valid tag" in reply.message
    beginning = "" if "%" in reference else re.escape(reference[:40])
    line = lake.logged(rf".*repository=org/app reference=\S*{beginning}.*").group()
    assert "status=404" in line and len(line) < 1000
    assert [registry.connections for registry in lake.registries.values()] == [0, 0, 0]


def test_a_malformed_digest_is_in_the_line_of_the_log(lake):
    assert lake.get("/v2/org/app/blobs/sha256:short").status == 400
    assert "status=400" in lake.logged(".*=sha256:short.*").group()


def test_an_encoded_slash_is_no_way_around_an_allow_list(start_tarn, upstream):
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True,
                        "repositories": ["org/*"]}])
    assert tarn.get("/v2/org/a%2fb/manifests/1").status in (400, 403, 404)
    assert tarn.get("/v2/other%2fa/manifests/1").status in (400, 403, 404)
    assert upstream.connections == 0


def test_an_empty_ns_is_none(lake):
    came_from(lake, lake.get("/v2/org/app/manifests/1?ns="), "default.test")


@pytest.mark.parametrize("path", ["/v3/", "/v2", "/v1/_ping", "/v2/org/app", "/v2/org/app/other/1",
                                  "/v2/org/app/manifests/", "/v2/manifests/1", "/nothing",
                                  "/v2/org/app/tags/other"])
def test_a_path_that_is_no_route_is_404(lake, path):
    reply = lake.get(path)
    assert reply.status in ((200, 301, 308, 404) if path == "/v2" else (400, 404)), reply
