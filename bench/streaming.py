"""Measures how soon a program runs from an image that streams, beside containerd that pulls it from
the same warm tarn over the same link: script/bench streaming --help.

Needs root, containerd and EROFS. The image is made of this machine's own files below /usr, so that
they compress as files of images do. The node is a network namespace behind a link of a bounded rate.
Each round has an empty node. What is printed is the median of the rounds, and the lowest and the
highest of them.
"""
import argparse
import contextlib
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from paced_registry import MANIFEST_TYPE
from servers import PacedRegistry, Server, free_port

NAMESPACE = "tarn-bench"
NODE, CACHE = "10.98.0.2", "10.98.0.1"
IMAGE = "bench.example/bench/app:1"
# What a program is likely to start with; the output is the first that a user sees.
PROGRAM = "import json, sqlite3, ssl, boto3, cryptography; print('ready', flush=True)"
FIRST = ("bin/python3", "bin/python3.11", "bin/cat", "bin/tar", "bin/find", "bin/dash", "bin/sh",
         "lib/python3.11", "lib/python3", "lib/x86_64-linux-gnu", "lib64")
LAYER_BYTES = 512 << 20
GIB = 1 << 30


def run(*command, **more):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, **more).stdout


# ---- the image


def files_below(folders, least):
    """Lists of files below /usr of some LAYER_BYTES each, `least` bytes together."""
    chosen, size, total = [], 0, 0
    for folder in folders:
        for base, _, names in os.walk(folder):
            for path in (os.path.join(base, name) for name in sorted(names)):
                if not os.path.isfile(path) or os.path.islink(path):
                    continue
                length = os.path.getsize(path)
                chosen.append(path)
                size, total = size + length, total + length
                if size >= LAYER_BYTES or total >= least:
                    yield chosen
                    chosen, size = [], 0
                if total >= least:
                    return
    if chosen:
        yield chosen


class Image:
    """An image with a Python in its first layer and `gib` GiB of files in all, unpacked."""

    def __init__(self, content, gib):
        self.content, self.layers, self.diff_ids = content, [], []
        for folder in ("blobs", "manifests"):
            os.makedirs(os.path.join(content, folder), exist_ok=True)
        self._add(self._root())
        first = sum(self.tar_sizes)
        others = [entry.path for entry in os.scandir("/usr/lib") if entry.is_dir()
                  and f"lib/{entry.name}" not in FIRST]
        for files in files_below(sorted(others) + ["/usr/share", "/usr/local", "/usr/bin"],
                                 int(gib * GIB) - first):
            self._add(["-C", "/", "--no-recursion", *(path.lstrip("/") for path in files)])
        self._write()

    tar_sizes = ()

    def _root(self):
        folder = os.path.join(self.content, "root")
        os.makedirs(folder, exist_ok=True)
        for name in ("bin", "lib", "lib64", "sbin"):
            link = os.path.join(folder, name)
            if not os.path.lexists(link):
                os.symlink(f"usr/{name}", link)
        return ["-C", folder, "bin", "lib", "lib64", "sbin", "-C", "/", "etc/ld.so.cache", "etc/ssl",
                *(f"usr/{name}" for name in FIRST if os.path.lexists(f"/usr/{name}"))]

    def _add(self, members):
        """A layer as `tar | pigz` makes it."""
        path = os.path.join(self.content, "layer")
        names = os.path.join(self.content, "names")
        at = members.index("--no-recursion") if "--no-recursion" in members else None
        if at is not None:  # too many for a command line
            pathlib.Path(names).write_text("\n".join(members[at + 1:]), encoding="utf-8")
            members = [*members[:at + 1], "-T", names]
        digest, packed, size = hashlib.sha256(), hashlib.sha256(), 0
        with open(path, "wb") as out, \
                subprocess.Popen(["tar", "-cf", "-", "--sort=name", *members],
                                 stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as tar, \
                subprocess.Popen(["pigz", "-6", "-n"], stdin=subprocess.PIPE, stdout=out) as pigz:
            while piece := tar.stdout.read(1 << 20):
                digest.update(piece)
                size += len(piece)
                pigz.stdin.write(piece)
            pigz.stdin.close()
            pigz.wait()
        with open(path, "rb") as file:
            while piece := file.read(1 << 20):
                packed.update(piece)
        self.tar_sizes = (*self.tar_sizes, size)
        self.diff_ids.append(f"sha256:{digest.hexdigest()}")
        self.layers.append((packed.hexdigest(), os.path.getsize(path)))
        os.rename(path, os.path.join(self.content, "blobs", packed.hexdigest()))

    def _write(self):
        config = json.dumps({"os": "linux", "architecture": "amd64", "config": {}, "rootfs": {
            "type": "layers", "diff_ids": self.diff_ids}}).encode()
        name = hashlib.sha256(config).hexdigest()
        pathlib.Path(self.content, "blobs", name).write_bytes(config)
        layers = [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "size": size,
                   "digest": f"sha256:{layer}"} for layer, size in self.layers]
        body = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "layers": layers,
                           "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                                      "digest": f"sha256:{name}", "size": len(config)}}).encode()
        for reference in ("1", hashlib.sha256(body).hexdigest()):
            pathlib.Path(self.content, "manifests", reference).write_bytes(body)
        self.blobs = [name, *(layer for layer, _ in self.layers)]
        self.packed = sum(size for _, size in self.layers)


