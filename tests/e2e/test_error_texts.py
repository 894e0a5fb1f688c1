"""Who pulls learns which upstream failed and how, and nothing of this machine's files or secrets."""

import json
import re

import pytest

from kit.content import KIB, digest_of, noise

LAYER = noise(KIB)
DIGEST = digest_of(LAYER)
SECRET = "s3cret-of-this-machine"


def program(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def password_file_that_goes_away(folder):
    (folder / "password").write_text(SECRET)
    return {"credentials": {"username": "u", "password_file": str(folder / "password")}}, {}


def docker_config(text):
    def make(folder):
        (folder / "config.json").write_text(text.replace("FOLDER", str(folder)))
        return {"credentials": "docker"}, {"DOCKER_CONFIG": str(folder)}
    return make


def helper(text):
    def make(folder):
        if text:
            program(folder / "docker-credential-mine", text.replace("FOLDER", str(folder)))
        return {"credentials": {"helper": "mine"}}, {"PATH": f"{folder}:/usr/bin:/bin"}
    return make


def helper_of_docker(text):
    def make(folder):
        program(folder / "docker-credential-mine", text.replace("FOLDER", str(folder)))
        (folder / "config.json").write_text(json.dumps({"credsStore": "mine"}))
        return {"credentials": "docker"}, {"DOCKER_CONFIG": str(folder),
                                           "PATH": f"{folder}:/usr/bin:/bin"}
    return make


def google(value):
    def make(folder):
        (folder / "key.json").write_text("{broken")
        return {"credentials": "google"}, {
            "GOOGLE_APPLICATION_CREDENTIALS": value.replace("FOLDER", str(folder))}
    return make


SOURCES = {
    "a password file that goes away": password_file_that_goes_away,
    "config.json is no JSON": docker_config("{broken"),
    "config.json has a bad auth": docker_config(
        json.dumps({"auths": {"fake.test": {"auth": SECRET}}})),
    "config.json has a bad helper": docker_config(
        json.dumps({"credHelpers": {"fake.test": "../FOLDER"}})),
    "no helper": helper(""),
    "a helper that fails": helper(f"echo FOLDER/keys {SECRET} >&2; exit 1"),
    "a helper that prints nonsense": helper(f"echo FOLDER/keys {SECRET}"),
    "Docker's helper fails": helper_of_docker(f"echo FOLDER/keys {SECRET}; exit 1"),
    "no Google key": google("FOLDER/none.json"),
    "a bad Google key": google("FOLDER/key.json"),
    "a Google key in place of its path": google(
        json.dumps({"type": "authorized_user", "refresh_token": SECRET})),
}


def check(reply, folder, status=502):
    """The response names the upstream, and nothing of this machine."""
    text = reply.body.decode()
    assert reply.status == status, reply
    assert "fake.test" in reply.message
    assert str(folder) not in text and SECRET not in text
    assert not re.search(r"/(tmp|etc|root|home|usr|var|run|proc)\b", text), text
    assert SECRET not in str(reply.headers)


@pytest.mark.parametrize("source", SOURCES)
def test_sources_of_credentials(start_tarn, upstream, tmp_path, source):
    folder = tmp_path / "secrets"
    folder.mkdir()
    settings, environment = SOURCES[source](folder)
    upstream.image("org/app", [LAYER], tag="1")
    upstream.basic = ("user", "password")
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True, **settings}],
                      environment=environment)
    (folder / "password").unlink(missing_ok=True)
    check(tarn.manifest("org/app", "1"), folder)
    check(tarn.blob("org/app", DIGEST), folder)
    check(tarn.get("/v2/org/app/tags/list"), folder)
    assert SECRET not in tarn.log() or "helper" in source  # a helper decides what it says


@pytest.mark.parametrize("proxy", [f"http://user:{SECRET}@[::1", f"gopher://user:{SECRET}@10.0.0.1",
                                   f"http://user:{SECRET}@none.invalid:99999",
                                   f"http://user:{SECRET}@none.invalid:1"])
def test_proxies(start_tarn, upstream, tmp_path, proxy):
    tarn = start_tarn([{"host": "fake.test", "url": "http://fake.test", "default": True}],
                      environment={"http_proxy": proxy, "no_proxy": ""})
    check(tarn.manifest("org/app", "1"), tmp_path)
    assert SECRET not in tarn.log()


def test_a_file_of_certificates_that_goes_away(start_tarn, upstream, tmp_path):
    authority = tmp_path / "ca.pem"
    authority.write_text("none")
    tarn = start_tarn([{"host": "fake.test", "url": f"https://127.0.0.1:{upstream.port}",
                        "default": True, "ca": str(authority)}])
    check(tarn.manifest("org/app", "1"), tmp_path)
    authority.unlink()
    check(tarn.blob("org/app", DIGEST), tmp_path)
