"""tarn append from and to every kind of place: with credentials, through a tarn, and archives."""

import io
import json
import tarfile
import threading

import pytest

from kit.content import DOCKER_MANIFEST, KIB, OCI_MANIFEST, digest_of, manifest, noise
from kit.image_commands import make_registry, source, target, tarn
from kit.processes import wait_until
from kit.tokens import TokenService, basic

LAYERS = [noise(60 * KIB, seed) for seed in range(6)]


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "folder"
    place.mkdir()
    (place / "file").write_text("content\n")
    return place


def host(registry):
    return f"{registry.host}:{registry.port}"


def config_of(layers):
    return json.dumps({"os": "linux", "architecture": "amd64", "config": {"Cmd": ["/bin/sh"]},
                       "rootfs": {"type": "layers",
                                  "diff_ids": [digest_of(layer) for layer in layers]}}).encode()


def add_base(registry, name="team/base", layers=None, media_type=OCI_MANIFEST):
    layers = LAYERS if layers is None else layers
    repository = registry.repository(name)
    for blob in (config_of(layers), *layers):
        repository.add_blob(blob)
    repository.add_manifest(manifest(config_of(layers), layers, media_type), media_type, "v1")
    return repository


def image_of(registry, done, name, tag="v2"):
    """(manifest, config) of a whole image under the tag."""
    repository = registry.repositories[name]
    assert repository.tags[tag] == done.result["digest"]
    document = json.loads(repository.manifests[done.result["digest"]][0])
    for blob in [document["config"], *document["layers"]]:
        assert len(repository.blobs[blob["digest"]]) == blob["size"]
        assert digest_of(repository.blobs[blob["digest"]]) == blob["digest"]
    registry.await_no_sessions()
    return document, json.loads(repository.blobs[document["config"]["digest"]])


# ---- the base's layers


def test_the_layers_of_the_base_are_copied_several_at_once(tarn, source, target, folder):
    add_base(source)
    gate = threading.Event()
    target.fault("/blobs/uploads/", method="PATCH", times=len(LAYERS), upload_hold_after=1,
                 gate=gate)
    running = threading.Thread(target=lambda: (wait_until(
        lambda: len([one for one in target.asked(method="PATCH") if not one.ended]) == len(LAYERS),
        "all layers to be under way"), gate.set()))
    running.start()
    done = tarn.run("append", f"{host(source)}/team/base:v1", "--to", f"{host(target)}/team/new:v2",
                    "--add", folder)
    running.join()
    assert gate.is_set()
    document, _ = image_of(target, done, "team/new")
    assert [layer["digest"] for layer in document["layers"][:6]] == [
        digest_of(layer) for layer in LAYERS]
    assert source.blob_bytes() == sum(map(len, LAYERS)) + len(config_of(LAYERS))


def test_a_layer_that_the_base_has_twice_is_copied_once(tarn, source, target, folder):
    add_base(source, layers=[LAYERS[0], LAYERS[1], LAYERS[0]])
    done = tarn.run("append", f"{host(source)}/team/base:v1", "--to", f"{host(target)}/team/new:v2",
                    "--add", folder)
    document, _ = image_of(target, done, "team/new")
    assert len(document["layers"]) == 4
    assert sorted(line["digest"] for line in done.of("blob")[:2]) == sorted(
        digest_of(layer) for layer in LAYERS[:2])
    written = [digest for kind, digest in target.writes if kind == "blob"]
    assert len(written) == len(set(written)) == 4


def test_a_layer_that_is_missing_is_named_and_the_others_end(tarn, source, target, folder):
    repository = add_base(source)
    del repository.blobs[digest_of(LAYERS[3])]
    done = tarn.fails("append", f"{host(source)}/team/base:v1", "--to",
                      f"{host(target)}/team/new:v2", "--add", folder)
    assert digest_of(LAYERS[3]) in done.err and "404" in done.err, done.err
    assert done.result["state"] == "failed" and not done.of("layer")
    target.await_no_sessions()
    assert not target.repository("team/new").manifests


