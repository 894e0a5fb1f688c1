"""A configuration of the CNCF registry: tarn serves it as the real docker-registry does."""

import json
import re

import pytest

from kit.client import fetch
from kit.content import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, digest_of
from kit.processes import Program, accepts, free_port, run, wait_until
from kit.tarn import bare_environment, self_signed, serve_that_fails, tarn_command
from kit.tokens import basic
from kit.yaml_text import yaml_text

ACCEPT = {"Accept": ", ".join([OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST])}
PASSWORD = "correct horse: \"battery\" #staple"


def docker_config(remote, **more):
    """The configuration that the image of the CNCF registry has, with a proxy."""
    return {"version": 0.1,
            "log": {"level": "info", "formatter": "text", "fields": {"service": "registry"}},
            "storage": {"cache": {"blobdescriptor": "inmemory"},
                        "filesystem": {"rootdirectory": "/var/lib/registry"},
                        "delete": {"enabled": True}},
            "http": {"addr": ":5000", "secret": "not for the log",
                     "headers": {"X-Content-Type-Options": ["nosniff"]}},
            "health": {"storagedriver": {"enabled": True, "interval": "10s", "threshold": 3}},
            "proxy": {"remoteurl": remote, **more.pop("proxy", {})},
            **more}


class Server:
    """A registry program that serves a configuration file, at a port and in a folder that the
    environment names."""

    def __init__(self, command, name, file, directory, environment, listen):
        self.environment = environment
        self.port = free_port()
        self.folder = directory / name
        self.folder.mkdir()
        home = directory / "home"
        home.mkdir(exist_ok=True)
        self.process = Program(
            [*command, file], directory / f"{name}.log",
            bare_environment(home, **{
                "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": str(self.folder),
                listen: f"127.0.0.1:{self.port}", **environment}))
        self.process.wait_ready(lambda: accepts(self.port))

    def get(self, path, headers=None, **more):
        return fetch(f"http://127.0.0.1:{self.port}{path}", headers, **more)

    def log(self):
        return self.process.log()


class Both:
    """tarn and the CNCF registry with the same file and the same environment."""

    def __init__(self, tarn, peer):
        self.tarn, self.peer = tarn, peer

    def check(self, path, headers=None, method="GET", fields=(), body=True):
        """Asks both, and compares what they answer; gives tarn's answer."""
        ours = self.tarn.get(path, headers, method=method)
        theirs = self.peer.get(path, headers, method=method)
        assert ours.status == theirs.status, (path, ours, theirs)
        for field in fields:
            assert ours.headers.get(field) == theirs.headers.get(field), (path, field)
        if body and ours.status == 200:
            assert len(ours.body) == len(theirs.body), path
            assert digest_of(ours.body) == digest_of(theirs.body), path
        elif ours.status >= 400:
            codes = [json.loads(one.body)["errors"][0]["code"] for one in (ours, theirs)]
            assert codes[0] == codes[1], (path, ours.body, theirs.body)
        return ours


@pytest.fixture
def start_server(program, tmp_path):
    """Starts tarn, or with `peer` the CNCF registry, with a configuration and an environment."""
    servers = []

    def start(settings, peer=False, environment=None, listen="REGISTRY_HTTP_ADDR"):
        file = tmp_path / f"config-{len(servers)}.yml"
        file.write_text(settings if isinstance(settings, str) else yaml_text(settings))
        command = ["docker-registry", "serve"] if peer else [program, "serve", "--config"]
        servers.append(Server(command, f"server-{len(servers)}", file, tmp_path, environment or {},
                              listen))
        return servers[-1]

    yield start
    for server in servers:
        server.process.stop()
        assert "AddressSanitizer" not in server.log()


@pytest.fixture
def start_both(start_server):
    def start(settings, environment=None):
        """`environment` may be a function, for values that must differ."""
        each = environment if callable(environment) else lambda: environment
        return Both(start_server(settings, environment=each()),
                    start_server(settings, peer=True, environment=each()))
    return start


@pytest.fixture
def htpasswd(tmp_path):
    path = tmp_path / "htpasswd"
    path.write_text(run(["htpasswd", "-nbB", "-C", "4", "alice", "secret"]).stdout)
    return path


