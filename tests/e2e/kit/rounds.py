"""Rounds of many clients on a tarn behind a ChaosProxy; every byte that any gets is checked."""

import http.client
import os
import random
import re
import threading
import time
from dataclasses import dataclass

from kit.chaos import CALM, ChaosProxy, Weather
from kit.content import KIB, MIB, OCI_MANIFEST, digest_of, manifest, noise
from kit.processes import wait_until
from kit.tarn import Tarn

REPOSITORY = "chaos/app"
SIZES = [KIB, 5 * KIB, 64 * KIB - 1, 300 * KIB, MIB, MIB + 1, 2 * MIB + 77, 3 * MIB, 4 * MIB,
         6 * MIB + 13, 9 * MIB, 12 * MIB - 5]

CLIENTS = 8
ROUND_SECONDS = 1.5
PATIENCE = 40           # seconds after which an answer that does not end is a hang
CALM_SECONDS = 30       # in which everything has to be well again
DESCRIPTORS_MORE = 64   # than at the start: connections kept open to upstream
RESIDENT_MAX = 96 * MIB


class Wrong(AssertionError):
    """Something no client may ever see; says how to see it again."""


@dataclass(frozen=True)
class Plan:
    """What one round is like. Each four rounds have every combination of the two."""

    seed: int
    number: int
    corrupt: bool
    kill: bool

    @property
    def name(self):
        return f"{self.seed} {self.number}"

    def weather(self):
        share = random.Random(f"{self.name} share").uniform(0.15, 0.6)
        return Weather(self.name, share, self.corrupt, refusals=True)


def plans(seed):
    """The rounds of a seed, without end."""
    number = 0
    while True:
        kinds = [(corrupt, kill) for corrupt in (False, True) for kill in (False, True)]
        random.Random(f"{seed} {number} kinds").shuffle(kinds)
        for corrupt, kill in kinds:
            yield Plan(seed, number, corrupt, kill)
            number += 1


class Content:
    """What is at the origin: blobs, and tags whose manifests list some of them."""

    def __init__(self, origin, seed):
        blobs = [noise(size, f"chaos {seed}") for size in SIZES]
        self.blobs = {digest_of(blob): blob for blob in blobs}
        self.tags = {}
        for blob in blobs:
            origin.push_blob(REPOSITORY, blob)
        for first in range(0, len(blobs), 3):
            text = manifest(blobs[0], blobs[first:first + 3])
            self.tags[f"tag-{first}"] = text
            origin.push_manifest(REPOSITORY, text, OCI_MANIFEST, f"tag-{first}")