# ---- credentials


def log_in(tarn, *registries, password="open sesame"):
    docker = tarn.folder / ".docker"
    docker.mkdir(exist_ok=True)
    (docker / "config.json").write_text(json.dumps({"auths": {
        host(one): {"username": "robot", "password": password} for one in registries}}))
    tarn.secrets.append(password)


@pytest.mark.parametrize("kind", ["basic", "tokens"])
def test_dockers_credentials_are_used_on_both_ends(tarn, source, target, folder, kind):
    for registry in (source, target):
        registry.tokens = TokenService(anonymous=False, users={"robot": "open sesame"}) \
            if kind == "tokens" else None
        registry.basic = ("robot", "open sesame") if kind == "basic" else None
    log_in(tarn, source, target)
    add_base(source)
    done = tarn.run("append", f"{host(source)}/team/base:v1", "--to", f"{host(target)}/team/new:v2",
                    "--add", folder)
    image_of(target, done, "team/new")
    if kind == "tokens":
        assert {scope for scope, _, _ in source.tokens.given.values()} == {
            "repository:team/base:pull"}
        assert "repository:team/new:pull,push" in {
            scope for scope, _, _ in target.tokens.given.values()}
        assert basic("robot", "open sesame") not in [
            request.headers.get("authorization") for request in target.asked("/v2/")]


@pytest.mark.parametrize("which", ["source", "target"])
def test_a_refused_credential_is_named_and_nothing_is_read(tarn, source, target, folder, which):
    refusing = source if which == "source" else target
    refusing.basic = ("robot", "another")
    log_in(tarn, refusing)
    add_base(source)
    done = tarn.fails("append", f"{host(source)}/team/base:v1", "--to",
                      f"{host(target)}/team/new:v2", "--add", folder)
    assert host(refusing) in done.err and "401" in done.err and "docker" in done.err.lower()
    assert not source.asked("/blobs/") and target.writes == []
    assert done.result["state"] == "failed" and done.result["message"]
    target.await_no_sessions()


# ---- through a tarn


def test_via_one_tarn_a_base_of_the_same_registry_is_mounted(tarn, source, folder):
    """The scripted registry stands for the tarn: it has the repositories HOST/NAME."""
    add_base(source, "quay.io/team/base")
    source.basic = ("robot", "open sesame")
    log_in(tarn, source)
    done = tarn.run("append", "quay.io/team/base:v1", "--to", "quay.io/team/new:v2", "--add", folder,
                    "--via", source.url)
    image_of(source, done, "quay.io/team/new")
    assert done.result["bytes_mounted"] == sum(map(len, LAYERS))
    assert done.result["destination"] == "quay.io/team/new:v2"
    done = tarn.run("append", "quay.io/team/base:v1", "--to", "ghcr.io/team/new:v2", "--add", folder,
                    "--via", source.url)
    image_of(source, done, "ghcr.io/team/new")
    assert done.result["bytes_mounted"] == 0


@pytest.mark.parametrize("way", ["--via", "TARN_VIA"])
def test_through_a_tarn_that_takes_pushes(tarn, start_tarn, users, source, target, folder, way):
    add_base(source)
    cache = start_tarn([{"host": "from.test", "url": source.url},
                        {"host": "to.test", "url": target.url, "push": True}],
                       clients={"htpasswd": str(users)})
    docker = tarn.folder / ".docker"
    docker.mkdir()
    (docker / "config.json").write_text(json.dumps({"auths": {
        f"127.0.0.1:{cache.port}": {"username": "alice", "password": "secret"}}}))
    if way == "TARN_VIA":
        tarn.environment[way] = cache.url
    done = tarn.run("append", "from.test/team/base:v1", "--to", "to.test/team/new:v2", "--add",
                    folder, *(["--via", cache.url] if way == "--via" else []))
    image_of(target, done, "team/new")
    assert tarn.run("digest", "to.test/team/new:v2", "--via", cache.url).out.strip() == \
        done.result["digest"]


