"""tarn copy with real registries, layouts and archives; skopeo judges what arrives."""

import gzip
import hashlib
import io
import json
import tarfile

import pytest

from kit.containers import needs
from kit.content import OCI_MANIFEST, descriptor, digest_of, index, manifest
from kit.image_commands import tarn
from kit.origin import Origin, write_layout
from kit.processes import run

pytestmark = [needs("skopeo", "docker-registry"), pytest.mark.xdist_group("copy_real")]


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A second real registry."""
    registry = Origin(tmp_path_factory.mktemp("other"))
    yield registry
    registry.stop()


def raw(reference):
    """The manifest's bytes by skopeo."""
    return run(["skopeo", "inspect", "--raw", "--tls-verify=false", reference]).stdout


def skopeo_copy(source, target):
    run(["skopeo", "copy", "--quiet", "--all", "--src-tls-verify=false", "--dest-tls-verify=false",
         source, target])


# ---- registries


def test_an_index_goes_from_one_registry_to_another(tarn, images, other, request):
    name = request.node.name.replace("_", "")
    done = tarn.run("copy", f"{images.address}/lake/platforms:1", f"{other.address}/{name}/app")
    assert raw(f"docker://{other.address}/{name}/app:1") == \
        raw(f"docker://{images.address}/lake/platforms:1")
    assert done.states("tag") == ["copied"]
    again = tarn.run("copy", f"{images.address}/lake/platforms:1", f"{other.address}/{name}/app")
    assert set(again.states()) == {"present"} and again.result["bytes_sent"] == 0
    mounted = tarn.run("copy", f"{other.address}/{name}/app:1", f"{other.address}/{name}/more:2")
    assert set(mounted.states()) == {"mounted"}
    skopeo_copy(f"docker://{other.address}/{name}/more:2", f"dir:{tarn.folder}/checked")


def test_signatures_stay_valid(tarn, images, other, request):
    """What a signature is about is the manifest's digest; docker-registry 2.8 has no API for it."""
    name = f"{request.node.name.replace('_', '')}/app"
    subject = images.manifest("lake/platforms", "1").body
    images.push_blob("lake/platforms", b"{}")
    images.push_blob("lake/platforms", b"a signature")
    signature = manifest(b"{}", [b"a signature"], artifactType="application/x.signature",
                         subject={"mediaType": "application/x", "size": len(subject),
                                  "digest": digest_of(subject)})
    images.push_manifest("lake/platforms", signature, OCI_MANIFEST)
    images.push_manifest("lake/platforms", index([descriptor(
        signature, OCI_MANIFEST, artifactType="application/x.signature")]),
        "application/vnd.oci.image.index.v1+json", digest_of(subject).replace(":", "-"))
    tarn.run("copy", "--referrers", f"{images.address}/lake/platforms:1", f"{other.address}/{name}")
    assert other.manifest(name, "1").body == subject
    assert other.manifest(name, digest_of(signature)).body == signature
    listed = tarn.run("referrers", f"{other.address}/{name}:1").out
    assert listed == f"{digest_of(signature)}\tapplication/x.signature\n"


def test_tags_tag_and_delete(tarn, images, other, request):
    name = request.node.name.replace("_", "")
    place = f"{other.address}/{name}/app"
    tarn.run("copy", f"{images.address}/lake/app:1", place)
    tarn.run("tag", f"{place}:1", "two", "three")
    assert tarn.run("tags", place).out.split() == ["1", "three", "two"]
    refused = tarn.fails("delete", f"{place}:two")  # docker-registry 2.8 deletes by digest only
    assert "two" in refused.err and tarn.run("tags", place).out.split() == ["1", "three", "two"]
    digest = tarn.run("digest", f"{place}:1").out.strip()
    tarn.run("delete", f"{place}@{digest}")
    tarn.fails("digest", f"{place}:1")


# ---- layouts


