"""Each registry by its name, with what is odd about it. docs/registries.md says the same to users."""

import json

import pytest

from kit.containers import needs
from kit.content import KIB, digest_of, noise
from kit.processes import run
from kit.tokens import TokenService

TIMEOUTS = {}
LAYER = noise(300 * KIB)
DIGEST = digest_of(LAYER)


def known_as(start_tarn, upstream, host, **more):
    """A tarn that knows the scripted registry by the name of a real one."""
    return start_tarn([{"host": host, "url": upstream.url, "default": True, **more}])


# ---- Amazon ECR Public: every HEAD of a blob is refused; blobs are at CloudFront, signed for GET

ECR_PUBLIC = "public.ecr.aws"


@pytest.fixture
def ecr_public(start_tarn, upstream):
    """(tarn, upstream): two images share a layer."""
    upstream.tokens = TokenService()
    upstream.redirect = "elsewhere"
    upstream.fault("/blobs/", method="HEAD", status=405)
    upstream.fault("/downloads/", method="HEAD", status=403)
    for name in ("docker/library/one", "docker/library/two"):
        config = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Cmd": [name]},
                             "rootfs": {"type": "layers", "diff_ids": [DIGEST]}}).encode()
        upstream.image(name, [LAYER], tag="1", config=config)
    return known_as(start_tarn, upstream, ECR_PUBLIC), upstream


def test_ecr_public_says_a_blobs_length_to_a_head(ecr_public):
    tarn, _ = ecr_public
    for name in ("docker/library/one", "docker/library/two"):
        reply = tarn.blob(name, DIGEST, method="HEAD")
        assert (reply.status, reply["Content-Length"]) == (200, str(len(LAYER)))


