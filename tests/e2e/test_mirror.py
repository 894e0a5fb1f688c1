"""tarn mirror: the files of a node, and the real clients that read them, with tarn up and down."""

import json
import os
import pathlib
import shutil
import stat
import tempfile
import tomllib

import pytest

from kit.client import fetch
from kit.containers import Dockerd, environment, needs
from kit.processes import Program, free_port, run, wait_until
from kit.tarn import TlsTarn, bare_environment, tarn_command

# One process builds the images and runs the engines.
pytestmark = pytest.mark.xdist_group("clients")

URL = "http://127.0.0.1:5000"
HOSTS = pathlib.Path("etc/containerd/certs.d")
CONF = pathlib.Path("etc/containers/registries.conf.d/tarn.conf")
DAEMON = pathlib.Path("etc/docker/daemon.json")
CONFIG = """upstreams:
  - host: docker.io
    default: true
  - host: ghcr.io
  - host: "*.pkg.dev"
"""


@pytest.fixture
def node(tmp_path):
    folder = tmp_path / "node"
    folder.mkdir()
    return folder


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "mirror.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def mirror(program, node, config, tmp_path):
    """Runs `tarn mirror VERB …` on the node: mirror("install", code=0)."""
    def call(verb, *more, url=URL, code=0, variables=None, config=config):
        options = ["--config", config, "--destdir", node, *(["--url", url] if url else []), *more]
        done = tarn_command(program, "mirror", verb, *options, home=tmp_path,
                            environment=variables)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done
    return call


def tree(folder):
    """What is below the folder: mode, and the content of files or the target of links."""
    found = {}
    for path in sorted(folder.rglob("*")):
        mode = stat.S_IMODE(path.lstat().st_mode)
        if path.is_symlink():
            found[str(path.relative_to(folder))] = os.readlink(path)
        else:
            found[str(path.relative_to(folder))] = (mode, path.read_bytes() if path.is_file()
                                                    else None)
    return found


def is_as(node, expected):
    """Whether the tree is like that; false while files come and go."""
    try:
        return tree(node) == expected
    except OSError:
        return False


def put(node, path, text, mode=0o644):
    file = node / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(mode)
    return file


# ---- the files


def test_each_engine_gets_its_file(mirror, node):
    mirror("install", "--dial-timeout", "1500ms")
    assert (node / HOSTS / "docker.io/hosts.toml").read_text().endswith(
        'server = "https://registry-1.docker.io"\n\n[host."http://127.0.0.1:5000"]\n'
        '  capabilities = ["pull", "resolve"]\n  dial_timeout = "1500ms"\n')
    assert 'server = "https://ghcr.io"\n' in (node / HOSTS / "ghcr.io/hosts.toml").read_text()
    default = (node / HOSTS / "_default/hosts.toml").read_text()
    assert "server" not in default and '[host."http://127.0.0.1:5000"]' in default
    assert sorted(os.listdir(node / HOSTS)) == ["_default", "docker.io", "ghcr.io"]
    assert (node / CONF).read_text().endswith(
        '[[registry]]\nprefix = "docker.io"\nlocation = "docker.io"\n[[registry.mirror]]\n'
        'location = "127.0.0.1:5000/docker.io"\ninsecure = true\n\n'
        '[[registry]]\nprefix = "ghcr.io"\nlocation = "ghcr.io"\n[[registry.mirror]]\n'
        'location = "127.0.0.1:5000/ghcr.io"\ninsecure = true\n')
    assert json.loads((node / DAEMON).read_text()) == {"registry-mirrors": [URL]}


def test_https_needs_no_insecure_and_names_its_authorities(mirror, node):
    put(node, "etc/ssl/lake.pem", "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n")
    before = tree(node)
    url = "https://tarn.example:5443"
    mirror("install", "--ca", "/etc/ssl/lake.pem", url=url)
    assert "insecure" not in (node / CONF).read_text()
    assert json.loads((node / DAEMON).read_text()) == {"registry-mirrors": [url]}
    assert '  ca = "/etc/ssl/lake.pem"\n' in (node / HOSTS / "ghcr.io/hosts.toml").read_text()
    for folder in ("etc/docker", "etc/containers"):
        copy = node / folder / "certs.d/tarn.example:5443/ca.crt"
        assert copy.read_text().endswith((node / "etc/ssl/lake.pem").read_text())
    mirror("remove", "--ca", "/etc/ssl/lake.pem", url=url)
    assert tree(node) == before


def test_http_on_another_machine_is_insecure_for_docker(mirror, node):
    mirror("install", url="http://10.0.0.1:5000")
    assert json.loads((node / DAEMON).read_text()) == {
        "registry-mirrors": ["http://10.0.0.1:5000"], "insecure-registries": ["10.0.0.1:5000"]}