# ---- the link


@contextlib.contextmanager
def link(rate):
    """A network namespace that gets `rate` bytes a second at most."""
    subprocess.run(["ip", "netns", "del", NAMESPACE], stderr=subprocess.DEVNULL, check=False)
    run("ip", "netns", "add", NAMESPACE)
    try:
        run("ip", "link", "add", "tarnb0", "type", "veth", "peer", "name", "tarnb1", "netns", NAMESPACE)
        run("ip", "addr", "add", f"{CACHE}/30", "dev", "tarnb0")
        run("ip", "link", "set", "tarnb0", "up")
        for command in (["addr", "add", f"{NODE}/30", "dev", "tarnb1"], ["link", "set", "tarnb1", "up"],
                        ["link", "set", "lo", "up"]):
            run("ip", "-n", NAMESPACE, *command)
        run("tc", "qdisc", "add", "dev", "tarnb0", "root", "tbf", "rate", f"{rate * 8}bit",
            "burst", "256kb", "latency", "100ms")
        yield
    finally:
        subprocess.run(["ip", "netns", "del", NAMESPACE], check=False)


def inside(*command):
    """The command line that runs a command on the node; mounts are everybody's."""
    return ["nsenter", f"--net=/run/netns/{NAMESPACE}", *command]


class Relay:
    """Hands requests on after `delay` seconds, and responses at once: a far cache."""

    def __init__(self, port, delay):
        self.target, self.delay = port, delay
        self.listener = socket.create_server((CACHE, 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection((CACHE, self.target))
            for source, sink, delay in ((client, server, self.delay), (server, client, 0)):
                threading.Thread(target=self._pump, args=(source, sink, delay), daemon=True).start()

    @staticmethod
    def _pump(source, sink, delay):
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 18):
                time.sleep(delay)
                sink.sendall(piece)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


# ---- the programs


class Cache(Server):
    """A tarn that has the image and its indexes."""

    name = "cache"

    def __init__(self, folder, program, upstream):
        super().__init__(folder)
        os.makedirs(self.folder, exist_ok=True)
        self.program, self.upstream = program, upstream
        self.certificate = os.path.join(self.folder, "tls.crt")
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-keyout", f"{self.folder}/tls.key", "-out", self.certificate, "-days", "2",
            "-subj", f"/CN={CACHE}", "-addext", f"subjectAltName=IP:{CACHE},IP:127.0.0.1",
            stderr=subprocess.DEVNULL)
        self.plain = free_port()

    def wait_until_listening(self, seconds=15):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                socket.create_connection((CACHE, self.port), 1).close()
                return
            time.sleep(0.01)
        raise RuntimeError("the cache does not listen: " + pathlib.Path(self.log_file()).read_text())

    def command(self):
        path = self.write("tarn.yaml", f"""\
listen: ["{CACHE}:{self.port}"]
root: {self.folder}/root
max_size: 100GiB
tls: {{certificate: {self.certificate}, key: {self.folder}/tls.key}}
streaming: {{enabled: true, threads: 2}}
upstreams:
  - {{host: bench.example, url: "http://127.0.0.1:{self.upstream.port}", default: true}}
log: {{level: warn}}
""")
        return [self.program, "serve", "--config", path]

    def get(self, path):
        import ssl
        context = ssl.create_default_context(cafile=self.certificate)
        with urllib.request.urlopen(f"https://{CACHE}:{self.port}{path}", context=context) as answer:
            while answer.read(1 << 20):
                pass

    def warm(self, image):
        """Pulls all of the image, and waits for its indexes. The seconds that these took."""
        digest = "sha256:" + hashlib.sha256(
            pathlib.Path(image.content, "manifests", "1").read_bytes()).hexdigest()
        self.get("/v2/bench.example/bench/app/manifests/1")
        for blob in image.blobs:
            self.get(f"/v2/bench.example/bench/app/blobs/sha256:{blob}")
        begin = time.monotonic()
        while True:
            with contextlib.suppress(urllib.error.HTTPError):
                self.get(f"/tarn/v1/streaming/image/bench.example/bench/app@{digest}")
                return time.monotonic() - begin
            time.sleep(0.2)


