"""Images pulled in advance: `tarn warm`, `warm:` in the configuration, and `prefetch: true`."""

import fcntl
import http.client
import json
import os
import pty
import re
import signal
import socket
import stat
import struct
import subprocess
import termios
import time

import pytest

from kit.content import KIB, MIB, OCI_MANIFEST, descriptor, digest_of, index, manifest, noise
from kit.processes import wait_until
from kit.tarn import tarn_command

TIMEOUTS = {}  # bytes of the upstream are counted (conftest.py)

PLATFORMS = {"amd64": {"os": "linux", "architecture": "amd64"},
             "arm64": {"os": "linux", "architecture": "arm64", "variant": "v8"}}


class Platforms:
    """org/app:1: an index of two platforms that share a layer."""

    def __init__(self, upstream):
        repository = upstream.repository("org/app")
        self.shared = noise(300 * KIB, "shared")
        self.layers, self.configs, self.manifests, entries = {}, {}, {}, []
        repository.add_blob(self.shared)
        for name, platform in PLATFORMS.items():
            self.configs[name] = json.dumps(platform).encode()
            self.layers[name] = noise(2 * MIB, name)
            content = manifest(self.configs[name], [self.shared, self.layers[name]])
            repository.add_blob(self.configs[name])
            repository.add_blob(self.layers[name])
            self.manifests[name] = repository.add_manifest(content)
            entries.append(descriptor(content, OCI_MANIFEST, platform=platform))
        self.index = index(entries)
        repository.add_manifest(self.index, "application/vnd.oci.image.index.v1+json", tag="1")

    def blob_bytes(self, *names):
        return len(self.shared) + sum(
            len(self.configs[name]) + len(self.layers[name]) for name in names)


@pytest.fixture
def platforms(upstream):
    return Platforms(upstream)


@pytest.fixture
def warm(program):
    """Runs `tarn warm` for a running tarn: (exit code, lines of JSON, standard error)."""

    def run(tarn, *arguments):
        done = tarn_command(program, "warm", "--root", tarn.root, *arguments,
                            home=tarn.directory / "home")
        return (done.returncode, [json.loads(line) for line in done.stdout.splitlines()],
                done.stderr)

    return run


def ask_admin(tarn, method, path, body=None, headers=None):
    """A request over the socket file."""
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(10)
    directory = os.open(tarn.root, os.O_PATH)
    connection.sock.connect(f"/proc/self/fd/{directory}/tarn.sock")
    os.close(directory)
    connection.request(method, path, body=body, headers=headers or {})
    answer = connection.getresponse()
    return answer.status, answer.read()


# ---- what is fetched


def test_all_platforms_of_an_image_are_fetched(tarn, upstream, platforms, warm):
    code, lines, _ = warm(tarn, "fake.test/org/app:1")
    assert code == 0
    assert upstream.blob_bytes() == platforms.blob_bytes("amd64", "arm64")
    assert lines[-1]["state"] == "done"


def test_one_platform_fetches_the_blobs_of_that_platform_alone(tarn, upstream, platforms, warm):
    code, lines, _ = warm(tarn, "org/app:1", "--platform", "linux/arm64")
    assert code == 0
    assert upstream.blob_bytes() == platforms.blob_bytes("arm64")
    assert not upstream.asked(platforms.manifests["amd64"])
    layers = {line["digest"] for line in lines if line.get("role") == "layer"}
    assert len(layers) == 2


@pytest.mark.parametrize("wanted", ["linux/arm64/v8", "linux/amd64,linux/arm64"])
def test_variants_and_lists_of_platforms(tarn, platforms, upstream, warm, wanted):
    code, _, _ = warm(tarn, "org/app:1", f"--platform={wanted}")
    assert code == 0
    names = [name for name in PLATFORMS if name in wanted]
    assert upstream.blob_bytes() == platforms.blob_bytes(*names)


def test_a_missing_platform_is_an_error_that_names_those_there_are(tarn, upstream, platforms,
                                                                   warm):
    code, lines, said = warm(tarn, "org/app:1", "--platform", "linux/s390x")
    assert code == 1
    assert "no platform linux/s390x; it has: linux/amd64, linux/arm64/v8" in said
    assert lines[-1]["state"] == "failed"
    assert upstream.blob_bytes() == 0


