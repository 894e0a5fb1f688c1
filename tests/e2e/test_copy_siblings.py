"""tarn copy where registries differ: what they take, refuse, answer late, and how they fail."""

import json
import os
import pty
import re
import signal
import subprocess
import tarfile
import time

import pytest

from kit.content import (KIB, OCI_INDEX, OCI_MANIFEST, descriptor, digest_of, index, manifest, noise)
from kit.image_commands import make_registry, source, tarn
from kit.processes import wait_until
from kit.tokens import TokenService
from kit.writable_registry import refusal
from kit.yaml_text import yaml_text

LAYERS = [noise(500 * KIB, 1), noise(90 * KIB, 2)]


@pytest.fixture
def target(make_registry):
    return make_registry(host="127.0.0.3", elsewhere="127.0.0.4")


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "folder"
    place.mkdir()
    (place / "model").write_bytes(noise(2 << 20, 9))
    return place


def place(registry, name="prod/app"):
    return f"{registry.host}:{registry.port}/{name}"


def config_of(architecture="amd64", variant=None):
    return json.dumps({"os": "linux", "architecture": architecture,
                       "rootfs": {"type": "layers", "diff_ids": [*map(digest_of, LAYERS)]},
                       **({"variant": variant} if variant else {})}).encode()


@pytest.fixture
def image(source):
    """HOST/team/app:v1"""
    repository = source.repository("team/app")
    for blob in (config_of(), *LAYERS):
        repository.add_blob(blob)
    repository.add_manifest(manifest(config_of(), LAYERS) + b"\n", tag="v1")
    repository.reference = f"{place(source, 'team/app')}:v1"
    return repository


def check_copy(image, target, name="prod/app", tag="v1"):
    copy = target.repositories[name]
    assert copy.tags == {tag: image.tags["v1"]}
    assert sorted(map(digest_of, copy.blobs.values())) == sorted(image.blobs)
    assert copy.manifests == image.manifests
    target.await_no_sessions()


# ---- what a registry takes


PECULIAR = [{"no_chunked": True}, {"no_range": True}, {"needs_range": True}, {"one_patch": 400},
            {"one_patch": 405}, {"one_patch": 416}, {"one_patch": 501},
            {"one_patch": 404, "tells_state": False}, {"tells_state": False},
            {"uploads_elsewhere": True}, {"mounts": False}, {"tells_subject": False}]


@pytest.mark.parametrize("peculiar", PECULIAR, ids=str)
@pytest.mark.parametrize("cut", [False, True])
def test_a_copy_to_a_registry_that_takes_less(tarn, target, image, peculiar, cut):
    for name, value in peculiar.items():
        setattr(target, name, value)
    if cut:
        target.fault("/blobs/uploads/", method="PATCH", times=1, upload_reset_after=60_000)
    tarn.run("copy", image.reference, place(target))
    check_copy(image, target)


@pytest.mark.parametrize("peculiar", PECULIAR, ids=str)
@pytest.mark.parametrize("cut", [False, True])
def test_an_append_to_a_registry_that_takes_less(tarn, target, folder, peculiar, cut):
    """The length of a new layer is not known before its end."""
    for name, value in peculiar.items():
        setattr(target, name, value)
    if cut:
        target.fault("/blobs/uploads/", method="PATCH", times=1, upload_reset_after=700_000)
    done = tarn.run("append", "scratch", "--to", f"{place(target)}:v1", "--add", folder)
    copy = target.repositories["prod/app"]
    assert copy.tags == {"v1": done.result["digest"]}
    assert len(copy.blobs) == 2
    assert all(digest_of(content) == digest for digest, content in copy.blobs.items())
    target.await_no_sessions()


def test_sessions_at_another_host_get_no_credential(tarn, target, image):
    target.uploads_elsewhere = True
    target.tokens = TokenService(anonymous=False, users={"robot": "open sesame"})
    docker = tarn.folder / ".docker"
    docker.mkdir()
    (docker / "config.json").write_text(json.dumps({"auths": {f"{target.host}:{target.port}": {
        "username": "robot", "password": "open sesame"}}}))
    tarn.run("copy", image.reference, place(target))
    check_copy(image, target)
    assert target.asked("/uploads/", listener="elsewhere")


