"""Real clients, through tarn, against a real registry with real images."""

import json
import pathlib
import shutil
import tempfile

import pytest

from kit.containers import Podman, needs
from kit.content import (DOCKER_CONFIG, DOCKER_LAYER, DOCKER_LIST, DOCKER_MANIFEST, KIB, MIB,
                         OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, descriptor, digest_of, index,
                         manifest, noise)
from kit.images import GREETING
from kit.processes import run

# One process builds the images and runs the engines.
pytestmark = pytest.mark.xdist_group("clients")


@pytest.fixture
def lake(start_tarn, images):
    """A tarn whose default upstream is the real registry, as lake.test."""
    lake = start_tarn([{"host": "lake.test", "url": images.url, "default": True,
                        "tag_ttl": "0"}])
    lake.origin = images
    return lake


def blobs_of(manifest_bytes):
    parts = json.loads(manifest_bytes)
    return [parts["config"], *parts["layers"]]


def second_time_moves_no_blob(lake, pull):
    """Pulls twice; the second time, no blob is requested from the origin."""
    pull()
    mark = len(lake.origin.log())
    pull()
    assert lake.origin.blob_requests(mark) == []


# ---- skopeo


@needs("skopeo")
@pytest.mark.parametrize("name", ["lake/app:1", "lake.test/lake/app:1", "lake/platforms:1",
                                  "lake.test/lake/platforms:1"])
def test_skopeo_copies_all_of_an_image(lake, tmp_path, name):
    def pull():
        run(["skopeo", "copy", "--quiet", "--all", "--src-tls-verify=false", "--preserve-digests",
             f"docker://{lake.address}/{name}", f"oci:{tmp_path}/copy-{pull.times}:1"])
        pull.times += 1

    pull.times = 0
    second_time_moves_no_blob(lake, pull)
    repository, _, tag = name.removeprefix("lake.test/").partition(":")
    origin = lake.origin.manifest(repository, tag)
    got = json.loads((tmp_path / "copy-0" / "index.json").read_text())["manifests"][0]
    assert got["digest"] == origin["Docker-Content-Digest"]
    for copy in ("copy-0", "copy-1"):
        for path in (tmp_path / copy / "blobs" / "sha256").iterdir():
            assert digest_of(path.read_bytes()) == f"sha256:{path.name}"


@needs("skopeo")
def test_skopeo_inspects_and_lists_tags(lake):
    got = json.loads(run(["skopeo", "inspect", "--tls-verify=false",
                          f"docker://{lake.address}/lake/app:1"]).stdout)
    assert got["Digest"] == lake.origin.manifest("lake/app", "1")["Docker-Content-Digest"]
    assert got["RepoTags"] == ["1"]
    assert len(got["Layers"]) == 4


# ---- podman


@needs("podman")
def test_podman_pulls(lake):
    podman = Podman(pathlib.Path(tempfile.mkdtemp(prefix="lake-")))
    name = f"{lake.address}/lake.test/lake/app:1"

    def pull():
        podman.podman("pull", "--quiet", "--tls-verify=false", name)
        got = podman.podman("image", "inspect", name, "--format", "{{.Digest}}").stdout.strip()
        assert got == lake.origin.manifest("lake/app", "1")["Docker-Content-Digest"]
        podman.podman("rmi", name)

    try:
        second_time_moves_no_blob(lake, pull)
    finally:
        podman.podman("rmi", "--all", "--force", check=False)
        shutil.rmtree(podman.directory, ignore_errors=True)


# ---- containerd and Docker


@needs("containerd", "ctr")
def test_containerd_pulls_through_a_mirror(lake, containerd, tmp_path):
    """containerd names the registry by ?ns=: docker pull of lake.test/… comes from tarn."""
    hosts = tmp_path / "hosts" / "lake.test"
    hosts.mkdir(parents=True)
    (hosts / "hosts.toml").write_text(
        'server = "http://127.0.0.1:9"\n\n'
        f'[host."{lake.url}"]\n  capabilities = ["pull", "resolve"]\n')

    def pull():
        containerd.ctr("images", "pull", "--hosts-dir", tmp_path / "hosts",
                       "--all-platforms", "lake.test/lake/platforms:1")
        listed = containerd.ctr("images", "list").stdout
        assert lake.origin.manifest("lake/platforms", "1")["Docker-Content-Digest"] in listed
        containerd.ctr("images", "remove", "--sync", "lake.test/lake/platforms:1")
        containerd.ctr("content", "prune", "references", check=False)

    second_time_moves_no_blob(lake, pull)
    lake.logged("lake/platforms")