def test_warming_again_fetches_nothing(tarn, upstream, platforms, warm):
    _, first, _ = warm(tarn, "org/app:1")
    assert first[-1]["bytes_fetched"] >= platforms.blob_bytes("amd64", "arm64")
    upstream.forget_requests()
    code, lines, _ = warm(tarn, "org/app:1")
    assert code == 0
    assert upstream.sent() == 0
    assert lines[-1]["bytes_fetched"] == 0
    assert lines[-1]["bytes_cached"] == first[-1]["bytes_fetched"]
    assert all(line["was_cached"] for line in lines if line["state"] == "cached")


def test_what_was_warmed_is_a_hit_and_survives_a_restart(tarn, upstream, platforms, warm):
    assert warm(tarn, "org/app:1")[0] == 0
    tarn.restart()
    upstream.refuse()
    for name in PLATFORMS:
        reply = tarn.manifest("org/app", platforms.manifests[name])
        for layer in reply.json()["layers"]:
            assert "hit" in tarn.blob("org/app", layer["digest"]).cache_status


def test_a_client_that_pulls_meanwhile_joins(tarn, upstream, warm):
    layer = noise(4 * MIB)
    digest = upstream.image("org/one", [layer], tag="1")
    assert digest
    upstream.fault("/blobs/", bytes_per_second=4 * MIB)
    warming = start_warm(tarn, "org/one:1")
    wait_until(lambda: upstream.asked("/blobs/"), "the layer is asked for")
    entry = json.loads(upstream.repository("org/one").manifests[digest][0])["layers"][0]
    assert tarn.blob("org/one", entry["digest"]).body == layer
    assert warming.wait(20) == 0
    assert upstream.blob_bytes() == len(layer) + len(b"{}")


# ---- reports


def test_each_line_tells_where_a_part_stands(tarn, upstream, warm):
    upstream.image("org/one", [noise(2 * MIB), noise(100)], tag="1")
    upstream.fault("/blobs/", bytes_per_second=2 * MIB)
    code, lines, _ = warm(tarn, "org/one:1")
    assert code == 0
    parts = {}
    for line in lines[:-1]:
        assert line["image"] == "org/one:1"
        assert re.fullmatch(r"sha256:[0-9a-f]{64}", line["digest"])
        assert line["role"] in ("index", "manifest", "config", "layer")
        assert line["state"] in ("waiting", "fetching", "cached")
        assert 0 <= line["bytes"] <= line["size"]
        parts.setdefault(line["digest"], []).append(line)
    assert len(parts) == 4
    for steps in parts.values():
        assert steps[-1]["state"] == "cached"
        assert steps[-1]["bytes"] == steps[-1]["size"]
        progress = [step["bytes"] for step in steps]
        assert progress == sorted(progress)
    assert max(len(steps) for steps in parts.values()) >= 3  # one was seen while it was fetched
    end = lines[-1]
    assert (end["image"], end["state"]) == ("org/one:1", "done")
    assert end["bytes_cached"] == 0
    assert end["bytes_fetched"] == sum(steps[-1]["size"] for steps in parts.values())
    assert end["seconds"] > 0.5


def test_an_image_that_fails_is_named_and_does_not_stop_the_others(tarn, upstream, warm):
    upstream.image("org/one", [b"layer"], tag="1")
    code, lines, said = warm(tarn, "org/none:1", "org/one:1")
    assert code == 1
    assert "tarn warm: org/none:1: " in said
    assert "name not known" in said
    ends = [line for line in lines if "digest" not in line]
    assert [(end["image"], end["state"]) for end in ends] == [
        ("org/none:1", "failed"), ("org/one:1", "done")]


def test_a_blob_that_fails_is_named_and_the_others_are_brought_in(tarn, upstream, warm):
    missing, good = noise(1000, "missing"), noise(1000, "good")
    upstream.image("org/one", [missing, good], tag="1")
    repository = upstream.repository("org/one")
    digest = repository.add_blob(missing)
    del repository.blobs[digest]
    code, lines, said = warm(tarn, "org/one:1")
    assert code == 1
    assert f"layer {digest}: upstream fake.test" in said
    failed = [line for line in lines if line["state"] == "failed" and "digest" in line]
    assert [line["digest"] for line in failed] == [digest]
    assert tarn.blob("org/one", repository.add_blob(good)).cache_status == "tarn; hit"