@pytest.mark.parametrize("redirect", ["relative", "same host", "elsewhere"])
def test_blobs_behind_a_redirect(tarn, source, target, image, redirect):
    source.redirect = redirect
    tarn.run("copy", image.reference, place(target))
    check_copy(image, target)


def test_redirects_that_expire(tarn, source, target, image):
    source.redirect, source.redirect_uses = "elsewhere", 1
    source.fault("/downloads/", times=3, cut_after=30_000)
    tarn.run("copy", image.reference, place(target))
    check_copy(image, target)


# ---- faults


FAULTS = [refusal(503), refusal(429), refusal(500), {"drop": True}, {"reset": True},
          {"status": 502}, {"status": 429, "headers": {"Retry-After": "1"}}]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
@pytest.mark.parametrize("phase", ["POST", "PATCH", "PUT", "HEAD", "MANIFEST"])
def test_each_phase_is_tried_again(tarn, target, image, phase, fault):
    target.fail(phase, times=2, **fault)
    tarn.run("copy", image.reference, place(target))
    assert all(rule.done == 2 for rule in target.rules)
    copy = target.repositories["prod/app"]
    assert copy.tags == {"v1": image.tags["v1"]} and len(copy.blobs) == 3


@pytest.mark.parametrize("phase", ["POST", "PATCH", "PUT", "MANIFEST"])
def test_answers_that_are_lost(tarn, target, image, phase):
    target.fail(phase, lost=True)
    tarn.run("copy", image.reference, place(target))
    copy = target.repositories["prod/app"]
    assert copy.tags == {"v1": image.tags["v1"]} and len(copy.blobs) == 3


@pytest.mark.parametrize("fault", [{"takes_half": True}, {"no_location": True}], ids=str)
def test_a_patch_that_is_taken_in_part(tarn, target, image, fault):
    target.fail("PATCH", times=2, **fault)
    tarn.run("copy", image.reference, place(target))
    check_copy(image, target)


@pytest.mark.parametrize("phase", ["CANCEL"])
@pytest.mark.parametrize("fault", [refusal(503), {"drop": True}], ids=str)
def test_a_session_is_deleted_although_that_fails_once(tarn, source, target, image, phase, fault):
    del image.blobs[digest_of(LAYERS[0])]
    target.fail(phase, times=1, **fault)
    tarn.fails("copy", image.reference, place(target))
    target.await_no_sessions()


@pytest.mark.parametrize("phase, status, code", [
    ("POST", 403, "DENIED"), ("PATCH", 403, "DENIED"), ("PUT", 400, "DIGEST_INVALID"),
    ("PUT", 413, "SIZE_INVALID"), ("PATCH", 413, "SIZE_INVALID"), ("MANIFEST", 400, "MANIFEST_INVALID"),
    ("MANIFEST", 409, "DENIED"), ("MANIFEST", 413, "SIZE_INVALID"), ("HEAD", 403, "DENIED")])
def test_refusals_are_final_and_told_in_one_line(tarn, target, image, phase, status, code):
    target.fail(phase, times=None, **refusal(status, code))
    if phase == "HEAD":  # a HEAD has no body to tell a code by
        code = ""
    done = tarn.fails("copy", image.reference, place(target))
    assert str(status) in done.err and code in done.err, done.err
    assert "prod/app" in done.err and f"{target.host}:{target.port}" in done.err
    assert done.result["state"] == "failed" and code in done.result["message"]
    target.await_no_sessions()
    assert not target.repository("prod/app").tags


@pytest.mark.parametrize("status", [202, 404, 405, 500, 503])
def test_a_mount_that_is_not_made_becomes_an_upload(tarn, source, image, status):
    if status == 202:
        source.mounts = False
    else:
        source.fault("mount=", method="POST", status=status)
    done = tarn.run("copy", image.reference, f"{place(source)}:v1")
    assert done.states() == ["copied"] * 3
    check_copy(image, source)