@needs("containerd", "ctr")
@pytest.mark.parametrize("path,more", [("/v2/lake.test", "  override_path = true\n"),
                                       ("/lake.test", "")])
def test_containerd_pulls_through_a_mirror_with_a_path(lake, containerd, tmp_path, path, more):
    """The mirror's path names the host, and ?ns= names it again."""
    hosts = tmp_path / "hosts" / "lake.test"
    hosts.mkdir(parents=True)
    (hosts / "hosts.toml").write_text(
        f'server = "http://127.0.0.1:9"\n\n[host."{lake.url}{path}"]\n'
        f'  capabilities = ["pull", "resolve"]\n{more}')
    containerd.ctr("images", "pull", "--hosts-dir", tmp_path / "hosts", "--all-platforms",
                   "lake.test/lake/app:1")
    listed = containerd.ctr("images", "list").stdout
    assert lake.origin.manifest("lake/app", "1")["Docker-Content-Digest"] in listed
    containerd.ctr("images", "remove", "--sync", "lake.test/lake/app:1")
    containerd.ctr("content", "prune", "references", check=False)


@needs("dockerd", "docker", "containerd", "runc")
@pytest.mark.parametrize("prefix", ["", "lake.test/"])
def test_docker_pulls_and_runs(lake, dockerd, prefix):
    name = f"{lake.address}/{prefix}lake/app:1"

    def pull():
        said = dockerd.docker("pull", name).stdout
        assert lake.origin.manifest("lake/app", "1")["Docker-Content-Digest"] in said
        ran = dockerd.docker("run", "--rm", "--network", "none", name)
        assert ran.stdout.strip() == GREETING
        dockerd.docker("rmi", "--force", name)

    second_time_moves_no_blob(lake, pull)


@needs("dockerd", "docker", "containerd", "runc")
def test_docker_pulls_a_platform_by_digest(lake, dockerd):
    digest = lake.origin.manifest("lake/platforms", "1")["Docker-Content-Digest"]
    dockerd.docker("pull", f"{lake.address}/lake/platforms@{digest}")


@needs("dockerd", "docker", "containerd", "runc")
def test_docker_says_what_tarn_says(lake, dockerd):
    said = dockerd.docker("pull", f"{lake.address}/lake/app:missing", check=False)
    assert said.returncode != 0
    assert "manifest" in said.stderr and "unknown" in said.stderr


# ---- artifacts: every media type is served unchanged


def through(lake, repository, reference, content, media_type, blobs):
    """The manifest and its blobs come through tarn as the origin has them."""
    for _ in range(2):
        reply = lake.manifest(repository, reference)
        assert (reply.status, reply.body) == (200, content), reply
        assert reply["Content-Type"] == media_type
        assert reply["Docker-Content-Digest"] == digest_of(content)
        for blob in blobs:
            assert lake.blob(repository, digest_of(blob)).body == blob


def push(origin, repository, blobs, content, media_type, tag):
    for blob in blobs:
        origin.push_blob(repository, blob)
    origin.push_manifest(repository, content, media_type, tag)


def test_a_helm_chart(lake):
    config = b'{"name":"lake","version":"1.0.0","apiVersion":"v2"}'
    chart = noise(20 * KIB)
    content = manifest(config, [chart], config_type="application/vnd.cncf.helm.config.v1+json",
                       layer_type="application/vnd.cncf.helm.chart.content.v1.tar+gzip")
    push(lake.origin, "charts/lake", [config, chart], content, OCI_MANIFEST, "1.0.0")
    through(lake, "charts/lake", "1.0.0", content, OCI_MANIFEST, [config, chart])


def test_an_artifact_as_oras_makes_it(lake):
    config, document = b"{}", b"depth: unknown\n"
    content = manifest(config, [document], config_type="application/vnd.oci.empty.v1+json",
                       layer_type="text/plain", artifactType="application/vnd.lake.survey",
                       annotations={"org.opencontainers.image.created": "2026-01-01T00:00:00Z"})
    push(lake.origin, "artifacts/survey", [config, document], content, OCI_MANIFEST, "v1")
    through(lake, "artifacts/survey", "v1", content, OCI_MANIFEST, [config, document])