@pytest.mark.parametrize("fault", [{"status": 404}, {"status": 403}, {"status": 500},
                                   {"drop": True}, {"flip": 5}, {"content": b"no manifest"}], ids=str)
@pytest.mark.parametrize("missing", list(PLATFORMS))
def test_a_child_that_fails_is_named_and_the_others_are_brought_in(tarn, upstream, platforms, warm,
                                                                   missing, fault):
    digest = platforms.manifests[missing]
    upstream.fault(f"/manifests/{digest}", method=None, **fault)
    code, lines, said = warm(tarn, "org/app:1")
    assert code == 1
    assert digest in said
    failed = [line for line in lines if line["state"] == "failed" and "digest" in line]
    assert [(line["digest"], line["role"]) for line in failed] == [(digest, "manifest")]
    others = [name for name in PLATFORMS if name != missing]
    for name in others:
        assert tarn.manifest("org/app", platforms.manifests[name]).cache_status == "tarn; hit"
        layer = digest_of(platforms.layers[name])
        assert tarn.blob("org/app", layer).cache_status == "tarn; hit"
    assert upstream.blob_bytes() == platforms.blob_bytes(*others)


def test_when_all_children_fail_the_first_is_named_and_the_others_are_counted(tarn, upstream,
                                                                             platforms, warm):
    for digest in platforms.manifests.values():
        upstream.fault(f"/manifests/{digest}", method=None, status=404)
    code, lines, said = warm(tarn, "org/app:1")
    assert code == 1
    assert sum(line["state"] == "failed" and "digest" in line for line in lines) == len(PLATFORMS)
    assert f"({len(PLATFORMS) - 1} more of its manifests and blobs failed)" in said


def test_wrong_bytes_are_a_failure(tarn, upstream, warm):
    layer = noise(200 * KIB)
    upstream.image("org/one", [layer], tag="1")
    upstream.fault(f"/blobs/{digest_of(layer)}", flip=1000)
    code, _, said = warm(tarn, "org/one:1")
    assert code == 1
    assert "wrong bytes" in said


@pytest.mark.parametrize("image, why", [
    ("unknown.example/org/app:1", "no upstream is configured for unknown.example"),
    ("Org/App", "not a repository name"),
    ("denied.test/other/app", "outside the configured"),
])
def test_names_are_judged_as_in_a_pull(start_tarn, upstream, warm, image, why):
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True},
                       {"host": "denied.test", "url": upstream.url, "repositories": ["org/**"]}])
    code, _, said = warm(tarn, image)
    assert code == 1
    assert why in said
    assert not upstream.asked()


# ---- the command


def start_warm(tarn, *arguments, **options):
    """`tarn warm` in the background, which Ctrl-C must reach: if a shell started the tests in the
    background, they and all their children ignore Ctrl-C, so the signal is reset here."""
    return subprocess.Popen([tarn.program, "warm", "--root", str(tarn.root), *arguments],
                            stdin=subprocess.DEVNULL, env=tarn.environment,
                            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
                            **{"stdout": subprocess.DEVNULL, **options})


def test_without_a_running_tarn_it_says_so(program, tmp_path):
    for root in (tmp_path, tmp_path / "nowhere"):
        done = tarn_command(program, "warm", "--root", root, "alpine", home=tmp_path)
        assert done.returncode == 1
        assert f"no tarn is running with the root {root}" in done.stderr
        assert done.stdout == ""


@pytest.mark.parametrize("arguments", [
    [], ["--platform"], ["--unknown", "a"], ["a", "--root", "/x", "--config", "/y"]])
def test_bad_usage(program, tmp_path, arguments):
    done = tarn_command(program, "warm", *arguments, home=tmp_path)
    assert done.returncode == 2
    assert "tarn warm --help" in done.stderr