def test_a_layout_that_tarn_wrote_is_read_by_skopeo(tarn, images):
    layout = tarn.folder / "deep" / "layout"
    tarn.run("copy", f"{images.address}/lake/platforms:1", f"oci:{layout}:v1")
    tarn.run("copy", f"{images.address}/lake/app:1", f"oci:{layout}")
    assert raw(f"oci:{layout}:v1") == raw(f"docker://{images.address}/lake/platforms:1")
    assert raw(f"oci:{layout}:1") == raw(f"docker://{images.address}/lake/app:1")
    skopeo_copy(f"oci:{layout}:v1", f"dir:{tarn.folder}/checked")
    names = [path.name for path in (layout / "blobs" / "sha256").iterdir()]
    for name in names:
        content = (layout / "blobs" / "sha256" / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == name
    assert tarn.run("tags", f"{images.address}/lake/app").out == "1\n"


def test_a_layout_that_skopeo_wrote_is_read_by_tarn(tarn, images, other, request):
    layout = tarn.folder / "layout"
    skopeo_copy(f"docker://{images.address}/lake/platforms:1", f"oci:{layout}:v1")
    name = f"{request.node.name.replace('_', '')}/app"
    tarn.run("copy", f"oci:{layout}", f"{other.address}/{name}")
    assert raw(f"docker://{other.address}/{name}:v1") == raw(f"oci:{layout}:v1")
    assert tarn.run("manifest", f"oci:{layout}").out == raw(f"oci:{layout}:v1")


def test_referrers_live_in_a_layout(tarn, images):
    layout = tarn.folder / "layout"
    subject = manifest(b"{}", [b"layer"])
    signature = manifest(b"{}", [b"signature"], artifactType="application/x.signature", subject={
        "mediaType": OCI_MANIFEST, "size": len(subject), "digest": digest_of(subject)})
    write_layout(layout, [b"{}", b"layer", b"signature", subject, signature], [
        descriptor(subject, OCI_MANIFEST,
                   annotations={"org.opencontainers.image.ref.name": "v1"}),
        descriptor(signature, OCI_MANIFEST)])
    tarn.run("copy", "--referrers", f"oci:{layout}:v1", f"oci:{tarn.folder}/second:v1")
    for folder in (layout, tarn.folder / "second"):
        done = tarn.run("referrers", f"oci:{folder}:v1")
        assert done.out == f"{digest_of(signature)}\tapplication/x.signature\n"


def test_a_layout_with_wrong_bytes_is_refused(tarn, other, request):
    layout = tarn.folder / "layout"
    content = manifest(b"{}", [b"layer"])
    write_layout(layout, [b"{}", b"layer", content], [descriptor(
        content, OCI_MANIFEST, annotations={"org.opencontainers.image.ref.name": "v1"})])
    (layout / "blobs" / "sha256" / digest_of(b"layer")[7:]).write_bytes(b"LAYER")
    name = f"{request.node.name.replace('_', '')}/app"
    done = tarn.fails("copy", f"oci:{layout}:v1", f"{other.address}/{name}")
    assert digest_of(b"layer") in done.err
    tarn.fails("digest", f"{other.address}/{name}:v1")


# ---- archives


def test_an_archive_that_tarn_wrote_is_read_by_skopeo(tarn, images):
    file = tarn.folder / "app.tar"
    tarn.run("copy", f"{images.address}/lake/app:1",
             f"docker-archive:{file}:registry.test/lake/app:v1")
    with tarfile.open(file) as archive:
        [image] = json.load(archive.extractfile("manifest.json"))
        assert image["RepoTags"] == ["registry.test/lake/app:v1"]
        config = archive.extractfile(image["Config"]).read()
        diff_ids = json.loads(config)["rootfs"]["diff_ids"]
        assert [digest_of(archive.extractfile(layer).read()) for layer in image["Layers"]] == diff_ids
    assert config == tarn.run("config", f"{images.address}/lake/app:1").raw
    skopeo_copy(f"docker-archive:{file}", f"oci:{tarn.folder}/checked:v1")
    assert json.loads(run(["skopeo", "inspect", "--config", f"oci:{tarn.folder}/checked:v1"]).stdout)[
        "rootfs"]["diff_ids"] == diff_ids


def test_an_archive_that_skopeo_wrote_is_read_by_tarn(tarn, images, other, request):
    file = tarn.folder / "app.tar"
    skopeo_copy(f"docker://{images.address}/lake/app:1", f"docker-archive:{file}:lake/app:v1")
    name = f"{request.node.name.replace('_', '')}/app"
    done = tarn.run("copy", f"docker-archive:{file}", f"{other.address}/{name}")
    assert done.result["destination"].endswith(f"{name}:v1")
    config = tarn.run("config", f"{images.address}/lake/app:1").raw
    assert tarn.run("config", f"{other.address}/{name}:v1").raw == config
    again = tarn.run("copy", f"docker-archive:{file}:docker.io/lake/app:v1",
                     f"{other.address}/{name}:again")
    assert again.result["digest"] == done.result["digest"] and again.result["bytes_sent"] == 0
    skopeo_copy(f"docker://{other.address}/{name}:v1", f"docker-archive:{tarn.folder}/back.tar:a:b")


def test_one_platform_goes_into_an_archive(tarn, images):
    file = tarn.folder / "arm.tar"
    tarn.run("copy", f"{images.address}/lake/platforms:1", f"docker-archive:{file}:a/b:c",
             "--platform", "linux/arm64")
    assert json.loads(tarn.run("config", f"docker-archive:{file}").out)["architecture"] == "arm64"
    done = tarn.fails("copy", f"{images.address}/lake/platforms:1", f"docker-archive:{file}",
                      "--platform", "linux/arm64", "--platform", "linux/amd64")
    assert "one platform" in done.err
    assert json.loads(tarn.run("config", f"docker-archive:{file}").out)["architecture"] == "arm64"
    assert [path.name for path in tarn.folder.iterdir() if "tarn-" in path.name] == []


def archive_of(path, members, links=()):
    """Writes a tar file of names and bytes, and of symbolic links."""
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for name, target in links:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)


