"""
Rounds of many clients on a tarn behind a ChaosProxy. Every byte that a client gets is checked.

The cache is smaller than the content, so that blobs are evicted all the time. Where a file system
can be mounted, its disk is a small tmpfs that is filled now and then. Commands list the cache and
remove images from it. In some rounds tarn is killed or restarted.
"""

import itertools
import json
import pathlib
import random
import shutil
import threading
import time
from collections import Counter
from dataclasses import dataclass

from kit.cache_files import SizeWatch, wait_settled
from kit.chaos import CALM, ChaosProxy, Weather
from kit.chaos_client import PATIENCE, REPOSITORY, ROUND_SECONDS, Client
from kit.content import KIB, MIB, OCI_MANIFEST, digest_of, manifest, noise
from kit.disk import CannotMount, SmallDisk
from kit.processes import run, wait_until
from kit.tarn import Tarn, is_sanitized, tarn_command

SIZES = [KIB, 5 * KIB, 64 * KIB - 1, 300 * KIB, MIB, MIB + 1, 2 * MIB + 77, 3 * MIB, 4 * MIB,
         6 * MIB + 13, 9 * MIB, 12 * MIB - 5]

CLIENTS = 8
LIMIT = 24 * MIB        # of the cache: about half of the content
DISK_MIB = 96           # of the file system below it
CALM_SECONDS = 30       # after which everything has to be right again
DESCRIPTORS_MORE = 64   # than at the start, for idle connections to upstream
RESIDENT_MAX = 96 * MIB

# "Flat" means: the last figures exceed those after warming up by at most this.
FLAT = {"resident": 16 * MIB, "descriptors": DESCRIPTORS_MORE, "threads": 32}


class Wrong(AssertionError):
    """A broken promise. The message says how to repeat it."""


@dataclass(frozen=True)
class Plan:
    """The conditions of one round. Each cycle of rounds has all combinations of them."""

    seed: int
    number: int
    corrupt: bool        # upstream sends wrong bytes
    kill: bool           # tarn is killed or restarted
    full: bool           # the disk is filled

    @property
    def name(self):
        return f"{self.seed} {self.number}"

    def weather(self):
        share = random.Random(f"{self.name} share").uniform(0.15, 0.6)
        return Weather(self.name, share, self.corrupt, refusals=True)

    def __str__(self):
        kinds = [kind for kind in ("corrupt", "kill", "full") if getattr(self, kind)]
        return f"round {self.number}" + "".join(f" {kind}" for kind in kinds)


CYCLE = 8  # the number of combinations


def plans(seed):
    """The rounds of a seed, without end."""
    number = 0
    while True:
        kinds = list(itertools.product((False, True), repeat=3))
        random.Random(f"{seed} {number} kinds").shuffle(kinds)
        for corrupt, kill, full in kinds:
            yield Plan(seed, number, corrupt, kill, full)
            number += 1


class Content:
    """The content at the origin: blobs, and tags whose manifests list some of them."""

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


