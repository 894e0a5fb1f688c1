"""tarn copy between registries that a test scripts: order, faults, platforms, referrers, patterns."""

import json
import os
import pty
import re
import resource
import subprocess

import pytest

from kit.content import (DOCKER_LAYER, DOCKER_LIST, DOCKER_MANIFEST, KIB, MIB, OCI_INDEX,
                         OCI_MANIFEST, descriptor, digest_of, index, manifest, noise)
from kit.image_commands import ImageCommands, make_registry, source, target, tarn
from kit.processes import wait_until
from kit.release import release_build
from kit.tokens import TokenService, basic
from kit.yaml_text import yaml_text

BIG = noise(5 * MIB, 1)
LAYERS = {"amd64": [BIG, noise(70 * KIB, 2)], "arm64": [noise(300 * KIB, 3), noise(70 * KIB, 2)]}


class Image:
    """An index of two images at a registry, with odd spaces, so that its bytes are its own."""

    def __init__(self, registry, name="team/app", tag="v1", docker=False):
        self.repository = registry.repository(name)
        self.place = f"{registry.host}:{registry.port}/{name}"
        self.reference = f"{self.place}:{tag}"
        kinds = (DOCKER_MANIFEST, DOCKER_LIST) if docker else (OCI_MANIFEST, OCI_INDEX)
        self.images, entries = {}, []
        for architecture, layers in LAYERS.items():
            config = json.dumps({"os": "linux", "architecture": architecture}).encode()
            for blob in [config, *layers]:
                self.repository.add_blob(blob)
            bytes_ = manifest(config, layers, kinds[0],
                              **({"layer_type": DOCKER_LAYER} if docker else {})) + b"\n "
            self.images[architecture] = self.repository.add_manifest(bytes_, kinds[0])
            entries.append(descriptor(bytes_, kinds[0],
                                      platform={"os": "linux", "architecture": architecture}))
        self.bytes = b"\n" + index(entries, kinds[1], annotations={"a": "b"})
        self.digest = self.repository.add_manifest(self.bytes, kinds[1], tag)

    @property
    def size(self):
        blobs = {blob for layers in LAYERS.values() for blob in layers}
        return sum(len(blob) for blob in self.repository.blobs.values() if blob in blobs) + sum(
            len(blob) for blob in self.repository.blobs.values() if blob.startswith(b"{"))


@pytest.fixture
def image(source):
    return Image(source)


def place(registry, name="prod/app"):
    return f"{registry.host}:{registry.port}/{name}"


# ---- what arrives, and in which order


@pytest.mark.parametrize("docker", [False, True])
def test_everything_arrives_byte_for_byte_and_the_tag_last(tarn, source, target, docker):
    image = Image(source, docker=docker)
    done = tarn.run("copy", image.reference, place(target))
    copy = target.repositories["prod/app"]
    assert copy.blobs == image.repository.blobs
    assert copy.manifests == image.repository.manifests
    assert copy.tags == {"v1": image.digest}
    kinds = [kind for kind, _ in target.writes]
    assert kinds == ["blob"] * 5 + ["manifest"] * 3
    assert {name for _, name in target.writes[5:7]} == set(image.images.values())
    assert target.writes[7] == ("manifest", "v1")
    assert done.result == {
        "event": "result", "source": image.reference, "destination": f"{place(target)}:v1",
        "digest": image.digest, "state": "done", "bytes_sent": image.size, "bytes_present": 0,
        "bytes_mounted": 0, "seconds": done.result["seconds"], "message": ""}
    assert done.states() == ["copied"] * 5 and done.states("manifest") == ["copied"] * 3
    [tag] = done.of("tag")
    assert tag == {"event": "tag", "reference": f"{place(target)}:v1", "digest": image.digest,
                   "state": "copied"}
    assert {line["media_type"] for line in done.of("manifest")} == {
        kind for _, kind in image.repository.manifests.values()}
    target.await_no_sessions()


