"""containerd with tarn's snapshotter: pulls, containers, removal, restarts, and layers that stream.

A driver serves the snapshotter alone; its images that stream are trees that the test has unpacked.
"""

import json
import os

import pytest

from kit.containers import needs
from kit.driver import build_driver
from kit.images import GREETING
from kit.processes import wait_until
from kit.snapshots import (Snapshotter, call_images, chains_of, containerd_with, unpack)

pytestmark = [needs("containerd", "ctr", "runc", "curl"),
              pytest.mark.skipif(os.geteuid() != 0, reason="containerd needs root"),
              pytest.mark.xdist_group("snapshots")]

IMAGE = "lake.test/lake/app:1"


@pytest.fixture
def lake(start_tarn, images):
    lake = start_tarn([{"host": "lake.test", "url": images.url, "default": True}])
    lake.origin = images
    return lake


@pytest.fixture(scope="module")
def driver(program):
    return build_driver(program, "snapshot_driver")


@pytest.fixture
def snapshotter(driver, tmp_path_factory):
    one = Snapshotter(driver, tmp_path_factory.mktemp("s") / "d")
    yield one
    one.stop()


@pytest.fixture
def containerd(snapshotter, lake, tmp_path_factory):
    daemon = containerd_with(snapshotter.socket, tmp_path_factory.mktemp("c") / "d", lake.url)
    yield daemon
    daemon.stop()


def pull(containerd):
    containerd.ctr("images", "pull", "--hosts-dir", containerd.hosts, "--snapshotter", "tarn",
                   IMAGE)


def greet(containerd, name, namespace="default"):
    """Runs the image, which prints a line."""
    done = containerd.ctr("--namespace", namespace, "run", "--rm", "--snapshotter", "tarn", IMAGE,
                          name)
    assert done.stdout.strip() == GREETING


def snapshots_of(containerd, namespace="default"):
    listed = containerd.ctr("--namespace", namespace, "snapshots", "--snapshotter", "tarn", "list")
    return [line.split()[0] for line in listed.stdout.splitlines()[1:]]


def is_connected(containerd):
    """Whether a call reaches the snapshotter."""
    snapshots = ["--namespace", "probe", "snapshots", "--snapshotter", "tarn"]
    containerd.ctr(*snapshots, "prepare", "probe", check=False)
    return containerd.ctr(*snapshots, "remove", "probe", check=False).returncode == 0


def restart(snapshotter, containerd):
    """Kills the snapshotter and starts it again. containerd tries to connect every few seconds."""
    snapshotter.kill()
    snapshotter.start()
    wait_until(lambda: is_connected(containerd), "containerd is connected", pause=0.2)


def content_of(containerd, namespace):
    return containerd.ctr("--namespace", namespace, "content", "list", "--quiet").stdout.split()


# ---- ctr


def test_an_image_is_pulled_run_and_removed(containerd, snapshotter, images):
    chains, _ = chains_of(images, "lake/app", "1")
    pull(containerd)
    assert sorted(snapshots_of(containerd)) == sorted(chains)
    assert snapshotter.searches() == []  # ctr asks for nothing remote
    greet(containerd, "one")
    greet(containerd, "two")
    # containerd removes what a container has left when it collects garbage.
    wait_until(lambda: len(snapshotter.folders()) == 4, "containerd collects garbage")
    usage = containerd.ctr("snapshots", "--snapshotter", "tarn", "usage", "-b", chains[1])
    assert 3 << 20 <= int(usage.stdout.splitlines()[1].split()[1]) < 4 << 20
    containerd.ctr("images", "remove", "--sync", IMAGE)
    assert snapshots_of(containerd) == []
    assert snapshotter.folders() == []


def test_snapshots_are_made_changed_and_committed_by_hand(containerd, snapshotter, images):
    """As builds do: a layer on a layer, with labels."""
    chains, _ = chains_of(images, "lake/app", "1")
    pull(containerd)
    snapshots = ["snapshots", "--snapshotter", "tarn"]
    told = containerd.ctr(*snapshots, "prepare", "--mounts", "work", chains[-1]).stdout
    assert "overlay" in told or "mount" in told
    (snapshotter.root / "5" / "fs" / "made").write_text("made")
    containerd.ctr(*snapshots, "commit", "built", "work")
    containerd.ctr(*snapshots, "label", "built", "containerd.io/gc.root=now")
    info = json.loads(containerd.ctr(*snapshots, "info", "built").stdout)
    assert info["Kind"] == "Committed" and info["Parent"] == chains[-1]
    assert info["Labels"]["containerd.io/gc.root"] == "now"
    containerd.ctr(*snapshots, "view", "look", "built")
    failed = containerd.ctr(*snapshots, "remove", "built", check=False)
    assert failed.returncode != 0
    containerd.ctr(*snapshots, "remove", "look")
    containerd.ctr(*snapshots, "remove", "built")
    assert sorted(snapshots_of(containerd)) == sorted(chains)


