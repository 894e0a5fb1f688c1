"""tarn append to a registry that a test scripts: breaks, refusals, order, and what is left behind."""

import json
import os
import signal
import subprocess
import threading

import pytest

from kit.content import MIB, OCI_MANIFEST, descriptor, digest_of, index, manifest, noise
from kit.image_commands import ImageCommands, make_registry, target, tarn
from kit.processes import wait_until
from kit.release import release_build

LAYER = noise(300 << 10, 2)
CONFIG = json.dumps({"os": "linux", "architecture": "amd64", "config": {},
                     "rootfs": {"type": "layers", "diff_ids": [digest_of(LAYER)]}}).encode()


@pytest.fixture
def folder(tmp_path):
    """Its layer has some 3 MiB, compressed or not."""
    place = tmp_path / "folder"
    place.mkdir()
    (place / "model").write_bytes(noise(3 * MIB, 9))
    return place


def place(registry, name="team/new"):
    return f"{registry.host}:{registry.port}/{name}"


def add_base(registry, name="team/base"):
    repository = registry.repository(name)
    for blob in (CONFIG, LAYER):
        repository.add_blob(blob)
    repository.add_manifest(manifest(CONFIG, [LAYER], OCI_MANIFEST), OCI_MANIFEST, "v1")
    return f"{place(registry, name)}:v1"


def check_image(registry, done, name="team/new", tag="v2"):
    """The image is whole: its manifest is under the tag, and all of its blobs are right."""
    repository = registry.repositories[name]
    assert repository.tags[tag] == done.result["digest"]
    document = json.loads(repository.manifests[done.result["digest"]][0])
    for blob in [document["config"], *document["layers"]]:
        assert digest_of(repository.blobs[blob["digest"]]) == blob["digest"]
        assert len(repository.blobs[blob["digest"]]) == blob["size"]
    registry.await_no_sessions()
    return document


# ---- order


def test_each_byte_goes_once_and_the_tag_comes_last(tarn, target, folder):
    base = add_base(target)
    done = tarn.run("append", base, "--to", f"{place(target)}:v2", "--add", folder)
    document = check_image(target, done)
    layer, config = document["layers"][1], document["config"]
    assert target.writes == [("mount", digest_of(LAYER)), ("blob", layer["digest"]),
                             ("blob", config["digest"]), ("manifest", "v2")]
    assert target.received == layer["size"] + config["size"] == done.result["bytes_sent"]
    assert done.result["bytes_mounted"] == len(LAYER)
    assert {request.method for request in target.asked(f"/blobs/{digest_of(LAYER)}")} <= {"HEAD"}


def test_a_base_of_another_registry_is_copied(tarn, target, make_registry, folder):
    base = add_base(make_registry())
    done = tarn.run("append", base, "--to", f"{place(target)}:v2", "--add", folder)
    document = check_image(target, done)
    assert document["layers"][0]["digest"] == digest_of(LAYER)
    assert target.repositories["team/new"].blobs[digest_of(LAYER)] == LAYER


def test_where_a_mount_is_refused_the_base_is_sent(tarn, target, folder):
    target.mounts = False
    done = tarn.run("append", add_base(target), "--to", f"{place(target)}:v2", "--add", folder)
    check_image(target, done)
    assert done.result["bytes_mounted"] == 0


# ---- breaks


@pytest.mark.parametrize("one_patch", [False, True])
@pytest.mark.parametrize("compression", ["gzip", "none"])
@pytest.mark.parametrize("fault", [{"upload_reset_after": 1_300_000}, {"upload_reset_after": 0},
                                   {"status": 502}, {"status": 429, "headers": {"Retry-After": "1"}},
                                   {"drop": True}])
