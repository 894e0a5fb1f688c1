"""A snapshotter of tarn's in front of a containerd, and the kubelet's way to pull an image."""

import hashlib
import json
import pathlib
import shutil
import signal
import subprocess

from kit.containers import Containerd, environment
from kit.driver import Driven
from kit.processes import run

TREE = pathlib.Path(__file__).resolve().parents[3]


class Snapshotter:
    """The driver kit/snapshot_driver.c, which can be killed and started again."""

    def __init__(self, driver, directory):
        directory.mkdir()
        self.driver, self.directory = driver, directory
        self.root, self.socket = directory / "s", directory / "s.sock"
        self.images = directory / "images"
        self.images.mkdir()
        self.start()

    def start(self):
        self.process = Driven(self.driver, self.root, self.directory, self.socket, self.images)
        self.process.wait(lambda driven: {"ready": True} in driven.told, "the snapshotter serves")

    def kill(self):
        self.process.child.send_signal(signal.SIGKILL)
        self.process.child.wait(20)

    def searches(self):
        """Which chains were looked for, with the labels."""
        return [line for line in self.process.told if "chain" in line]

    def folders(self):
        """The folders of snapshots."""
        return sorted(path.name for path in self.root.iterdir() if path.is_dir())

    def offer(self, chain, count, tree):
        """From now on the lowest `count` layers are an image that streams."""
        folder = self.images / chain.removeprefix("sha256:")
        folder.mkdir()
        (folder / "layers").write_text(str(count))
        shutil.copytree(tree, folder / "tree", symlinks=True)

    def mounts(self):
        """Where trees of images are mounted."""
        lines = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
        return [line.split()[4] for line in lines if line.split()[4].startswith(f"{self.root}/")]

    def stop(self):
        if self.process.child.poll() is None:
            self.process.stop()
        for path in self.mounts():
            run(["umount", "--lazy", path], check=False)


def containerd_with(address, directory, url):
    """A containerd that knows the snapshotter at this socket as `tarn`, and uses it for the kubelet's
    images, which it pulls through the cache at `url`."""
    hosts = directory.parent / f"{directory.name}-hosts"
    (hosts / "_default").mkdir(parents=True)
    (hosts / "_default" / "hosts.toml").write_text(
        f'[host."{url}"]\n  capabilities = ["pull", "resolve"]\n')
    shipped = (TREE / "deploy" / "containerd" / "streaming-1.toml").read_text()
    containerd = Containerd(directory, f"""
{shipped.replace("version = 2", "").replace("/run/tarn/snap.sock", str(address))}
[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "{hosts}"
""")
    containerd.hosts = hosts
    return containerd


def _field(number, content):
    """A field of bytes in a message of protobuf, shorter than 16 KiB."""
    content = content if isinstance(content, bytes) else content.encode()
    length = bytes([len(content)]) if len(content) < 128 else \
        bytes([len(content) & 127 | 128, len(content) >> 7])
    return bytes([number << 3 | 2]) + length + content


def call_images(containerd, method, image):
    """A call of the CRI's image service about an image: (status, message of the error)."""
    message = _field(1, _field(1, image))
    body = b"\0" + len(message).to_bytes(4, "big") + message
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--http2-prior-knowledge", "--max-time", "120",
         "--unix-socket", containerd.socket, "--header", "Content-Type: application/grpc",
         "--header", "TE: trailers", "--data-binary", "@-", "--dump-header", "-", "--output",
         "/dev/null", f"http://localhost/runtime.v1.ImageService/{method}"],
        input=body, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False,
        env=environment(containerd.directory))
    fields = dict(line.split(": ", 1) for line in done.stdout.decode().splitlines()
                  if ": " in line)
    assert "grpc-status" in fields, (done.stdout, done.stderr)
    return fields["grpc-status"], fields.get("grpc-message", "")


def chains_of(origin, name, reference):
    """The chain IDs of an image's layers, lowest first, and the layers' descriptors."""
    manifest = json.loads(origin.manifest(name, reference).body)
    config = json.loads(origin.blob(name, manifest["config"]["digest"]))
    chains = []
    for diff_id in config["rootfs"]["diff_ids"]:
        chain = diff_id if not chains else \
            "sha256:" + hashlib.sha256(f"{chains[-1]} {diff_id}".encode()).hexdigest()
        chains.append(chain)
    return chains, manifest["layers"]


def unpack(origin, name, layers, directory):
    """Unpacks layers without whiteouts on one another."""
    directory.mkdir()
    for layer in layers:
        archive = directory.parent / "layer.tar"
        archive.write_bytes(origin.blob(name, layer["digest"]))
        run(["tar", "--extract", "--gzip", "--file", archive, "--directory", directory])
    return directory