@pytest.mark.parametrize("where", ["top", "upstream"])
def test_the_patience_is_the_configurations(tarn, target, image, tmp_path, where):
    file = tmp_path / "tarn.yaml"
    file.write_text(yaml_text(
        {"push_patience": "1s", "upstreams": [{"host": "unused.test"}]} if where == "top" else
        {"upstreams": [{"host": f"{target.host}:{target.port}", "url": target.url,
                        "push_patience": "1s"}]}))
    target.fail("MANIFEST", times=None, status=503)
    began = time.monotonic()
    done = tarn.fails("copy", image.reference, place(target), "--config", file)
    assert "503" in done.err
    assert time.monotonic() - began < 50  # a minute is the default


# ---- odd images


def test_blobs_of_no_bytes_and_blobs_that_are_named_twice(tarn, source, target):
    repository = source.repository("odd/app")
    for blob in (b"", b"{}"):
        repository.add_blob(blob)
    repository.add_manifest(manifest(b"{}", [b"", b"{}", b""]), tag="v1")
    tarn.run("copy", f"{place(source, 'odd/app')}:v1", place(target))
    copy = target.repositories["prod/app"]
    assert copy.blobs == repository.blobs and copy.tags == repository.tags
    assert sorted(kind for kind, _ in target.writes) == ["blob", "blob", "manifest"]


def test_sha512_stays_sha512(tarn, source, target):
    repository = source.repository("odd/app")
    repository.add_blob(b"{}")
    layer = repository.add_blob(LAYERS[0], "sha512")
    document = json.loads(manifest(b"{}", [LAYERS[0]]))
    document["layers"][0]["digest"] = layer
    repository.add_manifest(json.dumps(document).encode(), tag="v1")
    tarn.run("copy", f"{place(source, 'odd/app')}:v1", place(target))
    assert set(target.repositories["prod/app"].blobs) == set(repository.blobs)


def test_a_blob_of_another_size_than_its_manifest_says(tarn, source, target, image):
    for wrong in (-1, 1):
        document = json.loads(image.manifests[image.tags["v1"]][0])
        document["layers"][0]["size"] += wrong
        image.add_manifest(json.dumps(document).encode(), tag="wrong")
        done = tarn.fails("copy", f"{place(source, 'team/app')}:wrong", place(target))
        assert digest_of(LAYERS[0]) in done.err, done.err
        target.await_no_sessions()
        assert not target.repository("prod/app").tags


@pytest.mark.parametrize("entries, wanted, found", [
    ([("amd64", "v3"), ("amd64", None)], "linux/amd64", 1),
    ([("amd64", "v3"), ("amd64", "v1")], "linux/amd64", 1),
    ([("amd64", None), ("amd64", "v3")], "linux/amd64/v3", 1),
    ([("arm64", "v9"), ("arm64", "v8")], "linux/arm64", 1),
    ([("arm", "v6"), ("arm", "v7")], "linux/arm/v7", 1),
    ([("amd64", "v3")], "linux/amd64", 0)])
def test_the_variant_that_fits_best(tarn, source, target, entries, wanted, found):
    repository = source.repository("team/variants")
    images = []
    for architecture, variant in entries:
        config = config_of(architecture, variant)
        repository.add_blob(config)
        images.append((manifest(config, []), {"os": "linux", "architecture": architecture,
                                              **({"variant": variant} if variant else {})}))
        repository.add_manifest(images[-1][0])
    repository.add_manifest(index([descriptor(content, OCI_MANIFEST, platform=platform)
                                   for content, platform in images]), OCI_INDEX, "v1")
    tarn.run("copy", f"{place(source, 'team/variants')}:v1", place(target), "--platform", wanted)
    assert target.repositories["prod/app"].tags == {"v1": digest_of(images[found][0])}


# ---- archives and layouts


@pytest.mark.parametrize("name, tag", [("a/b:c", "a/b:c"), ("a/b", "a/b:v1"),
                                       ("registry.test:5000/a/b", "registry.test:5000/a/b:v1")])
