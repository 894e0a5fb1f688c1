"""Configures, starts, asks, stops and inspects a tarn."""

import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess

from kit.client import Download, fetch
from kit.content import OCI_INDEX, OCI_MANIFEST
from kit.processes import Program, accepts, free_port, run, wait_until
from kit.yaml_text import yaml_text

LEAKS = pathlib.Path(__file__).with_name("leaks.supp")
SANITIZER_REPORT = re.compile(
    r"(ERROR|WARNING): (Address|Leak|Thread|Memory)Sanitizer|runtime error:|SUMMARY: \w+Sanitizer")


def bare_environment(home, **more):
    """An environment without anything of the machine's own configuration."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8",
                   "NO_GCE_CHECK": "true"}
    # script/coverage turns the confinement off, so that the program can write its counts.
    for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "LSAN_OPTIONS", "TARN_CONFINE"):
        if name in os.environ:
            environment[name] = os.environ[name]
    # If a thread ends while the process exits, OpenSSL's error state of that thread is not freed:
    # one allocation without a function of tarn in its stack.
    environment.setdefault("LSAN_OPTIONS", f"suppressions={LEAKS}:print_suppressions=0")
    environment.update(more)
    return environment


class Tarn:
    """A `tarn serve` that can be started again on its cache after a stop or a crash."""

    def __init__(self, program, directory, settings, environment=None, flags=(), stderr=None):
        self.program, self.directory, self.stderr = program, directory, stderr
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "home").mkdir(exist_ok=True)
        self.root = pathlib.Path(settings.get("root", self.directory / "root"))
        first = settings.get("listen", [None])[0]
        self.port = int(first.rpartition(":")[2]) if first else free_port()
        self.settings = {"listen": f"127.0.0.1:{self.port}", "root": str(self.root),
                         "server_names": ["a", "tarn", "x"],  # in Host, where a test sends raw bytes
                         "log": {"level": "debug", "format": "text"}, "grace": "2s", **settings}
        self.config_path = self.directory / "tarn.yaml"
        self.environment = bare_environment(self.directory / "home", **(environment or {}))
        self.flags = list(flags)
        self.expected_exit = 0
        self.process = None
        self.start()

    # ---- start and stop

    def start(self, ready=True):
        self.config_path.write_text(yaml_text(self.settings))
        self.process = Program(
            [self.program, "serve", "--config", self.config_path, *self.flags],
            self.directory / "tarn.log", self.environment, self.directory, self.stderr)
        if ready:
            self.process.wait_ready(self._is_ready)

    def _is_ready(self):
        try:
            return fetch(f"{self.url}/readyz", timeout=5).status == 200
        except OSError:
            return False

    def stop(self, seconds=20.0):
        """Sends SIGTERM; fails unless tarn exits with 0 in time and no sanitizer reported
        anything."""
        assert self.process.runs(), \
            f"tarn ended by itself with {self.process.child.returncode}:\n{self.log()}"
        code = self.process.stop(seconds)
        self.check_log()
        assert code == 0, f"tarn exited with {code} on SIGTERM:\n{self.log()[-6000:]}"

    def kill(self):
        """Sends SIGKILL."""
        self.process.kill()

    def restart(self):
        self.stop()
        self.start()

    def finish(self):
        """For the end of a test: stops tarn, and fails if it had ended by itself."""
        if self.process.child.returncode == -signal.SIGKILL:
            self.check_log()
        elif self.process.child.returncode is None:
            # Longer than the grace: a busy machine may be slow, and how long an end takes is for
            # other tests.
            self.stop(60)
        shutil.rmtree(self.root, ignore_errors=True)

    def check_log(self):
        log = self.log()
        found = SANITIZER_REPORT.search(log)
        assert not found, f"a sanitizer reported:\n{log[max(0, found.start() - 500):][:8000]}"

    def log(self):
        return self.process.log()

    def logged(self, pattern, seconds=30):
        """Waits until the log has a line that matches (lines are written a little later)."""
        return wait_until(lambda: re.search(pattern, self.log()), f"a log line like {pattern}",
                          seconds)

    # ---- requests

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    @property
    def url(self):
        return f"http://{self.address}"

    def get(self, path, headers=None, **more):
        return fetch(self.url + path, headers, **more)

    def head(self, path, headers=None, **more):
        return fetch(self.url + path, headers, method="HEAD", **more)

    def download(self, path, headers=None, **more):
        return Download(self.url + path, headers, **more)

    def manifest(self, repository, reference, method="GET", **more):
        return fetch(f"{self.url}/v2/{repository}/manifests/{reference}",
                     {"Accept": f"{OCI_MANIFEST}, {OCI_INDEX}, */*"}, method=method, **more)

    def blob(self, repository, digest, headers=None, **more):
        return fetch(f"{self.url}/v2/{repository}/blobs/{digest}", headers, **more)

    def metrics(self):
        """name{labels} -> value"""
        values = {}
        for line in self.get("/metrics").body.decode().splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                values[name] = float(value)
        return values

    def wait_cached(self, repository, digest):
        """
        Waits until the whole blob is cached and verified: its file is in ROOT/blobs, where only
        verified files are, and a HEAD is a hit.
        """
        path = f"/v2/{repository}/blobs/{digest}"
        algorithm, _, name = digest.partition(":")
        file = self.root / "blobs" / algorithm / name[:2] / name
        wait_until(lambda: file.exists() and "hit" in self.head(path).cache_status,
                   f"{digest} to be cached", pause=0.05)

    def settle(self):
        """
        Waits until every manifest that was answered is stored. tarn stores it after the answer; an
        order over the socket waits for that.
        """
        with socket.socket(socket.AF_UNIX) as order:
            order.connect(str(self.root / "tarn.sock"))
            order.sendall(b"GET /tarn/v1/du HTTP/1.1\r\nHost: tarn\r\nConnection: close\r\n\r\n")
            while order.recv(65536):
                pass

    def wait_for_workers(self):
        """Waits until no worker is busy, so that what they do after a response is done, too."""
        wait_until(lambda: self.metrics()["tarn_workers_busy"] == 0, "no worker busy", 60)

    def peak_memory(self):
        """The most resident bytes so far."""
        return self._memory("VmHWM")

    def memory(self):
        """Resident bytes now, including those of memory files."""
        held = 0
        for name in os.listdir(f"/proc/{self.process.pid}/fd"):
            path = f"/proc/{self.process.pid}/fd/{name}"
            try:
                if os.readlink(path).startswith("/memfd:"):
                    held += os.stat(path).st_blocks * 512
            except OSError:
                pass  # closed meanwhile
        return self._memory("VmRSS") + held

    def open_files(self):
        """The target of each of its descriptors: socket, file, pipe…"""
        found, folder = [], f"/proc/{self.process.pid}/fd"
        for name in os.listdir(folder):
            try:
                found.append(os.readlink(f"{folder}/{name}").partition(":[")[0])
            except OSError:
                pass  # closed meanwhile
        return found

    def figures(self):
        """The figures that must not grow. Memory files count as resident."""
        return {"resident": self.memory(), "descriptors": len(self.open_files()),
                "threads": len(os.listdir(f"/proc/{self.process.pid}/task"))}

    def _memory(self, name):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return int(re.search(rf"{name}:\s+(\d+) kB", file.read()).group(1)) << 10


def finish_all(tarns):
    """Ends each of them as a test does, and fails with the first that fails."""
    failures = []
    for one in tarns:
        try:
            one.finish()
        except AssertionError as failure:
            failures.append(failure)
    if failures:
        raise failures[0]


class TlsTarn(Tarn):
    """Speaks TLS, so it counts as ready when it accepts connections: plain HTTP gets no answer."""

    def _is_ready(self):
        return accepts(self.port)


def self_signed(directory, names="DNS:localhost"):
    """The files of a new certificate for localhost, or other names, and of its key."""
    certificate, key = directory / "tls.crt", directory / "tls.key"
    run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=localhost",
         "-addext", f"subjectAltName={names}"])
    return certificate, key


def tarn_command(program, *arguments, home, check=False, environment=None):
    """Runs another command of tarn to its end."""
    return run([program, *arguments], environment=bare_environment(home, **(environment or {})),
               seconds=20, check=check, directory=home)


def is_sanitized(program):
    """Whether the program has a sanitizer, which keeps freed memory and has to be loaded first."""
    with open(program, "rb") as file:
        content = file.read()
    return b"__asan_init" in content or b"__tsan_init" in content


def serve_that_fails(program, *arguments, home, environment=None):
    """Runs a `tarn serve` that should refuse to start; ends it if it starts."""
    try:
        return tarn_command(program, "serve", *arguments, home=home, environment=environment)
    except subprocess.TimeoutExpired as started:
        raise AssertionError(f"tarn serve {arguments} did not refuse to start") from started
