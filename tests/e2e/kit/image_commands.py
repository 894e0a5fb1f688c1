"""Runs the commands that read and write images at registries, and reads what they print."""

import json
import subprocess

import pytest

from kit.scripted_server import several
from kit.tarn import SANITIZER_REPORT, bare_environment
from kit.writable_registry import WritableRegistry


class Done:
    """A command that has ended."""

    def __init__(self, process):
        self.status = process.returncode
        self.raw = process.stdout
        self.out, self.err = process.stdout.decode(), process.stderr.decode()

    @property
    def lines(self):
        return [json.loads(line) for line in self.out.splitlines()]

    def of(self, event):
        """The lines of one event."""
        return [line for line in self.lines if line["event"] == event]

    @property
    def result(self):
        [result] = self.of("result")
        return result

    def states(self, event="blob"):
        return sorted(line["state"] for line in self.of(event))


class ImageCommands:
    """tarn on a machine of its own, without a configuration of the machine's."""

    def __init__(self, program, folder, **environment):
        self.program, self.folder = program, folder
        folder.mkdir()
        self.configuration = folder / "none.yaml"
        self.configuration.write_text("upstreams: [{host: unused.test}]\n")
        self.environment = bare_environment(folder, **environment)
        self.secrets = []

    def run(self, name, *arguments, status=0, seconds=120, **options):
        """Every failure is one line on standard error, and says no secret."""
        command = [self.program, name, *map(str, arguments)]
        if "--config" not in arguments and name != "help":
            command += ["--config", str(self.configuration)]
        done = Done(subprocess.run(command, capture_output=True, env=self.environment,
                                   timeout=seconds, check=False, cwd=self.folder,
                                   stdin=subprocess.DEVNULL, **options))
        assert not SANITIZER_REPORT.search(done.err), done.err
        assert done.status == status, (done.status, done.err, done.out[-2000:])
        for secret in self.secrets:
            assert secret not in done.err + done.out
        if status == 0:
            assert done.err == "", done.err
        return done

    def fails(self, name, *arguments, **options):
        """The one line of a command that ends with 1."""
        done = self.run(name, *arguments, status=1, **options)
        assert done.err.startswith(f"tarn {name}: ") and done.err.count("\n") == 1, done.err
        return done


@pytest.fixture
def make_registry():
    yield from several(WritableRegistry)


@pytest.fixture
def source(make_registry):
    return make_registry()


@pytest.fixture
def target(make_registry):
    return make_registry(host="127.0.0.3")


@pytest.fixture
def tarn(program, tmp_path):
    return ImageCommands(program, tmp_path / "home")