def test_only_the_engines_and_registries_that_are_asked_for(mirror, node):
    mirror("install", "--for", "containerd", "--registry", "ghcr.io,registry.example:5000")
    assert sorted(os.listdir(node / "etc")) == ["containerd"]
    assert sorted(os.listdir(node / HOSTS)) == ["ghcr.io", "registry.example:5000"]
    mirror("install", "--for", "containerd", "--registry", "*.pkg.dev")
    assert sorted(os.listdir(node / HOSTS)) == ["_default"]
    said = mirror("install", "--for", "docker", "--registry", "ghcr.io", code=1).stderr
    assert "docker.io only" in said


def test_certs_dir(mirror, node):
    mirror("install", "--for", "containerd", "--certs-dir", "/etc/containerd/hosts.d")
    assert (node / "etc/containerd/hosts.d/ghcr.io/hosts.toml").exists()
    mirror("remove", "--for", "containerd", "--certs-dir", "/etc/containerd/hosts.d")
    assert tree(node) == {}


def test_docker_is_left_out_when_docker_hub_is_not_the_default(mirror, node, tmp_path):
    config = tmp_path / "other.yaml"
    config.write_text("upstreams:\n  - host: ghcr.io\n    default: true\n  - host: docker.io\n")
    assert "default upstream" in mirror("install", config=config).stderr
    assert not (node / DAEMON).exists()


def test_an_upstream_elsewhere_is_the_fallback(mirror, node, tmp_path):
    config = tmp_path / "other.yaml"
    config.write_text("upstreams:\n  - {host: a.example, url: 'http://10.1.1.1:80'}\n"
                      "  - {host: b.example, url: 'https://harbor.example', prefix: hub}\n"
                      "  - {host: c.example, url: 'https://harbor.example/v2/quay'}\n")
    mirror("install", config=config)
    content = {host: (node / HOSTS / host / "hosts.toml").read_text()
               for host in ("a.example", "b.example", "c.example")}
    assert 'server = "http://10.1.1.1:80"\n\n' in content["a.example"]
    assert ('server = "https://harbor.example/v2/hub"\noverride_path = true\n'
            in content["b.example"])
    assert ('server = "https://harbor.example/v2/quay"\noverride_path = true\n'
            in content["c.example"])
    conf = (node / CONF).read_text()
    assert 'prefix = "a.example"\nlocation = "10.1.1.1"\ninsecure = true\n' in conf
    assert 'prefix = "b.example"\nlocation = "harbor.example/hub"\n[[registry.mirror]]' in conf
    assert 'prefix = "c.example"\nlocation = "harbor.example/quay"\n[[registry.mirror]]' in conf


# ---- again, and away


def test_a_second_run_writes_nothing(mirror, node):
    mirror("install")
    times = {path: path.stat().st_mtime_ns for path in node.rglob("*")}
    again = mirror("install", "--json")
    assert {json.loads(line)["action"] for line in again.stdout.splitlines()} == {"keep"}
    assert {path: path.stat().st_mtime_ns for path in node.rglob("*")} == times
    mirror("remove")
    assert mirror("remove").stdout == ""


NODES = {
    "nothing": {},
    "an empty folder": {"etc/containerd/certs.d": None, "etc/docker": None},
    "other registries": {"etc/containerd/certs.d/quay.io/hosts.toml": "# mine\n"},
    "an empty object": {"etc/docker/daemon.json": "{}"},
    "other keys": {"etc/docker/daemon.json":
                   '{\n\t"debug" : true,\n\n\t"data-root":"/x"\n}\n\n'},
    "one line": {"etc/docker/daemon.json": '{"debug":true}'},
    "another mirror": {"etc/docker/daemon.json":
                       '{"registry-mirrors": [\n  "https://a.example"\n]}\n'},
    "the same mirror": {"etc/docker/daemon.json": '{"registry-mirrors":["' + URL + '/"]}'},
    "an empty list": {"etc/docker/daemon.json": '{\r\n "registry-mirrors": [ ]\r\n}\r\n'},
    "other drop-ins": {"etc/containers/registries.conf.d/a.conf": "# mine\n"},
}


