"""The fixtures of the end-to-end tests, and a node."""

import pathlib
import shutil
import tempfile

import pytest

from kit.e2e_fixtures import FIXTURES
from kit.images import build_runnable
from kit.processes import run
from node import Node

for name in ("program", "start_tarn", "origin", "images", "key", "google"):
    globals()[name] = getattr(FIXTURES, name)


@pytest.fixture
def pause(images, tmp_path_factory):
    """The name of an image whose program never ends, for the pods' sandboxes."""
    folder = tmp_path_factory.mktemp("pause")
    build_runnable(folder)
    run(["umoci", "config", "--image", f"{folder}/app:1", "--config.entrypoint", "/bin/busybox",
         "--config.cmd", "sleep", "--config.cmd", "1000000"])
    images.push_image(f"oci:{folder}/app:1", "lake/pause:1")
    return f"{images.url.removeprefix('http://')}/lake/pause:1"


@pytest.fixture
def place():
    """A folder with a short name: a socket's may have 107 bytes."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="node-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def start_node(place, pause):
    started = []

    def start(provider=None, config_path=None):
        started.append(Node(place, pause, provider, config_path))
        return started[-1]

    yield start
    for node in started:
        node.stop()