def login(password):
    return {"Authorization": basic("alice", password)}


def copy(origin, source, target):
    """Gives an image of the origin another name."""
    run(["skopeo", "copy", "--quiet", "--all", "--src-tls-verify=false", "--dest-tls-verify=false",
         f"docker://{origin.address}/{source}", f"docker://{origin.address}/{target}"])


def test_a_pull_gets_the_same_from_both(images, start_both):
    both = start_both(docker_config(images.url))
    both.check("/v2/", fields=["Docker-Distribution-Api-Version", "X-Content-Type-Options"])
    fields = ["Content-Type", "Docker-Content-Digest", "Content-Length", "ETag"]
    index = both.check("/v2/lake/platforms/manifests/1", ACCEPT, fields=fields)
    children = [entry["digest"] for entry in json.loads(index.body)["manifests"]]
    both.check("/v2/lake/app/manifests/1", ACCEPT, method="HEAD", fields=fields)
    app = json.loads(both.check("/v2/lake/app/manifests/1", ACCEPT, fields=fields).body)
    for child in children:
        both.check(f"/v2/lake/platforms/manifests/{child}", ACCEPT, fields=fields)
    for blob in [app["config"], *app["layers"]]:
        both.check(f"/v2/lake/app/blobs/{blob['digest']}",
                   fields=["Docker-Content-Digest", "Content-Length"])
    tags = both.check("/v2/lake/app/tags/list", body=False)
    ours, its = json.loads(tags.body), json.loads(both.peer.get("/v2/lake/app/tags/list").body)
    # The peer lists them in another order each time.
    assert (ours["name"], sorted(ours["tags"])) == (its["name"], sorted(its["tags"]))


@pytest.mark.parametrize("path", [
    "/v2/lake/nothing/manifests/1", "/v2/lake/app/manifests/nothing",
    "/v2/lake/nothing/tags/list", "/v2/lake/app/blobs/sha256:" + "0" * 64,
])
def test_what_is_unknown_is_unknown_to_both(images, start_both, path):
    start_both(docker_config(images.url)).check(path, ACCEPT)


def test_the_host_that_containerd_names_is_ignored_by_both(images, start_both):
    both = start_both(docker_config(images.url))
    for ns in ("docker.io", "other.example", "127.0.0.1:1", "a/b"):
        reply = both.check(f"/v2/lake/app/manifests/1?ns={ns}", ACCEPT,
                           fields=["OCI-Namespace", "Docker-Content-Digest"])
        assert reply.status == 200


def test_a_login_is_asked_for_by_both(images, start_both, htpasswd):
    both = start_both(docker_config(
        images.url, auth={"htpasswd": {"realm": "basic-realm", "path": str(htpasswd)}}))
    for path in ("/v2/", "/v2/lake/app/manifests/1", "/v2/lake/nothing/manifests/1"):
        asked = both.check(path, ACCEPT, fields=["WWW-Authenticate"])
        assert asked.status == 401
        assert asked["WWW-Authenticate"] == 'Basic realm="basic-realm"'
        assert both.check(path, {**ACCEPT, **login("wrong")}).status == 401
    assert both.check("/v2/lake/app/manifests/1",
                      {**ACCEPT, **login("secret")}).status == 200


def test_a_login_may_come_from_the_environment(images, start_both, htpasswd):
    both = start_both(docker_config(images.url), {
        "REGISTRY_AUTH": "htpasswd", "REGISTRY_AUTH_HTPASSWD_REALM": "Registry Realm",
        "REGISTRY_AUTH_HTPASSWD_PATH": str(htpasswd)})
    assert both.check("/v2/", fields=["WWW-Authenticate"]).status == 401
    assert both.check("/v2/", login("secret")).status == 200


def test_a_tag_that_moves_is_seen_at_once_by_both(images, start_both):
    both = start_both(docker_config(images.url))
    copy(images, "lake/app:1", "lake/moving:1")
    first = both.check("/v2/lake/moving/manifests/1", ACCEPT, fields=["Docker-Content-Digest"])
    copy(images, "lake/platforms:1", "lake/moving:1")
    second = both.check("/v2/lake/moving/manifests/1", ACCEPT, fields=["Docker-Content-Digest"])
    assert first["Docker-Content-Digest"] != second["Docker-Content-Digest"]