def test_an_archive_gets_the_sources_tag_where_it_has_none(tarn, image, tmp_path, name, tag):
    tarn.run("copy", image.reference, f"docker-archive:{tmp_path}/a.tar:{name}")
    with tarfile.open(tmp_path / "a.tar") as archive:
        assert json.load(archive.extractfile("manifest.json"))[0]["RepoTags"] == [tag]


@pytest.mark.parametrize("kind", ["oci", "docker-archive"])
def test_a_copy_that_fails_leaves_no_image_in_a_file(tarn, source, image, tmp_path, kind):
    source.fault(f"/blobs/{digest_of(LAYERS[1])}", flip=7)
    out = tmp_path / "out"
    out.mkdir()
    done = tarn.fails("copy", image.reference, f"{kind}:{out}/x")
    assert digest_of(LAYERS[1]) in done.err
    left = [str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()]
    assert not [name for name in left if "tarn-" in name or name.endswith(digest_of(LAYERS[1])[7:])]
    if kind == "docker-archive":
        assert left == []
    else:
        tarn.fails("digest", f"oci:{out}/x")


def test_a_folder_that_cannot_be_written_is_said_before_anything_is_read(tarn, source, image):
    (tarn.folder / "file").write_text("no folder")
    for where in ("oci:file/x", "docker-archive:file/x", "docker-archive:none/x"):
        done = tarn.fails("copy", image.reference, where)
        assert where.split(":")[1] in done.err
    assert not source.asked("/blobs/")


# ---- lines, and what is said of a copy that does not begin


@pytest.mark.parametrize("command", ["copy", "append"])
def test_every_image_ends_with_a_result(tarn, target, image, folder, command):
    target.readers_only = True
    arguments = [image.reference, place(target)] if command == "copy" else [
        image.reference, "--to", f"{place(target)}:v1", "--add", folder]
    done = tarn.fails(command, *arguments)
    assert done.result["state"] == "failed" and "403" in done.result["message"]
    assert done.result["source"] == image.reference
    assert done.result["destination"] == f"{place(target)}:v1"
    assert place(target) in done.err


def test_the_json_flag_changes_nothing_where_there_is_no_terminal(tarn, target, image):
    one = tarn.run("copy", image.reference, place(target))
    other = tarn.run("copy", "--json", image.reference, place(target, "other/app"))

    def shape(done):
        return sorted((line["event"], tuple(line), line.get("state")) for line in done.lines)
    assert shape(one) == shape(other)


def test_events_have_their_members_and_no_others(tarn, target, image):
    members = {
        "blob": {"event", "digest", "size", "state"},
        "manifest": {"event", "digest", "media_type", "size", "state"},
        "tag": {"event", "reference", "digest", "state"},
        "result": {"event", "source", "destination", "digest", "state", "bytes_sent",
                   "bytes_present", "bytes_mounted", "seconds", "message"}}
    for dry in ([], ["--dry-run"]):
        done = tarn.run("copy", image.reference, place(target), *dry)
        for line in done.lines:
            assert set(line) == members[line["event"]] | ({"dry_run"} if dry else set())


@pytest.mark.parametrize("what", ["done", "failed"])
def test_append_on_a_terminal(tarn, target, image, folder, what):
    target.immutable = what == "failed"
    target.image("prod/app", [b"older"], "v1")
    master, slave = pty.openpty()
    with subprocess.Popen([tarn.program, "append", image.reference, "--to", f"{place(target)}:v1",
                           "--add", folder, "--config", tarn.configuration],
                          stdin=subprocess.DEVNULL, stdout=slave, stderr=slave,
                          env=tarn.environment) as process:
        os.close(slave)
        shown = b""
        try:
            while more := os.read(master, 65536):
                shown += more
        except OSError:
            pass
        assert process.wait(60) == (what == "failed")
    os.close(master)
    last = re.sub(r"\x1b\[\d*[A-Z]", "", shown.decode()).splitlines()[-1]
    if what == "done":
        assert last.startswith(f"{place(target)}:v1 {target.repositories['prod/app'].tags['v1']} ")
    else:
        assert last.startswith("tarn append: ") and "immutable" in last
    assert '"event"' not in shown.decode()


# ---- through a tarn