def test_each_byte_is_read_and_sent_once(tarn, source, target, image):
    tarn.run("copy", image.reference, place(target))
    assert source.blob_bytes() == image.size
    assert target.received == image.size


def test_a_second_copy_writes_nothing(tarn, source, target, image):
    tarn.run("copy", image.reference, place(target))
    target.reset_writes()
    source.forget_requests()
    done = tarn.run("copy", image.reference, place(target))
    assert target.writes == [] and target.received == 0
    assert source.asked("/blobs/") == []
    assert done.states() == ["present"] * 5 and done.result["bytes_present"] == image.size
    assert done.states("manifest") == ["present"] * 3 and done.states("tag") == ["present"]


def test_only_what_is_missing_is_sent(tarn, source, target, image):
    tarn.run("copy", image.reference, place(target))
    copy = target.repositories["prod/app"]
    del copy.blobs[digest_of(BIG)], copy.manifests[image.digest], copy.tags["v1"]
    target.reset_writes()
    done = tarn.run("copy", image.reference, place(target))
    assert target.writes == [("blob", digest_of(BIG)), ("manifest", "v1")]
    assert done.states() == ["copied"] + ["present"] * 4


def test_the_destinations_tag_and_digest(tarn, source, target, image):
    tarn.run("copy", image.reference, f"{place(target)}:other")
    assert target.repositories["prod/app"].tags == {"other": image.digest}
    tarn.run("copy", f"{image.place}@{image.digest}", place(target, "by/digest"))
    assert target.repositories["by/digest"].tags == {}
    assert image.digest in target.repositories["by/digest"].manifests
    done = tarn.fails("copy", image.reference, f"{place(target)}:x@{digest_of(b'another')}")
    assert "digest" in done.err and "x" not in target.repositories["prod/app"].tags


def test_a_large_blob_comes_over_several_connections(tarn, source, target):
    layer = noise(8 * MIB, 9)
    source.image("big/app", [layer], "1")
    source.fault("/blobs/", bytes_per_second=8 * MIB)
    tarn.run("copy", f"{place(source, 'big/app')}:1", place(target))
    assert source.most_at_once("/blobs/") >= 3
    assert target.repositories["prod/app"].blobs[digest_of(layer)] == layer
    assert source.blob_bytes() == len(layer) + 2


@pytest.mark.parametrize("number", [1, 3])
def test_as_many_blobs_at_once_as_jobs_says(tarn, source, target, number):
    layers = [noise(100 * KIB, seed) for seed in range(8)]
    source.image("many/app", layers, "1")
    source.fault("/blobs/", bytes_per_second=500 * KIB)
    tarn.run("copy", f"{place(source, 'many/app')}:1", place(target), "--jobs", number)
    assert target.most_at_once("/blobs/uploads/") <= number
    assert len(target.repositories["prod/app"].blobs) == 9


# ---- within one registry


def test_blobs_of_the_same_registry_are_mounted(tarn, source, image):
    done = tarn.run("copy", image.reference, f"{place(source)}:v2")
    assert source.blob_bytes() == 0 and source.received == 0
    assert done.states() == ["mounted"] * 5 and done.result["bytes_mounted"] == image.size
    assert source.repositories["prod/app"].tags == {"v2": image.digest}


def test_where_a_mount_is_refused_the_blob_is_sent(tarn, source, image):
    source.mounts = False
    done = tarn.run("copy", image.reference, f"{place(source)}:v2")
    assert done.states() == ["copied"] * 5
    assert source.repositories["prod/app"].blobs == image.repository.blobs
    source.await_no_sessions()


# ---- faults


@pytest.mark.parametrize("fault", [{"cut_after": 100_000}, {"reset_after": 200_000}, {"status": 503},
                                   {"drop": True}, {"ignore_range": True}, {"status": 429}])
def test_a_fault_of_the_source_is_mended(tarn, source, target, image, fault):
    source.fault(f"/blobs/{digest_of(BIG)}", times=3, **fault)
    tarn.run("copy", image.reference, place(target))
    assert target.repositories["prod/app"].blobs[digest_of(BIG)] == BIG
    assert target.received == image.size


