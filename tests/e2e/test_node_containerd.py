"""containerd with `tarn node` as its snapshotter: the kubelet's pulls fetch no layer of an image that
streams, and all else works as with overlayfs."""

import os
import pathlib
import tarfile

import pytest

from kit.agent import ON_A_NODE, SUPERVISOR, WORKER
from kit.containers import needs
from kit.content import MIB, noise
from kit.images import busybox
from kit.layers import StreamImage, archive, entry, repository, tarn, wait_state
from kit.processes import wait_until
from kit.snapshots import call_images, containerd_with

pytestmark = [needs("containerd", "ctr", "runc", "curl"), *ON_A_NODE]

NAME = "fake.test/org/app"
BASE = archive(*[entry(f"{name}/", type=tarfile.DIRTYPE, mode=0o755) for name in ("proc", "sys", "dev", "bin")],
               entry("tmp/", type=tarfile.DIRTYPE, mode=0o1777),
               entry("bin/busybox", pathlib.Path(busybox()).read_bytes(), mode=0o755),
               entry("bin/sh", type=tarfile.SYMTYPE, linkname="busybox"))


@pytest.fixture
def agent(start_agent, tarn):
    return start_agent(tarn.url, background=0)


@pytest.fixture
def containerd(agent, tarn, tmp_path_factory):
    daemon = containerd_with(agent.run_folder / "snap.sock", tmp_path_factory.mktemp("c") / "d",
                             tarn.url)
    yield daemon
    daemon.stop()
    for line in reversed(pathlib.Path("/proc/self/mountinfo").read_text().splitlines()):
        if line.split()[4].startswith(f"{agent.root}/"):
            os.system(f"umount -l {line.split()[4]}")


def indexed(tarn, image):
    image.pull(tarn)
    wait_state(tarn, "image", image.digest, ("ready", None))
    return image


@pytest.fixture
def image(tarn, repository):
    """Three layers of some 60 MiB, of which a start reads two."""
    return indexed(tarn, StreamImage(repository, [
        BASE, archive(entry("noise", noise(60 * MIB))), archive(entry("greeting", b"hello\n"))]))


def run(containerd, name, *command, reference=f"{NAME}:1"):
    return containerd.ctr("--namespace", "k8s.io", "run", "--rm", "--snapshotter", "tarn",
                          reference, name, *command).stdout


def layers_in(containerd, image):
    content = containerd.ctr("--namespace", "k8s.io", "content", "list", "--quiet").stdout.split()
    assert image.digest in content
    return [digest in content for digest in image.digests]


def remove_all(containerd, namespace="k8s.io"):
    listed = containerd.ctr("--namespace", namespace, "images", "list", "-q").stdout.split()
    containerd.ctr("--namespace", namespace, "images", "remove", "--sync", *listed)
    snapshots = containerd.ctr("--namespace", namespace, "snapshots", "--snapshotter", "tarn",
                               "list").stdout.splitlines()[1:]
    assert snapshots == []


def folders(agent):
    return [path.name for path in (agent.root / "snapshots").iterdir() if path.is_dir()]


def is_connected(containerd):
    snapshots = ["--namespace", "probe", "snapshots", "--snapshotter", "tarn"]
    containerd.ctr(*snapshots, "prepare", "probe", check=False)
    return containerd.ctr(*snapshots, "remove", "probe", check=False).returncode == 0


def test_the_kubelet_fetches_no_layer_of_an_image_that_streams(containerd, agent, image):
    assert call_images(containerd, "PullImage", f"{NAME}:1") == ("0", "")
    assert layers_in(containerd, image) == [False, False, False]
    mounted, = agent.mounts()
    assert mounted["manifest"] == image.digest and mounted["state"] == "streaming"
    assert mounted["fetched"] <= 0.06 * mounted["bytes"]
    assert run(containerd, "one", "/bin/busybox", "cat", "/greeting") == "hello\n"
    # The busybox is the larger part of what was read.
    assert agent.mount_at(mounted["dir"])["fetched"] <= 0.12 * mounted["bytes"]
    wanted = run(containerd, "two", "/bin/busybox", "sha256sum", "/noise").split()[0]
    assert len(wanted) == 64
    assert run(containerd, "three", "/bin/busybox", "stat", "-c", "%a", "/tmp") == "1777\n"
    assert run(containerd, "four", "/bin/busybox", "sh", "-c",
               "echo new > /greeting; /bin/busybox cat /greeting") == "new\n"
    remove_all(containerd)
    assert agent.mounts() == []
    wait_until(lambda: folders(agent) == [], "the folders of snapshots to go")


