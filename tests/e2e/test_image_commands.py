"""tarn digest, manifest, config, tags, referrers, tag and delete: images at their registries."""

import json
import platform

import pytest

from kit.content import (DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, descriptor,
                         digest_of, index, manifest)
from kit.image_commands import tarn
from kit.processes import free_port
from kit.tokens import TokenService
from kit.writable_registry import WritableRegistry
from kit.yaml_text import yaml_text

OWN = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
NAMES = ["copy", "tag", "delete", "digest", "manifest", "config", "tags", "referrers"]


@pytest.fixture
def registry():
    one = WritableRegistry()
    yield one
    one.stop()


@pytest.fixture
def app(registry):
    """HOST/team/app, with an index under `multi` and the image of this machine under `1`."""
    repository = registry.repository("team/app")
    entries = []
    for architecture in (OWN, "s390x"):
        config = json.dumps({"os": "linux", "architecture": architecture}).encode()
        layer = f"a layer for {architecture}".encode()
        for blob in (config, layer):
            repository.add_blob(blob)
        bytes_ = manifest(config, [layer]) + b"\n"
        repository.add_manifest(bytes_, OCI_MANIFEST, "1" if architecture == OWN else None)
        entries.append(descriptor(bytes_, OCI_MANIFEST,
                                  platform={"os": "linux", "architecture": architecture}))
    repository.index = b"  " + index(entries)
    repository.add_manifest(repository.index, OCI_INDEX, "multi")
    repository.reference = f"127.0.0.1:{registry.port}/team/app"
    return repository


# ---- help and usage


@pytest.mark.parametrize("name", NAMES)
def test_each_command_has_its_help_and_a_line_in_the_overview(tarn, name):
    assert tarn.run(name, "--help").out.startswith(f"Usage: tarn {name} ")
    overview = tarn.run("help").out
    assert any(line.split()[:1] == [name] for line in overview.splitlines())


def test_rm_and_delete_name_each_other(tarn):
    assert "tarn delete" in tarn.run("rm", "--help").out
    assert "tarn rm" in tarn.run("delete", "--help").out


@pytest.mark.parametrize("name", ["digest", "manifest", "config", "referrers"])
@pytest.mark.parametrize("wrong", ["alpine", "127.0.0.1:9/UPPER:1", "127.0.0.1:9/a:-x", "oci:",
                                   "127.0.0.1:9/a@sha256:12", "a b/c", "127.0.0.1:9/a:v*"])
def test_what_is_no_reference_fails_with_one_line(tarn, name, wrong):
    done = tarn.fails(name, wrong)
    assert wrong in done.err and done.out == ""


def test_wrong_usage_is_2_and_asks_nobody(tarn, registry, app):
    for arguments in (["digest"], ["digest", "a", "b"], ["manifest", "--platform", "linux", app.reference],
                      ["tag", app.reference], ["tag", app.reference, "fine", "-wrong"],
                      ["tag", app.reference, "other.test/a:b"], ["delete", app.reference],
                      ["tags", "--json", app.reference]):
        done = tarn.run(*arguments, status=2)
        assert done.out == ""
    assert registry.requests == []


# ---- reading


def test_reading_prints_exactly_what_is_there(tarn, registry, app):
    single = app.tags["1"]
    assert tarn.run("digest", f"{app.reference}:multi").out == digest_of(app.index) + "\n"
    assert tarn.run("digest", f"{app.reference}@{single}").out == single + "\n"
    assert tarn.run("manifest", f"{app.reference}:multi").raw == app.index
    assert tarn.run("manifest", f"{app.reference}:multi", "--platform", f"linux/{OWN}").raw == \
        app.manifests[single][0]
    config = json.loads(app.manifests[single][0])["config"]["digest"]
    assert tarn.run("config", f"{app.reference}:multi").raw == app.blobs[config]
    assert tarn.run("config", f"{app.reference}:1").raw == app.blobs[config]
    other = tarn.run("config", f"{app.reference}:multi", "--platform", "linux/s390x").raw
    assert json.loads(other)["architecture"] == "s390x"
    assert not registry.asked(method="PUT") and not registry.asked(method="POST")


def test_a_digest_costs_no_body(tarn, registry, app):
    tarn.run("digest", f"{app.reference}:multi")
    assert [request.method for request in registry.requests] == ["HEAD"]


def test_where_head_is_refused_the_digest_is_found_by_get(tarn, registry, app):
    registry.fault("/manifests/", method="HEAD", status=405)
    assert tarn.run("digest", f"{app.reference}:multi").out == digest_of(app.index) + "\n"


