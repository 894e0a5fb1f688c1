"""The figures of tarn build: packing and uploading a context, beside `tar | pigz` on the same
processors, and what an unchanged context costs.

The service is the emulator of the end-to-end tests, which takes the bytes and does nothing with
them.
"""
import contextlib
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

from content import MIB
from images import KIT, METER
from rows import Comparison, Row, in_turn

IMAGE = "us-docker.pkg.dev/team/images/app:v1"


def build(bench):
    """a context of 1 GiB packed and uploaded beside tar | pigz, its memory; an unchanged one"""
    if bench.program is None:
        return
    with tempfile.TemporaryDirectory(dir=bench.folder) as folder, _service(folder) as service:
        folder = pathlib.Path(folder)
        size = (128 if bench.quick else 1024) * MIB
        fill(folder / "context", size)
        (folder / "context" / "Dockerfile").write_text("FROM scratch\n")
        memory = []
        watch = bench.watch()
        found = in_turn(bench.rounds, {
            "tarn": lambda: size / 1e6 / _tarn(bench, folder, service, memory),
            "tar and pigz": lambda: size / 1e6 / pigz_seconds(folder / "context")})
        speed = Comparison(found, "tar and pigz")
        name = f"context of {size // MIB} MiB, packed and uploaded"
        yield Row(name, "MB/s", speed.values, speed.ratio, (">=", 0.9),
                  doubt=watch.doubt(speed.over, speed.rounds))
        yield Row(f"{name}: resident memory", "MiB", {"tarn": max(memory) / MIB}, None,
                  ("<=", 64.0))
        service.forget()
        _run(bench, folder, service)
        sent = sum(request[4] for request in service.requests if request[0] == "piece")
        storage = [kind for kind in service.kinds() if kind in ("buckets", "object", "begin",
                                                                "piece")]
        yield Row("context that is there: requests", "requests", {"tarn": len(storage)}, None,
                  ("<=", 2))
        yield Row("context that is there: bytes sent", "bytes", {"tarn": sent}, None, ("<=", 0))


@contextlib.contextmanager
def _service(folder):
    sys.path.insert(0, str(KIT))
    try:
        import google_emulator
        from kit import cloud_build
        google = google_emulator.Google(google_emulator.Key(pathlib.Path(folder)))
        service = cloud_build.CloudBuild(lambda: set(google.access))
        service.key = json.dumps(google.service_account())
        try:
            yield service
        finally:
            service.stop()
            google.stop()
    finally:
        sys.path.remove(str(KIT))


def fill(folder, size):
    """Files of 1 MiB, half of which can be compressed."""
    folder.mkdir()
    words = random.Random(1)
    text = " ".join(str(words.randrange(10 ** 6)) for _ in range(150_000)).encode()
    for index in range(size // MIB):
        noise = random.Random(index).randbytes(MIB // 2)
        (folder / f"{index:04}").write_bytes(noise + text[index:index + MIB // 2])


def _run(bench, folder, service):
    """(seconds, bytes of memory at most) of one build that is submitted."""
    (folder / "key.json").write_text(service.key)
    command = [sys.executable, "-I", "-S", "-c", METER, bench.program, "build",
               str(folder / "context"), "--to", IMAGE, "--async"]
    begin = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={
        "PATH": os.environ["PATH"], "HOME": str(folder), "NO_GCE_CHECK": "true",
        "GOOGLE_APPLICATION_CREDENTIALS": str(folder / "key.json"), **service.environment})
    seconds = time.monotonic() - begin
    status, memory, *_ = json.loads(done.stdout)
    if status:
        raise RuntimeError(f"tarn build: exit status {status}: {done.stderr}")
    return seconds, memory


def _tarn(bench, folder, service, memory):
    service.objects.clear()
    seconds, used = _run(bench, folder, service)
    memory.append(used)
    return seconds


def pigz_seconds(folder):
    """How long `tar | pigz` takes for the folder."""
    begin = time.monotonic()
    subprocess.run("tar -c . | pigz > /dev/null", shell=True, cwd=folder, check=True)
    return time.monotonic() - begin
