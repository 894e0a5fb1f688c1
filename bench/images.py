"""The figures of tarn images and of its HTTP API: what a list of images costs in requests, memory and processor time.

The registries are those of the end-to-end tests. They are slow programs, so that only what tarn
itself needs is measured.
"""
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from content import MIB
from rows import Row

KIT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "e2e"
HOST = "us-docker.pkg.dev"
NAME = "project/repo/app"

# Runs a command and prints what it needed: exit status, bytes of memory, seconds of CPU, bytes
# written to a disk. A process of its own, because the memory of the process
# that starts a program counts as the program's.
METER = """import json, os, sys
process = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ,
                          file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)])
_, status, usage = os.wait4(process, 0)
print(json.dumps([os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024,
                  usage.ru_utime + usage.ru_stime, usage.ru_oublock * 512]))"""


def images(bench):
    """a list of images: requests, and for 50,000 images memory and CPU"""
    if bench.program is None:
        return
    with tempfile.TemporaryDirectory(dir=bench.folder) as folder, _kit() as kit:
        yield from _artifact_registry(bench, kit, pathlib.Path(folder))
        yield from _docker(bench, kit, pathlib.Path(folder))
        yield from _clients(bench, kit, pathlib.Path(folder))


@contextlib.contextmanager
def _kit():
    """The registries of the tests, and what they are made of."""
    sys.path.insert(0, str(KIT))
    try:
        import google_emulator
        from kit import artifact_registry, client, scripted_registry, tarn
        yield google_emulator, artifact_registry, scripted_registry, client, tarn
    finally:
        sys.path.remove(str(KIT))


def _list(bench, folder, upstream, environment, *flags):
    """(bytes of memory at most, seconds of CPU) of one list."""
    config = folder / "tarn.json"  # JSON is YAML as well
    config.write_text(json.dumps({"upstreams": [upstream]}))
    command = [sys.executable, "-I", "-S", "-c", METER, bench.program, "images", "--config",
               str(config), "--json", *flags, f"{upstream['host']}/{NAME}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True,
                          env={"PATH": os.environ["PATH"], "HOME": str(folder),
                               "NO_GCE_CHECK": "true", **environment})
    status, memory, cpu, _ = json.loads(done.stdout)
    if status:
        raise RuntimeError(f"tarn images: exit status {status}: {done.stderr}")
    return memory, cpu


def _artifact_registry(bench, kit, folder):
    google_emulator, artifact_registry, *_ = kit
    for count in (5_000, 50_000):
        google = google_emulator.Google(google_emulator.Key(folder))
        api = artifact_registry.ArtifactRegistry(google)
        try:
            api.repository().add_many("app", count)
            watch = bench.watch()
            memory, cpu = _list(bench, folder, {"host": HOST, "credentials": "google"},
                                {"GCE_METADATA_HOST": google.host,
                                 "CLOUDSDK_API_ENDPOINT_OVERRIDES_ARTIFACTREGISTRY": api.url})
            requests, tokens = api.count(), google.count("metadata")
        finally:
            api.stop()
            google.stop()
        name = f"list of {count:,} images with {3 * count:,} tags"
        yield Row(f"{name}: requests", "requests", {"tarn": requests}, None, ("<=", count / 1000))
        yield Row(f"{name}: requests for a token", "requests", {"tarn": tokens}, None, ("<=", 1))
        if count == 50_000:
            yield Row(f"{name}: resident memory", "MiB", {"tarn": memory / MIB}, None, ("<=", 64.0))
            yield Row(f"{name}: CPU", "s", {"tarn": cpu}, None, ("<=", 2.0), doubt=watch.doubt())


def _docker(bench, kit, folder):
    """The names of 5,000 tags in pages of 100."""
    registry = kit[2].ScriptedRegistry()
    try:
        registry.page_size = 100
        repository = registry.repository(NAME)
        content = b'{"schemaVersion":2,"config":{},"layers":[]}'
        for number in range(5000):
            repository.add_manifest(content, tag=f"v{number}")
        _list(bench, folder, {"host": "registry.example", "url": registry.url}, {}, "--no-digests")
        requests = len(registry.asked())
    finally:
        registry.stop()
    yield Row("Docker API, names of 5,000 tags in pages of 100: requests", "requests",
              {"tarn": requests}, None, ("<=", 50))


def _clients(bench, kit, folder):
    """100 clients of the HTTP API at once, for 5,000 images that tarn has not listed before."""
    google_emulator, artifact_registry, _, client, tarn = kit
    google = google_emulator.Google(google_emulator.Key(folder))
    api = artifact_registry.ArtifactRegistry(google)
    served = None
    try:
        api.repository().add_many("app", 5000)
        served = tarn.Tarn(bench.program, folder / "tarn",
                           {"upstreams": [{"host": HOST, "credentials": "google"}],
                            "log": {"level": "warn"}},
                           {"GCE_METADATA_HOST": google.host,
                            "CLOUDSDK_API_ENDPOINT_OVERRIDES_ARTIFACTREGISTRY": api.url})
        url = f"{served.url}/tarn/v1/images/{HOST}/{NAME}"
        replies = client.at_once(*[lambda: client.fetch(url) for _ in range(100)])
        requests = api.count()
        wrong = [reply.status for reply in replies
                 if reply.status != 200 or len(reply.json()["images"]) != 5000]
    finally:
        if served:
            served.finish()
        api.stop()
        google.stop()
    if wrong:
        raise RuntimeError(f"{len(wrong)} of 100 clients got no list: {wrong[0]}")
    yield Row("list of 5,000 images, 100 clients of the HTTP API at once: requests", "requests",
              {"tarn": requests}, None, ("<=", 5))