def test_tags_are_all_of_them_over_all_pages(tarn, registry, app):
    registry.page_size = 7
    wanted = {f"v{number}" for number in range(50)} | {"1", "multi"}
    for tag in wanted:
        app.tags[tag] = app.tags["1"]
    assert tarn.run("tags", app.reference).out.split() == sorted(wanted)


def test_a_page_that_is_missing_fails_instead_of_shortening_the_list(tarn, registry, app):
    registry.page_size = 1
    registry.fault("last=", status=404)
    assert tarn.fails("tags", app.reference).out == ""


@pytest.mark.parametrize("api", [True, False])
def test_referrers_by_the_api_or_by_the_fallback_tag(tarn, registry, app, api):
    registry.referrers_api = api
    subject = app.tags["1"]
    entries = [{"mediaType": OCI_MANIFEST, "digest": digest_of(b"1"), "size": 1,
                "artifactType": "application/x.signature"},
               {"mediaType": OCI_MANIFEST, "digest": digest_of(b"2"), "size": 1,
                "artifactType": "application/x.sbom"}]
    app.referrers[subject] = entries
    app.add_manifest(index(entries), OCI_INDEX, subject.replace(":", "-"))
    done = tarn.run("referrers", f"{app.reference}:1")
    assert done.out == "".join(f"{one['digest']}\t{one['artifactType']}\n" for one in entries)
    whole = json.loads(tarn.run("referrers", "--json", f"{app.reference}:1").out)
    assert whole["mediaType"] == OCI_INDEX and whole["manifests"] == entries


def test_no_referrers_is_an_empty_list(tarn, registry, app):
    registry.referrers_api = False
    assert tarn.run("referrers", f"{app.reference}:1").out == ""


def test_a_fault_is_no_empty_list(tarn, registry, app):
    registry.fault("/referrers/", status=429, headers={"Retry-After": "3600"})
    assert tarn.fails("referrers", f"{app.reference}:1").out == ""


# ---- failures


def test_failures_name_host_reference_and_cause(tarn, registry, app):
    host = f"127.0.0.1:{registry.port}"
    for arguments, words in (
            (["digest", f"{app.reference}:none"], ["team/app:none", "404"]),
            (["manifest", f"{app.reference}:none"], ["team/app:none", "404"]),
            (["tags", f"{host}/team/none"], ["team/none", "404"]),
            (["config", f"{app.reference}:multi", "--platform", "linux/386"],
             ["linux/386", f"linux/{OWN}, linux/s390x"])):
        done = tarn.fails(*arguments)
        assert done.out == "" and all(word in done.err for word in [host, *words]), done.err


def test_a_refused_connection_and_an_unknown_host_fail_soon(tarn):
    port = free_port()
    done = tarn.fails("digest", f"127.0.0.1:{port}/a/b:1", seconds=30)
    assert f"127.0.0.1:{port}" in done.err and "a/b:1" in done.err
    assert "refused" in done.err.lower() or "no connection" in done.err.lower(), done.err
    done = tarn.fails("digest", "registry.invalid/a/b:1", seconds=60)
    assert "registry.invalid" in done.err and "no such host" in done.err, done.err


def test_faults_that_pass_are_tried_again(tarn, registry, app):
    registry.fault("/manifests/", method=None, status=503, times=5)
    assert tarn.run("manifest", f"{app.reference}:multi").raw == app.index


def test_a_wrong_body_is_refused(tarn, registry, app):
    registry.fault("/manifests/", flip=3)
    done = tarn.fails("manifest", f"{app.reference}@{app.tags['1']}")
    assert done.out == "" and "digest" in done.err


# ---- whom, and as whom


def test_dockers_credentials_are_used_and_not_shown(tarn, registry, app):
    registry.tokens = TokenService(anonymous=False, users={"robot": "open sesame"})
    tarn.secrets.append("open sesame")
    host = f"127.0.0.1:{registry.port}"
    docker = tarn.folder / ".docker"
    docker.mkdir()
    (docker / "config.json").write_text(json.dumps(
        {"auths": {host: {"username": "robot", "password": "open sesame"}}}))
    assert tarn.run("digest", f"{app.reference}:1").out == app.tags["1"] + "\n"
    registry.tokens.users["robot"] = "another"
    registry.tokens.forget()
    assert host in tarn.fails("digest", f"{app.reference}:1").err


def test_a_configured_host_has_its_url_and_credentials(tarn, registry, app, tmp_path):
    registry.basic = ("robot", "open sesame")
    tarn.secrets.append("open sesame")
    (tmp_path / "secret").write_text("open sesame")
    file = tmp_path / "tarn.yaml"
    file.write_text(yaml_text({"upstreams": [{
        "host": "registry.test", "url": registry.url,
        "credentials": {"username": "robot", "password_file": str(tmp_path / "secret")}}]}))
    assert tarn.run("digest", "registry.test/team/app:1", "--config", file).out == \
        app.tags["1"] + "\n"


