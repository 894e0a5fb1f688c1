"""The figures of pushes through tarn, and of tarn copy and tarn append: beside a push straight to
the registry, skopeo, crane, and `tar | pigz`.

The registries are those of paced_registry.py, which keep no byte of what they get.
"""
import concurrent.futures
import contextlib
import functools
import hashlib
import http.client
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse

from build import fill, pigz_seconds
from content import MIB
from images import KIT, METER
from paced_registry import MANIFEST_TYPE, SLICE, Pace
from rows import Comparison, Row, in_turn
from servers import PacedRegistry, Tarn

RATE = 50_000_000  # bytes a second
LAYERS = 8
AT_ONCE = 5  # uploads of one push, as Docker has them
CRANE = "github.com/google/go-containerregistry/cmd/crane@v0.20.6"


# ---- what is pushed


class Image:
    """An image of LAYERS layers in the content of the upstream, with a tag of its own."""

    def __init__(self, bench):
        size = (128 if bench.quick else 1024) * MIB
        self.content, self.size = bench.content.folder, size
        self.layers = [bench.content.blob(size // LAYERS, seed=1000 + index)
                       for index in range(LAYERS)]
        self.config = self._config()
        self.manifest = json.dumps({
            "schemaVersion": 2, "mediaType": MANIFEST_TYPE,
            "config": self._descriptor("config.v1+json", self.config),
            "layers": [self._descriptor("layer.v1.tar+gzip", layer) for layer in self.layers],
        }).encode()
        for name in ("pushed", hashlib.sha256(self.manifest).hexdigest()):
            pathlib.Path(self.content, "manifests", name).write_bytes(self.manifest)

    def path(self, blob):
        return os.path.join(self.content, "blobs", blob)

    def _config(self):
        body = json.dumps({"os": "linux", "architecture": "amd64", "config": {}, "rootfs": {
            "type": "layers", "diff_ids": [f"sha256:{layer}" for layer in self.layers]}}).encode()
        name = hashlib.sha256(body).hexdigest()
        pathlib.Path(self.path(name)).write_bytes(body)
        return name

    def _descriptor(self, kind, blob):
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{blob}",
                "size": os.path.getsize(self.path(blob))}


# ---- the client


class Link:
    """The line of a client: all of its uploads together send so many bytes a second."""

    def __init__(self, rate):
        self.rate, self.pace = rate, Pace()

    def send(self, sock, path):
        with open(path, "rb") as file:
            offset, size = 0, os.fstat(file.fileno()).st_size
            while offset < size:
                select.select([], [sock], [])  # its timeout makes the socket one that does not block
                sent = os.sendfile(sock.fileno(), file.fileno(), offset, SLICE)
                offset += sent
                self.pace.wait(sent, self.rate)


def ask(connection, method, path, fields, body=b"", wanted=(201, 202)):
    """One request; its Location as a path."""
    connection.request(method, path, body, fields)
    return answered(connection, f"{method} {path}", wanted)


def answered(connection, what, wanted):
    response = connection.getresponse()
    body = response.read()
    if response.status not in wanted:
        raise RuntimeError(f"{what}: {response.status} {body[:200]}")
    place = urllib.parse.urlsplit(response.headers.get("Location", ""))
    return f"{place.path}?{place.query}"


