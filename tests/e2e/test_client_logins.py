"""Real clients that log in to tarn: by a password, by a token, by a certificate."""

import base64
import contextlib
import json
import pathlib
import shutil
import tempfile

import pytest

from kit.authority import Authority
from kit.containers import Podman, needs
from kit.issuer import TokenServer
from kit.processes import run
from kit.tarn import TlsTarn, self_signed

# One process builds the images and runs the engines.
pytestmark = pytest.mark.xdist_group("clients")

NAME = "lake.test/lake/app:1"


@pytest.fixture
def lake(start_tarn, images, users):
    """A tarn that alice may read, bob not, and everybody a part."""
    lake = start_tarn(
        [{"host": "lake.test", "url": images.url, "default": True}],
        clients={"htpasswd": str(users), "rules": [
            {"users": ["alice"], "upstream": "lake.test"},
            {"anonymous": True, "repositories": ["lake/platforms"]}]})
    lake.origin = images
    return lake


def refused(said, *words):
    """Whether a client has failed and has told one of these words."""
    text = (said.stdout + said.stderr).lower()
    return said.returncode != 0 and any(word in text for word in words)


# ---- passwords


@needs("skopeo")
def test_skopeo_logs_in(lake, tmp_path):
    auth = tmp_path / "auth.json"

    def copy(name, target, *more):
        return run(["skopeo", "copy", "--quiet", "--src-tls-verify=false", *more,
                    f"docker://{lake.address}/{name}", f"dir:{tmp_path}/{target}"], check=False)

    assert refused(run(["skopeo", "login", "--tls-verify=false", "--authfile", auth, "-u", "alice",
                        "-p", "wrong", lake.address], check=False), "invalid username/password")
    assert refused(copy(NAME, "none"), "unauthorized", "authentication required")
    assert copy("lake/platforms:1", "public", "--override-os", "linux", "--override-arch",
                "amd64").returncode == 0  # anonymous, with an empty user and password
    run(["skopeo", "login", "--tls-verify=false", "--authfile", auth, "-u", "alice", "-p",
         "secret", lake.address])
    assert copy(NAME, "got", "--authfile", auth).returncode == 0
    assert copy(NAME, "again", "--src-creds", "alice:secret").returncode == 0
    assert refused(copy(NAME, "bob", "--src-creds", "bob:secret"), "denied")


@needs("podman")
def test_podman_logs_in(lake, tmp_path):
    podman = Podman(pathlib.Path(tempfile.mkdtemp(prefix="lake-")))
    name, auth = f"{lake.address}/{NAME}", tmp_path / "auth.json"
    try:
        assert refused(podman.podman("pull", "--tls-verify=false", name, check=False),
                       "unauthorized", "authentication required")
        podman.podman("login", "--tls-verify=false", "--authfile", auth, "-u", "alice", "-p",
                      "secret", lake.address)
        podman.podman("pull", "--quiet", "--tls-verify=false", "--authfile", auth, name)
    finally:
        podman.podman("rmi", "--all", "--force", check=False)
        shutil.rmtree(podman.directory, ignore_errors=True)


@needs("dockerd", "docker", "containerd")
def test_docker_logs_in(lake, dockerd, tmp_path):
    name, config = f"{lake.address}/{NAME}", ("--config", tmp_path / "docker")
    assert refused(dockerd.docker("pull", name, check=False), "unauthorized", "no basic auth")
    assert refused(dockerd.docker(*config, "login", "-u", "alice", "-p", "wrong", lake.address,
                                  check=False), "unauthorized")
    dockerd.docker(*config, "login", "-u", "alice", "-p", "secret", lake.address)
    dockerd.docker(*config, "pull", name)
    dockerd.docker("rmi", "--force", name)
    dockerd.docker(*config, "login", "-u", "bob", "-p", "secret", lake.address)
    assert refused(dockerd.docker(*config, "pull", name, check=False), "denied")


@contextlib.contextmanager
def pulled(containerd, *arguments):
    """Pulls an image by ctr, and removes it."""
    containerd.ctr("images", "pull", *arguments)
    yield
    containerd.ctr("images", "remove", "--sync", arguments[-1])
    containerd.ctr("content", "prune", "references", check=False)


def write_hosts(folder, url, more=""):
    folder.mkdir(parents=True)
    (folder / "hosts.toml").write_text(
        f'server = "http://127.0.0.1:9"\n\n[host."{url}"]\n'
        f'  capabilities = ["pull", "resolve"]\n{more}')


@needs("containerd", "ctr")
def test_containerd_logs_in(lake, containerd, tmp_path):
    """By ctr's option, and as a mirror by a field in hosts.toml."""
    name = f"{lake.address}/{NAME}"
    assert refused(containerd.ctr("images", "pull", "--plain-http", name, check=False),
                   "unauthorized", "authorization failed")
    with pulled(containerd, "--plain-http", "--user", "alice:secret", name):
        pass
    assert refused(containerd.ctr("images", "pull", "--plain-http", "--user", "bob:secret", name,
                                  check=False), "denied", "403")
    word = base64.b64encode(b"alice:secret").decode()
    write_hosts(tmp_path / "hosts" / "lake.test", lake.url,
                f'  [host."{lake.url}".header]\n    Authorization = "Basic {word}"\n')
    with pulled(containerd, "--hosts-dir", tmp_path / "hosts", NAME):
        pass
    write_hosts(tmp_path / "public" / "lake.test", lake.url)
    with pulled(containerd, "--hosts-dir", tmp_path / "public", "lake.test/lake/platforms:1"):
        pass