def test_a_copy_through_a_tarn_that_takes_pushes(tarn, start_tarn, users, source, target, image):
    cache = start_tarn([{"host": "from.test", "url": source.url, "push": True},
                        {"host": "to.test", "url": target.url, "push": True, "delete": True}],
                       clients={"htpasswd": str(users)})
    docker = tarn.folder / ".docker"
    docker.mkdir()
    (docker / "config.json").write_text(json.dumps({"auths": {
        f"127.0.0.1:{cache.port}": {"username": "alice", "password": "secret"}}}))
    via = ["--via", cache.url]
    done = tarn.run("copy", "from.test/team/app:v1", "to.test/prod/app", *via)
    assert done.states() == ["copied"] * 3
    check_copy(image, target)
    done = tarn.run("copy", "from.test/team/app:v1", "from.test/team/again", *via)
    assert done.states() == ["mounted"] * 3
    check_copy(image, source, "team/again")
    done = tarn.run("copy", "from.test/team/app:v1", "to.test/prod/app", *via)
    assert done.states() == ["present"] * 3 and done.states("tag") == ["present"]
    tarn.run("tag", "to.test/prod/app:v1", "v2", *via)
    assert tarn.run("tags", "to.test/prod/app", *via).out == "v1\nv2\n"
    tarn.run("delete", "to.test/prod/app:v2", *via)
    assert tarn.run("tags", "to.test/prod/app", *via).out == "v1\n"
    done = tarn.fails("delete", "from.test/team/app:v1", *via)
    assert "405" in done.err


# ---- patterns and --sync


def test_a_sync_keeps_lists_of_referrers(tarn, source, target, image):
    """The fallback tag at the destination is of a signature that this copy brings."""
    source.referrers_api, target.referrers_api = True, False
    subject = image.tags["v1"]
    image.add_blob(b"{}")
    image.add_blob(b"signature")
    signature = manifest(b"{}", [b"signature"], artifactType="application/x.signature", subject={
        "mediaType": OCI_MANIFEST, "digest": subject, "size": 1})
    image.referrers[subject] = [descriptor(image.manifests[image.add_manifest(signature)][0],
                                           OCI_MANIFEST, artifactType="application/x.signature")]
    target.image("prod/app", [b"older"], "gone")
    done = tarn.run("copy", "--sync", "--yes", "--referrers", f"{place(source, 'team/app')}:**",
                    place(target))
    assert [line["reference"] for line in done.of("delete")] == [f"{place(target)}:gone"]
    assert set(target.repositories["prod/app"].tags) == {"v1", subject.replace(":", "-")}
    assert tarn.run("referrers", f"{place(target)}:v1").out.startswith(digest_of(signature))


def test_a_sync_of_a_repository_that_is_not_there_yet(tarn, source, target, image):
    tarn.run("copy", "--sync", "--yes", f"{place(source, 'team/app')}:v*", place(target))
    check_copy(image, target)


@pytest.mark.parametrize("failing", ["source list", "destination list", "a delete"])
def test_a_sync_that_fails_says_so(tarn, source, target, image, failing):
    older = target.image("prod/app", [b"older"], "v0")
    if failing == "a delete":
        target.tag_deletion = False
    else:
        registry = source if failing == "source list" else target
        registry.fault("/tags/list", status=403)
    done = tarn.fails("copy", "--sync", "--yes", f"{place(source, 'team/app')}:v*", place(target))
    assert "team/app" in done.err or "prod/app" in done.err
    assert target.repositories["prod/app"].tags["v0"] == older


def test_lists_of_tags_of_every_shape(tarn, source, image):
    wanted = {f"v{number}" for number in range(30)} | {"v1"}
    for tag in wanted:
        image.tags[tag] = image.tags["v1"]
    source.page_size = 4
    source.fault("/tags/list", status=503, times=2, skip=3)
    assert tarn.run("tags", place(source, "team/app")).out.split() == sorted(wanted)
    for body in (b'{"name":"x","tags":null}', b'{"name":"x","tags":[]}'):
        source.fault("/empty/app/tags/list", status=200, body=body, times=1,
                     headers={"Content-Type": "application/json"})
        assert tarn.run("tags", place(source, "empty/app")).out == ""