def test_a_signature_as_cosign_makes_it(lake):
    subject = lake.origin.manifest("lake/app", "1")
    config, payload = b'{"architecture":""}', b'{"critical":{}}'
    content = manifest(config, [payload],
                       layer_type="application/vnd.dev.cosign.simplesigning.v1+json")
    tag = subject["Docker-Content-Digest"].replace(":", "-") + ".sig"
    push(lake.origin, "lake/app", [config, payload], content, OCI_MANIFEST, tag)
    through(lake, "lake/app", tag, content, OCI_MANIFEST, [config, payload])
    reply = lake.get(f"/v2/lake/app/referrers/{subject['Docker-Content-Digest']}")
    assert (reply.status, reply.json()["manifests"]) == (200, [])


@pytest.mark.parametrize("layer_type", [
    "application/vnd.oci.image.layer.v1.tar+zstd", "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar"])
def test_layers_of_every_compression(lake, layer_type):
    config, layer = b'{"os":"linux"}', noise(3 * MIB, layer_type)
    content = manifest(config, [layer], layer_type=layer_type)
    push(lake.origin, "lake/layers", [config, layer], content, OCI_MANIFEST,
         layer_type.rpartition("+")[2].rpartition(".")[2])
    through(lake, "lake/layers", digest_of(content), content, OCI_MANIFEST, [config, layer])


def test_docker_schema_2_and_its_lists(lake):
    config, layer = b'{"os":"linux","architecture":"amd64"}', noise(KIB)
    content = manifest(config, [layer], DOCKER_MANIFEST, DOCKER_CONFIG, DOCKER_LAYER)
    push(lake.origin, "lake/docker", [config, layer], content, DOCKER_MANIFEST, "one")
    through(lake, "lake/docker", "one", content, DOCKER_MANIFEST, [config, layer])
    both = index([descriptor(content, DOCKER_MANIFEST, platform={
        "os": "linux", "architecture": "amd64"})], DOCKER_LIST)
    push(lake.origin, "lake/docker", [], both, DOCKER_LIST, "list")
    through(lake, "lake/docker", "list", both, DOCKER_LIST, [])


def test_an_index_is_not_turned_into_the_image_of_a_platform(lake):
    reply = lake.get("/v2/lake/platforms/manifests/1", {"Accept": OCI_MANIFEST})
    assert reply["Content-Type"] == OCI_INDEX
    assert lake.get("/v2/lake/platforms/manifests/1", {"Accept": OCI_INDEX}).body == reply.body


def test_curl_downloads_a_range(lake, tmp_path):
    layer = max(blobs_of(lake.origin.manifest("lake/app", "1").body), key=lambda one: one["size"])
    url = f"{lake.url}/v2/lake/app/blobs/{layer['digest']}"
    for name, options in (("part", ["--range", "1000-1999"]), ("whole", [])):
        run(["curl", "--silent", "--show-error", "--fail", *options, "--output",
             tmp_path / name, url])
    whole = (tmp_path / "whole").read_bytes()
    assert digest_of(whole) == layer["digest"]
    assert (tmp_path / "part").read_bytes() == whole[1000:2000]
    run(["curl", "--silent", "--fail", "--range", "0-99999", "--output", tmp_path / "resumed", url])
    run(["curl", "--silent", "--fail", "--continue-at", "-", "--output", tmp_path / "resumed",
         url])
    assert (tmp_path / "resumed").read_bytes() == whole


def test_what_comes_through_is_what_the_origin_has(lake):
    for repository in ("lake/app", "lake/platforms"):
        origin = lake.origin.manifest(repository, "1")
        through_tarn = lake.manifest(repository, "1")
        assert through_tarn.body == origin.body
        assert through_tarn["Content-Type"] == origin["Content-Type"]
    config = blobs_of(lake.origin.manifest("lake/app", "1").body)[0]
    assert config["mediaType"] == OCI_CONFIG
    assert digest_of(lake.blob("lake/app", config["digest"]).body) == config["digest"]