def test_a_source_without_ranges_is_read_in_one_go(tarn, source, target, image):
    source.fault("/blobs/", ignore_range=True)
    tarn.run("copy", image.reference, place(target))
    assert target.repositories["prod/app"].blobs == image.repository.blobs


@pytest.mark.parametrize("one_patch", [False, True])
@pytest.mark.parametrize("fault", [{"upload_reset_after": 300_000}, {"status": 502}, {"drop": True}])
def test_a_fault_of_the_destination_is_mended(tarn, source, target, image, fault, one_patch):
    if one_patch:
        target.take_one_patch()
    target.fault("/blobs/uploads/", method="PATCH", times=3, **fault)
    tarn.run("copy", image.reference, place(target))
    assert target.repositories["prod/app"].blobs == image.repository.blobs
    assert target.repositories["prod/app"].tags == {"v1": image.digest}


def test_faults_on_both_sides_at_once(tarn, source, target, image):
    source.fault("/blobs/", times=6, cut_after=50_000)
    target.fault("/blobs/uploads/", method="PATCH", times=4, upload_reset_after=60_000)
    tarn.run("copy", image.reference, place(target))
    assert target.repositories["prod/app"].blobs == image.repository.blobs


def test_patience_ends_as_the_configuration_says(tarn, source, target, image, tmp_path):
    file = tmp_path / "tarn.yaml"
    file.write_text(yaml_text({"upstreams": [{"host": "from.test", "url": source.url,
                                              "credentials": "anonymous", "push_patience": "1s"}]}))
    source.fault(f"/blobs/{digest_of(BIG)}", cut_after=0)
    done = tarn.fails("copy", "from.test/team/app:v1", place(target), "--config", file)
    assert "from.test" in done.err and digest_of(BIG) in done.err
    target.await_no_sessions()