class Client:
    """One client of one round: asks for things at random, believes nothing."""

    def __init__(self, chaos, plan, number):
        self.chaos, self.plan, self.tarn = chaos, plan, chaos.tarn
        self.chance = random.Random(f"{plan.name} client {number}")
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        end = time.monotonic() + ROUND_SECONDS
        try:
            while time.monotonic() < end and not self.chaos.findings:
                self.chance.choices([self._whole, self._range, self._leave, self._manifest],
                                    [4, 4, 1, 2])[0]()
        except AssertionError as wrong:
            self.chaos.findings.append(str(wrong))
        except BaseException as error:  # a defect of the test: told just as loudly
            self.chaos.findings.append(f"{type(error).__name__}: {error}")

    def _ask(self, what, call):
        """The answer, None when a kill explains that there was none."""
        started = time.monotonic()
        try:
            reply = call()
        except (OSError, http.client.HTTPException) as error:
            assert time.monotonic() - started < PATIENCE - 1, f"{what}: no answer, {error}"
            assert self.plan.kill, f"{what}: {type(error).__name__}: {error}"
            return None
        self.chaos.answers[reply.status] = self.chaos.answers.get(reply.status, 0) + 1
        if reply.status == 0:
            assert self.plan.kill, f"{what}: closed without an answer"
            return None
        assert time.monotonic() - started < PATIENCE - 1, f"{what}: never ended: {reply}"
        assert reply.status in (200, 206) or 500 <= reply.status < 600, f"{what}: {reply}"
        return reply

    def _any_blob(self):
        digest = self.chance.choice(list(self.chaos.content.blobs))
        return digest, self.chaos.content.blobs[digest]

    def _strict(self, digest):
        """Whether no wrong byte of it can have come from upstream: then each has to be right."""
        return not self.plan.corrupt and digest not in self.chaos.proxy.corrupted

    def _whole(self):
        digest, blob = self._any_blob()
        what, strict = f"blob {digest} of {len(blob)}", self._strict(digest)
        reply = self._ask(what, lambda: self.tarn.blob(REPOSITORY, digest, timeout=PATIENCE))
        if reply and reply.status < 300:
            assert reply.status == 200, f"{what}: {reply}"
            assert reply["Content-Length"] == str(len(blob)), f"{what}: {reply}"
            self._check(what, reply.body, blob, reply.complete, strict or reply.complete)

    def _range(self):
        digest, blob = self._any_blob()
        size = len(blob)
        first = self.chance.randrange(size)
        last = self.chance.choice([first, size - 1, self.chance.randrange(first, size)])
        text = self.chance.choice([f"{first}-{last}", f"{first}-", f"-{size - first}"])
        if not text.endswith(f"-{last}") or text.startswith("-"):
            last = size - 1
        what, strict = f"bytes={text} of blob {digest} of {size}", self._strict(digest)
        reply = self._ask(what, lambda: self.tarn.blob(
            REPOSITORY, digest, {"Range": f"bytes={text}"}, timeout=PATIENCE))
        if reply and reply.status < 300:
            assert reply.status == 206, f"{what}: {reply}"
            assert reply["Content-Range"] == f"bytes {first}-{last}/{size}", f"{what}: {reply}"
            part = blob[first:last + 1]
            assert reply["Content-Length"] == str(len(part)), f"{what}: {reply}"
            self._check(what, reply.body, part, reply.complete, strict)

    def _leave(self):
        """Reads a part and goes away with RST."""
        digest, blob = self._any_blob()
        what, strict = f"a part of blob {digest} of {len(blob)}", self._strict(digest)
        try:
            with self.tarn.download(f"/v2/{REPOSITORY}/blobs/{digest}",
                                    timeout=PATIENCE) as download:
                download.read_what_comes(self.chance.uniform(0, 0.5))
        except (OSError, http.client.HTTPException) as error:
            assert self.plan.kill, f"{what}: {type(error).__name__}: {error}"
            return
        if download.status == 200:
            whole = len(download.body) == len(blob)
            self._check(what, download.body, blob, whole, strict or whole)

    def _manifest(self):
        tag, text = self.chance.choice(list(self.chaos.content.tags.items()))
        reply = self._ask(f"tag {tag}", lambda: self.tarn.manifest(REPOSITORY, tag,
                                                                   timeout=PATIENCE))
        if reply and reply.status == 200:
            self._check(f"tag {tag}", reply.body, text, reply.complete, True)

    def _check(self, what, got, right, complete, strict):
        self.chaos.add_checked(len(got))
        assert not complete or len(got) == len(right), \
            f"{what}: whole, but {len(got)} of {len(right)} bytes"
        assert len(got) <= len(right), f"{what}: {len(got)} bytes are too many"
        if strict and got != right[:len(got)]:
            wrong = [at for at, (one, two) in enumerate(zip(got, right)) if one != two]
            raise AssertionError(f"{what}: {'whole' if complete else 'cut'}, and {len(wrong)} "
                                 f"bytes are wrong, from {wrong[0]} to {wrong[-1]}")


