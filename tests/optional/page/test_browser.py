"""The page at / as a visitor meets it, in a headless chromium. `run` says what this needs."""

import json
import os
import pathlib
import subprocess

import pytest

from kit.content import MIB, OCI_INDEX, OCI_MANIFEST, descriptor, digest_of, index, manifest, noise
from kit.processes import wait_until
from kit.scripted_registry import ScriptedRegistry
from kit.tarn import Tarn

BROWSER = pathlib.Path(__file__).with_name("browser.js")
IMAGES = [("docker.io", "library/alpine", "3.20", 1), ("docker.io", "library/postgres", "17", 12),
          ("docker.io", "library/nginx", "1.27", 6), ("ghcr.io", "org/app", "1.2.3", 4),
          ("ghcr.io", "team/tool-with-a-long-name/component", "2026.11.26-rc1", 2)]
PAGES = {"overview": "/", "search": "/?search=", "nothing found": "/?search=nothing-like-it",
         "image": "/?image=ghcr.io/org/app:1.2.3", "no image": "/?image=ghcr.io/none:1",
         "repository": "/?images=ghcr.io/org/app", "no repository": "/?images=nowhere.test/app"}


def add_image(registry, name, tag, mebibytes, seed):
    """An image for two platforms; returns what a client of the first one asks for."""
    repository, entries, wanted = registry.repository(name), [], []
    for number, architecture in enumerate(("amd64", "arm64")):
        config = json.dumps({"os": "linux", "architecture": architecture, "seed": seed}).encode()
        layers = [noise(mebibytes * MIB // 2, 10 * seed + 2 * number + part) for part in range(2)]
        for blob in (config, *layers):
            repository.add_blob(blob)
        document = manifest(config, layers)
        digest = repository.add_manifest(document)
        entries.append(descriptor(document, OCI_MANIFEST,
                                  platform={"os": "linux", "architecture": architecture}))
        if number == 0:
            wanted = [digest, [digest_of(blob) for blob in (config, *layers)]]
    repository.add_manifest(index(entries), OCI_INDEX, tag=tag)
    return wanted


class World:
    """Two registries with images, one that is down, and a tarn that has pulled some of it."""

    def __init__(self, folder):
        self.registries = {"docker.io": ScriptedRegistry(), "ghcr.io": ScriptedRegistry()}
        self.images = [(host, name, tag, *add_image(self.registries[host], name, tag, size, seed))
                       for seed, (host, name, tag, size) in enumerate(IMAGES, 1)]
        upstreams = [{"host": host, "url": registry.url, "default": host == "docker.io"}
                     for host, registry in self.registries.items()]
        upstreams.append({"host": "registry.example", "url": "http://127.0.0.1:9"})
        self.tarn = Tarn(os.environ["TARN"], folder, {"upstreams": upstreams, "max_size": "64MiB"})
        for image in self.images:
            self.pull(image)
        for image in self.images[:2] + self.images[:1]:
            self.pull(image)
        assert self.tarn.manifest("registry.example/some/app", "1").status == 502
        self.tarn.settle()
        wait_until(lambda: b"org/app@" in self.tarn.get("/?search=").body, "the images are listed")

    def pull(self, image):
        host, name, tag, digest, blobs = image
        assert self.tarn.manifest(f"{host}/{name}", tag).status == 200
        assert self.tarn.manifest(f"{host}/{name}", digest).status == 200
        for blob in blobs:
            assert self.tarn.blob(f"{host}/{name}", blob).status == 200

    def finish(self):
        self.tarn.finish()
        for registry in self.registries.values():
            registry.stop()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    made = World(tmp_path_factory.mktemp("world"))
    yield made
    made.finish()


def look(url, how, argument=None, *steps):
    """What browser.js saw. Each step is done when the browser is ready for it."""
    command = ["node", BROWSER, how, url, *([json.dumps(argument)] if argument else [])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        for step in steps:
            assert child.stdout.readline() == "ready\n"
            step()
            child.stdin.write("\n")
            child.stdin.flush()
        out, _ = child.communicate(timeout=240)
    assert child.returncode == 0
    seen = json.loads(out)
    assert not seen.get("wrong"), seen["wrong"]
    return seen


@pytest.mark.parametrize("size", ["wide", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", PAGES)
def test_axe_finds_nothing(world, page, scheme, size):
    seen = look(world.tarn.url + PAGES[page], "axe", {"colorScheme": scheme, "size": size})
    assert seen["violations"] == []


@pytest.mark.parametrize("page", ["overview", "search", "image", "repository"])
def test_no_page_is_wider_than_a_phone(world, page):
    backgrounds = set()
    for scheme in ("light", "dark"):
        seen = look(world.tarn.url + PAGES[page], "fits", {"size": "phone", "colorScheme": scheme})
        assert seen["width"] <= seen["screen"]
        backgrounds.add(seen["background"])
    assert len(backgrounds) == 2


def test_the_page_can_be_read_without_script(world):
    seen = look(world.tarn.url, "without_script")
    for words in ("docker pull", "ghcr.io/org/app:1.2.3", "registry.example", "requests in the last",
                  "Most pulled"):
        assert words in seen["text"]
    assert [name.split()[-1] for name in seen["ranges"]] == ["range-hour", "range-day",
                                                            "range-month"]
    assert seen["searched"].endswith("?search=app") and "org/app" in seen["found"]
    assert seen["copies"] == 0


def test_numbers_move_without_a_reload_and_nothing_jumps(world):
    seen = look(world.tarn.url, "moves", ".range-hour > p", lambda: world.pull(world.images[0]))
    assert seen["same"] and seen["after"] != seen["before"]
    assert seen["shift"] < 0.02
    assert (seen["search"], seen["focus"]) == ("half a wo", "search")


def test_the_bar_of_a_transfer_moves(world):
    registry = world.registries["docker.io"]
    big = noise(32 * MIB, 99)
    registry.image("library/big", [big], tag="1")
    registry.fault("/v2/library/big/blobs/", bytes_per_second=MIB // 4)
    path = f"/v2/docker.io/library/big/blobs/{digest_of(big)}"
    with world.tarn.download(path) as download:
        download.read(100)
        wait_until(lambda: b"<progress" in world.tarn.get("/").body, "the transfer is shown")
        seen = look(world.tarn.url, "transfer")
    assert seen["after"] > seen["before"]
    registry.heal()


def test_the_page_can_be_used_by_keyboard(world):
    seen = look(world.tarn.url, "keyboard")
    assert seen["first"] == "Skip to the content"
    assert seen["range"] == seen["kept"] == "range range-day"
    assert seen["copied"].startswith(f"docker pull {world.tarn.address}/")


def test_what_was_opened_stays_open(world):
    assert look(world.tarn.url + PAGES["image"], "details_stay_open")["open"]


def test_the_page_says_when_tarn_is_gone_and_when_it_is_back(world):
    seen = look(world.tarn.url, "gone_and_back", None, world.tarn.stop, world.tarn.start)
    assert seen["before"] == seen["back"] != seen["gone"]


def test_pictures_for_the_documentation(world, tmp_path):
    folder = pathlib.Path(os.environ.get("TARN_SCREENSHOTS") or tmp_path)
    for name, path, scheme, size in (("page-light", "/", "light", "picture"),
                                     ("page-dark", "/", "dark", "picture"),
                                     ("page-phone", "/", "light", "phone"),
                                     ("page-image", PAGES["image"], "light", "wide")):
        file = folder / f"{name}.png"
        look(world.tarn.url + path, "picture",
             {"path": str(file), "colorScheme": scheme, "size": size, "full": False})
        assert file.read_bytes().startswith(b"\x89PNG") and file.stat().st_size > 10000
