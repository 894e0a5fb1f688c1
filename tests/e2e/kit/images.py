"""Makes real images: a runnable one of several layers, and one of several platforms."""

import json
import os
import shutil

from kit.content import (OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, descriptor, digest_of, index,
                         noise, MIB)
from kit.origin import write_layout
from kit.processes import run

GREETING = "hello from the lake"


def busybox():
    """A static busybox, which is enough for a small root file system."""
    for place in ("/bin/busybox", "/usr/bin/busybox"):
        if os.path.exists(place):
            return place
    raise AssertionError("no busybox: apt-get install busybox-static")


def build_runnable(directory):
    """Makes an OCI layout `directory`/app:1 of four layers that prints GREETING when it runs."""
    layout = directory / "app"
    bundle = directory / "bundle"
    run(["umoci", "init", "--layout", layout])
    run(["umoci", "new", "--image", f"{layout}:1"])
    for number, fill in enumerate([_base, _noise_of(3), _noise_of(5), _greeting]):
        run(["umoci", "unpack", "--image", f"{layout}:1", bundle])
        fill(bundle / "rootfs", number)
        run(["umoci", "repack", "--image", f"{layout}:1", bundle])
        shutil.rmtree(bundle)
    run(["umoci", "config", "--image", f"{layout}:1", "--config.entrypoint", "/greet",
         "--config.env", "PATH=/bin", "--architecture", "amd64", "--os", "linux"])
    run(["umoci", "gc", "--layout", layout])
    return f"oci:{layout}:1"


def _base(rootfs, _):
    for folder in ("bin", "etc", "tmp", "proc", "sys", "dev"):
        (rootfs / folder).mkdir(exist_ok=True)
    shutil.copy(busybox(), rootfs / "bin" / "busybox")
    for name in ("sh", "cat", "echo", "sha256sum"):
        (rootfs / "bin" / name).symlink_to("busybox")
    (rootfs / "etc" / "passwd").write_text("root:x:0:0:root:/:/bin/sh\n")


def _noise_of(mebibytes):
    def fill(rootfs, number):
        (rootfs / f"noise-{number}").write_bytes(noise(mebibytes * MIB, number))
    return fill


def _greeting(rootfs, _):
    (rootfs / "greet").write_text(f"#!/bin/sh\necho {GREETING}\n")
    (rootfs / "greet").chmod(0o755)


def build_platforms(directory, runnable):
    """Makes an OCI layout with an index of the runnable image for two architectures."""
    source = directory / "app"
    _, entry = runnable, json.loads((source / "index.json").read_text())["manifests"][0]

    def read(digest):
        return (source / "blobs" / "sha256" / digest.partition(":")[2]).read_bytes()

    first = read(entry["digest"])
    parts = json.loads(first)
    config = json.loads(read(parts["config"]["digest"]))
    config["architecture"] = "arm64"
    other_config = json.dumps(config).encode()
    parts["config"] = descriptor(other_config, OCI_CONFIG)
    other = json.dumps(parts).encode()
    platforms = index([
        descriptor(first, OCI_MANIFEST, platform={"os": "linux", "architecture": "amd64"}),
        descriptor(other, OCI_MANIFEST, platform={"os": "linux", "architecture": "arm64",
                                                  "variant": "v8"})])
    blobs = [first, other, other_config, platforms, read(json.loads(first)["config"]["digest"]),
             *(read(layer["digest"]) for layer in parts["layers"])]
    layout = directory / "platforms"
    write_layout(layout, blobs, [descriptor(
        platforms, OCI_INDEX, annotations={"org.opencontainers.image.ref.name": "1"})])
    return f"oci:{layout}:1", digest_of(platforms)
