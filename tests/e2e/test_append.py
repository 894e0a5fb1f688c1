"""tarn append: usage, bases, the config, and what reaches a registry."""

import json
import os
import pathlib
import subprocess
import tempfile

import pytest

from kit.append_command import Append, Layout
from kit.client import fetch
from kit.content import DOCKER_MANIFEST, MIB, OCI_MANIFEST, noise
from kit.containers import Podman, needs
from kit.images import GREETING, build_platforms, build_runnable


@pytest.fixture
def append(program, tmp_path):
    return Append(program, tmp_path / "run")


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "folder"
    place.mkdir()
    (place / "file").write_text("content\n")
    return place


@pytest.fixture(scope="module")
def layouts(tmp_path_factory):
    """OCI layouts: app:1, which runs, and platforms:1, an index of amd64 and arm64."""
    place = tmp_path_factory.mktemp("layouts")
    runnable = build_runnable(place)
    platforms, _ = build_platforms(place, runnable)
    return {"app": runnable, "platforms": platforms}


# ---- usage


@pytest.mark.parametrize("wrong, said", [
    (["--add", "{folder}", "--created", "yesterday"], "--created"),
    (["--add", "{folder}", "--created", ""], "--created"),
    (["--add", "{folder}", "--created", "-5"], "--created"),
    (["--add", "{folder}", "--created", "1969-12-31T23:59:59Z"], "--created"),
    (["--add", "{folder}", "--created", "2026-05-01"], "--created"),
    (["--add", "{folder}", "--created", "2026-02-30T00:00:00Z"], "--created"),
    (["--add", "{folder}", "--created", "1970-01-01T00:00:00+02:00"], "--created"),
    (["--add", "{folder}", "--created", "9999-12-31T23:59:59-02:00"], "--created"),
    (["--add", "{folder}", "--created", "253402300800"], "--created"),
    (["--add", "{folder}", "--compression", "xz"], "--compression"),
    (["--add", "{folder}", "--compression", ""], "--compression"),
    (["--add", "{folder}", "--env", "NAME"], "--env"),
    (["--add", "{folder}", "--env", "=value"], "--env"),
    (["--add", "{folder}", "--env", ""], "--env"),
    (["--add", "{folder}", "--label", "name"], "--label"),
    (["--add", "{folder}:relative"], "--add"),
    (["--add", "{folder}:"], "--add"),
    (["--add", "{folder}:./x"], "--add"),
    (["--add", ":/x"], "--add"),
    (["--add", ""], "--add"),
    (["--add", "{folder}:/a/../b"], "--add"),
    (["--add", "{folder}:/a/.wh.b"], "--add"),
    (["--remove", "/"], "--remove"),
    (["--remove", ""], "--remove"),
    (["--remove", "../x"], "--remove"),
    (["--remove", "a/.wh.x"], "--remove"),
    (["--add", "{folder}", "--entrypoint", "[1]"], "--entrypoint"),
    (["--add", "{folder}", "--entrypoint", "[\"a\""], "--entrypoint"),
    (["--add", "{folder}", "--cmd", "[null]"], "--cmd"),
    (["--add", "{folder}", "--platform", "linux"], "--platform"),
    (["--add", "{folder}", "--unknown"], "--unknown"),
    ([], "nothing"),
])
def test_wrong_usage_is_2_before_anything_is_written(append, folder, tmp_path, wrong, said):
    done = append("scratch", "--to", f"oci:{tmp_path}/out:1",
                  *(word.replace("{folder}", str(folder)) for word in wrong))
    assert done.code == 2 and said in done.err, done.err
    assert done.out == "" and not (tmp_path / "out").exists()


def test_a_wrong_source_date_epoch_is_2(append, folder, tmp_path):
    done = append("scratch", "--to", f"oci:{tmp_path}/out:1", "--add", folder,
                  SOURCE_DATE_EPOCH="soon")
    assert done.code == 2 and "SOURCE_DATE_EPOCH" in done.err
    assert not (tmp_path / "out").exists()