# ---- Ctrl-C


@pytest.mark.parametrize("command, where, path, method", [
    *((command, *what) for command in ("copy", "append") for what in (
        ("source", "/manifests/", "GET"), ("target", "/manifests/", "HEAD"),
        ("target", "/manifests/", "PUT"), ("target", "/blobs/sha256", "HEAD"),
        ("target", "/uploads/", "POST"), ("target", "/uploads/", "PATCH"),
        ("target", "/uploads/", "PUT"), ("source", "/blobs/", "GET"))),
    ("copy", "source", "/tags/list", "GET")])
def test_ctrl_c_ends_each_wait_for_a_registry(tarn, source, target, image, folder, command, where,
                                              path, method):
    """Each request would be waited for and tried again for a minute."""
    registry = source if where == "source" else target
    registry.fault(path, method=method, black_hole=True)
    arguments = [image.reference, place(target)]
    if "tags" in path:
        arguments[0] = f"{place(source, 'team/app')}:v*"
    elif command == "append":
        arguments[1:] = ["--to", f"{place(target)}:v1", "--add", str(folder)]
    with subprocess.Popen([tarn.program, command, *arguments, "--config", tarn.configuration],
                          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, env=tarn.environment) as process:
        wait_until(lambda: registry.asked(path, method), "the request that gets no answer")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    target.await_no_sessions()
    assert not target.repository("prod/app").tags


# ---- the commands of one image


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_tag_and_delete_are_tried_again(tarn, source, image, fault):
    source.fail("MANIFEST", times=2, **fault)
    source.fail("DELETE", times=2, **fault)
    tarn.run("tag", image.reference, "v2")
    assert image.tags["v2"] == image.tags["v1"]
    tarn.run("delete", f"{place(source, 'team/app')}:v2")
    assert "v2" not in image.tags and all(rule.done == 2 for rule in source.rules)


def test_an_answer_to_a_delete_that_is_lost(tarn, source, image):
    source.fail("DELETE", lost=True)
    tarn.run("delete", image.reference)
    assert image.tags == {}


@pytest.mark.parametrize("status", [400, 403, 404, 405, 409])
def test_a_delete_that_is_refused(tarn, source, image, status):
    source.fail("DELETE", times=None, **refusal(status, "UNSUPPORTED"))
    done = tarn.fails("delete", image.reference)
    assert str(status) in done.err and "team/app:v1" in done.err and done.out == ""
    assert "v1" in image.tags


def test_a_digest_that_is_not_the_one_that_was_asked_for(tarn, source, image):
    digest, other = image.tags["v1"], digest_of(b"another")
    source.fault("/manifests/", method="HEAD", status=200, headers={
        "Docker-Content-Digest": other, "Content-Type": OCI_MANIFEST})
    done = tarn.fails("digest", f"{place(source, 'team/app')}@{digest}")
    assert done.out == "" and digest in done.err and other in done.err


def test_a_tag_by_digest_and_of_an_image_that_is_not_there(tarn, source, image):
    digest = image.tags["v1"]
    where = place(source, "team/app")
    assert tarn.run("tag", f"{where}@{digest}", "a").out == f"{where}:a {digest}\n"
    assert tarn.run("tag", f"{where}:v1@{digest}", "b").out == f"{where}:b {digest}\n"
    done = tarn.fails("tag", f"{where}:none", "c")
    assert "none" in done.err and "c" not in image.tags


def test_manifest_and_config_read_layouts_and_archives(tarn, image, tmp_path):
    for where in (f"oci:{tmp_path}/layout:v1", f"docker-archive:{tmp_path}/a.tar:a/b:c"):
        tarn.run("copy", image.reference, where)
        assert tarn.run("config", where).raw == config_of()
        assert json.loads(tarn.run("manifest", where).out)["schemaVersion"] == 2
        digest = tarn.run("digest", where).out
        assert digest == digest_of(tarn.run("manifest", where).raw) + "\n"
    assert os.listdir(tarn.folder) == ["none.yaml"]