def docker_archive(path, layer=b"a layer", config=None, manifest_json=None, links=(), layers=None):
    config = config or json.dumps({"os": "linux", "architecture": "amd64", "rootfs": {
        "type": "layers", "diff_ids": [digest_of(layer)]}}).encode()
    described = manifest_json if manifest_json is not None else json.dumps([{
        "Config": "config.json", "RepoTags": ["a/b:c"], "Layers": layers or ["layer.tar"]}]).encode()
    archive_of(path, [("config.json", config), ("layer.tar", layer),
                      ("manifest.json", described)], links)
    return f"docker-archive:{path}"


def test_layers_are_compressed_to_the_same_bytes_each_time(tarn):
    reference = docker_archive(tarn.folder / "a.tar", b"x" * 100_000)
    for folder in ("one", "two"):
        tarn.run("copy", reference, f"oci:{tarn.folder}/{folder}:v1")
    assert raw(f"oci:{tarn.folder}/one:v1") == raw(f"oci:{tarn.folder}/two:v1")
    [layer] = json.loads(raw(f"oci:{tarn.folder}/one:v1"))["layers"]
    blob = tarn.folder / "one" / "blobs" / "sha256" / layer["digest"][7:]
    assert gzip.decompress(blob.read_bytes()) == b"x" * 100_000
    assert blob.read_bytes()[4:8] == b"\0\0\0\0"  # no time in it


def test_links_inside_an_archive_are_followed(tarn):
    reference = docker_archive(tarn.folder / "a.tar", layers=["id/layer.tar"],
                               links=[("id/layer.tar", "../layer.tar")])
    tarn.run("copy", reference, f"oci:{tarn.folder}/out:v1")


@pytest.mark.parametrize("broken, words", [
    ({"manifest_json": b"{"}, "manifest.json"),
    ({"manifest_json": b"[]"}, "no image"),
    ({"manifest_json": b'[{"Config":"config.json"}]'}, "malformed"),
    ({"layers": ["../../etc/passwd"]}, "outside"),
    ({"layers": ["/etc/passwd"]}, "no file"),
    ({"layers": ["out"], "links": [("out", "../../../etc/passwd")]}, "no file"),
    ({"layers": ["loop"], "links": [("loop", "pool"), ("pool", "loop")]}, "no file"),
    ({"layers": ["layer.tar", "layer.tar"]}, "number of layers"),
    ({"config": b'{"rootfs":{"diff_ids":["sha256:' + b"0" * 64 + b'"]}}'}, "digest"),
    ({"config": b"nothing"}, "config"),
])
def test_a_broken_archive_is_refused_with_the_reason(tarn, broken, words):
    reference = docker_archive(tarn.folder / "a.tar", **broken)
    done = tarn.fails("copy", reference, f"oci:{tarn.folder}/out:v1")
    assert words in done.err
    assert not (tarn.folder / "out" / "index.json").exists()


def test_files_that_are_no_archive(tarn):
    (tarn.folder / "text").write_text("no archive")
    (tarn.folder / "cut.tar").write_bytes(b"")
    for name in ("text", "cut.tar", "none.tar"):
        assert name in tarn.fails("digest", f"docker-archive:{tarn.folder}/{name}").err


def test_an_archive_of_several_images_wants_a_name(tarn):
    config = json.dumps({"os": "linux", "architecture": "amd64",
                         "rootfs": {"diff_ids": [digest_of(b"a layer")]}}).encode()
    images = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}
              for name in ("one/app:1", "two/app:2")]
    reference = docker_archive(tarn.folder / "a.tar", config=config,
                               manifest_json=json.dumps(images).encode())
    assert "one/app:1, two/app:2" in tarn.fails("digest", reference).err
    assert tarn.run("digest", f"{reference}:two/app:2").out.startswith("sha256:")
    assert "one/app:1" in tarn.fails("digest", f"{reference}:three/app:3").err