@pytest.mark.parametrize("files", NODES.values(), ids=NODES.keys())
def test_remove_leaves_the_tree_as_it_was(mirror, node, files):
    for path, text in files.items():
        if text is None:
            (node / path).mkdir(parents=True, mode=0o750)
        else:
            put(node, path, text, 0o640)
    before = tree(node)
    mirror("install")
    assert json.loads((node / DAEMON).read_text())["registry-mirrors"][0].startswith(URL)
    if (node / DAEMON).exists() and DAEMON in map(pathlib.Path, files):
        assert stat.S_IMODE((node / DAEMON).stat().st_mode) == 0o640
    mirror("install", "--registry", "ghcr.io,docker.io")
    mirror("remove")
    assert tree(node) == before


def test_another_url_replaces_the_first(mirror, node):
    put(node, DAEMON, '{"debug": true}')
    before = tree(node)
    mirror("install")
    mirror("install", url="http://127.0.0.2:5000")
    assert json.loads((node / DAEMON).read_text())["registry-mirrors"] == ["http://127.0.0.2:5000"]
    for path in node.rglob("*.toml"):
        assert URL not in path.read_text()
    mirror("remove")  # of the first, of which nothing is left
    assert (node / CONF).exists()
    mirror("remove", url=None)
    assert tree(node) == before


def test_remove_of_one_registry_leaves_the_others(mirror, node):
    mirror("install")
    mirror("remove", "--registry", "ghcr.io")
    assert sorted(os.listdir(node / HOSTS)) == ["_default", "docker.io"]
    assert "ghcr.io" not in (node / CONF).read_text() and "docker.io" in (node / CONF).read_text()
    assert (node / DAEMON).exists()
    mirror("remove", "--registry", "docker.io")
    assert not (node / CONF).exists() and not (node / DAEMON).exists()
    mirror("remove")
    assert tree(node) == {}


def test_engines_can_be_removed_one_by_one(mirror, node):
    for engine in ("containerd", "docker", "containers"):
        mirror("install", "--for", engine)
    for engine in ("containerd", "docker", "containers"):
        mirror("remove", "--for", engine)
    assert tree(node) == {}


def test_a_change_by_somebody_else_stays(mirror, node):
    put(node, DAEMON, '{"debug": true}\n')
    mirror("install", url="http://10.0.0.1:5000")
    settings = json.loads((node / DAEMON).read_text())
    settings["registry-mirrors"].append("https://b.example")
    settings["data-root"] = "/x"
    (node / DAEMON).write_text(json.dumps(settings, indent=4))
    mirror("install", url="http://10.0.0.1:5000")
    mirror("remove", url="http://10.0.0.1:5000")
    assert json.loads((node / DAEMON).read_text()) == {
        "debug": True, "data-root": "/x", "registry-mirrors": ["https://b.example"]}
    assert os.listdir(node / "etc/docker") == ["daemon.json"]


# ---- what is somebody else's


@pytest.mark.parametrize("path,text", [
    (HOSTS / "ghcr.io/hosts.toml", 'server = "https://ghcr.io"\n'),
    (HOSTS / "_default/hosts.toml", ""),
    (HOSTS / "ghcr.io/ca.crt", "-----BEGIN CERTIFICATE-----\n"),
    (CONF, "[[registry]]\n"),
    (DAEMON, "{not json"),
    (DAEMON, "[]"),
    (DAEMON, '{"registry-mirrors": "https://a.example"}'),
    (DAEMON, '{"debug": true, "debug": false}'),
])
def test_a_file_of_somebody_else_is_never_changed(mirror, node, path, text):
    put(node, path, text)
    before = tree(node)
    done = mirror("install", code=1)
    assert str(path.parent) in done.stderr and "nothing was changed" in done.stderr
    assert tree(node) == before
    mirror("remove")
    assert tree(node) == before


def test_a_link_in_place_of_a_file_is_never_changed(mirror, node, tmp_path):
    outside = put(tmp_path, "outside", "mine\n")
    for number, target in enumerate((outside, "/nowhere")):
        path = node / HOSTS / ("ghcr.io" if number else "docker.io") / "hosts.toml"
        path.parent.mkdir(parents=True)
        path.symlink_to(target)
    before = tree(node)
    mirror("install", code=1)
    assert tree(node) == before and outside.read_text() == "mine\n"


def test_an_edited_file_is_neither_replaced_nor_deleted(mirror, node):
    mirror("install")
    file = node / HOSTS / "ghcr.io/hosts.toml"
    file.write_text(file.read_text() + "# mine\n")
    edited = file.read_text()
    assert "edited" in mirror("install", url="http://127.0.0.2:5000", code=1).stderr
    assert "edited" in mirror("remove", code=1).stderr
    assert [path for path in node.rglob("*") if path.is_file()] == [file]
    assert file.read_text() == edited


