"""
Three tarns, all bad neighbours at once, and ordinary clients beside them.

The `open` tarn has the good upstream and those of all attacks, `login` wants a password, and `tls`
speaks TLS. The ordinary clients ask for what is cached (hot_client.py), and pull new images from
the good upstream (cold_client.py). verdict.py judges what happened.
"""

import os
import time
from dataclasses import replace

from kit.content import KIB, MIB, OCI_MANIFEST, digest_of, noise
from kit.hostile import bad_clients, bad_upstreams
from kit.hostile.attack import LAYER_DIGEST, Target
from kit.hostile.cold_client import LAYERS, ColdClient
from kit.hostile.hot_client import Question
from kit.hostile.process import AttackProcess, HotProcess
from kit.hostile.watch import LogReader, Watch
from kit.processes import run, wait_until
from kit.scripted_registry import ScriptedRegistry
from kit.tarn import Tarn, TlsTarn, self_signed
from kit.tokens import basic

ATTACKS = bad_upstreams.ATTACKS + bad_clients.ATTACKS
MAX_SIZE = 128 * MIB
LARGEST = 8 * MIB           # of the blobs that are ever complete
MOST_BYTES = MAX_SIZE + LARGEST + MAX_SIZE // 100
SMALL, LARGE = noise(20 * KIB, "small"), noise(LARGEST, "large")
COLD_CLIENTS = 2
CONTROL = "control"         # the question to a server that nobody attacks
HEALTH_SECONDS = 1.0        # of 99 % of health and metrics: the usual timeout of a kubelet's probe
PASSWORD = ("ann", "correct horse")

assert max(LAYERS) <= LARGEST