def push_blob(port, repository, fields, link, file):
    """One session: POST, one PATCH with everything, PUT."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    with contextlib.closing(connection):
        place = ask(connection, "POST", f"/v2/{repository}/blobs/uploads/", fields)
        connection.putrequest("PATCH", place, skip_accept_encoding=True)
        for name, value in {**fields, "Content-Type": "application/octet-stream",
                            "Content-Length": os.path.getsize(file)}.items():
            connection.putheader(name, value)
        connection.endheaders()
        link.send(connection.sock, file)
        place = answered(connection, "PATCH", (202,))
        ask(connection, "PUT", f"{place}&digest=sha256:{os.path.basename(file)}", fields)


def push_image(port, image, fields, rate):
    """The seconds that a push takes."""
    link, begin = Link(rate), time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        blobs = [image.path(blob) for blob in (*image.layers, image.config)]
        for _ in pool.map(lambda file: push_blob(port, "bench/pushed", fields, link, file), blobs):
            pass
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    with contextlib.closing(connection):
        ask(connection, "PUT", "/v2/bench/pushed/manifests/1",
            {**fields, "Content-Type": MANIFEST_TYPE}, image.manifest)
    return time.monotonic() - begin


# ---- the servers


@contextlib.contextmanager
def _registry(bench):
    """A registry without content."""
    empty = os.path.join(bench.folder, "empty")
    os.makedirs(empty, exist_ok=True)
    server = PacedRegistry(bench.folder, empty, variant="-pushed")
    bench.temporary.append(server)
    try:
        with bench.running([server]):
            yield server
    finally:
        bench.temporary.remove(server)


def _user(bench):
    """Somebody who may push: the lines of the configuration, and the fields of requests."""
    sys.path.insert(0, str(KIT))
    try:
        from kit.htpasswd import write_htpasswd
        from kit.tokens import basic
    finally:
        sys.path.remove(str(KIT))
    file = write_htpasswd(pathlib.Path(bench.folder, "htpasswd"), "alice")
    return f"clients: {{htpasswd: {file}}}\n", {"Authorization": basic("alice", "secret")}


@contextlib.contextmanager
def _pushing(bench):
    """(registry, a tarn in front of it, the fields of requests to tarn)"""
    clients, fields = _user(bench)
    with _registry(bench) as registry:
        tarn = Tarn(bench.folder, registry, bench.program, bench.connections, variant="-push",
                    extra=clients, of_upstream="push: true")
        bench.temporary.append(tarn)
        try:
            with bench.running([tarn]):
                yield registry, tarn, fields
        finally:
            bench.temporary.remove(tarn)


def _renew(registry, tarn=None, **settings):
    """Forgets all that was pushed."""
    registry.ask("/_/forget")
    registry.set(**settings)
    if tarn:
        tarn.fresh()


# ---- pushes


def push_time(bench):
    """a push of 1 GiB in 8 layers over links of 50 MB/s, beside one straight to the registry"""
    if bench.program is None:
        return
    image = Image(bench)
    with _pushing(bench) as (registry, tarn, fields):
        def straight():
            _renew(registry, upload_link=RATE)
            return push_image(registry.port, image, {}, RATE)

        def through():
            _renew(registry, tarn, upload_link=RATE)
            seconds = push_image(tarn.port, image, fields, RATE)
            sent.append(registry.counters()["upload_bytes"] / image.size)
            return seconds

        sent, watch = [], bench.watch()
        times = Comparison(in_turn(2 if bench.quick else 5, {"tarn": through,
                                                             "straight": straight}), "straight")
        name = f"push of {image.size // MIB} MiB in {LAYERS} layers"
        yield Row(f"{name}, links of {RATE // 10 ** 6} MB/s", "s", times.values, times.ratio,
                  ("<=", 1.05), doubt=watch.doubt(times.over, times.rounds))
        yield Row(f"{name}: upstream bytes", "x image", {"tarn": _rounded(max(sent))}, None,
                  ("<=", 1.0))


def push_cuts(bench):
    """bytes that upstream gets of a push when it breaks off 3 times"""
    if bench.program is None:
        return
    image, cuts = Image(bench), 3
    with _pushing(bench) as (registry, tarn, fields):
        _renew(registry, tarn, upload_link=RATE, upload_cuts=cuts, over=image.size, check=1)
        push_image(tarn.port, image, fields, RATE)
        counters = registry.counters()
        bench.check(counters["cuts_made"] == cuts, tarn, f"{counters['cuts_made']} cuts")
        yield Row(f"push of {image.size // MIB} MiB, upstream breaks off {cuts} times: upstream "
                  "bytes", "x image", {"tarn": _rounded(counters["upload_bytes"] / image.size)}, None,
                  ("<=", 1.05))


def _rounded(ratio):
    """Without the config, which is no part of the size."""
    return round(ratio, 4)


def push_memory(bench):
    """resident memory of 50 pushes at once"""
    if bench.program is None:
        return
    count = 50
    size = (2 if bench.quick else 16) * MIB
    files = [os.path.join(bench.content.folder, "blobs", bench.content.blob(size, seed=2000 + index))
             for index in range(count)]
    with _pushing(bench) as (registry, tarn, fields):
        _renew(registry, tarn, upload_link=RATE)
        most, link = 0, Link(0)
        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            pushes = [pool.submit(push_blob, tarn.port, "bench/pushed", fields, link, file)
                      for file in files]
            while not all(push.done() for push in pushes):
                most = max(most, tarn.resident_bytes())
                time.sleep(0.05)
            for push in pushes:
                push.result()
        bench.check(registry.counters()["upload_bytes"] == count * size, tarn, "bytes are missing")
        yield Row(f"{count} pushes at once: resident memory", "MiB", {"tarn": most / MIB}, None,
                  ("<=", 64.0))


# ---- commands


class Ran:
    """What one run of a command took."""

    def __init__(self, bench, *command):
        begin = time.monotonic()
        done = subprocess.run([sys.executable, "-I", "-S", "-c", METER, *command],
                              capture_output=True, text=True, check=True, cwd=bench.folder,
                              env={"PATH": os.environ["PATH"], "HOME": bench.folder})
        self.seconds = time.monotonic() - begin
        status, self.memory, _, self.written = json.loads(done.stdout)
        if status:
            raise RuntimeError(f"{command[0]} {command[1]}: status {status}: {done.stderr[-500:]}")


def _tarn(bench, *arguments):
    """The command without a configuration of the machine's."""
    config = pathlib.Path(bench.folder, "none.yaml")
    if not config.exists():
        config.write_text("upstreams: [{host: unused.test}]\n")
    return Ran(bench, bench.program, *arguments, "--config", str(config))


