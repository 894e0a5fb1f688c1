"""The container image that buildah builds, run by containerd; and the Debian package in a Debian."""

import json
import os
import pathlib
import shutil

import pytest

from conftest import images, origin  # noqa: F401  (fixtures of the end-to-end tests)
from kit.client import fetch
from kit.containers import Containerd
from kit.content import OCI_MANIFEST
from kit.processes import free_port, run, wait_until

TREE = pathlib.Path(__file__).resolve().parents[3]
PLACE = pathlib.Path(os.environ["TARN_PLACE"])
BASE = os.environ["TARN_BASE"]
MOST_MEBIBYTES = 30  # above the base: the program, and the libraries that Debian's curl needs


def buildah(*arguments, seconds=1800):
    return run(["buildah", "--storage-driver", "vfs", "--root", PLACE / "store", "--runroot",
                PLACE / "run", *arguments], seconds=seconds).stdout.strip()


@pytest.fixture(scope="session")
def base():
    """The name of an image of Debian."""
    container = buildah("from", "scratch")
    buildah("add", container, BASE, "/")
    buildah("config", "--cmd", "/bin/sh", container)
    buildah("commit", "--quiet", "--rm", container, "localhost/tarn-test-base")
    return "localhost/tarn-test-base"


@pytest.fixture(scope="session")
def image(base):
    """The name of tarn's image."""
    buildah("build", "--isolation", "chroot", "--network", "host", "--build-arg", f"BASE={base}",
            "--file", TREE / "deploy/container/Containerfile", "--tag", "localhost/tarn", TREE)
    return "localhost/tarn"


def inspected(image):
    return json.loads(buildah("inspect", "--type", "image", image))


def bytes_of(image):
    """The sum of an image's uncompressed layers."""
    folder = PLACE / "sizes"
    shutil.rmtree(folder, ignore_errors=True)
    buildah("push", "--quiet", "--disable-compression", image, f"dir:{folder}")
    total = sum(path.stat().st_size for path in folder.iterdir() if len(path.name) == 64)
    shutil.rmtree(folder)
    return total


def test_the_image_runs_as_an_ordinary_user_and_adds_little_to_its_base(base, image):
    config = inspected(image)["OCIv1"]["config"]
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["/usr/local/bin/tarn"] and config["Cmd"] == ["serve"]
    assert "5000/tcp" in config["ExposedPorts"] and "/var/lib/tarn" in config["Volumes"]
    added = (bytes_of(image) - bytes_of(base)) / (1 << 20)
    assert added < MOST_MEBIBYTES, f"{added:.1f} MiB above the base"


@pytest.fixture
def containerd():
    engine = Containerd(PLACE / "containerd")
    yield engine
    engine.stop()


def is_ready(port):
    try:
        return fetch(f"http://127.0.0.1:{port}/readyz", timeout=5).status == 200
    except OSError:
        return False


def test_containerd_runs_the_image_and_pulls_through_it(image, images, containerd):  # noqa: F811
    archive = PLACE / "tarn.tar"
    buildah("push", "--quiet", image, f"oci-archive:{archive}:localhost/tarn:test")
    containerd.ctr("image", "import", "--base-name", "localhost/tarn", archive)
    name = containerd.ctr("image", "ls", "-q").stdout.split()[0]
    port, root = free_port(), PLACE / "cache"
    root.mkdir()
    os.chown(root, 65532, 65532)
    root.chmod(0o700)
    file = PLACE / "tarn.yaml"  # it is what counts, and the image says the rest
    file.write_text(f"listen: 127.0.0.1:{port}\n")
    containerd.ctr("run", "--detach", "--net-host", "--read-only", "--no-pivot",
                   "--mount", f"type=bind,src={root},dst=/var/lib/tarn,options=rbind:rw",
                   "--mount", f"type=bind,src={file},dst=/etc/tarn/tarn.yaml,options=rbind:ro",
                   "--env", f"TARN_UPSTREAM=lake.test={images.url}",
                   "--env", "TARN_DEFAULT_UPSTREAM=lake.test", name, "tarn")
    try:
        wait_until(lambda: is_ready(port), "tarn in its container", 60)
        pids = containerd.ctr("task", "ps", "tarn").stdout.split()
        status = pathlib.Path(f"/proc/{next(p for p in pids if p.isdigit())}/status").read_text()
        assert "\nUid:\t65532\t65532" in status
        containerd.ctr("image", "pull", "--plain-http", f"127.0.0.1:{port}/lake/app:1")
        expected = images.manifest("lake/app", "1")["Docker-Content-Digest"]
        assert expected in containerd.ctr("image", "ls", f"name==127.0.0.1:{port}/lake/app:1").stdout
        held = fetch(f"http://127.0.0.1:{port}/v2/lake/app/manifests/{expected}",
                     {"Accept": OCI_MANIFEST})
        assert held["Cache-Status"] == "tarn; hit"
    finally:
        containerd.ctr("task", "kill", "--signal", "SIGTERM", "tarn")
        wait_until(lambda: "STOPPED" in containerd.ctr("task", "ls").stdout, "tarn to end", 60)
        containerd.ctr("task", "delete", "tarn", check=False)
        containerd.ctr("container", "delete", "tarn")