def test_the_root_is_found_through_the_configuration(tarn, upstream, program):
    upstream.image("org/one", [b"layer"], tag="1")
    done = tarn_command(program, "warm", "--config", tarn.config_path, "org/one:1",
                        home=tarn.directory / "home")
    assert done.returncode == 0, done.stderr


def test_leaving_the_command_leaves_the_transfers_going(tarn, upstream):
    layer = noise(3 * MIB)
    upstream.image("org/one", [layer], tag="1")
    held = upstream.fault("/blobs/sha256", hold_after=64 * KIB)
    warming = start_warm(tarn, "org/one:1")
    wait_until(lambda: tarn.get("/tarn/v1/flights").json()["count"], "a flight")
    warming.send_signal(2)
    assert warming.wait(5) != 0
    tarn.logged("image not warmed.*the client left")
    held.gate.set()
    upstream.heal()
    tarn.wait_cached("org/one", upstream.repository("org/one").add_blob(layer))


def test_a_stop_ends_the_warming_at_once(tarn, upstream):
    upstream.image("org/one", [noise(3 * MIB)], tag="1")
    upstream.fault("/blobs/", hold_after=64 * KIB)
    warming = start_warm(tarn, "org/one:1", stderr=subprocess.PIPE, text=True)
    wait_until(lambda: upstream.asked("/blobs/"), "the layer is asked for")
    began = time.monotonic()
    tarn.stop()
    assert time.monotonic() - began < 8
    assert warming.wait(5) == 1
    assert "tarn is stopping" in warming.stderr.read()
    warming.stderr.close()


class Terminal:
    """A command on a pseudo-terminal."""

    def __init__(self, arguments, environment, columns=100, rows=30):
        self.end, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.child = subprocess.Popen(arguments, stdin=other, stdout=other, stderr=other,
                                      env=environment)
        os.close(other)

    def finish(self):
        """Everything that was shown, and the exit code."""
        shown = b""
        while True:
            try:
                piece = os.read(self.end, 65536)
            except OSError:  # EIO: the command has ended
                break
            if not piece:
                break
            shown += piece
        os.close(self.end)
        return shown.decode(), self.child.wait(10)


@pytest.mark.parametrize("columns", [100, 50, 12])
def test_on_a_terminal_there_are_bars(tarn, upstream, columns):
    upstream.image("org/one", [noise(2 * MIB), noise(200 * KIB)], tag="1")
    upstream.fault("/blobs/", bytes_per_second=2 * MIB)
    shown, code = Terminal([tarn.program, "warm", "--root", str(tarn.root), "org/one:1"],
                           tarn.environment, columns).finish()
    assert code == 0, shown
    frames = shown.split("\x1b[J")
    assert len(frames) >= 4  # it was drawn again and again
    if columns == 100:
        assert re.search(r"[0-9a-f]{12} layer +\[=+> +\] .* MiB of 2\.0 MiB", shown)
        assert re.search(r"total +\[=+\] 2\.2 MiB of 2\.2 MiB, .*/s", frames[-2])
    assert "org/one:1: done, 2.2 MiB fetched" in frames[-1]
    lines = re.sub(r"\x1b\[[0-9]*[AKJ]|\r", "", "".join(frames[:-1])).split("\n")
    assert max(map(len, lines)) <= columns


def test_a_low_terminal_shows_what_moves(tarn, upstream):
    upstream.image("org/one", [noise(100, number) for number in range(20)], tag="1")
    shown, code = Terminal([tarn.program, "warm", "--root", str(tarn.root), "org/one:1"],
                           tarn.environment, rows=10).finish()
    assert code == 0
    for up in re.findall(r"\x1b\[(\d+)A", shown):
        assert int(up) < 10


def test_json_on_a_terminal(tarn, upstream):
    upstream.image("org/one", [b"layer"], tag="1")
    shown, code = Terminal([tarn.program, "warm", "--json", "--root", str(tarn.root), "org/one:1"],
                           tarn.environment).finish()
    assert code == 0
    assert json.loads(shown.strip().split("\r\n")[-1])["state"] == "done"


# ---- the socket