def test_a_wrong_blob_is_never_finished(tarn, source, target, image):
    source.fault(f"/blobs/{digest_of(BIG)}", flip=len(BIG) // 2)
    done = tarn.fails("copy", image.reference, place(target))
    copy = target.repositories.get("prod/app")
    assert digest_of(BIG) in done.err
    assert digest_of(BIG) not in copy.blobs if copy else True
    assert not copy or (not copy.manifests and not copy.tags)
    target.await_no_sessions()
    assert done.result["state"] == "failed" and digest_of(BIG) in done.result["message"]


def test_a_blob_that_the_destination_calls_wrong_is_not_called_copied(tarn, source, target, image):
    target.fault("/blobs/uploads/", method="PUT", status=400, headers={
        "Content-Type": "application/json"}, body=b'{"errors":[{"code":"DIGEST_INVALID"}]}')
    done = tarn.fails("copy", image.reference, place(target))
    assert "DIGEST_INVALID" in done.err and done.states() == []
    assert not target.repository("prod/app").manifests


def test_a_blob_that_is_missing_leaves_no_manifest(tarn, source, target, image):
    del image.repository.blobs[digest_of(BIG)]
    done = tarn.fails("copy", image.reference, place(target))
    copy = target.repositories.get("prod/app")
    assert not copy or (not copy.manifests and not copy.tags)
    target.await_no_sessions()
    assert "404" in done.err and "team/app" in done.err


def test_an_image_of_the_tag_stays_when_a_copy_fails(tarn, source, target, image):
    before = target.image("prod/app", [b"an older layer"], "v1")
    source.fault(f"/blobs/{digest_of(BIG)}", flip=7)
    tarn.fails("copy", image.reference, place(target))
    assert target.repositories["prod/app"].tags == {"v1": before}


# ---- rights


def test_rights_are_tried_before_a_blob_is_read(tarn, source, target, image):
    target.readers_only = True
    done = tarn.fails("copy", image.reference, place(target))
    assert source.asked("/blobs/") == []
    assert "403" in done.err and place(target) in done.err and "permission to upload" in done.err


def test_a_refusal_says_which_credential_was_used(tarn, source, target, image):
    target.basic = ("robot", "open sesame")
    tarn.secrets += ["wrong sesame", "open sesame"]
    docker = tarn.folder / ".docker"
    docker.mkdir()
    (docker / "config.json").write_text(json.dumps({"auths": {
        f"{target.host}:{target.port}": {"username": "robot", "password": "wrong sesame"}}}))
    done = tarn.fails("copy", image.reference, place(target))
    assert "docker" in done.err.lower() and f"{target.host}:{target.port}" in done.err
    assert source.asked("/blobs/") == []


def test_artifact_registry_s_refusal_names_the_missing_role(tarn, source, target, image, tmp_path):
    target.readers_only = True
    file = tmp_path / "tarn.yaml"
    file.write_text(yaml_text({"upstreams": [{
        "host": "us-docker.pkg.dev", "url": target.url, "credentials": "anonymous"}]}))
    place_ = "us-docker.pkg.dev/project/repo/app"
    done = tarn.fails("copy", image.reference, place_, "--config", file)
    assert "roles/artifactregistry.writer" in done.err and place_ in done.err
    assert "anonymous" in done.err or "credentials" in done.err
    target.repositories["project/repo/app"] = image.repository
    done = tarn.fails("delete", f"{place_}:v1", "--config", file)
    assert "roles/artifactregistry.repoAdmin" in done.err


def test_tokens_are_asked_for_what_is_done(tarn, source, target, image):
    for registry in (source, target):
        registry.tokens = TokenService(anonymous=False, users={"robot": "open sesame"})
    docker = tarn.folder / ".docker"
    docker.mkdir()
    (docker / "config.json").write_text(json.dumps({"auths": {
        f"{one.host}:{one.port}": {"username": "robot", "password": "open sesame"}
        for one in (source, target)}}))
    tarn.run("copy", image.reference, place(target))
    scopes = {scope for scope, _, _ in source.tokens.given.values()}
    assert scopes == {"repository:team/app:pull"}
    assert "repository:prod/app:pull,push" in {
        scope for scope, _, _ in target.tokens.given.values()}
    assert basic("robot", "open sesame") not in [
        request.headers.get("authorization") for request in target.asked("/v2/")]


def test_an_immutable_tag_is_told_in_words(tarn, source, target, image):
    target.image("prod/app", [b"an older layer"], "v1")
    target.immutable = True
    done = tarn.fails("copy", image.reference, place(target))
    assert "immutable" in done.err and done.result["state"] == "failed"


# ---- platforms


def test_one_platform_is_that_image_itself(tarn, source, target, image):
    done = tarn.run("copy", image.reference, place(target), "--platform", "linux/arm64")
    copy = target.repositories["prod/app"]
    assert copy.tags == {"v1": image.images["arm64"]} and len(copy.manifests) == 1
    assert digest_of(BIG) not in copy.blobs
    assert done.result["digest"] == image.images["arm64"]
    # and of an image without an index
    tarn.run("copy", f"{image.place}@{image.images['arm64']}", f"{place(target)}:again",
             "--platform", "linux/arm64/v8")
    assert copy.tags["again"] == image.images["arm64"]


def test_several_platforms_are_an_index_of_them(tarn, source, target, image):
    more = manifest(b'{"os":"linux","architecture":"s390x"}', [])
    image.repository.add_blob(b'{"os":"linux","architecture":"s390x"}')
    image.repository.add_manifest(more)
    document = json.loads(image.bytes)
    document["manifests"].append(descriptor(
        more, OCI_MANIFEST, platform={"os": "linux", "architecture": "s390x"}))
    image.repository.add_manifest(json.dumps(document).encode(), OCI_INDEX, "three")
    tarn.run("copy", f"{image.place}:three", place(target), "--platform", "linux/s390x",
             "--platform", "linux/amd64")
    copy = target.repositories["prod/app"]
    content, kind = copy.manifests[copy.tags["three"]]
    wanted = {**document, "manifests": [document["manifests"][0], document["manifests"][2]]}
    assert json.loads(content) == wanted and kind == OCI_INDEX
    assert set(copy.manifests) == {copy.tags["three"], image.images["amd64"], digest_of(more)}


@pytest.mark.parametrize("which", ["index", "single"])
def test_a_platform_that_is_not_there_lists_those_that_are(tarn, source, target, image, which):
    reference = image.reference if which == "index" else f"{image.place}@{image.images['amd64']}"
    done = tarn.fails("copy", reference, place(target), "--platform", "linux/s390x")
    assert "linux/s390x" in done.err and "linux/amd64" in done.err
    assert ("linux/arm64" in done.err) == (which == "index")
    assert target.writes == []


# ---- referrers


def refer(repository, subject, words, registry=None):
    """Adds a manifest that refers to a subject; gives its digest."""
    blob = f"{words} of {subject}".encode()
    repository.add_blob(b"{}")
    repository.add_blob(blob)
    content = manifest(b"{}", [blob], artifactType=f"application/x.{words}",
                       subject={"mediaType": OCI_MANIFEST, "digest": subject, "size": 1})
    digest = repository.add_manifest(content)
    entry = descriptor(content, OCI_MANIFEST, artifactType=f"application/x.{words}")
    if registry and not registry.referrers_api:
        repository.add_manifest(index([entry]), OCI_INDEX, subject.replace(":", "-"))
    repository.referrers.setdefault(subject, []).append(entry)
    return digest


@pytest.mark.parametrize("api", ["both", "source", "target", "none", "silent"])
def test_referrers_of_all_levels_are_copied(tarn, source, target, image, api):
    source.referrers_api = api in ("both", "source", "silent")
    target.referrers_api = api in ("both", "target", "silent")
    target.tells_subject = api != "silent"
    signature = refer(image.repository, image.digest, "signature", source)
    sbom = refer(image.repository, image.images["arm64"], "sbom", source)
    nested = refer(image.repository, sbom, "signature", source)
    tarn.run("copy", "--referrers", image.reference, place(target))
    copy = target.repositories["prod/app"]
    assert {signature, sbom, nested} <= set(copy.manifests)
    assert [name for _, name in target.writes][-1] == "v1"
    for subject, digest in ((image.digest, signature), (image.images["arm64"], sbom),
                            (sbom, nested)):
        done = tarn.run("referrers", f"{place(target)}@{subject}")
        assert done.out.split("\t")[0] == digest, (subject, done.out)
    target.reset_writes()
    tarn.run("copy", "--referrers", image.reference, place(target))
    assert target.writes == []


def test_without_referrers_nothing_of_them_is_copied(tarn, source, target, image):
    signature = refer(image.repository, image.digest, "signature")
    tarn.run("copy", image.reference, place(target))
    assert signature not in target.repositories["prod/app"].manifests
    assert source.asked("/referrers/") == []


def test_a_fallback_tag_keeps_what_it_has(tarn, source, target, image):
    target.referrers_api = False
    copy = target.repository("prod/app")
    other = refer(copy, image.digest, "other", target)
    signature = refer(image.repository, image.digest, "signature")
    tarn.run("copy", "--referrers", image.reference, place(target))
    content, _ = copy.manifests[copy.tags[image.digest.replace(":", "-")]]
    assert [entry["digest"] for entry in json.loads(content)["manifests"]] == [other, signature]


# ---- patterns and --sync


def tag_all(image, *tags):
    for tag in tags:
        image.repository.tags[tag] = image.images["arm64"]


def test_a_pattern_copies_every_tag_that_matches(tarn, source, target, image):
    tag_all(image, "v1.0", "v1.1", "v2.0", "latest")
    done = tarn.run("copy", f"{image.place}:v1.*", place(target))
    assert set(target.repositories["prod/app"].tags) == {"v1.0", "v1.1"}
    assert [line["destination"] for line in done.of("result")] == [
        f"{place(target)}:v1.0", f"{place(target)}:v1.1"]
    tarn.run("copy", f"{image.place}:**", place(target))
    assert set(target.repositories["prod/app"].tags) == set(image.repository.tags)
    tarn.run("copy", f"{image.place}:v?", place(target, "one/letter"))
    assert set(target.repositories["one/letter"].tags) == {"v1"}


def test_a_pattern_that_matches_nothing_fails(tarn, source, target, image):
    done = tarn.fails("copy", f"{image.place}:w*", place(target))
    assert "w*" in done.err and target.writes == []


def test_one_that_fails_does_not_keep_the_others(tarn, source, target, image):
    tag_all(image, "v0", "v2")
    image.repository.tags["v0"] = digest_of(b"nothing")
    done = tarn.fails("copy", f"{image.place}:v*", place(target))
    assert {line["destination"].rpartition(":")[2]: line["state"] for line in done.of("result")} \
        == {"v0": "failed", "v1": "done", "v2": "done"}
    assert set(target.repositories["prod/app"].tags) == {"v1", "v2"}


def test_sync_deletes_what_the_source_no_longer_has(tarn, source, target, image):
    tag_all(image, "v2")
    older = target.image("prod/app", [b"older"], "v0")
    target.repositories["prod/app"].tags.update({"v-gone": older, "kept": older})
    dry = tarn.run("copy", "--sync", "--dry-run", f"{image.place}:v*", place(target))
    assert [line["reference"].rpartition(":")[2] for line in dry.of("delete")] == ["v-gone", "v0"]
    assert all(line["dry_run"] for line in dry.lines) and target.writes == []
    done = tarn.run("copy", "--sync", "--yes", f"{image.place}:v*", place(target))
    assert set(target.repositories["prod/app"].tags) == {"v1", "v2", "kept"}
    assert [line["state"] for line in done.of("delete")] == ["deleted", "deleted"]


def test_sync_deletes_nothing_after_a_failure(tarn, source, target, image):
    tag_all(image, "v2")
    image.repository.tags["v2"] = digest_of(b"nothing")
    target.image("prod/app", [b"older"], "v0")
    tarn.fails("copy", "--sync", "--yes", f"{image.place}:v*", place(target))
    assert "v0" in target.repositories["prod/app"].tags
    del image.repository.tags["v2"]
    target.fault("/tags/list", status=404)
    tarn.fails("copy", "--sync", "--yes", f"{image.place}:v*", place(target))
    assert "v0" in target.repositories["prod/app"].tags


@pytest.mark.parametrize("answer", ["y", "n"])
def test_sync_asks_on_a_terminal(tarn, source, target, image, answer):
    target.image("prod/app", [b"older"], "v0")
    master, slave = pty.openpty()
    with subprocess.Popen([tarn.program, "copy", "--sync", f"{image.place}:v*", place(target),
                           "--config", tarn.configuration], stdin=slave, stdout=slave,
                          stderr=slave, env=tarn.environment) as process:
        os.close(slave)
        shown = b""
        while b"[y/N]" not in shown:
            shown += os.read(master, 65536)
        assert b"v0" in shown
        os.write(master, f"{answer}\n".encode())
        try:
            while more := os.read(master, 65536):
                shown += more
        except OSError:
            pass
        assert process.wait(60) == 0
    os.close(master)
    assert ("v0" in target.repositories["prod/app"].tags) == (answer == "n")


# ---- usage and output


@pytest.mark.parametrize("wrong", [
    ["--all", "--platform", "linux/amd64"], ["--jobs", "0"], ["--jobs", "1000"],
    ["--platform", "linux"], ["--sync"], ["--nonsense"]])
def test_wrong_usage_is_2_and_asks_nobody(tarn, source, target, image, wrong):
    tarn.run("copy", *wrong, image.reference, place(target), status=2)
    assert source.requests == [] and target.requests == []


def test_patterns_that_make_no_sense_are_2(tarn, source, target, image):
    pattern = f"{image.place}:v*"
    tarn.run("copy", pattern, f"{place(target)}:one", status=2)
    tarn.run("copy", pattern, "docker-archive:file.tar", status=2)
    tarn.run("copy", "--sync", pattern, place(target), status=2)  # no terminal, no --yes
    tarn.run("copy", "--sync", "--yes", pattern, "oci:folder", status=2)
    tarn.run("copy", image.reference, status=2)
    assert source.requests == [] and target.requests == []
    assert not (tarn.folder / "folder").exists() and not (tarn.folder / "file.tar").exists()


def test_what_is_no_reference_fails_with_one_line(tarn, source, target, image):
    assert "UPPER" in tarn.fails("copy", "h.test/UPPER:1", place(target)).err
    assert "v*" in tarn.fails("copy", image.reference, f"{place(target)}:v*").err
    assert source.requests == []


def test_a_dry_run_writes_nothing(tarn, source, target, image):
    done = tarn.run("copy", "--dry-run", image.reference, place(target))
    assert target.writes == [] and not target.asked(method="POST") and not source.blob_bytes()
    assert all(line["dry_run"] is True for line in done.lines)
    assert done.states() == ["copied"] * 5 and done.result["bytes_sent"] == image.size
    tarn.run("copy", "--dry-run", image.reference, "oci:folder:1")
    tarn.run("copy", "--dry-run", image.reference, "docker-archive:file.tar",
             "--platform", "linux/amd64")
    assert os.listdir(tarn.folder) == ["none.yaml"]


def test_a_terminal_gets_bars_and_a_last_line(tarn, source, target, image):
    master, slave = pty.openpty()
    with subprocess.Popen([tarn.program, "copy", image.reference, place(target), "--config",
                           tarn.configuration], stdin=subprocess.DEVNULL, stdout=slave,
                          stderr=slave, env=tarn.environment) as process:
        os.close(slave)
        shown = b""
        try:
            while more := os.read(master, 65536):
                shown += more
        except OSError:
            pass
        assert process.wait(60) == 0
    os.close(master)
    lines = re.sub(r"\x1b\[\d*[A-Z]", "", shown.decode()).splitlines()
    assert lines[-1].startswith(f"{place(target)}:v1 {image.digest} "), lines[-1]
    # Which blobs are seen under way depends on the machine's speed.
    assert re.search(r"\b[0-9a-f]{12} (config|layer) +\[[=> ]+\]", shown.decode())
    assert '"event"' not in shown.decode()


def test_ctrl_c_deletes_the_sessions_and_writes_no_tag(tarn, source, target, image):
    source.fault(f"/blobs/{digest_of(BIG)}", bytes_per_second=200 * KIB)
    with subprocess.Popen([tarn.program, "copy", image.reference, place(target), "--config",
                           tarn.configuration], stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          env=tarn.environment) as process:
        wait_until(lambda: any(session.content for session in target.sessions.values()),
                   "bytes to arrive")
        process.send_signal(2)
        assert process.wait(30) == 130
    target.await_no_sessions()
    assert not target.repository("prod/app").tags


# ---- what it costs


def test_neither_disk_nor_memory_grows_with_the_image(program, tmp_path, make_registry):
    """A process that may write no byte to a file copies 160 MiB within 32 MiB of memory."""
    tarn = ImageCommands(release_build(program), tmp_path / "home")
    source, target = make_registry(), make_registry(host="127.0.0.3")
    layers = [noise(20 * MIB, seed) for seed in range(8)]
    source.image("big/app", layers, "1")

    def forbid_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    measure = ["/usr/bin/python3", "-c",
               "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:]); "
               "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr); "
               "sys.exit(code)"]
    done = subprocess.run(
        [*measure, tarn.program, "copy", f"{place(source, 'big/app')}:1", place(target), "--config",
         tarn.configuration], capture_output=True, env=tarn.environment, cwd=tarn.folder,
        preexec_fn=forbid_files, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert len(target.repositories["prod/app"].blobs) == 9
    [kibibytes] = re.findall(rb"^(\d+)$", done.stderr, re.M)
    assert int(kibibytes) * KIB <= 32 * MIB, f"{int(kibibytes)} KiB"
