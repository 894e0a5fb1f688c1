"""Configures, starts, asks, stops and inspects a `tarn node`."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

import pytest

from kit.client import fetch
from kit.processes import Program, free_port, wait_until
from kit.tarn import SANITIZER_REPORT, bare_environment
from kit.yaml_text import yaml_text

WORKER, SUPERVISOR = "node.pid", "supervisor.pid"

# Marks of the tests that mount.
ON_A_NODE = [pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists("/dev/fuse"),
                                reason="only root can mount, and the kernel needs FUSE"),
             pytest.mark.xdist_group("node")]


def lives(pid):
    """Whether the process is there and no zombie."""
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


class Agent:
    """A `tarn node` with folders of its own, and the commands that ask it."""

    def __init__(self, program, directory, sources, **settings):
        self.program, self.directory = program, pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "home").mkdir(exist_ok=True)
        # The kernel takes paths of at most 255 bytes.
        self.short = pathlib.Path(tempfile.mkdtemp(prefix="tarn-node-"))
        self.run_folder, self.root = self.short / "run", self.short / "root"
        self.port = free_port()
        self.settings = {"from": list(sources), "root": str(self.root),
                         "run": str(self.run_folder), "listen": f"127.0.0.1:{self.port}",
                         "log": {"level": "debug", "format": "json"}, **settings}
        self.environment = bare_environment(self.directory / "home")
        self.folders, self.processes = [], []
        self.process = None
        self.start()

    # ---- start and stop

    def start(self, ready=True):
        config = self.directory / "node.yaml"
        config.write_text(yaml_text(self.settings))
        self.process = Program([self.program, "node", "--config", config],
                               self.directory / "node.log", self.environment, self.directory)
        self.processes.append(self.process)
        if ready:
            self.process.wait_ready(self.is_ready)

    def is_ready(self):
        return self.mounts(check=False) is not None

    def stop(self, seconds=30):
        code = self.process.stop(seconds)
        assert code == 0, f"tarn node exited with {code}:\n{self.log()[-6000:]}"

    def pid(self, name):
        return int((self.run_folder / name).read_text())

    def kill(self, *names, wait=True):
        """Kills processes by kill -9: the worker, the supervisor, or both."""
        pids = [self.pid(name) for name in names]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        if SUPERVISOR in names:
            self.process.child.wait(20)
        for pid in pids if wait else ():
            wait_until(lambda: not lives(pid), f"process {pid} to end")
        return pids

    def wait_worker(self, before, seconds=20):
        """Waits for another worker than that; gives its process ID."""
        def another():
            try:
                pid = self.pid(WORKER)
            except (OSError, ValueError):
                return None
            return pid if pid != before and lives(pid) else None
        return wait_until(another, "another worker", seconds, pause=0.005)

    def finish(self):
        """For the end of a test."""
        for folder in reversed(self.folders):
            subprocess.run(["umount", "-l", folder], stderr=subprocess.DEVNULL, check=False)
        for name in (SUPERVISOR, WORKER):
            try:
                pid = self.pid(name)
                if "tarn" in pathlib.Path(f"/proc/{pid}/comm").read_text() or lives(pid):
                    os.kill(pid, signal.SIGTERM)
                    wait_until(lambda: not lives(pid), f"process {pid} to end", 30)
            except (OSError, ValueError):
                pass
        for process in self.processes:
            process.kill()
        mounts = [line.split()[4] for line in open("/proc/self/mountinfo", encoding="utf-8")]
        for folder in reversed(mounts):
            if folder.startswith(f"{self.run_folder}/"):
                subprocess.run(["umount", "-l", folder], stderr=subprocess.DEVNULL, check=False)
        shutil.rmtree(self.short, ignore_errors=True)
        found = SANITIZER_REPORT.search(self.log())
        assert not found, f"a sanitizer reported:\n{self.log()[max(0, found.start() - 500):][:8000]}"

    def log(self):
        return (self.directory / "node.log").read_text(encoding="utf-8", errors="replace")

    def logged(self, message, seconds=30):
        """Waits for a line with this message; gives all of them."""
        def lines():
            found = []
            for line in self.log().splitlines():
                try:
                    line = json.loads(line)
                except ValueError:
                    continue
                if line.get("message", line.get("msg")) == message:
                    found.append(line)
            return found
        return wait_until(lines, f"a log line \"{message}\"", seconds)

    # ---- commands

    def command(self, name, *operands, seconds=120):
        return subprocess.run(
            [self.program, name, *map(str, operands), "--run", str(self.run_folder)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False,
            text=True, timeout=seconds, env=self.environment)

    def mount(self, image, folder, *options, status=0, note=None):
        """Mounts; fails unless the command ends with the status, and silent unless there is a
        note. Gives the folder."""
        pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
        self.folders.append(str(folder))
        done = self.command("mount", image, folder, *options)
        assert done.returncode == status, f"exit {done.returncode}: {done.stderr}\n{self.log()[-3000:]}"
        assert done.stdout == ""
        if status == 0:
            assert (note in done.stderr and done.stderr.count("\n") == 1) if note \
                else done.stderr == "", done.stderr
            return pathlib.Path(folder)
        return done.stderr

    def unmount(self, folder, status=0):
        done = self.command("unmount", folder)
        assert done.returncode == status, f"exit {done.returncode}: {done.stderr}"
        assert done.stdout == ""
        assert (done.stderr == "") == (status == 0), done.stderr
        return done.stderr

    def mounts(self, check=True):
        """A dict for each mount; None: the agent does not answer."""
        done = self.command("mounts", "--json")
        if done.returncode != 0 and not check:
            return None
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def mount_at(self, folder):
        for each in self.mounts():
            if each["dir"] == str(folder):
                return each
        return None

    def wait_state(self, folder, state, seconds=60):
        return wait_until(lambda: (each := self.mount_at(folder)) and each["state"] == state and each,
                          f"{folder} to be {state}", seconds)

    def get(self, path):
        return fetch(f"http://127.0.0.1:{self.port}{path}")

    def metric(self, name):
        """The value of a metric, with its labels as they are written."""
        for line in self.get("/metrics").body.decode().splitlines():
            if line.rpartition(" ")[0] == name:
                return float(line.rpartition(" ")[2])
        return None