def files_below(folder):
    """Every path below `folder` but what apt and dpkg keep for themselves."""
    kept = ("var/lib/dpkg", "var/cache", "var/log", "var/lib/apt", "proc", "sys", "dev", "run",
            "tmp")
    found = set()
    for current, folders, files in os.walk(folder):
        here = os.path.relpath(current, folder)
        folders[:] = [name for name in folders
                      if os.path.normpath(os.path.join(here, name)) not in kept]
        found |= {os.path.normpath(os.path.join(here, name)) for name in [*folders, *files]}
    return found


def test_the_debian_package_installs_and_leaves_nothing_behind(base):
    package = TREE / run([TREE / "script/package"], seconds=900).stdout.split()[-1]
    container = buildah("from", base)
    root = pathlib.Path(buildah("mount", container))

    def inside(*command):
        return buildah("run", "--isolation", "chroot", "--network", "host", container, "--",
                       "env", "DEBIAN_FRONTEND=noninteractive", *command)

    try:
        shutil.copy(package, root / "tmp/tarn.deb")
        (root / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n")
        (root / "usr/sbin/policy-rc.d").chmod(0o755)
        inside("apt-get", "update")
        # First what it needs, so that its own files can be told from theirs.
        needs = run(["dpkg-deb", "--field", package, "Depends"]).stdout.replace(",", " ").split()
        needs = [name for name in needs if name.startswith("lib") or name == "ca-certificates"]
        inside("apt-get", "install", "-y", "--no-install-recommends", "systemd", *needs)
        before = files_below(root)
        inside("apt-get", "install", "-y", "--no-install-recommends", "/tmp/tarn.deb")
        assert "tarn:" in (root / "etc/passwd").read_text()
        assert (root / "etc/systemd/system/multi-user.target.wants/tarn.service").is_symlink()
        assert inside("tarn", "check-config", "/etc/tarn/tarn.yaml").endswith("ok")
        (root / "etc/tarn/tarn.yaml").write_text("listen: 0.0.0.0:5000\n")
        (root / "var/lib/tarn").mkdir(exist_ok=True)
        (root / "var/lib/tarn/blob").write_text("cached")
        inside("dpkg", "--install", "/tmp/tarn.deb")  # again: the operator's file stays
        assert (root / "etc/tarn/tarn.yaml").read_text() == "listen: 0.0.0.0:5000\n"
        inside("apt-get", "remove", "-y", "tarn")
        assert (root / "etc/tarn/tarn.yaml").exists() and (root / "var/lib/tarn/blob").exists()
        assert not (root / "usr/bin/tarn").exists()
        inside("apt-get", "purge", "-y", "tarn")
        left = files_below(root) - before
        # The user stays, as on every Debian; the files of passwd(5) have copies.
        assert not {name for name in left if not name.startswith(("etc/passwd", "etc/group",
                                                                  "etc/shadow", "etc/gshadow",
                                                                  "etc/.pwd.lock"))}, left
    finally:
        buildah("rm", container)