class Scene:
    """
    `scale` is the share of the clients that each attack has. `settings` are those of the three
    tarns, `upstream_settings` those of each upstream. `control` is (port, path) of a server that
    nobody attacks, for the clients that measure; `pace` is how fast these ask. The readers of the
    logs stand still for `stands_still` seconds and read for as many, in turn.
    """

    def __init__(self, program, directory, scale=1.0, settings=None, upstream_settings=None,
                 control=None, stands_still=10.0, pace=1.0, attacks=ATTACKS):
        self.program, self.directory, self.scale = program, directory, scale
        self.upstream_settings = upstream_settings or {}
        self.control, self.pace = control, pace
        self.registry = ScriptedRegistry()
        self.registry.image("org/app", [SMALL, LARGE], tag="1")
        repository = self.registry.repository("org/app")
        self.manifest_digest = repository.tags["1"]
        self.manifest = repository.manifests[self.manifest_digest][0]
        self.tarns, self.logs, self.attacks, self.cold = {}, [], [], []
        self.hot = None
        try:
            self._start(attacks, settings or {}, stands_still)
        except BaseException:
            self.abandon()
            raise

    # ---- the start

    def _start(self, attacks, settings, stands_still):
        directory = self.directory
        directory.mkdir(parents=True, exist_ok=True)
        self.attacks = [AttackProcess(kind, number, self.scale, directory)
                        for number, kind in enumerate(attacks)]
        fifo = directory / bad_upstreams.FIFO
        os.mkfifo(fifo)
        bad = [entry for attack in self.attacks
               for entry in attack.kind.entries(attack.port(), directory)]
        users = directory / "htpasswd"
        run(["htpasswd", "-Bbc", users, *PASSWORD])
        certificate, key = self_signed(directory)
        good = {"host": "good.test", "url": self.registry.url, "default": True}
        self._start_tarn("open", Tarn, stands_still, settings, [good, *bad])
        self._start_tarn("login", Tarn, stands_still, {
            **settings, "clients": {"htpasswd": str(users)}}, [good])
        self._start_tarn("tls", TlsTarn, stands_still, {
            **settings, "tls": {"certificate": str(certificate), "key": str(key)}}, [good])
        self.watches = {name: Watch(tarn, 5 if self.scale == 1 else 1, MOST_BYTES)
                        for name, tarn in self.tarns.items()}

    def _start_tarn(self, name, kind, stands_still, settings, upstreams):
        directory = self.directory / name
        directory.mkdir()
        log = LogReader(directory / "tarn.log", stands_still)
        self.logs.append(log)
        self.tarns[name] = kind(
            self.program, directory, {
                "max_size": MAX_SIZE, "log": {"level": "info", "format": "text"}, **settings,
                "upstreams": [{**self.upstream_settings, **entry} for entry in upstreams]},
            # A sanitizer's report must not wait for the reader of the log.
            environment={"ASAN_OPTIONS": f"log_path={directory}/sanitizer"}, stderr=log.writing)

    def fill(self):
        """Brings into the caches what ordinary clients want, and what later turns bad."""
        tarn = self.tarns["open"]
        assert tarn.manifest("org/app", "1").body == self.manifest
        for content in (SMALL, LARGE):
            digest = digest_of(content)
            assert tarn.blob("org/app", digest).body == content
            tarn.wait_cached("org/app", digest)
        for attack in self.attacks:
            if attack.kind.is_primed:
                name = f"{attack.kind.host()}/org/app"
                reply = tarn.manifest(name, "1")
                assert reply.status == 200, f"before the attack {attack.name}: {reply}"
                assert tarn.blob(name, LAYER_DIGEST).status == 200
        login = self.tarns["login"]
        assert login.get("/v2/org/app/manifests/1", self._accept(login=True)).status == 200

    # ---- the ordinary clients

    @staticmethod
    def _accept(login=False):
        return {"Accept": OCI_MANIFEST, **({"Authorization": basic(*PASSWORD)} if login else {})}

    def questions(self):
        """What the measuring client asks, in its order."""
        ports = {name: tarn.port for name, tarn in self.tarns.items()}
        manifests, blobs = "/v2/org/app/manifests/", "/v2/org/app/blobs/"
        text, small = digest_of(self.manifest)[7:], digest_of(SMALL)
        accept, port = self._accept(), ports["open"]
        asked = [
            Question("manifest by tag", port, f"{manifests}1", accept, sha256=text),
            Question("manifest by digest", port, manifests + self.manifest_digest, accept,
                     sha256=text, hit=True),
            Question("small blob", port, blobs + small, sha256=small[7:], hit=True),
            Question("HEAD of a blob", port, blobs + small, method="HEAD", hit=True),
            Question("304", port, manifests + self.manifest_digest, status=304, headers={
                **accept, "If-None-Match": f'"{self.manifest_digest}"'}),
            Question("manifest with a password", ports["login"], f"{manifests}1",
                     self._accept(login=True), sha256=text, period=0.1),
            Question("manifest over TLS", ports["tls"], f"{manifests}1", accept, sha256=text,
                     tls=True, period=0.1)]
        bad = next((attack.kind.host() for attack in self.attacks if attack.kind.is_primed), None)
        if bad:
            path = f"/v2/{bad}/org/app/manifests/"
            digest = self.tarns["open"].head(f"{path}1", accept)["Docker-Content-Digest"]
            asked.append(Question(f"manifest of {bad}, by digest", port, path + digest, accept,
                                  sha256=digest[7:], hit=True, period=0.1))
        if self.control:
            asked.append(Question(CONTROL, self.control[0], self.control[1]))
        asked += [
            Question(f"health and metrics, {name}", port, path, tls=name == "tls", period=0.5,
                     limit=HEALTH_SECONDS)
            for name, port in ports.items() for path in ("/livez", "/readyz", "/metrics")]
        return [replace(question, period=question.period / self.pace) for question in asked]

    # ---- the attack

    def begin(self):
        """Starts everything; returns at once."""
        self.questions_asked = self.questions()
        self.hot = HotProcess(self.questions_asked)
        self.cold = [ColdClient(self.registry, self.tarns["open"].url, number, 1.0)
                     for number in range(COLD_CLIENTS)]
        for watch in self.watches.values():
            watch.start()
        target = Target({name: tarn.port for name, tarn in self.tarns.items()}, "org/app", "1",
                        self.manifest_digest, digest_of(LARGE), len(LARGE))
        for attack in self.attacks:
            attack.say(target)
        self.began = time.monotonic()

    def waiting(self):
        """The attacks of which not every client has acted once."""
        return [attack.name for attack in self.attacks if not attack.has_acted]

    def end(self, patience):
        """
        Stops the ordinary clients, then every tarn in mid-attack, then the attacks. Returns what
        was seen; `patience` is how long a tarn may take to end.
        """
        seen = {"seconds": time.monotonic() - self.began}
        for client in self.cold:
            client.stopping.set()
        for client in self.cold:
            client.stop()
        seen["hot"] = self.hot.end()
        seen["metrics"] = self.tarns["open"].metrics()
        for watch in self.watches.values():
            watch.stop()
        for attack in self.attacks:
            attack.say("tarn ends")
        # Tarn closes connections when it ends. An attack that does not know it yet, because other
        # processes go before it, would take that for a fault.
        wait_until(lambda: all(attack.knows_of_the_end for attack in self.attacks),
                   "the attacks to hear of the end", 120)
        seen["ends"] = self._terminate(patience)
        for attack in self.attacks:
            attack.end()
        self.registry.stop()
        for log in self.logs:
            log.close()
        return seen

    def _terminate(self, patience):
        """SIGTERM to every tarn; {name: (exit code or None, seconds)}."""
        for tarn in self.tarns.values():
            assert tarn.process.runs(), f"tarn has ended by itself:\n{tarn.log()[-3000:]}"
        started, ends = time.monotonic(), {}
        for tarn in self.tarns.values():
            tarn.process.child.terminate()
        while len(ends) < len(self.tarns) and time.monotonic() < started + patience:
            for name, tarn in self.tarns.items():
                if name not in ends and not tarn.process.runs():
                    ends[name] = tarn.process.child.returncode, time.monotonic() - started
            time.sleep(0.01)
        for name, tarn in self.tarns.items():
            ends.setdefault(name, (None, patience))
            tarn.kill()
        return ends

    def abandon(self):
        """Ends everything that still runs, after a failure."""
        for client in self.cold:
            client.stopping.set()
        for process in [*self.attacks, *([self.hot] if self.hot else [])]:
            process.kill()
        for tarn in self.tarns.values():
            if tarn.process and tarn.process.runs():
                tarn.kill()
        self.registry.stop()