def test_a_name_that_appears_is_seen_at_once_by_both(images, start_both):
    both = start_both(docker_config(images.url))
    assert both.check("/v2/lake/later/manifests/1", ACCEPT).status == 404
    copy(images, "lake/app:1", "lake/later:1")
    assert both.check("/v2/lake/later/manifests/1", ACCEPT).status == 200


def test_the_debug_server_is_where_the_peers_is(images, start_both):
    settings = docker_config(images.url)
    ports = iter((free_port(), free_port()))
    both = start_both(settings, lambda: {
        "REGISTRY_HTTP_DEBUG_ADDR": f"127.0.0.1:{next(ports)}",
        "REGISTRY_HTTP_DEBUG_PROMETHEUS_ENABLED": "true"})
    for server in (both.tarn, both.peer):
        debug = f"http://{server.environment['REGISTRY_HTTP_DEBUG_ADDR']}"
        wait_until(lambda debug=debug: accepts(int(debug.rpartition(":")[2])), "the debug server")
        assert fetch(f"{debug}/debug/health").status == 200
        metrics = fetch(f"{debug}/metrics")
        assert metrics.status == 200 and b"# TYPE go_" in metrics.body or b"tarn_" in metrics.body
        assert fetch(f"{debug}/v2/").status == 404
        assert fetch(f"{debug}/v2/lake/app/manifests/1").status == 404


def test_fields_of_responses_are_the_same(images, start_both):
    both = start_both(docker_config(images.url), {
        "REGISTRY_HTTP_HEADERS": "{X-Content-Type-Options: [nosniff], X-Lake: ['deep: \"yes\"'], "
                                 "Access-Control-Allow-Origin: ['*']}"})
    for path in ("/v2/", "/v2/lake/app/manifests/1", "/v2/lake/nothing/manifests/1",
                 "/v2/lake/app/tags/list"):
        both.check(path, ACCEPT, body=False,
                   fields=["X-Lake", "Access-Control-Allow-Origin", "X-Content-Type-Options"])
    app = json.loads(both.tarn.get("/v2/lake/app/manifests/1", ACCEPT).body)
    both.check(f"/v2/lake/app/blobs/{app['config']['digest']}", fields=["X-Lake"])


def test_the_catalog_lists_what_was_pulled_by_its_name_at_the_upstream(images, start_server):
    tarn = start_server(docker_config(images.url))
    for path in ("/v2/lake/platforms/manifests/1", "/v2/lake/app/manifests/1"):
        assert tarn.get(path, ACCEPT).status == 200
    assert json.loads(tarn.get("/v2/_catalog").body) == \
        {"repositories": ["lake/app", "lake/platforms"]}
    page = tarn.get("/v2/_catalog?n=1")
    assert json.loads(page.body) == {"repositories": ["lake/app"]}
    assert json.loads(tarn.get(page["Link"].partition(">")[0][1:]).body) == \
        {"repositories": ["lake/platforms"]}


def test_tls_may_come_from_the_environment(images, start_both, tmp_path):
    certificate, key = self_signed(tmp_path)
    both = start_both(docker_config(images.url), {
        "REGISTRY_HTTP_TLS_CERTIFICATE": str(certificate), "REGISTRY_HTTP_TLS_KEY": str(key),
        "REGISTRY_HTTP_TLS_MINIMUMTLS": "tls1.2"})
    for server in (both.tarn, both.peer):
        copied = tmp_path / f"copy-{server.port}"
        run(["skopeo", "copy", "--quiet", "--src-tls-verify=false",
             f"docker://127.0.0.1:{server.port}/lake/app:1", f"oci:{copied}:1"])
        assert (copied / "index.json").exists()
    old = run(["openssl", "s_client", "-connect", f"127.0.0.1:{both.tarn.port}", "-tls1_1",
               "-cipher", "ALL:@SECLEVEL=0"], check=False)
    assert old.returncode != 0


def handshakes(server):
    """Whether the server takes TLS 1.2, and TLS 1.3."""
    return [run(["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", version],
                check=False).returncode == 0 for version in ("-tls1_2", "-tls1_3")]