def test_a_folder_for_host_and_port_that_is_there_is_used(mirror, node):
    for name in ("a.example:5000", "b.example_5000_"):
        (node / HOSTS / name).mkdir(parents=True)
    before = tree(node)
    mirror("install", "--registry", "a.example:5000,b.example:5000")
    assert sorted(os.listdir(node / HOSTS)) == ["a.example:5000", "b.example_5000_"]
    assert (node / HOSTS / "b.example_5000_/hosts.toml").exists()
    mirror("remove")
    assert tree(node) == before


def test_links_do_not_lead_out_of_the_node(mirror, node, tmp_path):
    """An absolute link on the node means a place on the node, and .. ends at its root."""
    (tmp_path / "data").mkdir()
    (node / "data").mkdir()
    (node / "etc/containerd").mkdir(parents=True)
    (node / HOSTS).symlink_to("/data")
    (node / "etc/docker").symlink_to("../../../../data/docker")
    (node / "data/docker").mkdir()
    put(node, "data/real.json", "{}")
    (node / "data/docker/daemon.json").symlink_to("../real.json")
    before = tree(node)
    mirror("install")
    assert (node / "data/ghcr.io/hosts.toml").exists()
    assert (node / "data/docker/daemon.json").is_symlink()
    assert URL in (node / "data/real.json").read_text()
    assert os.listdir(tmp_path / "data") == []
    mirror("remove")
    assert tree(node) == before


# ---- the command line