def test_a_layer_that_breaks_off_is_sent_again(tarn, target, folder, fault, compression, one_patch):
    """From where the registry stands, or from the beginning, out of the same folder."""
    expected = tarn.run("append", "scratch", "--to", f"oci:{tarn.folder}/out:v2", "--add", folder,
                        "--compression", compression).result["digest"]
    if one_patch:
        target.take_one_patch()
    target.fault("/blobs/uploads/", method="PATCH", times=2, **fault)
    done = tarn.run("append", "scratch", "--to", f"{place(target)}:v2", "--add", folder,
                    "--compression", compression)
    check_image(target, done)
    assert done.result["digest"] == expected


def test_a_lost_answer_to_the_last_request_is_mended(tarn, target, folder):
    target.fault("/blobs/uploads/", method="PUT", times=1, status=503)
    done = tarn.run("append", "scratch", "--to", f"{place(target)}:v2", "--add", folder)
    check_image(target, done)


def test_a_folder_that_changes_between_two_tries_leaves_nothing_wrong(tarn, target, folder,
                                                                       tmp_path):
    """The registry has the first bytes of what the folder was, and gets the rest of what it is."""
    gate = threading.Event()
    target.fault("/blobs/uploads/", method="PATCH", times=1, upload_reset_after=2_000_000,
                 upload_hold_after=1_900_000, gate=gate)
    running = subprocess.Popen(
        [tarn.program, "append", "scratch", "--to", f"{place(target)}:v2", "--add", folder,
         "--config", tarn.configuration], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=tarn.environment, cwd=tarn.folder)
    wait_until(lambda: target.received >= 1_900_000, "the registry has most of the layer")
    os.rename(folder / "model", tmp_path / "old")  # it is still being read, or was
    (folder / "model").write_bytes(noise(3 * MIB, 10))
    gate.set()
    out, err = running.communicate(timeout=120)
    if running.returncode == 0:  # it began anew
        digest = json.loads(out.splitlines()[-1])["digest"]
        assert target.repositories["team/new"].tags == {"v2": digest}
    else:
        assert running.returncode == 1 and err.count(b"\n") == 1
        assert not target.repository("team/new").tags
    for digest, content in target.repository("team/new").blobs.items():
        assert digest_of(content) == digest
    target.await_no_sessions()


# ---- refusals


def test_rights_are_tried_before_the_folder_is_read(tarn, target, folder):
    os.mkfifo(folder / "pipe")
    target.readers_only = True
    done = tarn.fails("append", "scratch", "--to", f"{place(target)}:v2", "--add", folder)
    assert place(target) in done.err and "403" in done.err
    assert target.received == 0 and target.writes == []


def test_an_immutable_tag_is_told_in_words_and_stays(tarn, target, folder):
    base = add_base(target, "team/new")
    target.immutable = True
    before = dict(target.repositories["team/new"].tags)
    done = tarn.fails("append", base, "--to", base, "--add", folder)
    assert "immutable" in done.err
    target.await_no_sessions()
    assert target.repositories["team/new"].tags == before


def test_a_registry_that_calls_the_layer_wrong(tarn, target, folder):
    target.fault("/blobs/uploads/", method="PUT", status=400, headers={
        "Content-Type": "application/json"},
        body=b'{"errors":[{"code":"DIGEST_INVALID","message":"provided digest did not match"}]}')
    done = tarn.fails("append", "scratch", "--to", f"{place(target)}:v2", "--add", folder)
    assert "digest" in done.err.lower()
    assert not target.repository("team/new").tags


def test_a_file_that_changes_ends_the_upload(tarn, target, folder):
    with open(folder / "sparse", "wb") as file:
        file.truncate(3 << 30)
    gate = threading.Event()
    target.fault("/blobs/uploads/", method="PATCH", upload_hold_after=4 * MIB, gate=gate)
    running = subprocess.Popen(
        [tarn.program, "append", "scratch", "--to", f"{place(target)}:v2", "--add", folder,
         "--compression", "none", "--config", tarn.configuration], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env=tarn.environment, cwd=tarn.folder)
    wait_until(lambda: target.received >= 4 * MIB, "the file is being sent")
    os.truncate(folder / "sparse", 10)
    gate.set()
    out, err = running.communicate(timeout=120)
    assert running.returncode == 1
    assert f"{folder}/sparse".encode() in err and err.count(b"\n") == 1, err
    assert json.loads(out.splitlines()[-1])["state"] == "failed"
    target.await_no_sessions()
    assert target.writes == []


