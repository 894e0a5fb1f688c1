"""The figures of a bucket: what a tarn that starts empty gets from it, and what writing to it costs.

The server is versitygw where `script/test --optional engines` has fetched it, else the object store of the
end-to-end tests, which is a program in Python. The figures that slow the server down always take the latter.
"""
import hashlib
import http.client
import os
import re
import statistics
import subprocess
import sys
import time
import urllib.request

import clients
from content import MIB
from rows import Comparison, Row, in_turn
from servers import Server, Tarn

HERE = os.path.dirname(os.path.abspath(__file__))
KEY_ID, SECRET = "AKIDEMULATOR00000001", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEMULATORKEY"
BUCKET, REGION, PREFIX = "cache", "us-east-1", "tarn"
PATIENCE = 120  # seconds until what was fetched is in the bucket
PART_SIZE = 16 * MIB

# aws s3 cp is this library with these defaults and a second of its own to start with.
COPY = """
import boto3, sys, time
client = boto3.client("s3", endpoint_url=sys.argv[1], region_name="us-east-1")
started = time.monotonic()
client.download_file(sys.argv[2], sys.argv[3], sys.argv[4])
print(time.monotonic() - started)
"""


class Emulator(Server):
    """The object store of the end-to-end tests."""

    name = "bucket"

    def __init__(self, folder, variant="", *arguments):
        super().__init__(folder, variant)
        self.arguments = arguments

    def command(self):
        return ["/usr/bin/python3", os.path.join(HERE, "object_store.py"), str(self.port),
                *map(str, self.arguments)]


class VersityGateway(Server):
    """A real engine, whose bucket is a folder."""

    name = "versitygw"
    program = os.path.join(HERE, "..", "build", "engines", "versitygw")

    def command(self):
        os.makedirs(os.path.join(self.folder, "root", BUCKET), exist_ok=True)
        return [self.program, "--access", KEY_ID, "--secret", SECRET, "--region", REGION, "--port",
                f"127.0.0.1:{self.port}", "--quiet", "posix", os.path.join(self.folder, "root")]


def data_key(name):
    return f"{PREFIX}/docker/registry/v2/blobs/sha256/{name[:2]}/{name}/data"


class Scene:
    """A bucket, a tarn that fills it and a tarn that reads from it, each with a disk of its own."""

    def __init__(self, bench, server):
        os.environ.update(AWS_ACCESS_KEY_ID=KEY_ID, AWS_SECRET_ACCESS_KEY=SECRET)
        self.bench, self.server = bench, server
        self.writer = self.tarn("-writer")
        self.reader = self.tarn("-reader", read_only="true")

    def tarn(self, variant, **settings):
        settings = {"url": f"s3://{BUCKET}/{PREFIX}", "region": REGION,
                    "endpoint": self.server.url(""), "patience": "10s", **settings}
        lines = "".join(f"  {key}: {value}\n" for key, value in settings.items())
        return Tarn(self.bench.folder, self.bench.upstream, self.bench.program,
                    self.bench.connections, variant=variant, extra=f"bucket:\n{lines}")

    def signed(self, method, key):
        """(status, seconds to the first byte) of a request of our own."""
        from botocore.auth import S3SigV4Auth  # only these figures need it
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials
        path = f"/{BUCKET}/{key}"
        request = AWSRequest(method, self.server.url(path))
        S3SigV4Auth(Credentials(KEY_ID, SECRET), "s3", REGION).add_auth(request)
        started = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        connection.request(method, path, headers=dict(request.headers.items()))
        response = connection.getresponse()
        if method == "GET":
            response.read(1)
        seconds = time.monotonic() - started
        connection.close()
        return response.status, seconds

    def wait_visible(self, names):
        """Seconds until all of them are in the bucket."""
        started, left = time.monotonic(), list(names)
        while left:
            if self.signed("HEAD", data_key(left[-1]))[0] == 200:
                left.pop()
            elif time.monotonic() > started + PATIENCE:
                raise RuntimeError(f"{left[-1]} is not in the bucket after {PATIENCE} s")
            else:
                time.sleep(0.02)
        return time.monotonic() - started

    def fill(self, names):
        """Lets the writer fetch these blobs, and waits until they and their links are there."""
        self.writer.fresh()
        for name in names:
            result = clients.download(self.writer.port, clients.blob_path(name))
            self.bench.check(result.is_whole, self.writer, name)
        self.wait_visible(names)
        self.wait_settled()

    def wait_settled(self):
        pending = os.path.join(self.writer.folder, "root", "pending")
        end = time.monotonic() + PATIENCE
        while os.path.isdir(pending) and os.listdir(pending) and time.monotonic() < end:
            time.sleep(0.02)

    def requests(self, tarn):
        """How many requests a tarn has sent to the bucket."""
        with urllib.request.urlopen(tarn.url("/metrics")) as page:
            lines = page.read().decode()
        return sum(float(value) for value in
                   re.findall(r"^tarn_bucket_requests_total\{.*\} (\d+)$", lines, re.M))

    def __enter__(self):
        self.server.start()
        return self

    def __exit__(self, *_):
        for server in (self.reader, self.writer, self.server):
            server.stop()
            server.forget()