@pytest.mark.slow
def test_images_stay_when_the_agent_or_containerd_is_killed(containerd, agent, image):
    assert call_images(containerd, "PullImage", f"{NAME}:1") == ("0", "")

    def greets(name):
        wait_until(lambda: is_connected(containerd), "containerd is connected", pause=0.2)
        assert run(containerd, name, "/bin/busybox", "cat", "/greeting") == "hello\n"

    greets("before")
    before, = agent.kill(WORKER)
    agent.wait_worker(before)
    greets("after-worker")
    containerd.process.kill()
    containerd.start()
    greets("after-containerd")
    agent.kill(SUPERVISOR, WORKER)
    agent.start()
    greets("after-both")
    agent.stop()
    agent.start()
    greets("after-stop")
    assert layers_in(containerd, image) == [False, False, False]
    remove_all(containerd)
    assert agent.mounts() == []


def test_an_image_that_does_not_stream_stands_on_layers_that_do(containerd, agent, image,
                                                                repository):
    """The lowest layer is that of another image, of which only this one is mounted for it."""
    other = StreamImage(repository, [BASE, archive(entry("other", b"other\n"))], tag="other")
    assert call_images(containerd, "PullImage", f"{NAME}:1") == ("0", "")
    assert call_images(containerd, "PullImage", f"{NAME}:other") == ("0", "")
    assert layers_in(containerd, other) == [False, True]
    assert run(containerd, "one", "/bin/busybox", "cat", "/other",
               reference=f"{NAME}:other") == "other\n"
    names = run(containerd, "two", "/bin/busybox", "ls", "/", reference=f"{NAME}:other").split()
    assert {"bin", "other", "tmp"} <= set(names) and not {"noise", "greeting"} & set(names)
    assert len(agent.mounts()) == 2
    agent.stop()
    agent.start()
    wait_until(lambda: is_connected(containerd), "containerd is connected", pause=0.2)
    assert run(containerd, "three", "/bin/busybox", "cat", "/other",
               reference=f"{NAME}:other") == "other\n"
    remove_all(containerd)
    assert agent.mounts() == []


def test_ctr_pulls_runs_and_removes_as_with_overlayfs(containerd, agent, image):
    containerd.ctr("images", "pull", "--hosts-dir", containerd.hosts, "--snapshotter", "tarn",
                   f"{NAME}:1")
    assert agent.mounts() == []
    assert len(folders(agent)) == 3
    done = containerd.ctr("run", "--rm", "--snapshotter", "tarn", f"{NAME}:1", "one",
                          "/bin/busybox", "cat", "/greeting")
    assert done.stdout == "hello\n"
    remove_all(containerd, "default")
    assert folders(agent) == []


def test_an_image_is_pulled_as_usual_while_no_cache_answers(containerd, agent, tarn, image,
                                                            start_tarn, upstream):
    """The agent's tarn is away; containerd's own mirror is another one."""
    agent.stop()
    agent.settings["from"] = ["http://127.0.0.1:9"]
    agent.start()
    wait_until(lambda: is_connected(containerd), "containerd is connected", pause=0.2)
    assert call_images(containerd, "PullImage", f"{NAME}:1") == ("0", "")
    assert layers_in(containerd, image) == [True, True, True]
    assert run(containerd, "one", "/bin/busybox", "cat", "/greeting") == "hello\n"
    assert agent.mounts() == []