@pytest.mark.slow
def test_images_stay_when_containerd_or_the_snapshotter_is_killed(containerd, snapshotter, images):
    chains, _ = chains_of(images, "lake/app", "1")
    pull(containerd)
    (snapshotter.root / "99").mkdir()  # as a crash between folder and record would leave it
    restart(snapshotter, containerd)
    wait_until(lambda: "99" not in snapshotter.folders(), "the folder to be deleted")
    greet(containerd, "after-snapshotter")
    containerd.process.kill()
    containerd.start()
    greet(containerd, "after-containerd")
    assert sorted(snapshots_of(containerd)) == sorted(chains)
    containerd.process.kill()
    snapshotter.kill()
    snapshotter.start()
    containerd.start()
    greet(containerd, "after-both")
    containerd.ctr("images", "remove", "--sync", IMAGE)
    assert snapshotter.folders() == []


def test_a_pull_goes_on_after_the_snapshotter_was_killed_in_the_middle(containerd, snapshotter):
    for _ in range(3):
        restart(snapshotter, containerd)
        pull(containerd)
        greet(containerd, "one")
        containerd.ctr("images", "remove", "--sync", IMAGE)
        assert snapshots_of(containerd) == []


# ---- the kubelet's way


def test_the_kubelet_pulls_an_image_that_streams_without_its_layers(
        containerd, snapshotter, images, tmp_path):
    chains, layers = chains_of(images, "lake/app", "1")
    for count in range(1, 5):
        tree = unpack(images, "lake/app", layers[:count], tmp_path / f"tree-{count}")
        snapshotter.offer(chains[count - 1], count, tree)
    assert call_images(containerd, "PullImage", IMAGE) == ("0", "")
    manifest = images.manifest("lake/app", "1").headers["Docker-Content-Digest"]
    searches = snapshotter.searches()
    assert [one["chain"] for one in searches] == chains
    assert {one["image"] for one in searches} == {IMAGE}
    assert {one["manifest"] for one in searches} == {manifest}
    assert [one["layer"] for one in searches] == [layer["digest"] for layer in layers]
    content = content_of(containerd, "k8s.io")
    assert manifest in content
    assert [layer["digest"] for layer in layers if layer["digest"] in content] == []
    # Nothing is mounted before it is needed, and then one tree for all layers.
    assert snapshotter.mounts() == []
    greet(containerd, "one", "k8s.io")
    assert len(snapshotter.mounts()) == 1
    restart(snapshotter, containerd)
    greet(containerd, "two", "k8s.io")
    # Another namespace shares what is here, and nothing is looked for.
    searched = len(snapshotter.searches())
    assert call_images(containerd, "PullImage", IMAGE) == ("0", "")
    assert len(snapshotter.searches()) == searched
    for reference in containerd.ctr("--namespace", "k8s.io", "images", "list", "-q").stdout.split():
        containerd.ctr("--namespace", "k8s.io", "images", "remove", "--sync", reference)
    assert snapshots_of(containerd, "k8s.io") == []
    assert snapshotter.folders() == [] and snapshotter.mounts() == []


def test_layers_above_those_that_stream_are_unpacked(containerd, snapshotter, images, tmp_path):
    chains, layers = chains_of(images, "lake/app", "1")
    for count in (1, 2):
        tree = unpack(images, "lake/app", layers[:count], tmp_path / f"tree-{count}")
        snapshotter.offer(chains[count - 1], count, tree)
    assert call_images(containerd, "PullImage", IMAGE) == ("0", "")
    content = content_of(containerd, "k8s.io")
    assert [layer["digest"] in content for layer in layers] == [False, False, True, True]
    greet(containerd, "one", "k8s.io")
    assert len(snapshotter.mounts()) == 1


def test_an_image_that_does_not_stream_is_pulled_as_usual(containerd, snapshotter, images):
    chains, layers = chains_of(images, "lake/app", "1")
    assert call_images(containerd, "PullImage", IMAGE) == ("0", "")
    # What is above a layer that is unpacked is unpacked, too.
    assert [(one["chain"], one["found"]) for one in snapshotter.searches()] == [(chains[0], False)]
    content = content_of(containerd, "k8s.io")
    assert [layer["digest"] in content for layer in layers] == [True] * len(layers)
    greet(containerd, "one", "k8s.io")
    assert snapshotter.mounts() == []