# ---- archives


def docker_archive(path, layers, names=("a/b:c",)):
    """As `docker save` writes it: the layers uncompressed."""
    with tarfile.open(path, "w") as archive:
        members = [(f"{number}.tar", layer) for number, layer in enumerate(layers)]
        members += [("config.json", config_of(layers)), ("manifest.json", json.dumps([{
            "Config": "config.json", "RepoTags": list(names),
            "Layers": [name for name, _ in members]}]).encode())]
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return f"docker-archive:{path}"


def read_archive(path):
    """(the entry of manifest.json, the config, the layers)"""
    with tarfile.open(path) as archive:
        [image] = json.load(archive.extractfile("manifest.json"))
        config = json.load(archive.extractfile(image["Config"]))
        layers = [archive.extractfile(name).read() for name in image["Layers"]]
    assert [digest_of(layer) for layer in layers] == config["rootfs"]["diff_ids"]
    return image, config, layers


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_from_an_archive_to_a_registry_and_back(tarn, target, folder, tmp_path, compression):
    base = docker_archive(tmp_path / "base.tar", LAYERS[:2])
    done = tarn.run("append", base, "--to", f"{host(target)}/team/new:v2", "--add", f"{folder}:/m",
                    "--compression", compression)
    document, config = image_of(target, done, "team/new")
    assert len(document["layers"]) == 3 and config["config"]["Cmd"] == ["/bin/sh"]
    assert config["rootfs"]["diff_ids"][:2] == [digest_of(layer) for layer in LAYERS[:2]]
    file = tmp_path / "out.tar"
    again = tarn.run("append", f"{host(target)}/team/new:v2", "--to",
                     f"docker-archive:{file}:registry.test/team/new:v3", "--env", "A=b",
                     "--add", f"{folder}:/n", "--compression", compression)
    image, own, layers = read_archive(file)
    assert image["RepoTags"] == ["registry.test/team/new:v3"]
    assert own["config"]["Env"] == ["A=b"] and layers[:2] == LAYERS[:2] and len(layers) == 4
    with tarfile.open(fileobj=io.BytesIO(layers[3])) as layer:
        assert layer.getnames() == ["n", "n/file"]
    assert again.result["destination"] == f"docker-archive:{file}:registry.test/team/new:v3"


def test_from_an_archive_into_an_archive(tarn, folder, tmp_path):
    base = docker_archive(tmp_path / "base.tar", LAYERS[:3], ["one/app:1"])
    tarn.run("append", f"{base}:one/app:1", "--to", f"docker-archive:{tmp_path}/out.tar:b/c",
             "--add", folder)
    image, _, layers = read_archive(tmp_path / "out.tar")
    assert image["RepoTags"] == ["b/c:latest"] and layers[:3] == LAYERS[:3] and len(layers) == 4


def test_an_archive_that_fails_is_not_there(tarn, source, folder, tmp_path):
    repository = add_base(source)
    del repository.blobs[digest_of(LAYERS[5])]
    file = tmp_path / "out.tar"
    file.write_text("what was there before")
    tarn.fails("append", f"{host(source)}/team/base:v1", "--to", f"docker-archive:{file}:a:b",
               "--add", folder)
    assert file.read_text() == "what was there before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "home", "out.tar"]


def test_a_docker_base_goes_into_a_layout(tarn, source, folder, tmp_path):
    add_base(source, media_type=DOCKER_MANIFEST)
    tarn.run("append", f"{host(source)}/team/base:v1", "--to", f"oci:{tmp_path}/out:1", "--add",
             folder)
    document = json.loads(tarn.run("manifest", f"oci:{tmp_path}/out:1").out)
    assert len(document["layers"]) == 7