def engine(bench):
    """The server of the figures that need no delay."""
    if os.access(VersityGateway.program, os.X_OK):
        return VersityGateway(bench.folder)
    return Emulator(bench.folder)


def bucket_blob(bench):
    """a large blob from the bucket, beside the library of aws s3 cp and SHA-256 alone"""
    if bench.tarn is None:
        return
    size = (256 if bench.quick else 1024) * MIB
    name = bench.content.blob(size, seed=50)
    with Scene(bench, engine(bench)) as scene:
        scene.fill([name])
        scene.writer.stop()
        cpu = []

        def from_bucket():
            scene.reader.fresh()
            before = scene.reader.cpu_seconds()
            result = clients.download(scene.reader.port, clients.blob_path(name))
            bench.check(result.is_whole, scene.reader, name)
            cpu.append((scene.reader.cpu_seconds() - before) / (size / 1e9))
            return size / 1e6 / result.seconds

        watch = bench.watch()
        speeds = in_turn(3 if bench.quick else 5, {
            "tarn": from_bucket, "s3transfer": lambda: copied(bench, scene, name, size),
            "SHA-256 alone": lambda: size / 1e6 / sha256_seconds(size)})
        slower = min(("s3transfer", "SHA-256 alone"),
                     key=lambda other: statistics.median(one[other] for one in speeds))
        speed = Comparison(speeds, slower)
        yield Row(f"blob of {size // MIB} MiB from the bucket ({scene.server.name})", "MB/s",
                  speed.values, speed.ratio, (">=", 0.9), doubt=watch.doubt())
        alone = [sha256_seconds(size) / (size / 1e9) for _ in cpu]
        cost = Comparison([{"tarn": one, "SHA-256 alone": other}
                           for one, other in zip(cpu, alone)], "SHA-256 alone")
        yield Row("the same, server CPU", "s/GB", cost.values, cost.ratio, ("<=", 1.7),
                  doubt=watch.doubt(cost.over, cost.rounds))


def copied(bench, scene, name, size):
    """MB/s of a copy to a file."""
    path = os.path.join(bench.folder, "copy")
    done = subprocess.run(["/usr/bin/python3", "-c", COPY, scene.server.url(""), BUCKET,
                           data_key(name), path], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"s3transfer: {done.stderr[-500:]}")
    os.unlink(path)
    return size / 1e6 / float(done.stdout)