@pytest.mark.parametrize("way", ["option", "variable", "key"])
def test_via_asks_everything_through_one_tarn(tarn, registry, app, way):
    """The scripted registry stands for the tarn: it has the repository HOST/NAME."""
    registry.repositories["quay.io/team/app"] = app
    more = []
    if way == "option":
        more = ["--via", registry.url]
    elif way == "variable":
        tarn.environment["TARN_VIA"] = registry.url
    else:
        tarn.configuration.write_text(f"via: {registry.url}\n")
    assert tarn.run("digest", "quay.io/team/app:1", *more).out == app.tags["1"] + "\n"
    assert [request.path for request in registry.requests] == ["/v2/quay.io/team/app/manifests/1"]
    done = tarn.run("digest", "quay.io/team/app:1", "--via", "ftp://x", status=1)
    assert "--via" in done.err


def test_via_uses_the_credentials_of_the_tarns_own_host(tarn, registry, app):
    registry.basic = ("robot", "open sesame")
    registry.repositories["quay.io/team/app"] = app
    tarn.secrets += ["open sesame", "not for the tarn"]
    docker = tarn.folder / ".docker"
    docker.mkdir()
    (docker / "config.json").write_text(json.dumps({"auths": {
        f"127.0.0.1:{registry.port}": {"username": "robot", "password": "open sesame"},
        "quay.io": {"username": "robot", "password": "not for the tarn"}}}))
    assert tarn.run("digest", "quay.io/team/app:1", "--via", registry.url).out == \
        app.tags["1"] + "\n"


# ---- writing


def test_tag_writes_the_manifest_alone(tarn, registry, app):
    done = tarn.run("tag", f"{app.reference}:multi", "a", "b")
    digest = digest_of(app.index)
    assert done.out == f"{app.reference}:a {digest}\n{app.reference}:b {digest}\n"
    assert app.tags["a"] == app.tags["b"] == digest
    assert registry.writes == [("manifest", "a"), ("manifest", "b")]
    assert app.manifests[digest] == (app.index, OCI_INDEX)
    assert not registry.asked("/blobs/")


def test_tag_keeps_the_media_type(tarn, registry, app):
    body = manifest(b"{}", [], DOCKER_MANIFEST)
    app.add_blob(b"{}")
    app.add_manifest(body, DOCKER_MANIFEST, "docker")
    tarn.run("tag", f"{app.reference}:docker", "again")
    assert app.manifests[digest_of(body)] == (body, DOCKER_MANIFEST)


def test_an_immutable_tag_is_told_in_words(tarn, registry, app):
    registry.immutable = True
    done = tarn.fails("tag", f"{app.reference}:multi", "1")
    assert "immutable" in done.err and "another tag" in done.err
    assert app.tags["1"] != digest_of(app.index) and done.out == ""


def test_delete_of_a_tag_leaves_the_image(tarn, registry, app):
    digest = app.tags["1"]
    app.tags["other"] = digest
    assert tarn.run("delete", f"{app.reference}:1").out == f"{app.reference}:1\n"
    assert app.tags.get("1") is None and app.tags["other"] == digest and digest in app.manifests
    tarn.run("delete", f"{app.reference}@{digest}")
    assert digest not in app.manifests and "other" not in app.tags


def test_where_tags_cannot_be_deleted_the_image_stays(tarn, registry, app):
    registry.tag_deletion = False
    digest = app.tags["1"]
    done = tarn.fails("delete", f"{app.reference}:1")
    assert "team/app" in done.err and done.out == ""
    assert app.tags["1"] == digest and digest in app.manifests
    assert [request.target for request in registry.asked(method="DELETE")] == [
        "/v2/team/app/manifests/1"]


def test_one_of_several_that_cannot_be_deleted_does_not_keep_the_others(tarn, registry, app):
    done = tarn.fails("delete", f"{app.reference}:none", f"{app.reference}:1")
    assert done.out == f"{app.reference}:1\n" and "none" in done.err and "1" not in app.tags


def test_configs_of_an_unusual_kind_are_printed_as_they_are(tarn, registry, app):
    blob = b'{"not": "an image"}  \n'
    app.add_blob(blob)
    app.add_manifest(json.dumps({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": descriptor(blob, "application/x"), "layers": []}).encode(), OCI_MANIFEST, "odd")
    assert tarn.run("config", f"{app.reference}:odd").raw == blob
