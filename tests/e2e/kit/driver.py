"""Builds and runs the small programs that drive one room of src/ from a test."""

import fcntl
import itertools
import json
import pathlib
import subprocess
import threading
import time

from kit.processes import run
from kit.tarn import bare_environment


def build_driver(program, name):
    """The driver `name` (kit/NAME.c) from the build that `program` is of."""
    folder = pathlib.Path(program).parent
    with open(folder / "build.ninja", "rb") as held:
        # Ninja does not know of other ninjas: one process of pytest would start what another links.
        fcntl.flock(held, fcntl.LOCK_EX)
        run(["ninja", "-C", folder, f"tests/e2e/{name}"], seconds=600)
    return folder / "tests" / "e2e" / name


class Driven:
    """A driver that runs, and the lines of JSON that it has printed."""

    numbers = itertools.count()

    def __init__(self, driver, config, directory, *arguments, environment=None):
        self.log_path = directory / f"driver-{next(self.numbers)}.log"
        self.told = []
        self.changed = threading.Condition()
        with open(self.log_path, "wb") as log:
            self.child = subprocess.Popen(
                [str(one) for one in (driver, config, *arguments)], text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                env={**bare_environment(directory), **(environment or {})})
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.child.stdout:
            with self.changed:
                self.told.append(json.loads(line))
                self.take(self.told[-1])
                self.changed.notify_all()

    def take(self, told):
        """A line, with the lock held."""

    def wait(self, condition, what, seconds=30):
        """Waits until `condition(self)` is true, looking after each line."""
        deadline = time.monotonic() + seconds
        with self.changed:
            while not condition(self):
                assert time.monotonic() < deadline and self.child.poll() is None, \
                    f"{what}: not within {seconds} s; {self.told[-20:]}\n{self.log()}"
                self.changed.wait(0.2)

    def log(self):
        return self.log_path.read_text()

    def stop(self):
        self.child.stdin.close()
        assert self.child.wait(30) == 0, self.log()
        assert "Sanitizer" not in self.log(), self.log()