def test_the_socket_is_its_owners_alone_and_goes_with_tarn(tarn):
    path = tarn.root / "tarn.sock"
    mode = os.stat(path).st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    tarn.stop()
    assert not path.exists()
    tarn.start()


def test_a_socket_left_by_a_crash_is_replaced(tarn, upstream, warm):
    upstream.image("org/one", [b"layer"], tag="1")
    tarn.kill()
    assert (tarn.root / "tarn.sock").exists()
    tarn.start()
    assert warm(tarn, "org/one:1")[0] == 0


def test_nobody_warms_over_tcp(tarn, upstream):
    reply = tarn.get("/tarn/v1/warm", method="POST", body=b'{"images":["org/one:1"]}')
    assert reply.status in (404, 405)
    assert not upstream.asked()


@pytest.mark.parametrize("method, path, body, status", [
    ("GET", "/tarn/v1/warm", None, 405),
    ("POST", "/v2/", b"{}", 404),
    ("POST", "/tarn/v1/warm", None, 400),
    ("POST", "/tarn/v1/warm", b"images", 400),
    ("POST", "/tarn/v1/warm", b'{"images":[]}', 400),
    ("POST", "/tarn/v1/warm", b'{"images":"a"}', 400),
    ("POST", "/tarn/v1/warm", b'{"images":[1]}', 400),
    ("POST", "/tarn/v1/warm", b'{"images":["a"],"platforms":"b"}', 400),
    ("POST", "/tarn/v1/warm", b'{"images":["' + b"a" * 300000 + b'"]}', 413),
])
def test_the_socket_refuses_what_is_no_order(tarn, method, path, body, status):
    got, content = ask_admin(tarn, method, path, body)
    assert got == status, content
    assert json.loads(content)["errors"][0]["message"]


def test_a_chunked_order_is_refused(tarn):
    body = iter([b'{"images":["a"]}'])
    status, _ = ask_admin(tarn, "POST", "/tarn/v1/warm", body)
    assert status == 411


# ---- by the configuration


def test_the_configured_images_are_warmed_after_the_start(start_tarn, upstream, platforms):
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}],
                      warm=[{"images": ["org/app:1"], "platforms": ["linux/amd64"]}])
    tarn.logged("image warmed", 10)
    assert upstream.blob_bytes() == platforms.blob_bytes("amd64")


def test_the_configured_images_are_looked_at_again(start_tarn, upstream):
    upstream.image("org/one", [b"first"], tag="1")
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True,
                        "tag_ttl": "0"}],
                      warm=[{"images": ["org/one:1"], "every": "1s"}])
    tarn.logged("image warmed", 10)
    second = b"second"
    upstream.image("org/one", [second], tag="1")
    tarn.wait_cached("org/one", upstream.repository("org/one").add_blob(second))


def test_an_image_that_cannot_be_warmed_is_logged_and_tarn_serves(start_tarn, upstream):
    upstream.image("org/one", [b"layer"], tag="1")
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}],
                      warm=[{"images": ["org/none:1", "org/one:1"]}])
    tarn.logged("image not warmed.*org/none:1", 10)
    tarn.logged("image warmed.*org/one:1", 10)


# ---- prefetch


def test_a_manifest_brings_its_layers_along(start_tarn, upstream):
    layers = [noise(MIB, number) for number in range(3)]
    digest = upstream.image("org/one", layers, tag="1")
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True,
                        "prefetch": True}])
    assert tarn.manifest("org/one", "1").status == 200
    repository = upstream.repository("org/one")
    for blob in [b"{}", *layers]:
        wait_until(lambda path=f"{repository.add_blob(blob)}$": upstream.asked(path),
                   "the layer is asked for before any client does")
    for layer in layers:
        assert tarn.blob("org/one", repository.add_blob(layer)).body == layer
    assert upstream.blob_bytes() == sum(map(len, layers)) + len(b"{}")
    assert digest in tarn.manifest("org/one", "1")["Docker-Content-Digest"]


def test_without_prefetch_a_manifest_comes_alone(tarn, upstream):
    upstream.image("org/one", [noise(1000)], tag="1")
    assert tarn.manifest("org/one", "1").status == 200
    time.sleep(0.5)
    assert not upstream.asked("/blobs/")