def _skopeo(bench, source, destination):
    return Ran(bench, "skopeo", "copy", "--quiet", "--src-tls-verify=false",
               "--dest-tls-verify=false", f"docker://{source}", f"docker://{destination}")


def _crane(bench):
    """The command of crane, which Debian does not have; None: it cannot be had."""
    program = shutil.which("crane")
    if not program and not bench.quick and shutil.which("go"):
        program = os.path.join(bench.folder, "bin", "crane")
        done = subprocess.run(["go", "install", CRANE], capture_output=True, text=True, check=False,
                              env={**os.environ, "GOBIN": os.path.dirname(program)})
        if done.returncode:
            print(f"bench: no crane: {done.stderr[-300:]}", file=sys.stderr)
            return None
    return program and (lambda source, destination:
                        Ran(bench, program, "copy", "--insecure", source, destination))


def push_copy(bench):
    """tarn copy of 1 GiB between registries of 50 MB/s a connection, beside skopeo and crane"""
    if bench.program is None:
        return
    image = Image(bench)
    with _registry(bench) as registry:
        source = f"127.0.0.1:{bench.upstream.port}/bench/app:pushed"
        target = f"127.0.0.1:{registry.port}/bench/copied:1"
        tools = {"tarn": lambda *ends: _tarn(bench, "copy", *ends), "crane": _crane(bench)}
        if shutil.which("skopeo"):
            tools["skopeo"] = lambda *ends: _skopeo(bench, *ends)
        runs = {name: [] for name, tool in tools.items() if tool}

        def speed(name):
            _renew(registry, upload_rate=RATE)
            bench.upstream.set(rate=RATE)
            run = tools[name](source, target)
            bench.check(registry.counters()["upload_bytes"] >= image.size, registry, name)
            runs[name].append(run)
            return image.size / 1e6 / run.seconds

        for name in runs:  # the first reading of a program and its files updates their inodes
            _renew(registry)
            tools[name](source, target)
        watch = bench.watch()
        found = in_turn(2 if bench.quick else 5, {name: functools.partial(speed, name)
                                                  for name in runs})
        yield from _copy_rows(bench, image, found, runs, watch)
        tools["tarn"](source, target)
        registry.set()
        tools["tarn"](source, target)
        yield Row("second copy of an image: bytes of blobs sent", "bytes",
                  {"tarn": registry.counters()["upload_bytes"]}, None, ("<=", 0.0))
        bench.upstream.set()


def _copy_rows(bench, image, found, runs, watch):
    name = f"copy of {image.size // MIB} MiB, {RATE // 10 ** 6} MB/s a connection"
    for over in ("skopeo", "crane"):
        if over in runs:
            speed = Comparison(found, over)
            yield Row(name, "MB/s", speed.values, speed.ratio, (">=", 1.5),
                      doubt=watch.doubt(over, speed.rounds))
    yield Row(f"{name}: resident memory", "MiB",
              {tool: max(run.memory for run in its) / MIB for tool, its in runs.items()}, None,
              ("<=", 32.0))
    yield Row(f"{name}: written to the disk", "MiB",
              {tool: max(run.written for run in its) / MIB for tool, its in runs.items()}, None,
              ("<=", 0.0))


def push_append(bench):
    """tarn append of a folder of 4 GiB beside tar | pigz on the same processors"""
    if bench.program is None:
        return
    size = (256 if bench.quick else 4096) * MIB
    runs = []
    with tempfile.TemporaryDirectory(dir=bench.folder) as place, _registry(bench) as registry:
        folder, small = pathlib.Path(place, "model"), pathlib.Path(place, "small")
        target = f"127.0.0.1:{registry.port}/bench/made:1"
        fill(folder, size)
        fill(small, MIB)

        def append():
            _renew(registry)
            runs.append(_tarn(bench, "append", "scratch", "--to", target, "--add", str(folder)))
            return size / 1e6 / runs[-1].seconds

        # The first reading of a file updates its inode, also that of the program.
        pigz_seconds(folder)
        _tarn(bench, "append", "scratch", "--to", target, "--add", str(small))
        watch = bench.watch()
        speed = Comparison(in_turn(2 if bench.quick else 3, {
            "tarn": append, "tar and pigz": lambda: size / 1e6 / pigz_seconds(folder)}), "tar and pigz")
        name = f"append of a folder of {size // MIB} MiB"
        yield Row(name, "MB/s", speed.values, speed.ratio, (">=", 0.9),
                  doubt=watch.doubt(speed.over, speed.rounds))
        yield Row(f"{name}: resident memory", "MiB", {"tarn": max(run.memory for run in runs) / MIB},
                  None, ("<=", 64.0))
        yield Row(f"{name}: written to the disk", "MiB",
                  {"tarn": max(run.written for run in runs) / MIB}, None, ("<=", 0.0))