def test_operands_and_destination_are_needed(append, folder):
    assert append("--to", "oci:out", "--add", folder).code == 2
    assert append("scratch", "--add", folder).code == 2
    assert append("scratch", "more", "--to", "oci:out", "--add", folder).code == 2
    assert append("--help").out.startswith("Usage: tarn append ")


@pytest.mark.parametrize("base, to, said", [
    ("Not/A/Reference", "oci:out:1", "Not/A/Reference"),
    ("scratch", "example.com/UPPER", "UPPER"),
    ("scratch", "example.com/a@sha256:" + "0" * 64, "digest"),
    ("oci:nowhere:1", "oci:out:1", "nowhere"),
])
def test_what_is_no_reference_is_1_with_one_line(append, folder, base, to, said):
    done = append(base, "--to", to, "--add", folder)
    assert done.code == 1 and said in done.err
    assert len(done.err.splitlines()) == 1
    assert not (append.directory / "out" / "index.json").exists()


def test_a_folder_that_is_not_there_is_1_with_its_name(append, folder, tmp_path):
    done = append("scratch", "--to", f"oci:{tmp_path}/out:1", "--add", folder, "--add",
                  f"{folder}/missing:/x")
    assert done.code == 1 and f"{folder}/missing" in done.err and len(done.err.splitlines()) == 1
    done = append("scratch", "--to", f"oci:{tmp_path}/out:1", "--add", folder / "file")
    assert done.code == 1 and "no folder" in done.err
    assert not (tmp_path / "out").exists()


def test_a_folder_with_a_colon_in_its_name(append, tmp_path):
    odd = tmp_path / "a:b"
    odd.mkdir()
    (odd / "f").write_text("x")
    append.made("scratch", "--to", f"oci:{tmp_path}/out:1", "--add", f"{odd}:/x:/y")
    assert Layout(tmp_path / "out", "1").names(0) == ["x:", "x:/y", "x:/y/f"]


# ---- lines


def test_lines_of_json_tell_what_was_done(append, folder, layouts, tmp_path):
    done = append.made(layouts["app"], "--to", f"oci:{tmp_path}/out:1", "--add", f"{folder}:/m",
                       "--remove", "/greet")
    image = Layout(tmp_path / "out", "1")
    layers = image.manifest["layers"]
    assert [line["event"] for line in done.lines] == \
        ["blob"] * 4 + ["layer"] * 2 + ["blob", "manifest", "tag", "result"]
    told = [(line["digest"], line["size"], line["state"]) for line in done.events("blob")]
    expected = [(blob["digest"], blob["size"], "copied")
                for blob in [*layers[:4], image.manifest["config"]]]
    assert sorted(told[:4]) == sorted(expected[:4]) and told[4:] == expected[4:]
    assert done.events("layer") == [
        {"event": "layer", "path": path, "digest": layers[number]["digest"],
         "diff_id": image.config["rootfs"]["diff_ids"][number], "size": layers[number]["size"]}
        for number, path in ((4, "/m"), (5, "/"))]
    assert done.events("tag") == [{"event": "tag", "reference": f"oci:{tmp_path}/out:1",
                                   "digest": image.descriptor["digest"], "state": "copied"}]
    result = done.result
    assert result["source"] == layouts["app"] and result["destination"] == f"oci:{tmp_path}/out:1"
    assert result["digest"] == image.descriptor["digest"] and result["state"] == "done"
    assert result["bytes_sent"] == sum(blob["size"] for blob in [*layers, image.manifest["config"]])
    again = append.made(layouts["app"], "--to", f"oci:{tmp_path}/out:1", "--add", f"{folder}:/m",
                        "--remove", "/greet")
    assert {line["state"] for line in again.events("blob")} == {"present"}
    assert again.events("manifest")[0]["state"] == again.events("tag")[0]["state"] == "present"
    assert again.result["bytes_present"] == sum(layer["size"] for layer in layers[:4]) + \
        image.manifest["config"]["size"]


# ---- the base and its config


