"""Runs tarn images, and reads what it prints."""

import json
import subprocess

from kit.tarn import SANITIZER_REPORT, bare_environment
from kit.yaml_text import yaml_text


class Done:
    """A command that has ended."""

    def __init__(self, process):
        self.status, self.out, self.err = process.returncode, process.stdout, process.stderr

    @property
    def lines(self):
        """The lines of JSON but the last ones of the repositories."""
        return [line for line in map(json.loads, self.out.splitlines()) if "listed" not in line]

    @property
    def ends(self):
        return [line for line in map(json.loads, self.out.splitlines()) if "listed" in line]

    @property
    def tags(self):
        return [line["tags"] for line in self.lines]


class Images:
    """The command on a machine of its own, with a configuration of its own."""

    def __init__(self, program, folder, **environment):
        self.program, self.folder = program, folder
        self.secrets = lambda: []  # what must not be shown
        folder.mkdir()
        self.environment = bare_environment(folder, **environment)

    def configure(self, *upstreams):
        self.file = self.folder / "tarn.yaml"
        self.file.write_text(yaml_text({"upstreams": list(upstreams)}))

    def command(self, *arguments):
        return [self.program, "images", "--config", str(self.file), *map(str, arguments)]

    def run(self, *arguments, status=0):
        done = Done(subprocess.run(self.command(*arguments), capture_output=True, text=True,
                                   env=self.environment, timeout=120, check=False,
                                   cwd=self.folder, stdin=subprocess.DEVNULL))
        assert not SANITIZER_REPORT.search(done.err), done.err
        for secret in self.secrets():
            assert secret not in done.err + done.out
        assert done.status == status, done.err
        return done

    def json(self, *arguments, status=0):
        return self.run("--json", *arguments, status=status)