class Chaos:
    """The tarn, its proxy, and what all clients found."""

    def __init__(self, program, origin, directory, seed):
        self.seed, self.program = seed, program
        self.content = Content(origin, seed)
        self.proxy = ChaosProxy(origin)
        self.findings, self.answers = [], {}
        self.bytes_checked, self.bytes_checked_lock = 0, threading.Lock()
        self.tarn = Tarn(program, directory, {
            "log": {"level": "warn", "format": "text"},
            "upstreams": [{"host": "origin.test", "url": self.proxy.url, "default": True,
                           "tag_ttl": "0", "connect_timeout": "1s", "stall_timeout": "1s",
                           "first_byte_timeout": "2s"}]})
        self.descriptors_at_start = self._descriptors()

    def add_checked(self, size):
        with self.bytes_checked_lock:
            self.bytes_checked += size

    def round(self, plan):
        self.proxy.weather = plan.weather()
        self._forget_corruption()
        chance = random.Random(f"{plan.name} driver")
        started = time.monotonic()
        kills = sorted(started + chance.uniform(0.1, ROUND_SECONDS)
                       for _ in range(plan.kill * chance.randint(1, 2)))
        self._evict(chance, 1)
        clients = [Client(self, plan, number) for number in range(CLIENTS)]
        while time.monotonic() < started + ROUND_SECONDS:
            time.sleep(chance.uniform(0.05, 0.2))
            self._evict(chance, 0.3)
            if kills and time.monotonic() >= kills[0]:
                kills.pop(0)
                self._alive()
                self.tarn.kill()
                self.tarn.start()
        for client in clients:
            client.thread.join(ROUND_SECONDS + 2 * PATIENCE)
            assert not client.thread.is_alive(), "a client is still waiting"
        self._alive()
        assert not self.findings, self.findings[0]
        self.tarn.check_log()

    def _forget_corruption(self):
        """Bytes that are not checked yet are in partials alone: what has none is clean."""
        with self.proxy.lock:
            self.proxy.corrupted = {
                digest for digest in self.proxy.corrupted
                if (self.tarn.root / "partial" / digest.replace(":", "-")).exists()}

    def _evict(self, chance, share):
        """Takes blobs and manifests away under tarn, that they are cold again."""
        for path in sorted((self.tarn.root / "blobs").glob("*/*/*")):
            if chance.random() < share:
                path.unlink(missing_ok=True)

    def _alive(self):
        assert self.tarn.process.runs(), \
            f"tarn ended by itself with {self.tarn.process.child.returncode}"

    # ---- afterwards

    def calm(self):
        """Without faults everything comes, and nothing of what was before is left."""
        self.proxy.weather = CALM
        for digest, blob in self.content.blobs.items():
            wait_until(lambda digest=digest, blob=blob: self._comes(
                self.tarn.blob(REPOSITORY, digest, timeout=PATIENCE), blob),
                       f"blob {digest} of {len(blob)} whole without faults", CALM_SECONDS)
        for tag, text in self.content.tags.items():
            wait_until(lambda tag=tag, text=text: self._comes(
                self.tarn.manifest(REPOSITORY, tag), text),
                       f"tag {tag} without faults", CALM_SECONDS)
        self._wait_bounded(self._left_partials, 0, "files of finished blobs in partial/")
        self._wait_bounded(self._descriptors, self.descriptors_at_start + DESCRIPTORS_MORE,
                           "descriptors")
        # One that stays open would hold the space of a blob that is evicted.
        self._wait_bounded(lambda: sum("/partial/" in name or "/blobs/" in name
                                       for name in self._open_files()), 0, "open cache files")
        if not self._is_sanitized():
            self._wait_bounded(self._resident, RESIDENT_MAX, "resident bytes")

    @staticmethod
    def _comes(reply, right):
        assert not reply.complete or reply.status != 200 or reply.body == right, \
            f"a whole body of wrong bytes: {reply}"
        return reply.status == 200 and reply.complete

    @staticmethod
    def _wait_bounded(measure, bound, what):
        """What was just finished is given up a little later."""
        try:
            wait_until(lambda: measure() <= bound, what, 8, pause=0.1)
        except AssertionError:
            raise AssertionError(f"{measure()} {what}, at most {bound} expected") from None

    def _left_partials(self):
        """Every blob has come whole by now: none has a partial any more."""
        return sum(path.is_file() for path in (self.tarn.root / "partial").rglob("*"))

    def _descriptors(self):
        return len(self._open_files())

    def _open_files(self):
        """What each descriptor is: socket, file, pipe…"""
        found, folder = [], f"/proc/{self.tarn.process.pid}/fd"
        for name in os.listdir(folder):
            try:
                found.append(os.readlink(f"{folder}/{name}").partition(":[")[0])
            except OSError:
                pass  # closed meanwhile
        return found

    def _resident(self):
        with open(f"/proc/{self.tarn.process.pid}/status", encoding="ascii") as file:
            return int(re.search(r"VmRSS:\s+(\d+) kB", file.read()).group(1)) << 10

    def _is_sanitized(self):
        """A sanitizer keeps freed memory: its sizes say nothing."""
        with open(self.program, "rb") as file:
            content = file.read()
        return b"__asan_init" in content or b"__tsan_init" in content

    def line(self, plan):
        faults = " ".join(f"{kind}={times}" for kind, times in sorted(self.proxy.befallen.items()))
        answers = " ".join(f"{status}={times}" for status, times in sorted(self.answers.items()))
        return (f"round {plan.number}{' corrupt' * plan.corrupt}{' kill' * plan.kill}: "
                f"{self.bytes_checked >> 20} MiB checked; answers {answers}; faults {faults}; "
                f"{self._resident() >> 20} MiB resident, {self._descriptors()} descriptors")


def run_rounds(program, origin, directory, seed, rounds=None, until=None, tell=None):
    """
    So many rounds, or rounds until a time (of time.monotonic()), and the calm afterwards. Raises
    Wrong at the first thing that is. `tell` gets a line a round. Returns the Chaos, stopped.
    """
    chaos = Chaos(program, origin, directory, seed)
    try:
        for plan in plans(seed):
            if plan.number == rounds or (until is not None and time.monotonic() >= until):
                break
            try:
                chaos.round(plan)
            except AssertionError as wrong:
                raise Wrong(f"seed {seed}, round {plan.number} ({plan}): {wrong}") from wrong
            if tell:
                tell(chaos.line(plan))
        try:
            chaos.calm()
            chaos.tarn.stop()
        except AssertionError as wrong:
            raise Wrong(f"seed {seed}, in the calm afterwards: {wrong}") from wrong
    finally:
        chaos.tarn.kill()
        chaos.proxy.stop()
    return chaos