@pytest.mark.parametrize("least,wanted", [("tls1.2", [True, True]), ("tls1.3", [False, True])])
def test_the_least_version_of_tls_is_the_same(upstream, start_both, start_server, program, tmp_path,
                                              least, wanted):
    certificate, key = self_signed(tmp_path)
    settings = docker_config(upstream.url)
    both = start_both(settings, {
        "REGISTRY_HTTP_TLS_CERTIFICATE": str(certificate), "REGISTRY_HTTP_TLS_KEY": str(key),
        "REGISTRY_HTTP_TLS_MINIMUMTLS": least})
    assert (handshakes(both.tarn), handshakes(both.peer)) == (wanted, wanted)

    settings["http"]["tls"] = {"certificate": str(certificate), "key": str(key),
                               "minimumtls": least}
    assert handshakes(start_server(settings)) == wanted
    file = tmp_path / "config.yml"
    file.write_text(yaml_text(settings))
    done = tarn_command(program, "convert-config", file, home=tmp_path, check=True)
    assert handshakes(start_server(done.stdout,
                                   environment={"TARN_ROOT": str(tmp_path / "converted")},
                                   listen="TARN_LISTEN")) == wanted


def test_a_file_that_needs_the_environment_passes_the_check(program, tmp_path):
    file = tmp_path / "config.yml"
    file.write_text("version: 0.1\nhttp: {addr: ':5000'}\n")
    done = tarn_command(program, "check-config", file, home=tmp_path)
    assert done.returncode == 1 and "proxy.remoteurl" in done.stderr
    tarn_command(program, "check-config", file, home=tmp_path, check=True,
                 environment={"REGISTRY_PROXY_REMOTEURL": "https://registry-1.docker.io",
                              "TARN_ROOT": ""})


def test_a_prefix_of_paths_is_the_same(images, start_both):
    both = start_both(docker_config(images.url), {"REGISTRY_HTTP_PREFIX": "/my/registry/"})
    assert both.check("/my/registry/v2/").status == 200
    assert both.check("/my/registry/v2/lake/app/manifests/1", ACCEPT).status == 200
    page = both.tarn.get("/my/registry/v2/lake/app/tags/list?n=0")
    link = page.headers.get("Link")
    assert link is None or link.startswith("</my/registry/v2/"), link


def test_the_name_in_host_may_be_asked_for_on_this_machine(images, start_both):
    both = start_both(docker_config(images.url), {"REGISTRY_HTTP_HOST": "https://cache.example"})
    assert both.check("/v2/", {"Host": "cache.example"}).status == 200


def test_the_upstream_may_come_from_the_environment(images, start_both):
    both = start_both({"version": 0.1, "storage": {"filesystem": {}}, "http": {"addr": ":5000"}},
                      {"REGISTRY_PROXY_REMOTEURL": images.url})
    assert both.check("/v2/lake/app/manifests/1", ACCEPT).status == 200
    tarn = both.tarn
    assert any(path.is_file() for path in tarn.folder.rglob("*")), "the cache is elsewhere"


def test_a_whole_section_may_come_from_the_environment(images, start_both):
    both = start_both({"version": 0.1, "storage": "filesystem", "http": {"addr": ":5000"}},
                      {"REGISTRY_PROXY": f"{{remoteurl: '{images.url}'}}"})
    assert both.check("/v2/lake/app/manifests/1", ACCEPT).status == 200


def test_each_key_that_is_not_used_is_logged_once(images, start_server):
    tarn = start_server(docker_config(images.url), environment={"REGISTRY_FOO_BAR": "1"})
    for key in ("log.fields", "storage.cache", "storage.delete", "http.secret",
                "health", "REGISTRY_FOO_BAR"):
        lines = wait_until(lambda key=key: [line for line in tarn.log().splitlines()
                                            if re.search(rf"{re.escape(key)}\b.*ignored", line)],
                           f"a line about {key}")
        assert len(lines) == 1, lines
    assert "not for the log" not in tarn.log()


def command_lines():
    """What `ps` shows of all processes."""
    return run(["ps", "-eo", "args"]).stdout