# ---- tokens


@pytest.fixture
def service(tmp_path):
    service = TokenServer(tmp_path, {"alice": "secret"}, public=["lake/platforms"])
    yield service
    service.stop()


@pytest.fixture
def token_lake(start_tarn, images, service):
    return start_tarn([{"host": "lake.test", "url": images.url, "default": True}],
                      clients={"token": service.issuer.settings})


@needs("skopeo")
def test_skopeo_gets_a_token(token_lake, service, tmp_path):
    def copy(name, target, *more):
        return run(["skopeo", "copy", "--quiet", "--src-tls-verify=false", "--override-os",
                    "linux", "--override-arch", "amd64", *more,
                    f"docker://{token_lake.address}/{name}", f"dir:{tmp_path}/{target}"],
                   check=False)

    assert copy("lake/platforms:1", "public").returncode == 0
    assert refused(copy("lake/app:1", "none"), "unauthorized", "authentication required", "denied")
    assert copy("lake/app:1", "got", "--src-creds", "alice:secret").returncode == 0
    assert "repository:lake/app:pull" in service.scopes


@needs("dockerd", "docker", "containerd")
def test_docker_gets_a_token_also_without_a_login(token_lake, dockerd, tmp_path):
    config = ("--config", tmp_path / "docker")
    name = f"{token_lake.address}/lake/app:1"
    dockerd.docker("pull", f"{token_lake.address}/lake/platforms:1")
    assert refused(dockerd.docker("pull", name, check=False), "unauthorized", "denied")
    dockerd.docker(*config, "login", "-u", "alice", "-p", "secret", token_lake.address)
    dockerd.docker(*config, "pull", name)
    dockerd.docker("rmi", "--force", name, f"{token_lake.address}/lake/platforms:1")


@needs("containerd", "ctr")
def test_containerd_gets_a_token(token_lake, containerd, tmp_path):
    name = f"{token_lake.address}/lake/app:1"
    with pulled(containerd, "--plain-http", f"{token_lake.address}/lake/platforms:1"):
        pass
    assert refused(containerd.ctr("images", "pull", "--plain-http", name, check=False),
                   "unauthorized", "insufficient_scope", "authorization failed")
    with pulled(containerd, "--plain-http", "--user", "alice:secret", name):
        pass


# ---- certificates


@pytest.fixture
def tls_lake(program, images, tmp_path):
    """A tarn that only alice's certificate may read; `tls_lake.pair` is hers."""
    certificate, key = self_signed(tmp_path, names="DNS:localhost,IP:127.0.0.1")
    authority = Authority(tmp_path, "authority")
    lake = TlsTarn(program, tmp_path / "tarn", {
        "upstreams": [{"host": "lake.test", "url": images.url, "default": True}],
        "tls": {"certificate": str(certificate), "key": str(key)},
        "clients": {"ca": str(authority.certificate), "rules": [{"users": ["alice"]}]}})
    lake.certificate, lake.pair = certificate, authority.issue("/CN=alice")
    yield lake
    lake.finish()


@pytest.fixture
def certs(tls_lake, tmp_path):
    """A folder as Docker, podman and skopeo want it."""
    folder = tmp_path / "certs.d"
    folder.mkdir()
    for path, name in zip((tls_lake.certificate, *tls_lake.pair),
                          ("ca.crt", "client.cert", "client.key")):
        shutil.copy(path, folder / name)
    return folder


@needs("skopeo")
def test_skopeo_shows_a_certificate(tls_lake, certs, tmp_path):
    def inspect():
        return run(["skopeo", "inspect", "--cert-dir", certs,
                    f"docker://127.0.0.1:{tls_lake.port}/{NAME}"], check=False)

    assert json.loads(inspect().stdout)["RepoTags"] == ["1"]
    for name in ("client.cert", "client.key"):
        (certs / name).unlink()
    assert refused(inspect(), "unauthorized", "authentication required")


@needs("podman")
def test_podman_shows_a_certificate(tls_lake, certs):
    podman = Podman(pathlib.Path(tempfile.mkdtemp(prefix="lake-")))
    try:
        podman.podman("pull", "--quiet", "--cert-dir", certs,
                      f"127.0.0.1:{tls_lake.port}/{NAME}")
    finally:
        podman.podman("rmi", "--all", "--force", check=False)
        shutil.rmtree(podman.directory, ignore_errors=True)


@needs("containerd", "ctr")
def test_containerd_shows_a_certificate(tls_lake, containerd, tmp_path):
    url = f"https://127.0.0.1:{tls_lake.port}"
    certificate, key = tls_lake.pair
    write_hosts(tmp_path / "hosts" / "lake.test", url,
                f'  ca = "{tls_lake.certificate}"\n  client = [["{certificate}", "{key}"]]\n')
    with pulled(containerd, "--hosts-dir", tmp_path / "hosts", NAME):
        pass
    tls_lake.logged("user=alice")
    write_hosts(tmp_path / "without" / "lake.test", url, f'  ca = "{tls_lake.certificate}"\n')
    assert containerd.ctr("images", "pull", "--hosts-dir", tmp_path / "without", NAME,
                          check=False).returncode != 0