class Node:
    """An agent with a root of its own, on the node."""

    def __init__(self, folder, program, cache, port, background="32MiB"):
        self.folder = tempfile.mkdtemp(prefix="node-", dir=folder)
        self.program, self.target = program, os.path.join(self.folder, "mounted")
        os.makedirs(self.target)
        pathlib.Path(self.folder, "node.yaml").write_text(f"""\
from: https://{CACHE}:{port}
root: {self.folder}/root
run: {self.folder}/run
listen: 127.0.0.1:{free_port()}
background: {background}
cache_size: 50GiB
log: {{level: info}}
""", encoding="utf-8")
        self.log = open(os.path.join(self.folder, "log"), "wb")
        environment = {**os.environ, "SSL_CERT_FILE": cache.certificate}
        self.process = subprocess.Popen(
            inside(program, "node", "--config", f"{self.folder}/node.yaml"), env=environment,
            stdout=self.log, stderr=self.log)
        end = time.monotonic() + 15
        while not os.path.exists(f"{self.folder}/run/node.sock"):
            if time.monotonic() > end or self.process.poll() is not None:
                raise RuntimeError("the agent does not start: "
                                   + pathlib.Path(self.folder, "log").read_text())
            time.sleep(0.01)

    def mount(self):
        run(*inside(self.program, "mount", "--rw", "--run", f"{self.folder}/run", IMAGE, self.target))

    def look(self):
        lines = run(*inside(self.program, "mounts", "--json", "--run", f"{self.folder}/run"))
        return json.loads(lines.splitlines()[0])

    def resident(self):
        """Bytes of the agent's processes."""
        total = 0
        for name in ("node.pid", "supervisor.pid"):
            pid = pathlib.Path(self.folder, "run", name).read_text().strip()
            status = pathlib.Path("/proc", pid, "status").read_text()
            total += int(re.search(r"VmRSS:\s+(\d+)", status)[1]) << 10
        return total

    def close(self):
        subprocess.run(inside(self.program, "unmount", "--run", f"{self.folder}/run", self.target),
                       check=False)
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Containerd:
    """A containerd of its own, on the node, that pulls from the cache."""

    def __init__(self, folder, cache, port):
        self.folder = tempfile.mkdtemp(prefix="containerd-", dir=folder)
        self.socket, self.target = f"{self.folder}/c.sock", f"{self.folder}/mounted"
        hosts = pathlib.Path(self.folder, "hosts", "bench.example")
        hosts.mkdir(parents=True)
        os.makedirs(self.target)
        (hosts / "hosts.toml").write_text(
            f'[host."https://{CACHE}:{port}"]\n  capabilities = ["pull", "resolve"]\n'
            f'  ca = "{cache.certificate}"\n')
        config = pathlib.Path(self.folder, "config.toml")
        config.write_text(f"""version = 2
root = "{self.folder}/root"
state = "{self.folder}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "{self.socket}"
""")
        self.process = subprocess.Popen(inside("containerd", "--config", str(config)),
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 15
        while time.monotonic() < end and subprocess.run(
                ["ctr", "-a", self.socket, "version"], capture_output=True, check=False).returncode:
            time.sleep(0.05)

    def mount(self):
        run("ctr", "-a", self.socket, "images", "pull", "--hosts-dir", f"{self.folder}/hosts", IMAGE)
        run("ctr", "-a", self.socket, "images", "mount", IMAGE, self.target)

    def close(self):
        subprocess.run(["umount", self.target], check=False)
        self.process.terminate()
        self.process.wait(20)
        shutil.rmtree(self.folder, ignore_errors=True)


# ---- figures


def first_output(folder):
    """Waits for the program's first line."""
    with subprocess.Popen(["chroot", folder, "/usr/bin/python3", "-c", PROGRAM],
                          stdout=subprocess.PIPE) as process:
        line = process.stdout.readline()
        if line != b"ready\n":
            raise RuntimeError("the program does not run")
        return time.monotonic()


def read_all(folder):
    subprocess.run(f"tar -C {folder} -cf - . | cat > /dev/null", shell=True, check=True)


def start(system, act):
    """The seconds from an empty node to the end of `act`."""
    begin = time.monotonic()
    system.mount()
    act(system.target)
    return time.monotonic() - begin


def shown(values, unit=1, digits=1):
    values = [value / unit for value in values]
    middle = statistics.median(values)
    return f"{middle:.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


class Measure:
    def __init__(self, folder, options):
        self.folder, self.options = folder, options
        self.image = Image(os.path.join(folder, "content"), options.gib)
        self.upstream = PacedRegistry(folder, self.image.content)
        self.cache = Cache(folder, options.tarn, self.upstream)

    def node(self, **more):
        return Node(self.folder, self.options.tarn, self.cache, self.port, **more)

    def rounds(self, make, act, after=lambda system: None):
        seconds, notes = [], []
        for _ in range(self.options.rounds):
            with contextlib.closing(make()) as system:
                seconds.append(start(system, act))
                notes.append(after(system))
        return seconds, notes

    def figures(self):
        """Names and values, as they come."""
        packed = self.image.packed
        yield "image, compressed / unpacked, MB", f"{packed / 1e6:.0f} / " \
            f"{sum(self.image.tar_sizes) / 1e6:.0f}"
        seconds = self.cache.warm(self.image)
        yield "indexes were ready after the pull, s", f"{seconds:.1f}"
        self.port = Relay(self.cache.port, self.options.delay_ms / 1e3).port \
            if self.options.delay_ms else self.cache.port
        pulls, _ = self.rounds(lambda: Containerd(self.folder, self.cache, self.port), first_output)
        yield "containerd: pull to first output, s", shown(pulls)
        cold, looks = self.rounds(self.node, first_output, Node.look)
        yield "tarn mount to first output, s", shown(cold, digits=2)
        yield "faster", f"{statistics.median(pulls) / statistics.median(cold):.1f} x"
        yield "bytes fetched until then, %", shown([100 * look["fetched"] / packed for look in looks])
        yield "wait of a read p50 / p99, ms", f"{shown([look['wait_p50'] * 1e3 for look in looks])} / " \
            f"{shown([look['wait_p99'] * 1e3 for look in looks])}"
        time.sleep(2)  # the trace is posted
        traced, looks = self.rounds(self.node, first_output, Node.look)
        yield "the same with a trace, s", shown(traced, digits=2)
        yield "with a trace in all rounds", str(all(look["trace"] for look in looks))
        if self.options.everything:
            yield from self.everything()

    def everything(self):
        pulls, _ = self.rounds(lambda: Containerd(self.folder, self.cache, self.port), read_all)
        yield "containerd: pull and read everything, s", shown(pulls)
        reads, resident = self.rounds(self.node, read_all, Node.resident)
        yield "tarn mount and read everything, s", shown(reads)
        yield "faster when everything is read", \
            f"{statistics.median(pulls) / statistics.median(reads):.2f} x"
        yield "resident memory of the agent then, MiB", shown(resident, 1 << 20)


def main():
    parser = argparse.ArgumentParser(prog="script/bench streaming", description=__doc__)
    parser.add_argument("--tarn", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--gib", type=float, default=4, help="size of the image, unpacked")
    parser.add_argument("--rate", type=float, default=17, help="of the link, MB a second")
    parser.add_argument("--delay-ms", type=float, default=0, help="of each request")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--everything", action="store_true", help="also read the whole image")
    parser.add_argument("--folder", help="for the images; default: a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder, link(int(options.rate * 1e6)):
        measure = Measure(folder, options)
        with contextlib.ExitStack() as stack:
            for server in (measure.upstream, measure.cache):
                server.start()
                stack.callback(server.stop)
            print(f"| {options.rate:g} MB/s, {options.delay_ms:g} ms | |\n|---|---|", flush=True)
            for name, value in measure.figures():
                print(f"| {name} | {value} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