def test_the_password_goes_to_upstream_and_nowhere_else(upstream, start_server):
    digest = upstream.image("org/app", [b"layer"], tag="1")
    upstream.basic = ("me", PASSWORD)
    tarn = start_server(docker_config(
        upstream.url, proxy={"username": "me", "password": PASSWORD}, log={"level": "debug"}))
    assert tarn.get(f"/v2/org/app/manifests/{digest}", ACCEPT).status == 200
    assert PASSWORD not in tarn.log()
    assert PASSWORD not in command_lines()


def test_a_program_may_have_the_password(upstream, start_server, tmp_path):
    digest = upstream.image("org/app", [b"layer"], tag="1")
    upstream.basic = ("me", PASSWORD)
    helper = tmp_path / "my-helper"
    answer = json.dumps({"ServerURL": "x", "Username": "me", "Secret": PASSWORD})
    helper.write_text(f"#!/bin/sh\n[ \"$1\" = get ] || exit 1\ncat > {tmp_path}/asked\n"
                      f"cat <<'EOF'\n{answer}\nEOF\n")
    helper.chmod(0o755)
    tarn = start_server(docker_config(
        upstream.url, proxy={"exec": {"command": str(helper), "lifetime": "1h"}}))
    assert tarn.get(f"/v2/org/app/manifests/{digest}", ACCEPT).status == 200
    assert (tmp_path / "asked").read_text() == upstream.url.removeprefix("http://")


def test_the_converted_file_serves_the_same(upstream, program, start_server, tmp_path):
    digest = upstream.image("org/app", [b"layer"], tag="1")
    upstream.basic = ("me", PASSWORD)
    file = tmp_path / "config.yml"
    file.write_text(yaml_text(docker_config(
        upstream.url, proxy={"username": "me", "password": PASSWORD, "ttl": "90m"})))
    done = tarn_command(program, "convert-config", file, home=tmp_path, check=True)
    assert PASSWORD not in done.stdout + done.stderr
    assert "ignored" in done.stderr
    password = tmp_path / "config.yml.password"
    assert str(password) in done.stdout
    assert password.read_text() == PASSWORD + "\n"
    assert password.stat().st_mode & 0o777 == 0o600
    again = tarn_command(program, "convert-config", file, home=tmp_path, check=True)
    assert again.stdout == done.stdout

    converted = tmp_path / "tarn.yaml"
    converted.write_text(done.stdout)
    tarn_command(program, "check-config", converted, home=tmp_path, check=True)
    tarn = start_server(done.stdout, environment={"TARN_ROOT": str(tmp_path / "converted")},
                        listen="TARN_LISTEN")
    reply = tarn.get("/v2/org/app/manifests/1?ns=docker.io", ACCEPT)
    assert (reply.status, reply["Docker-Content-Digest"]) == (200, digest)


def test_a_file_that_is_in_the_way_of_the_password_stays(program, tmp_path):
    file = tmp_path / "config.yml"
    file.write_text(yaml_text(docker_config("http://a.example",
                                            proxy={"username": "me", "password": PASSWORD})))
    (tmp_path / "config.yml.password").write_text("another\n")
    done = tarn_command(program, "convert-config", file, home=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "config.yml.password" in done.stderr and "--password-file" in done.stderr
    assert PASSWORD not in done.stderr
    assert (tmp_path / "config.yml.password").read_text() == "another\n"
    other = tmp_path / "other"
    done = tarn_command(program, "convert-config", "--password-file", other, file, home=tmp_path,
                        check=True)
    assert other.read_text() == PASSWORD + "\n" and f"password_file: {other}" in done.stdout


def test_a_registry_of_its_own_is_refused(program, tmp_path):
    file = tmp_path / "config.yml"
    file.write_text("version: 0.1\nstorage: {filesystem: {rootdirectory: /x}}\n"
                    "http: {addr: ':5000'}\n")
    done = serve_that_fails(program, "--config", file, home=tmp_path)
    assert done.returncode == 1
    assert "config.yml:1: proxy.remoteurl: is missing" in done.stderr
    done = tarn_command(program, "convert-config", file, home=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")


def test_variables_of_the_registry_are_read_only_with_its_file(upstream, start_tarn):
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}],
                      environment={"REGISTRY_HTTP_ADDR": "127.0.0.1:1", "REGISTRY_FOO": "1"})
    assert tarn.get("/v2/").status == 200
    assert "REGISTRY_" not in tarn.log()