def test_the_base_stays_below_and_its_config_is_changed(append, folder, layouts, tmp_path):
    base = Layout(pathlib.Path(layouts["app"].split(":")[1]), "1")
    append.made(layouts["app"], "--to", f"oci:{tmp_path}/out:1", "--add", folder,
                "--env", "PATH=/other", "--env", "NEW=a=b", "--label", "org.x=y", "--user", "7:8",
                "--workdir", "/srv", "--cmd", '["-v", "two words"]', "--created", "1700000000")
    image = Layout(tmp_path / "out", "1")
    assert image.manifest["layers"][:4] == base.manifest["layers"]
    assert image.config["rootfs"]["diff_ids"][:4] == base.config["rootfs"]["diff_ids"]
    assert image.config["history"][:-1] == base.config["history"]
    assert image.config["history"][-1] == {"created": "2023-11-14T22:13:20Z",
                                           "created_by": "tarn append --add /"}
    own = image.config["config"]
    assert own["Env"] == ["PATH=/other", "NEW=a=b"]
    assert own["Entrypoint"] == ["/greet"] and own["Cmd"] == ["-v", "two words"]
    assert own["Labels"]["org.x"] == "y" and own["User"] == "7:8" and own["WorkingDir"] == "/srv"
    append.made(f"oci:{tmp_path}/out:1", "--to", f"oci:{tmp_path}/out:2", "--entrypoint", "/bin/sh")
    own = Layout(tmp_path / "out", "2").config["config"]
    assert own["Entrypoint"] == ["/bin/sh"] and "Cmd" not in own
    assert len(Layout(tmp_path / "out", "2").manifest["layers"]) == 5


def test_a_platform_is_picked_from_an_index(append, folder, layouts, tmp_path):
    append.made(layouts["platforms"], "--to", f"oci:{tmp_path}/out:1", "--add", folder,
                "--platform", "linux/arm64")
    assert Layout(tmp_path / "out", "1").config["architecture"] == "arm64"
    if os.uname().machine == "x86_64":
        append.made(layouts["platforms"], "--to", f"oci:{tmp_path}/out:2", "--add", folder)
        assert Layout(tmp_path / "out", "2").config["architecture"] == "amd64"
    for base in ("platforms", "app"):
        done = append(layouts[base], "--to", f"oci:{tmp_path}/out:3", "--add", folder,
                      "--platform", "linux/s390x")
        assert done.code == 1 and "linux/s390x" in done.err and "linux/amd64" in done.err
        assert len(done.err.splitlines()) == 1
    assert '"3"' not in (tmp_path / "out" / "index.json").read_text()


def test_scratch_is_for_the_platform(append, folder, tmp_path):
    append.made("scratch", "--to", f"oci:{tmp_path}/out:1", "--add", folder, "--platform",
                "linux/arm/v7")
    config = Layout(tmp_path / "out", "1").config
    assert (config["os"], config["architecture"], config["variant"]) == ("linux", "arm", "v7")


# ---- a registry


def get_json(origin, path, accept=OCI_MANIFEST):
    response = fetch(f"{origin.url}/v2/{path}", headers={"Accept": accept})
    assert response.status == 200, response
    return json.loads(response.body), response


def test_to_a_registry_the_base_is_mounted(append, folder, images):
    base, _ = get_json(images, "lake/app/manifests/1")
    mark = len(images.log())
    done = append.made(f"{images.address}/lake/app:1", "--to", f"{images.address}/new/app:2",
                       "--add", f"{folder}:/m")
    assert [line["state"] for line in done.events("blob")] == ["mounted"] * 4 + ["copied"]
    assert done.result["bytes_mounted"] == sum(layer["size"] for layer in base["layers"])
    made, response = get_json(images, "new/app/manifests/2")
    assert made["layers"][:4] == base["layers"] and len(made["layers"]) == 5
    assert response["Docker-Content-Digest"] == done.result["digest"]
    assert not [line for line in images.blob_requests(mark) if "layer" in line]
    puts = [line for line in images.log()[mark:].splitlines() if '"PUT /v2/' in line]
    assert "/manifests/2" in puts[-1] and sum("/manifests/" in line for line in puts) == 1


