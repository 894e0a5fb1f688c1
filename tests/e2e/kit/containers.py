"""Container engines with all their state in a folder of the test, stopped by process id."""

import os
import shutil
import socket

import pytest

from kit.processes import Program, run


def needs(*programs):
    """Skips a test whose programs are not installed; script/bootstrap installs all of them."""
    missing = [name for name in programs if shutil.which(name, path=search_path()) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def search_path():
    """PATH with the folders of daemons."""
    return os.environ["PATH"] + ":/usr/sbin:/sbin"


def environment(home):
    return {"PATH": search_path(), "HOME": str(home), "LANG": "C.UTF-8",
            "XDG_RUNTIME_DIR": str(home), "TMPDIR": str(home)}


def listens(path):
    """Whether a process accepts connections on this socket file."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
            return True
        except OSError:
            return False


class Containerd:
    """A containerd of the test's own, used by ctr."""

    def __init__(self, directory, more='disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'):
        """`more` is what its configuration has beside the version and the socket."""
        directory.mkdir()
        self.directory, self.socket = directory, directory / "c.sock"
        self.config = directory / "config.toml"
        self.config.write_text(f'version = 2\n{more}\n[grpc]\n  address = "{self.socket}"\n')
        self.start()

    def start(self):
        self.process = Program(
            ["containerd", "--config", self.config, "--root", self.directory / "root", "--state",
             self.directory / "state", "--address", self.socket],
            self.directory / "containerd.log", environment(self.directory))
        self.process.wait_ready(lambda: listens(self.socket), 30)

    def ctr(self, *arguments, check=True):
        return run(["ctr", "--address", self.socket, *arguments],
                   environment=environment(self.directory), check=check)

    def stop(self):
        self.process.stop()


class Dockerd:
    """A dockerd of the test's own, used by docker. It uses the containerd that it is given."""

    def __init__(self, directory, containerd, insecure, config=None):
        """`config` is the daemon.json; without it, an empty one in place of the machine's."""
        directory.mkdir()
        self.directory, self.socket = directory, directory / "docker.sock"
        if config is None:
            config = directory / "daemon.json"
            config.write_text("{}")
        self.process = Program(
            ["dockerd", "--config-file", config, "--data-root",
             directory / "root", "--exec-root", directory / "exec",
             "--host", f"unix://{self.socket}", "--pidfile", directory / "pid",
             "--containerd", containerd.socket, "--iptables=false", "--ip6tables=false",
             "--bridge=none", "--storage-driver", "vfs", *insecure],
            directory / "dockerd.log", environment(directory))
        self.process.wait_ready(lambda: listens(self.socket), 40)

    def docker(self, *arguments, check=True):
        return run(["docker", "--host", f"unix://{self.socket}", "--config", self.directory,
                    *arguments], environment=environment(self.directory), check=check)

    def stop(self):
        self.process.stop()


class Podman:
    """podman with its own storage. podman allows a path of 50 bytes for the directory."""

    def __init__(self, directory):
        self.directory = directory

    def podman(self, *arguments, check=True):
        return run(["podman", "--root", self.directory / "root", "--runroot",
                    self.directory / "run", "--tmpdir", self.directory / "tmp",
                    "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs",
                    "--events-backend", "file", *arguments],
                   environment=environment(self.directory), check=check)
