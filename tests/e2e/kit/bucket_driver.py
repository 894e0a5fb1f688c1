"""The client of the bucket (src/bucket/), called from a test."""

import json
import select
import subprocess

from kit.tarn import bare_environment


class BucketDriver:
    """A bucket's client that makes one call after the other."""

    def __init__(self, driver, directory, settings, environment=None):
        self.log_path = directory / "bucket_driver.log"
        self.made = directory / "made"
        with open(self.log_path, "ab") as log:
            self.child = subprocess.Popen(
                [str(driver), json.dumps(settings)], text=True, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=log,
                env={**bare_environment(directory), **(environment or {})})

    def call(self, what, key=None, **more):
        """Makes a call to its end; what came of it."""
        wanted = {"do": what, **({"key": key} if key is not None else {}), **more}
        self.child.stdin.write(json.dumps(wanted, default=str) + "\n")
        self.child.stdin.flush()
        ready, _, _ = select.select([self.child.stdout], [], [], 120)
        told = self.child.stdout.readline() if ready else ""
        assert told, f"no answer to {wanted}\n{self.log()}"
        return json.loads(told)

    def get(self, key, **more):
        """(what came of it, the bytes that came)"""
        self.made.unlink(missing_ok=True)
        told = self.call("get", key, file=str(self.made), **more)
        return told, self.made.read_bytes()

    def log(self):
        return self.log_path.read_text()

    def stop(self):
        self.child.stdin.close()
        try:
            assert self.child.wait(60) == 0, self.log()
        finally:
            self.child.kill()
        self.child.stdout.close()
        assert "Sanitizer" not in self.log(), self.log()