@needs("skopeo")
def test_ecr_public_by_skopeo_with_a_layer_that_two_images_share(ecr_public, tmp_path):
    tarn, upstream = ecr_public
    for name in ("one", "two"):
        run(["skopeo", "copy", "--quiet", "--src-tls-verify=false",
             f"docker://{tarn.address}/{ECR_PUBLIC}/docker/library/{name}:1",
             f"dir:{tmp_path}/{name}"])
        assert (tmp_path / name / DIGEST.removeprefix("sha256:")).read_bytes() == LAYER
    layers = [request for request in upstream.asked("/downloads/", "GET")
              if request.sent > len(LAYER) // 2]
    assert sum(request.sent for request in layers) == len(LAYER)


# ---- Docker Hub: names of one part, a limit that is told in fields, several names of the host


def test_docker_hub_by_each_of_its_names(start_tarn, upstream):
    upstream.image("library/busybox", [LAYER], tag="1")
    tarn = known_as(start_tarn, upstream, "docker.io")
    for name in ("busybox", "docker.io/busybox", "index.docker.io/busybox",
                 "registry-1.docker.io/library/busybox"):
        assert tarn.manifest(name, "1").status == 200, name
    assert {request.path for request in upstream.asked("/manifests/1")} == {
        "/v2/library/busybox/manifests/1"}


def test_docker_hubs_limit_is_shown_and_passed_on(start_tarn, upstream):
    upstream.fault("/manifests/", method=None, status=429, body=json.dumps({"errors": [{
        "code": "TOOMANYREQUESTS", "message": "You have reached your pull rate limit."}]}).encode(),
        headers={"RateLimit-Limit": "100;w=21600", "RateLimit-Remaining": "0;w=21600",
                 "Retry-After": "7"})
    tarn = known_as(start_tarn, upstream, "docker.io")
    reply = tarn.manifest("busybox", "1")
    assert (reply.status, reply.code) == (429, "TOOMANYREQUESTS")
    assert "docker.io" in reply.message and "pull rate limit" in reply.message
    assert 0 < int(reply["Retry-After"]) <= 60
    figures = tarn.metrics()
    assert figures['tarn_upstream_ratelimit_limit{upstream="docker.io"}'] == 100
    assert figures['tarn_upstream_ratelimit_remaining{upstream="docker.io"}'] == 0


# ---- GitHub: a token even for public images, no referrers API, 403 for what does not exist


@pytest.fixture
def ghcr(start_tarn, upstream):
    upstream.tokens = TokenService()
    upstream.referrers_api = False
    upstream.image("org/app", [LAYER], tag="1")
    return known_as(start_tarn, upstream, "ghcr.io")


def test_ghcr_has_no_referrers_api(ghcr, upstream):
    digest = upstream.repository("org/app").tags["1"]
    assert ghcr.get(f"/v2/org/app/referrers/{digest}").json()["manifests"] == []


def test_ghcr_denies_what_does_not_exist(ghcr, upstream):
    upstream.fault("^/token", status=403, body=json.dumps({"errors": [{
        "code": "DENIED", "message": "requested access to the resource is denied"}]}).encode())
    reply = ghcr.manifest("org/private", "1")
    assert (reply.status, reply.code) == (403, "DENIED")
    assert "ghcr.io" in reply.message


# ---- GitLab: the token service is on another host, and the challenge names scope and service


def test_gitlabs_token_service_is_on_another_host(start_tarn, upstream, make_upstream):
    gitlab = make_upstream(host="127.0.0.3")
    gitlab.tokens = upstream.tokens = TokenService()
    upstream.realm = f"{gitlab.url}/token"
    upstream.image("group/project/app", [LAYER], tag="1")
    tarn = known_as(start_tarn, upstream, "registry.gitlab.com",
                    token_hosts=[f"127.0.0.3:{gitlab.port}"])
    assert tarn.manifest("group/project/app", "1").status == 200
    asked = gitlab.asked("^/token")[0].query
    assert "service=fake" in asked and "group" in asked and "pull" in asked


# ---- Quay: 50 tags a page, whatever is asked for


def test_quays_pages_of_tags_are_put_together(start_tarn, upstream):
    upstream.page_size = 50
    repository = upstream.repository("org/app")
    for number in range(120):
        repository.tags[f"v{number}"] = DIGEST
    tarn = known_as(start_tarn, upstream, "quay.io")
    assert len(tarn.get("/v2/org/app/tags/list").json()["tags"]) == 120


# ---- Azure Container Registry: `access_token`, and blobs at a data endpoint


def test_azure_calls_its_token_access_token_and_redirects_blobs(start_tarn, upstream):
    upstream.tokens = TokenService(member="access_token", tell_lifetime=False)
    upstream.redirect = "elsewhere"
    upstream.image("app", [LAYER], tag="1")
    tarn = known_as(start_tarn, upstream, "example.azurecr.io")
    assert tarn.manifest("app", "1").status == 200
    assert tarn.blob("app", DIGEST).body == LAYER
    assert all("authorization" not in request.headers for request in upstream.asked("/downloads/"))


# ---- Harbor: projects as prefixes, 400 in place of a referrers API


def test_harbor_by_a_prefix_and_without_a_referrers_api(start_tarn, upstream):
    digest = upstream.image("hub/library/busybox", [LAYER], tag="1")
    upstream.fault("/referrers/", status=400)
    tarn = known_as(start_tarn, upstream, "docker.io", prefix="hub")
    assert tarn.manifest("busybox", "1")["Docker-Content-Digest"] == digest
    assert tarn.get(f"/v2/busybox/referrers/{digest}").json()["manifests"] == []


# ---- Nexus and Artifactory: Link names the scheme and the host behind the proxy


@pytest.mark.parametrize("host", ["nexus.example", "artifactory.example"])
def test_nexus_and_artifactory_name_the_wrong_host_in_link(start_tarn, upstream, host):
    def page(tags, link):
        return {"status": 200, "body": json.dumps({"name": "org/app", "tags": tags}).encode(),
                "headers": {"Content-Type": "application/json", **(
                    {"Link": f'<http://10.0.0.1:8081{link}>; rel="next"'} if link else {})}}
    upstream.fault(r"/tags/list.*last=b", **page(["c"], None))
    upstream.fault(r"/tags/list", **page(["a", "b"], "/v2/org/app/tags/list?n=2&last=b"))
    tarn = known_as(start_tarn, upstream, host)
    assert tarn.get("/v2/org/app/tags/list").json()["tags"] == ["a", "b", "c"]


# ---- Artifact Registry: blobs at a relative URL that wants no token


def test_artifact_registrys_downloads_get_no_token(start_tarn, upstream):
    upstream.tokens = TokenService()
    upstream.redirect = "relative"
    upstream.image("project/repo/app", [LAYER], tag="1")
    tarn = known_as(start_tarn, upstream, "us-docker.pkg.dev", credentials="anonymous")
    assert tarn.blob("project/repo/app", DIGEST).body == LAYER
    downloads = upstream.asked("/artifacts-downloads/")
    assert downloads and all("authorization" not in one.headers for one in downloads)


# ---- Scarf's vanity hosts: every request leads to another registry


def test_scarf_leads_to_another_registry(start_tarn, upstream, make_upstream):
    hub = make_upstream(host="127.0.0.3")
    hub.tokens = TokenService()
    hub.image("org/app", [LAYER], tag="1")
    for method in ("GET", "HEAD"):
        for kind, reference in (("manifests", "1"), ("blobs", DIGEST)):
            upstream.fault(f"/v2/org/app/{kind}/", method=method, status=302, headers={
                "Location": f"{hub.url}/v2/org/app/{kind}/{reference}"})
    tarn = known_as(start_tarn, upstream, "vanity.example")
    assert tarn.manifest("org/app", "1").status == 200
    assert tarn.blob("org/app", DIGEST).body == LAYER


# ---- mirror.gcr.io: a part of Docker Hub


def test_mirror_gcr_io_holds_a_part(start_tarn, upstream, make_upstream):
    mirror = make_upstream(host="127.0.0.3")
    digest = mirror.image("library/popular", [LAYER], tag="1")
    upstream.fault("/v2/", method=None, status=503)
    tarn = known_as(start_tarn, upstream, "docker.io", fallbacks=[mirror.url])
    assert tarn.manifest("popular", "1")["Docker-Content-Digest"] == digest
    assert tarn.manifest("rare", "1").status == 502
