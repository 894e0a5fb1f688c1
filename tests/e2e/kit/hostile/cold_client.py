"""An ordinary client that pulls new images from the good upstream, and checks every byte."""

import hashlib
import threading
import time

from kit.client import fetch
from kit.content import KIB, MIB, OCI_MANIFEST, noise

FINDINGS = 5
LAYERS = (700, 64 * KIB, 900 * KIB, 2 * MIB + 5)


class ColdClient:
    """A thread that pulls image after image. `url` is that of tarn."""

    def __init__(self, registry, url, number, pause):
        self.registry, self.url, self.number, self.pause = registry, url, number, pause
        self.findings, self.seconds = [], []
        self.pulled = self.failures = self.bytes_pulled = self.bytes_sent = 0
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def stop(self):
        self.stopping.set()
        self.thread.join(90)
        if self.thread.is_alive():
            self._fail("a pull of an ordinary client hangs")

    def _fail(self, what):
        self.failures += 1
        if len(self.findings) < FINDINGS:
            self.findings.append(what)

    def _run(self):
        while not self.stopping.is_set():
            try:
                self._pull(f"image {self.number} {self.pulled}")
            except Exception as error:  # a defect of the client is reported too
                self._fail(f"cold image: {type(error).__name__}: {error}")
            self.pulled += 1
            self.stopping.wait(self.pause)

    def _pull(self, seed):
        name = f"cold/app-{self.number}"
        layers = [noise(size, seed) for size in LAYERS]
        config = noise(300, seed)
        self.registry.image(name, layers, tag=f"t{self.pulled}", config=config)
        repository = self.registry.repository(name)
        text = repository.manifests[repository.tags[f"t{self.pulled}"]][0]
        if self._get(f"/v2/{name}/manifests/t{self.pulled}", text, {"Accept": OCI_MANIFEST}):
            for content in [config, *layers]:
                digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
                if self._get(f"/v2/{name}/blobs/{digest}", content):
                    self.bytes_pulled += len(content)
                    # The registry counts a byte after it has sent it.
                    self.registry.wait_idle(digest)
                    self.bytes_sent += self.registry.sent(digest)
        self.registry.forget_ended(f"/v2/{name}/")
        for known in (repository.blobs, repository.manifests, repository.tags):
            known.clear()

    def _get(self, path, right, headers=None):
        """Whether the right bytes came."""
        started = time.monotonic()
        try:
            reply = fetch(self.url + path, headers, timeout=60)
        except OSError as error:
            self._fail(f"cold {path}: {type(error).__name__}: {error} after "
                       f"{time.monotonic() - started:.1f} s")
            return False
        self.seconds.append(reply.seconds)
        if reply.status != 200 or not reply.complete:
            self._fail(f"cold {path} after {reply.seconds:.1f} s: {reply}")
        elif reply.body != right:
            self._fail(f"cold {path}: WRONG BYTES")
        else:
            return True
        return False