class Chaos:
    """The tarn, its proxy and its disk, and what the clients found."""

    def __init__(self, program, origin, directory, seed):
        self.seed, self.program, self.directory = seed, program, pathlib.Path(directory)
        self.content = Content(origin, seed)
        self.proxy = ChaosProxy(origin)
        self.findings, self.answers, self.counts = [], Counter(), Counter()
        self.bytes_checked, self.lock = 0, threading.Lock()  # of the sums over all clients
        self.disk, self.no_disk = self._small_disk()
        root = self.disk.root if self.disk else self.directory / "root"
        self.tarn = Tarn(program, directory, {
            "root": str(root), "max_size": LIMIT,
            "log": {"level": "error", "format": "text"},
            "upstreams": [{"host": "origin.test", "url": self.proxy.url, "default": True,
                           "tag_ttl": "0", "connect_timeout": "1s", "stall_timeout": "1s",
                           "first_byte_timeout": "2s"}]})
        self.descriptors_at_start = self.tarn.figures()["descriptors"]
        self.warm = None  # the figures after warming up

    def _small_disk(self):
        try:
            return SmallDisk(self.directory / "small", "tmpfs", DISK_MIB), None
        except (CannotMount, OSError) as reason:
            return None, str(reason)

    def end(self):
        self.tarn.kill()
        self.proxy.stop()
        if self.disk:
            self.disk.detach()

    def add_checked(self, size):
        with self.lock:
            self.bytes_checked += size

    def add_answer(self, reply):
        with self.lock:
            self.answers[reply.status] += 1
            self.counts["requests"] += 1
            self.counts["cut bodies"] += reply.status in (200, 206) and not reply.complete

    # ---- a round

    def round(self, plan):
        self.proxy.weather = plan.weather()
        self._forget_corruption()
        chance = random.Random(f"{plan.name} driver")
        started = time.monotonic()
        kills = sorted(started + chance.uniform(0.1, ROUND_SECONDS)
                       for _ in range(plan.kill * chance.randint(1, 2)))
        if plan.number < CYCLE:
            self._command("prune", "--to-size", "0")  # so that there is something to fetch
        with SizeWatch(self.tarn.root, pause=0.03) as watch:
            clients = [Client(self, plan, number) for number in range(CLIENTS)]
            while time.monotonic() < started + ROUND_SECONDS:
                time.sleep(chance.uniform(0.05, 0.2))
                if plan.full and self.disk:
                    self._tide(chance)
                if kills and time.monotonic() >= kills[0]:
                    kills.pop(0)
                    self._restart(chance)
                elif chance.random() < 0.15:
                    self._look_around(chance)
            for client in clients:
                client.thread.join(ROUND_SECONDS + 2 * PATIENCE)
                assert not client.thread.is_alive(), "a client is still waiting"
        if self.disk:
            self.disk.make_room()
        self._alive()
        assert not self.findings, self.findings[0]
        # After a restart, before the scan has ended, new blobs may exceed the limit.
        assert plan.kill or watch.most_blobs <= LIMIT, f"{watch.most_blobs} bytes of {LIMIT}"
        self.tarn.check_log()

    def _forget_corruption(self):
        """Only a partial has bytes that are not checked yet, so a blob without one is right."""
        with self.proxy.lock:
            self.proxy.corrupted = {
                digest for digest in self.proxy.corrupted
                if (self.tarn.root / "partial" / digest.replace(":", "-")).exists()}

    def _tide(self, chance):
        if chance.random() < 0.5:
            self.counts["times the disk was full"] += not self.disk.ballast.exists()
            self.disk.fill()
        else:
            self.disk.make_room()

    def _restart(self, chance):
        self._alive()
        self._count_metrics()
        if chance.random() < 0.6:
            self.counts["kill -9"] += 1
            self.tarn.kill()
        else:
            self.counts["SIGTERM"] += 1
            self.tarn.stop()
        self.tarn.start()

    def _count_metrics(self):
        """Adds the counts of a process that is about to end."""
        for name, value in self.tarn.metrics().items():
            if name.startswith(("tarn_evicted_", "tarn_passed_through_", "tarn_store_bad_")):
                self.counts[name] += int(value)

    def _look_around(self, chance):
        tag = chance.choice(list(self.content.tags))
        self._command(*chance.choice([
            ("ls", "--json"), ("du", "--json"), ("verify",), ("verify", "--repair"),
            ("prune", "--to-size", str(LIMIT // 2)), ("prune", "--older-than", "30d"),
            ("rm", f"origin.test/{REPOSITORY}:{tag}"), ("rm", "origin.test/chaos/*")]))

    def _command(self, name, *arguments):
        """Runs a command over tarn.sock. `verify` finds no bad blob, because none may be bad."""
        done = tarn_command(self.program, name, *arguments, "--root", str(self.tarn.root),
                            home=self.directory)
        self.counts[f"tarn {name}"] += 1
        allowed = (0, 1) if name == "rm" else (0,)  # 1: nothing with that name is cached
        assert done.returncode in allowed, f"tarn {name} {arguments}: {done}"
        if "--json" in arguments and name == "du":
            json.loads(done.stdout)

    def _alive(self):
        assert self.tarn.process.runs(), \
            f"tarn ended by itself with {self.tarn.process.child.returncode}"

    # ---- afterwards

    def calm(self):
        """Without faults every request succeeds, and the faults have left nothing behind."""
        self.proxy.weather = CALM
        for digest, blob in self.content.blobs.items():
            wait_until(lambda digest=digest, blob=blob: self._comes(
                self.tarn.blob(REPOSITORY, digest, timeout=PATIENCE), blob),
                       f"blob {digest} of {len(blob)} whole without faults", CALM_SECONDS)
            wait_until(lambda digest=digest, blob=blob: self._is_kept(digest, blob),
                       f"blob {digest} of {len(blob)} to be kept again", CALM_SECONDS)
        for tag, text in self.content.tags.items():
            wait_until(lambda tag=tag, text=text: self._comes(
                self.tarn.manifest(REPOSITORY, tag), text),
                       f"tag {tag} without faults", CALM_SECONDS)
        self._skopeo()
        self._command("verify")
        wait_settled(self.tarn.root, LIMIT)
        self._wait_bounded(self._left_partials, 0, "files of finished blobs in partial/")
        self._wait_bounded(lambda: self.tarn.figures()["descriptors"],
                           self.descriptors_at_start + DESCRIPTORS_MORE, "descriptors")
        # An open file would hold the space of an evicted blob.
        self._wait_nothing_open()
        if not is_sanitized(self.program):
            self._wait_bounded(lambda: self.tarn.figures()["resident"], RESIDENT_MAX, "resident bytes")
        if self.warm:
            self._is_flat()

    @staticmethod
    def _comes(reply, right):
        assert not reply.complete or reply.status != 200 or reply.body == right, \
            f"a whole body of wrong bytes: {reply}"
        return reply.status == 200 and reply.complete

    def _is_kept(self, digest, blob):
        reply = self.tarn.blob(REPOSITORY, digest, timeout=PATIENCE)
        return self._comes(reply, blob) and "hit" in reply.cache_status

    def _skopeo(self):
        """Pulls every tag with a real client."""
        for tag in self.content.tags:
            target = self.directory / "skopeo"
            run(["skopeo", "copy", "--quiet", "--src-tls-verify=false",
                 f"docker://127.0.0.1:{self.tarn.port}/{REPOSITORY}:{tag}", f"dir:{target}"])
            shutil.rmtree(target)

    @staticmethod
    def _wait_bounded(measure, bound, what):
        """Waits, because tarn releases resources a moment after their use."""
        try:
            wait_until(lambda: measure() <= bound, what, 8, pause=0.1)
        except AssertionError:
            raise AssertionError(f"{measure()} {what}, at most {bound} expected") from None

    def _wait_nothing_open(self):
        def still_open():
            return [name for name in self.tarn.open_files() if "/partial/" in name or "/blobs/" in name]

        try:
            wait_until(lambda: not still_open(), "files of the cache to be closed", 8, pause=0.1)
        except AssertionError:
            flights = self.tarn.get("/tarn/v1/flights").body.decode()
            raise AssertionError(f"still open: {still_open()}; under way: {flights}") from None

    def _is_flat(self):
        if is_sanitized(self.program):
            return
        for name, more in FLAT.items():
            self._wait_bounded(lambda name=name: self.tarn.figures()[name], self.warm[name] + more,
                               f"{name} after {self.warm[name]}")

    def _left_partials(self):
        """Files in partial/, where none may be, because every blob is complete by now."""
        return sum(path.is_file() for path in (self.tarn.root / "partial").rglob("*"))

    # ---- reports

    def line(self, plan):
        figures = self.tarn.figures()
        answers = " ".join(f"{status}={times}" for status, times in sorted(self.answers.items()))
        return (f"{plan}: {self.bytes_checked >> 20} MiB checked; answers {answers}; "
                f"{sum(self.proxy.befallen.values())} faults; "
                f"{self._total('tarn_evicted_blobs')} evicted, "
                f"{self._total('tarn_passed_through')} passed through; "
                f"{self.counts['kill -9'] + self.counts['SIGTERM']} restarts; "
                f"{figures['resident'] >> 20} MiB resident, {figures['descriptors']} descriptors, "
                f"{figures['threads']} threads")

    def _total(self, prefix):
        """The sum over processes that have ended and the one that runs."""
        totals = Counter(self.counts)
        if self.tarn.process.runs():
            totals.update({name: int(value) for name, value in self.tarn.metrics().items()})
        return sum(value for name, value in totals.items() if name.startswith(prefix))

    def summary(self, minutes):
        """The table of the whole run; tarn has to run still."""
        last, faults = self.tarn.figures(), self.proxy.befallen
        commands = {name[5:]: times for name, times in sorted(self.counts.items())
                    if name.startswith("tarn ")}
        answers = self.answers
        rows = [
            ("minutes, seed", f"{minutes:.1f}, {self.seed}"),
            ("requests", f"{self.counts['requests']:,}"),
            ("answers by status", _listed(answers)),
            ("bytes checked", f"{self.bytes_checked / (1 << 30):.1f} GiB"),
            ("bodies cut short", f"{self.counts['cut bodies']:,}"),
            ("faults of upstream", f"{sum(faults.values()):,} ({_listed(faults)})"),
            ("blobs evicted", f"{self._total('tarn_evicted_blobs'):,}, "
                              f"{self._total('tarn_evicted_bytes') / (1 << 30):.1f} GiB"),
            ("blobs passed through", f"{self._total('tarn_passed_through'):,}"),
            ("times the disk was full", self.no_disk or self.counts["times the disk was full"]),
            ("restarts", f"{self.counts['kill -9']} by kill -9, "
                         f"{self.counts['SIGTERM']} by SIGTERM"),
            ("commands on the live cache", _listed(commands)),
            ("blobs found bad on disk", self._total("tarn_store_bad")),
        ]
        if self.warm:
            rows += [("resident memory, first and last",
                      f"{self.warm['resident'] >> 10:,} KiB, {last['resident'] >> 10:,} KiB"),
                     ("descriptors, first and last",
                      f"{self.warm['descriptors']}, {last['descriptors']}"),
                     ("threads, first and last", f"{self.warm['threads']}, {last['threads']}")]
        return "| | |\n|---|---|\n" + "\n".join(f"| {what} | {value} |" for what, value in rows)


def _listed(counts):
    return ", ".join(f"{name} {times:,}" for name, times in sorted(counts.items()))


def run_rounds(program, origin, directory, seed, rounds=None, minutes=None, tell=None):
    """
    Runs so many rounds, or rounds for so many minutes, and then checks that all is right without
    faults. Raises Wrong at the first broken promise. With minutes, one process lives through the
    second half, and its memory, descriptors and threads have to be flat. `tell` gets each round and
    its line. Returns the Chaos, stopped; its `table` is a summary for people.
    """
    chaos = Chaos(program, origin, directory, seed)
    started = time.monotonic()
    half, until = (started + 30 * minutes, started + 60 * minutes) if minutes else (None, None)
    lived = 0  # rounds that this process has lived through
    try:
        for plan in plans(seed):
            if plan.number == rounds or (until and time.monotonic() >= until):
                break
            if half and time.monotonic() >= half:
                if plan.kill:
                    continue
                lived += 1
            try:
                chaos.round(plan)
            except AssertionError as wrong:
                raise Wrong(f"seed {seed}, {plan}: {wrong}") from wrong
            if lived == CYCLE:
                chaos.warm = chaos.tarn.figures()
            if tell:
                tell(chaos, plan)
        try:
            chaos.calm()
            chaos.table = chaos.summary((time.monotonic() - started) / 60)
            chaos.tarn.stop()
        except AssertionError as wrong:
            raise Wrong(f"seed {seed}, in the calm afterwards: {wrong}") from wrong
    finally:
        chaos.end()
    return chaos