def sha256_seconds(size):
    """The CPU time to hash so many bytes of memory."""
    block, hasher = bytes(MIB), hashlib.sha256()
    before = time.process_time()
    for _ in range(size // MIB):
        hasher.update(block)
    return time.process_time() - before


def bucket_first_byte(bench):
    """how much later than the bucket's own the first byte of a small blob arrives from it"""
    if bench.tarn is None:
        return
    names = [bench.content.blob(4096, seed=1000 + index) for index in range(bench.rounds * 20)]
    with Scene(bench, engine(bench)) as scene:
        scene.fill(names)
        scene.reader.fresh()
        watch, found = bench.watch(), []
        for name in names:
            _, direct = scene.signed("GET", data_key(name))
            result = clients.download(scene.reader.port, clients.blob_path(name))
            bench.check(result.is_whole, scene.reader, name)
            found.append((result.first_byte - direct) * 1000)
        yield Row("blob of 4 KiB from the bucket: first byte after the bucket's own, median", "ms",
                  {"tarn": statistics.median(found)}, None, ("<=", 5.0), doubt=watch.doubt())


def bucket_miss(bench):
    """how much later than without a bucket the first byte of a blob arrives that the bucket lacks"""
    if bench.tarn is None:
        return
    delay_ms = 20
    names = [bench.content.blob(4096, seed=2000 + index) for index in range(bench.rounds * 10)]
    with Scene(bench, Emulator(bench.folder, "-slow", "--delay", delay_ms / 1000)) as scene:
        scene.reader.fresh()
        bench.tarn.fresh()
        watch, found = bench.watch(), []
        for name in names:
            without = clients.download(bench.tarn.port, clients.blob_path(name))
            with_bucket = clients.download(scene.reader.port, clients.blob_path(name))
            bench.check(with_bucket.is_whole, scene.reader, name)
            found.append((with_bucket.first_byte - without.first_byte) * 1000)
        yield Row(f"cold miss, bucket answers after {delay_ms} ms: first byte after one without a bucket, "
                  "median", "ms", {"tarn": statistics.median(found)}, None,
                  ("<=", delay_ms + 5.0), doubt=watch.doubt())


def bucket_visible(bench):
    """when a large blob is in the bucket after a client had its last byte"""
    if bench.tarn is None:
        return
    size, found = (256 if bench.quick else 1024) * MIB, []
    with Scene(bench, engine(bench)) as scene:
        watch = bench.watch()
        for index in range(2 if bench.quick else 3):
            name = bench.content.blob(size, seed=60 + index)
            scene.writer.fresh()
            bench.upstream.set(rate=100_000_000)
            result = clients.download(scene.writer.port, clients.blob_path(name))
            bench.check(result.is_whole, scene.writer, name)
            found.append(scene.wait_visible([name]))
        bench.upstream.set()
        part = PART_SIZE / 100e6
        yield Row(f"blob of {size // MIB} MiB: in the bucket after the client's last byte", "s",
                  {"tarn": statistics.median(found)}, None, ("<=", 2.0 + part),
                  doubt=watch.doubt())


def bucket_memory(bench):
    """resident memory while four blobs are uploaded, beyond that of an idle tarn"""
    if bench.tarn is None:
        return
    names = [bench.content.blob(128 * MIB, seed=70 + index) for index in range(4)]
    server = Emulator(bench.folder, "-slow-uploads", "--upload-rate", 8_000_000)
    with Scene(bench, server) as scene:
        scene.writer.fresh()
        for name in names:  # once, so that what a pull costs is in the first figure, too
            clients.download(scene.writer.port, clients.blob_path(name))
        uploading, until = 0, time.monotonic() + 15
        while time.monotonic() < until:
            uploading = max(uploading, scene.writer.resident_bytes())
            time.sleep(0.2)
        scene.wait_visible(names)
        idle = scene.writer.settled_bytes()
        yield Row("resident memory during 4 uploads, beyond idle", "MiB",
                  {"tarn": (uploading - idle) / MIB}, None, ("<=", 8.0))


def bucket_requests(bench):
    """requests to the bucket for an image of a config and one layer: written, and read by another"""
    if bench.tarn is None:
        return
    path = os.path.join(bench.content.folder, "manifests", bench.content.tag)
    with open(path, encoding="utf-8") as file:
        names = sorted(set(re.findall(r"sha256:([0-9a-f]{64})", file.read())))
    with Scene(bench, Emulator(bench.folder, "-counted")) as scene:
        paths = [clients.manifest_path(bench.content.tag), *map(clients.blob_path, names)]
        for tarn, what in ((scene.writer, "pulled from upstream and written"),
                           (scene.reader, "pulled from the bucket")):
            tarn.fresh()
            for one in paths:
                bench.check(clients.download(tarn.port, one).is_whole, tarn, one)
            if tarn is scene.writer:
                scene.wait_visible([*names, bench.content.manifest])
                scene.wait_settled()
            yield Row(f"image of {len(names)} blobs {what}: requests to the bucket", "",
                      {"tarn": scene.requests(tarn)})


if __name__ == "__main__":
    sys.exit("run script/bench bucket")