# ---- the base


@pytest.mark.parametrize("document, said", [
    ({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [],
      "config": {"mediaType": "application/vnd.cncf.helm.config.v1+json",
                 "digest": digest_of(CONFIG), "size": len(CONFIG)}}, "no container image"),
    ({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [],
      "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                 "digest": digest_of(CONFIG), "size": len(CONFIG)}}, "diff_ids"),
])
def test_what_cannot_be_a_base_is_refused(tarn, target, folder, document, said):
    repository = target.repository("team/odd")
    repository.add_blob(CONFIG)
    repository.add_manifest(json.dumps(document).encode(), OCI_MANIFEST, "v1")
    done = tarn.fails("append", f"{place(target, 'team/odd')}:v1", "--to", f"{place(target)}:v2",
                      "--add", folder)
    assert said in done.err
    assert target.writes == [] and target.received == 0


def test_a_platform_that_is_not_there_lists_those_that_are(tarn, target, folder):
    repository = target.repository("team/base")
    add_base(target)
    image = manifest(CONFIG, [LAYER], OCI_MANIFEST)
    repository.add_manifest(index([descriptor(
        image, OCI_MANIFEST, platform={"os": "linux", "architecture": "amd64"})]),
        "application/vnd.oci.image.index.v1+json", "all")
    done = tarn.fails("append", f"{place(target, 'team/base')}:all", "--to", f"{place(target)}:v2",
                      "--add", folder, "--platform", "windows/amd64")
    assert "windows/amd64" in done.err and "linux/amd64" in done.err
    done = tarn.run("append", f"{place(target, 'team/base')}:all", "--to", f"{place(target)}:v2",
                    "--add", folder, "--platform", "linux/amd64")
    check_image(target, done)


# ---- the end


def test_ctrl_c_deletes_the_session_and_writes_no_tag(tarn, target, folder):
    gate = threading.Event()
    target.fault("/blobs/uploads/", method="PATCH", upload_hold_after=100_000, gate=gate)
    running = subprocess.Popen(
        [tarn.program, "append", "scratch", "--to", f"{place(target)}:v2", "--add", folder,
         "--config", tarn.configuration], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=tarn.environment, cwd=tarn.folder)
    wait_until(lambda: target.received >= 100_000, "the layer is being sent")
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    gate.set()
    assert running.returncode == 130
    target.await_no_sessions()
    assert target.writes == []


@pytest.mark.serial
def test_neither_disk_nor_memory_grows_with_the_layer(program, tmp_path, target):
    """A layer of 1 GiB on its way, uncompressed, with nothing written beside it."""
    folder = tmp_path / "folder"
    folder.mkdir()
    with open(folder / "large", "wb") as file:
        file.truncate(1 << 30)
    tarn = ImageCommands(release_build(program), tmp_path / "home")
    target.fault("/blobs/uploads/", method="PUT", status=400)  # it need not keep the bytes for more
    running = subprocess.Popen(
        [tarn.program, "append", "scratch", "--to", f"{place(target)}:v2", "--add", folder,
         "--compression", "none", "--config", tarn.configuration], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env=tarn.environment, cwd=tarn.folder)
    most = written = 0
    while running.poll() is None:
        with open(f"/proc/{running.pid}/status", encoding="ascii") as status:
            most = max([most, *(int(line.split()[1]) for line in status if "VmHWM" in line)])
        try:
            with open(f"/proc/{running.pid}/io", encoding="ascii") as counts:
                written = max(int(line.split()[1]) for line in counts if "write_bytes" in line
                              and "cancelled" not in line)
        except (OSError, ValueError):
            break
    running.communicate(timeout=60)
    assert target.received > 1 << 30
    assert 1 << 10 < most <= 64 << 10  # KiB
    assert written < 1 << 20