@pytest.mark.parametrize("arguments,reason", [
    (["install"], "--url is missing"),
    (["watch"], "--url is missing"),
    ([], "is missing"),
    (["put", "--url", URL], "none of install, remove, watch"),
    (["install", "--url", "127.0.0.1:5000"], "no http or https URL"),
    (["install", "--url", "ftp://a"], "no http or https URL"),
    (["install", "--url", URL + "/v2"], "path"),
    (["install", "--url", "http://a:b@c:5000"], "user"),
    (["install", "--url", URL, "--for", "podman"], "containers"),
    (["install", "--url", URL, "--registry", "a/b"], "neither a host nor *"),
    (["install", "--url", URL, "--registry", ".."], "neither a host nor *"),
    (["install", "--url", URL, "--certs-dir", "etc"], "--certs-dir"),
    (["install", "--url", URL, "--certs-dir", "/etc/../x"], "--certs-dir"),
    (["install", "--url", URL, "--dial-timeout", "soon"], "--dial-timeout"),
    (["install", "--url", URL, "--ca", "/ca.pem"], "--ca"),
    (["install", "--url", URL, "--listen", ":1"], "--listen"),
    (["install", "--url", URL, "--every", "1s"], "--every"),
    (["install", "--url", URL, "--after", "2"], "--after"),
    (["watch", "--url", URL, "--every", "1ms"], "--every"),
    (["watch", "--url", URL, "--every", "1h"], "--every"),
    (["install", "--url", URL, "--containerd-config", "etc"], "--containerd-config"),
    (["watch", "--url", URL, "--dry-run"], "--dry-run"),
    (["install", "--url", URL, "more"], "unexpected"),
])
def test_bad_usage(program, tmp_path, arguments, reason):
    done = tarn_command(program, "mirror", *arguments, home=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("tarn mirror: ") and reason in done.stderr


def test_failures_exit_with_1(mirror, node, tmp_path):
    assert "no/such" in mirror("install", "--destdir", tmp_path / "no/such", code=1).stderr
    assert "no-such.yaml" in mirror("install", config=tmp_path / "no-such.yaml", code=1).stderr
    put(node, "etc/containerd", "a file where a folder must be")
    assert "etc/containerd" in mirror("install", "--for", "containerd", code=1).stderr


def test_options_come_from_the_environment(mirror, node):
    variables = {"TARN_MIRROR_URL": URL, "TARN_MIRROR_FOR": "containerd,containers",
                 "TARN_MIRROR_REGISTRY": "ghcr.io", "TARN_MIRROR_DIAL_TIMEOUT": "2s",
                 "TARN_MIRROR_CERTS_DIR": "/certs", "TARN_MIRROR_JSON": "true"}
    done = mirror("install", url=None, variables=variables)
    assert [json.loads(line)["for"] for line in done.stdout.splitlines()] == ["containerd",
                                                                            "containers"]
    assert 'dial_timeout = "2s"' in (node / "certs/ghcr.io/hosts.toml").read_text()
    assert sorted(os.listdir(node / "etc")) == ["containers"]
    done = mirror("install", url=None, code=2, variables={"TARN_MIRROR_URL": URL,
                                                          "TARN_MIRROR_DRY_RUN": "perhaps"})
    assert "TARN_MIRROR_DRY_RUN" in done.stderr


def test_a_dry_run_changes_nothing(mirror, node):
    lines = mirror("install", "--dry-run", "--json").stdout.splitlines()
    assert tree(node) == {}
    planned = {json.loads(line)["file"]: json.loads(line)["content"] for line in lines}
    mirror("install")
    assert {str(path): path.read_text() for path in node.rglob("*") if path.is_file()} == planned
    before = tree(node)
    mirror("remove", "--dry-run")
    assert tree(node) == before


@pytest.mark.parametrize("text,said", [
    (None, ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images"]),
    ("version = 2\n", ["io.containerd.grpc.v1.cri"]),
    ("version = 3\n", ["io.containerd.cri.v1.images"]),
    ('version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\n'
     '  config_path = "/etc/other"\n', ["io.containerd.grpc.v1.cri"]),
    ('version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\n'
     '  config_path = "/etc/containerd/certs.d" # x\n', []),
    ("version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\n"
     "config_path = '/etc/containerd/certs.d:/etc/docker/certs.d'\n", []),
])
def test_it_says_what_containerd_needs(mirror, node, text, said):
    if text is not None:
        put(node, "etc/containerd/config.toml", text)
    stderr = mirror("install", "--for", "containerd").stderr
    for table in ("io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images"):
        assert (f'[plugins."{table}".registry]' in stderr) == (table in said)
    if text is not None:
        assert (node / "etc/containerd/config.toml").read_text() == text


OLD = '[plugins."io.containerd.grpc.v1.cri".registry]\n'
NAMED = '  config_path = "/etc/containerd/certs.d"\n'


@needs("containerd")
@pytest.mark.parametrize("files", [
    {"config.toml": ""},
    {"config.toml": "version = 2\n" + OLD + NAMED},
    {"config.toml": 'version = 2\nplugins."io.containerd.grpc.v1.cri".registry = '
                    "{ config_path = '/etc/containerd/certs.d' }\n"},
    {"config.toml": "version = 1\n[plugins.cri.registry]\n" + NAMED},
    {"config.toml": "version = 2\nimports = ['conf.d/a.toml']\n",
     "conf.d/a.toml": "version = 2\n" + OLD + NAMED},
    {"config.toml": "version = 2\nimports = ['b.toml', 'a.toml']\n",
     "a.toml": "version = 2\n" + OLD + NAMED,
     "b.toml": "version = 2\n" + OLD + "  config_path = '/other'\n"},
    {"config.toml": "version = 2\nimports = ['a.toml']\n" + OLD + NAMED,
     "a.toml": 'version = 2\n[plugins."io.containerd.grpc.v1.cri"]\n  sandbox_image = "x"\n'},
    {"config.toml": "version = 2\nimports = ['a.toml']\n" + OLD + NAMED,
     "a.toml": "version = 2\n" + OLD + "  config_path = ''\n"},
], ids=range(8))
def test_containerd_and_tarn_read_its_configuration_alike(mirror, node, files):
    for path, text in files.items():
        put(node, pathlib.Path("etc/containerd") / path, text)
    dump = run(["containerd", "--config", node / "etc/containerd/config.toml", "config",
                "dump"]).stdout
    plugins = tomllib.loads(dump)["plugins"]
    is_read = plugins["io.containerd.grpc.v1.cri"]["registry"]["config_path"] == f"/{HOSTS}"
    assert ("config.toml" not in mirror("install", "--for", "containerd").stderr) == is_read


# ---- real clients


@pytest.fixture
def lake(start_tarn, images):
    """A tarn that knows the real registry as lake.test and as Docker Hub, and a pattern."""
    lake = start_tarn([{"host": "lake.test", "url": images.url, "tag_ttl": "0"},
                       {"host": "docker.io", "url": images.url, "default": True},
                       {"host": "*.pattern.test"}])
    lake.origin = images
    return lake


def agents(origin, mark):
    """The programs that asked the registry for blobs since `mark`: the last word of its log lines."""
    return {line.rpartition(' "')[2].partition("/")[0] for line in origin.blob_requests(mark)}


@needs("containerd", "ctr")
def test_containerd_pulls_with_tarn_up_and_down(lake, containerd, mirror, node):
    mirror("install", "--for", "containerd", "--dial-timeout", "1s", url=lake.url,
           config=lake.config_path)

    def pull(name="lake.test/lake/app:1"):
        containerd.ctr("images", "pull", "--hosts-dir", node / HOSTS, "--all-platforms", name)
        containerd.ctr("images", "remove", "--sync", name)
        containerd.ctr("content", "prune", "references", check=False)

    mark = len(lake.origin.log())
    pull()
    assert agents(lake.origin, mark) == {"tarn"}
    # A registry that tarn does not know: _default sends containerd to tarn, and from there to the
    # registry itself.
    pull(f"{lake.origin.url.removeprefix('http://')}/lake/app:1")
    lake.logged("404")
    failed = containerd.ctr("images", "pull", "--hosts-dir", node / HOSTS, "x.pattern.test/a:1",
                            check=False)
    assert failed.returncode != 0
    lake.logged("x.pattern.test")

    lake.stop()
    mark = len(lake.origin.log())
    pull()
    assert agents(lake.origin, mark) == {"containerd"}
    lake.start()
    mirror("remove", "--for", "containerd", url=lake.url)
    assert tree(node) == {}


def copies(home, destination, name="lake.test/lake/app:1"):
    run(["skopeo", "copy", "--quiet", "--src-tls-verify=false", "--preserve-digests",
         f"docker://{name}", f"oci:{destination}:1"], environment=environment(home))


@needs("skopeo")
def test_skopeo_copies_with_tarn_up_and_down(lake, mirror, node, tmp_path):
    """skopeo reads ~/.config/containers/registries.conf.d as podman and CRI-O read /etc/containers."""
    home = tmp_path / "home"
    (home / ".config").mkdir(parents=True)
    (home / ".config/containers").symlink_to(node / "etc/containers")
    mirror("install", "--for", "containers", url=lake.url, config=lake.config_path)
    copies(home, tmp_path / "up")
    lake.logged("lake/app")
    lake.stop()
    copies(home, tmp_path / "down")
    lake.start()
    up, down = ((tmp_path / name / "index.json").read_text() for name in ("up", "down"))
    assert json.loads(up)["manifests"][0]["digest"] == json.loads(down)["manifests"][0]["digest"]


@needs("podman")
def test_podman_pulls_with_tarn_up_and_down(lake, mirror, node):
    home = pathlib.Path(tempfile.mkdtemp(prefix="lake-"))
    (home / ".config").mkdir()
    (home / ".config/containers").symlink_to(node / "etc/containers")
    mirror("install", "--for", "containers", url=lake.url, config=lake.config_path)

    def podman(*arguments):
        return run(["podman", "--root", home / "root", "--runroot", home / "run", "--tmpdir",
                    home / "tmp", "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs",
                    "--events-backend", "file", *arguments], environment=environment(home))

    try:
        podman("pull", "--quiet", "lake.test/lake/app:1")
        lake.logged("lake/app")
        podman("rmi", "lake.test/lake/app:1")
        lake.stop()
        podman("pull", "--quiet", "lake.test/lake/app:1")
        lake.start()
    finally:
        podman("rmi", "--all", "--force")
        shutil.rmtree(home, ignore_errors=True)


@needs("dockerd", "docker", "containerd", "runc")
def test_docker_pulls_with_tarn_up_and_goes_on_without_it(lake, containerd, mirror, node,
                                                          tmp_path_factory):
    put(node, DAEMON, '{"debug": false}')
    mirror("install", "--for", "docker", url=lake.url, config=lake.config_path)
    daemon = Dockerd(tmp_path_factory.mktemp("m") / "d", containerd, [], node / DAEMON)
    try:
        said = daemon.docker("pull", "lake/app:1").stdout
        assert lake.origin.manifest("lake/app", "1")["Docker-Content-Digest"] in said
        lake.logged("lake/app")
        daemon.docker("rmi", "--force", "lake/app:1")
        lake.stop()
        # There is no Docker Hub here, but it is where Docker goes on.
        assert "registry-1.docker.io" in daemon.docker("pull", "lake/app:1", check=False).stderr
        lake.start()
    finally:
        daemon.stop()


# ---- the watch


class Watch:
    """A `tarn mirror watch` of the test."""

    def __init__(self, program, node, config, url, directory, options):
        self.port = free_port()
        self.process = Program(
            [program, "mirror", "watch", "--url", url, "--config", config, "--destdir", node,
             "--listen", f"127.0.0.1:{self.port}", *options],
            directory / f"watch-{self.port}.log", bare_environment(directory), directory)

    def get(self, path):
        return fetch(f"http://127.0.0.1:{self.port}{path}")

    def status(self, path):
        try:
            return self.get(path).status
        except OSError:
            return 0

    def metric(self, name):
        for line in self.get("/metrics").body.decode().splitlines():
            if line.startswith(name + " "):
                return float(line.rpartition(" ")[2])
        return None


@pytest.fixture
def start_watch(program, node, tmp_path):
    started = []

    def start(lake, *options, url=None):
        started.append(Watch(program, node, lake.config_path, url or lake.url, tmp_path, options))
        return started[-1]

    yield start
    for watch in started:
        watch.process.stop()


@pytest.mark.slow
def test_the_watch_takes_the_mirror_out_while_tarn_is_down(lake, start_watch, node):
    hosts = node / HOSTS / "lake.test/hosts.toml"
    put(node, DAEMON, '{"debug": true}')
    before = tree(node)
    watch = start_watch(lake)
    wait_until(hosts.exists, "the mirror to be in place")
    wait_until(lambda: watch.status("/readyz") == 200, "the watch to be ready")
    assert watch.status("/livez") == 200
    assert (watch.metric("tarn_mirror_up"), watch.metric("tarn_mirror_in_place")) == (1, 1)
    assert lake.url in (node / DAEMON).read_text()

    hosts.unlink()
    wait_until(hosts.exists, "the deleted file to be put back", 60)

    lake.kill()
    wait_until(lambda: is_as(node, before), "the mirror to be taken out", 90)
    wait_until(lambda: watch.process.log().count("tarn is not ready") == 3, "three warnings")
    wait_until(lambda: watch.get("/readyz").body == b"taken out\n", "the watch to say so")
    assert watch.metric("tarn_mirror_in_place") == 0

    lake.start()
    wait_until(hosts.exists, "the mirror to be back", 60)
    assert watch.process.stop() == 0
    assert tree(node) == before


def test_the_watch_puts_back_what_somebody_changes(lake, start_watch, node):
    """Also when the mark is gone: the watch knows the files that it wrote."""
    hosts, default = (node / HOSTS / name / "hosts.toml" for name in ("lake.test", "_default"))
    watch = start_watch(lake, "--every", "200ms", "--for", "containerd")
    wait_until(default.exists, "the mirror to be in place")
    wait_until(lambda: watch.status("/readyz") == 200, "the first round's end")
    written = [path.read_text() for path in (hosts, default)]
    hosts.write_text(written[0] + "# mine\n")
    default.write_text("mine = true\n")
    wait_until(lambda: [path.read_text() for path in (hosts, default)] == written,
               "the files to be put back")
    wait_until(lambda: watch.process.log().count("file put back") == 2, "two lines in the log")
    assert str(hosts) in watch.process.log()
    wait_until(lambda: watch.metric('tarn_mirror_changes_total{action="restore"}') == 2,
               "the count")
    hosts.write_text(written[0] + "# mine\n")
    assert watch.process.stop() == 0
    assert tree(node) == {}


def test_the_watch_says_when_containerd_does_not_read_the_files(lake, start_watch, node):
    config = put(node, "etc/containerd/config.toml", "version = 3\n")
    watch = start_watch(lake, "--every", "200ms", "--for", "containerd")
    lines = '[plugins."io.containerd.cri.v1.images".registry]\n' + NAMED
    wait_until((node / HOSTS / "lake.test/hosts.toml").exists, "the mirror to be in place")
    wait_until(lambda: lines in watch.get("/readyz").body.decode(), "the lines to be said")
    answer = watch.get("/readyz")
    assert answer.status == 503
    assert answer.body.decode().startswith("in place\n")
    assert f"config_path is not set in {config}" in answer.body.decode()
    assert watch.status("/livez") == 200
    assert watch.metric("tarn_mirror_config_path_missing") == 1
    assert "config_path is not set" in watch.process.log()
    assert (node / HOSTS / "lake.test/hosts.toml").exists()

    config.write_text("version = 3\n" + lines)
    wait_until(lambda: watch.status("/readyz") == 200, "the watch to see the change")
    assert watch.get("/readyz").body == b"in place\n"
    assert watch.metric("tarn_mirror_config_path_missing") == 0
    assert config.read_text() == "version = 3\n" + lines
    assert watch.process.stop() == 0


def test_how_often_the_watch_asks_can_be_chosen(lake, start_watch, node):
    watch = start_watch(lake, "--every", "200ms", "--after", "5", "--for", "containerd")
    wait_until((node / HOSTS).exists, "the mirror to be in place")
    lake.kill()
    wait_until(lambda: not (node / HOSTS).exists(), "the mirror to be taken out")
    wait_until(lambda: watch.process.log().count("tarn is not ready") == 5, "five warnings")
    lake.start()
    wait_until((node / HOSTS).exists, "the mirror to be back")
    assert watch.process.stop() == 0


def test_remove_beside_a_watch_takes_exactly_the_entries_of_tarn(lake, start_watch, mirror, node):
    """As a DaemonSet ends: `tarn mirror remove` as preStop, then SIGTERM for the watch."""
    put(node, HOSTS / "quay.io/hosts.toml", "# mine\n")
    before = tree(node)
    watch = start_watch(lake, "--for", "containerd")
    wait_until((node / HOSTS / "lake.test/hosts.toml").exists, "the mirror to be in place")
    mirror("remove", "--for", "containerd", url=lake.url, config=lake.config_path)
    assert tree(node) == before
    assert watch.process.stop() == 0
    assert tree(node) == before


def test_the_watch_installs_nothing_before_tarn_answers(lake, start_watch, node):
    lake.stop()
    watch = start_watch(lake)
    wait_until(lambda: "tarn is not ready" in watch.process.log(), "the first question")
    assert watch.status("/readyz") == 503
    assert tree(node) == {}
    lake.start()
    wait_until((node / CONF).exists, "the mirror to be in place")
    assert watch.process.stop() == 0
    assert tree(node) == {}


@pytest.mark.slow
def test_a_tarn_that_does_not_answer_is_down(start_tarn, start_watch, node, images):
    """A signal ends the watch also while it waits for an answer."""
    lake = start_tarn([{"host": "lake.test", "url": images.url}])
    watch = start_watch(lake)
    wait_until((node / CONF).exists, "the mirror to be in place")
    lake.process.send_signal(19)  # SIGSTOP: connections are accepted, and nobody answers
    try:
        wait_until(lambda: is_as(node, {}), "the mirror to be taken out", 90)
    finally:
        lake.process.send_signal(18)
    wait_until((node / CONF).exists, "the mirror to be back", 60)
    lake.process.send_signal(19)
    try:
        wait_until(lambda: "tarn is not ready" in watch.process.log().rpartition("in place")[2],
                   "a question without an answer", 60)
        assert watch.process.stop() == 0
    finally:
        lake.process.send_signal(18)
    assert tree(node) == {}


def test_the_watch_leaves_alone_what_is_somebody_elses(lake, start_watch, node):
    mine = put(node, HOSTS / "lake.test/hosts.toml", "# mine\n")
    watch = start_watch(lake)
    wait_until((node / CONF).exists, "the other files")
    wait_until(lambda: watch.metric("tarn_mirror_refused_files") == 1, "the count")
    wait_until(lambda: "left alone" in watch.process.log(), "a line in the log")
    assert watch.process.stop() == 0
    assert mine.read_text() == "# mine\n"


# ---- with TLS


@pytest.fixture
def secure_lake(program, images, node, tmp_path):
    """A tarn whose certificate only `authority` vouches for, a file that node and machine have."""
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext",
         "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate])
    put(node, certificate.relative_to("/"), certificate.read_text())
    lake = TlsTarn(program, tmp_path / "secure", {
        "upstreams": [{"host": "lake.test", "url": images.url, "default": True}],
        "tls": {"certificate": str(certificate), "key": str(key)}})
    lake.authority, lake.secure_url = certificate, f"https://{lake.address}"
    yield lake
    lake.finish()


@needs("containerd", "ctr", "skopeo")
def test_clients_trust_the_authority_that_they_are_told(secure_lake, containerd, mirror, node,
                                                        tmp_path):
    before = tree(node)
    options = {"url": secure_lake.secure_url, "config": secure_lake.config_path}
    mirror("install", "--ca", secure_lake.authority, **options)
    containerd.ctr("images", "pull", "--hosts-dir", node / HOSTS, "--all-platforms",
                   "lake.test/lake/app:1")
    containerd.ctr("images", "remove", "--sync", "lake.test/lake/app:1")
    secure_lake.logged("lake/app")
    mark = len(secure_lake.log())
    home = tmp_path / "client"
    (home / ".config").mkdir(parents=True)
    (home / ".config/containers").symlink_to(node / "etc/containers")
    copies(home, tmp_path / "copy")
    wait_until(lambda: "lake/app" in secure_lake.log()[mark:], "skopeo's requests in the log")
    mirror("remove", "--ca", secure_lake.authority, **options)
    assert tree(node) == before


def test_the_watch_trusts_the_authority_that_it_is_told(secure_lake, start_watch, node):
    watch = start_watch(secure_lake, url=secure_lake.secure_url)
    wait_until(lambda: "tarn is not ready" in watch.process.log(), "a refused certificate")
    assert watch.process.stop() == 0
    assert not (node / CONF).exists()
    watch = start_watch(secure_lake, "--ca", secure_lake.authority, url=secure_lake.secure_url)
    wait_until((node / CONF).exists, "the mirror to be in place")
    assert watch.process.stop() == 0
    assert not (node / CONF).exists()