def test_a_docker_base_stays_docker_s(append, folder, images, layouts, tmp_path):
    subprocess.run(["skopeo", "copy", "-q", "--format", "v2s2", "--dest-tls-verify=false",
                    layouts["app"], f"docker://{images.address}/docker/app:1"], check=True)
    append.made(f"{images.address}/docker/app:1", "--to", f"{images.address}/docker/app:2",
                "--add", folder)
    made, response = get_json(images, "docker/app/manifests/2", DOCKER_MANIFEST)
    assert response["Content-Type"] == made["mediaType"] == DOCKER_MANIFEST
    assert made["config"]["mediaType"] == "application/vnd.docker.container.image.v1+json"
    assert {layer["mediaType"] for layer in made["layers"]} == \
        {"application/vnd.docker.image.rootfs.diff.tar.gzip"}
    append.made(f"{images.address}/docker/app:1", "--to", f"{images.address}/docker/app:3",
                "--add", folder, "--compression", "zstd")
    made, response = get_json(images, "docker/app/manifests/3")
    assert response["Content-Type"] == OCI_MANIFEST
    assert [layer["mediaType"].rpartition("+")[2] for layer in made["layers"]] == \
        ["gzip"] * 4 + ["zstd"]
    assert made["config"]["mediaType"] == "application/vnd.oci.image.config.v1+json"


def test_a_registry_and_a_layout_get_the_same_digest(append, folder, images, layouts, tmp_path):
    (folder / "large").write_bytes(noise(20 * MIB, 3))
    here = append.made(layouts["app"], "--to", f"oci:{tmp_path}/out:1", "--add", folder)
    there = append.made(layouts["app"], "--to", f"{images.address}/same/app", "--add", folder)
    assert here.result["digest"] == there.result["digest"]
    _, response = get_json(images, "same/app/manifests/latest")
    assert response["Docker-Content-Digest"] == here.result["digest"]


@pytest.fixture
def greeting(append, folder, images):
    """An image of the registry whose entrypoint and data come from an appended folder."""
    (folder / "hello").write_text(f"#!/bin/sh\ncat /m/file\ncat /greet\necho {GREETING}\n")
    (folder / "hello").chmod(0o755)
    os.link(folder / "hello", folder / "other")
    with open(folder / "sparse", "wb") as file:
        file.truncate(5 * MIB)
    name = f"{images.address}/run/app:1"
    append.made(f"{images.address}/lake/app:1", "--to", name, "--add", f"{folder}:/m",
                "--remove", "/greet", "--entrypoint", "/m/hello")
    return name


@needs("dockerd", "docker", "containerd", "runc")
def test_docker_runs_an_appended_image_and_pushes_it_unchanged(greeting, images, dockerd):
    """docker makes each layer's archive again from what it unpacked, so it must know every part."""
    dockerd.docker("pull", greeting)
    ran = dockerd.docker("run", "--rm", "--network", "none", greeting)
    assert ran.stdout == f"content\n{GREETING}\n"
    assert "/greet" in ran.stderr  # it was removed
    dockerd.docker("tag", greeting, f"{images.address}/run/again:1")
    dockerd.docker("push", f"{images.address}/run/again:1")
    first, _ = get_json(images, "run/app/manifests/1")
    again, _ = get_json(images, "run/again/manifests/1", DOCKER_MANIFEST)
    assert again["config"]["digest"] == first["config"]["digest"]
    dockerd.docker("rmi", "--force", greeting, f"{images.address}/run/again:1")


@needs("podman")
def test_podman_pulls_an_appended_image(greeting):
    with tempfile.TemporaryDirectory(prefix="lake-") as short:  # podman wants short paths
        podman = Podman(pathlib.Path(short))
        podman.podman("pull", "--tls-verify=false", greeting)
        created = podman.podman("create", "--network", "none", greeting).stdout.strip()
        place = pathlib.Path(podman.podman("mount", created).stdout.strip())
        assert (place / "m" / "file").read_text() == "content\n"
        assert (place / "m" / "hello").stat().st_ino == (place / "m" / "other").stat().st_ino
        assert not (place / "greet").exists()
        podman.podman("unmount", created)
        podman.podman("rm", created)
