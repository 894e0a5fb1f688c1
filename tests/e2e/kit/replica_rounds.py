"""
Rounds of many clients on several replicas of a tarn, one of which is killed, frozen, cut off from
the others, or leaves; or another one joins, or their lists differ. Every byte that a client gets is
checked, no request may fail at a replica that was not killed or stopped, and the bytes that
upstream sends are counted.

The replicas find each other by a name, of which each has a hosts file of its own. They reach each
other through a cable each, which can be cut; clients reach them without it.
"""

import itertools
import pathlib
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass

from kit.client import fetch
from kit.content import KIB, MIB, digest_of, noise
from kit.object_store import ObjectStore
from kit.processes import bound, free_port, wait_until
from kit.replica_signature import new_secret, write_secrets
from kit.replicas import NAME, Cable, Replica, own_hosts, point_to
from kit.rounds import FLAT, Wrong
from kit.scripted_registry import ScriptedRegistry
from kit.shared_bucket import wait_settled
from kit.tarn import is_sanitized

REPOSITORY = "soak/app"
SIZES = [64 * KIB - 1, 300 * KIB, MIB + 1, 2 * MIB + 77, 3 * MIB, 5 * MIB]
BLOBS = 6               # of a round
BLOBS_OF_LISTS = 12     # of a round in which the lists change
CLIENTS = 3             # of each replica
PACE = 4 * MIB          # bytes a second of each connection to upstream
PATIENCE = 60           # seconds after which a request counts as hung
HEAL_SECONDS = 60       # until all replicas know each other again
UPLOAD_SECONDS = 120    # until a bucket that was away has everything
KEPT_ROUNDS = 4         # whose content upstream and the bucket still have
CALM_MOST = 1.05        # upstream's bytes over those of the blobs, where nothing goes wrong

KINDS = ("calm", "kill", "freeze", "cut", "silence", "roll", "join", "lists", "wrong")
OF_LISTS = ("join", "lists")
ENDS_A_PROCESS = ("kill", "roll", "join")


@dataclass(frozen=True)
class Plan:
    """The conditions of one round."""

    seed: int
    number: int
    kind: str
    has_bucket: bool

    @property
    def name(self):
        return f"{self.seed} {self.number}"

    def __str__(self):
        return f"round {self.number} {self.kind}" + ("" if self.has_bucket else ", no bucket")


def plans(seed, uses_bucket):
    """The rounds of a seed, without end: all kinds in any order, then all with the bucket away."""
    number = 0
    for cycle in itertools.count():
        kinds = list(KINDS)
        random.Random(f"{seed} {cycle} kinds").shuffle(kinds)
        for kind in kinds:
            yield Plan(seed, number, kind, uses_bucket and cycle % 2 == 0)
            number += 1


class Fleet:
    """So many replicas, and a spare one that can join."""

    def __init__(self, program, directory, count, settings, environment):
        self.directory, self.program, self.environment = directory, program, environment
        self.settings, self.count = settings, count
        port = free_port("127.0.0.2")
        for host in (self._inner(place) for place in range(count + 1)):
            bound(host, port).close()
        self.port = port
        self.secrets = write_secrets(directory / "secrets", new_secret())
        self.outer = [f"127.0.1.{place + 2}" for place in range(count + 1)]
        self.cables = [Cable(f"{self.outer[place]}:{port}", f"{self._inner(place)}:{port}")
                       for place in range(count + 1)]
        self.hosts = [directory / f"hosts-{place}" for place in range(count + 1)]
        for hosts in self.hosts:
            point_to(hosts, *self.outer[:count])
        self.replicas = [self._start(place) for place in range(count)]
        self.spare = None
        self.lock = threading.Lock()
        self.disturbed = []  # [place, since, until or None]

    @staticmethod
    def _inner(place):
        return f"127.0.0.{place + 2}"

    def _start(self, place):
        folder = self.directory / f"replica-{place}"
        folder.mkdir(exist_ok=True)
        inner = f"{self._inner(place)}:{self.port}"
        return Replica(inner, own_hosts(self.program, folder, self.hosts[place]), folder, {
            **self.settings, "listen": [inner], "confine": "off",
            "replicas": {"dns": NAME, "port": self.port, "self": self.outer[place],
                         "secret_file": str(self.secrets)}}, self.environment)

    def __iter__(self):
        return iter(self.replicas)

    def disturb(self, place):
        """From now on a request to it may fail; returns what ends that."""
        entry = [place, time.monotonic(), None]
        with self.lock:
            self.disturbed.append(entry)

        def end():
            entry[2] = time.monotonic()
        return end

    def was_disturbed(self, place, since):
        with self.lock:
            return any(one == place and (until is None or until >= since)
                       for one, _, until in self.disturbed)

    def members(self, places):
        return [self.outer[place] for place in places]

    def set_lists(self, places):
        for hosts in self.hosts:
            point_to(hosts, *self.members(places))

    def join(self):
        self.spare = self._start(self.count)
        self.set_lists(range(self.count + 1))

    def leave(self):
        """The spare one leaves, as a pod does: first the list, then the process."""
        self.set_lists(range(self.count))
        if self.spare:
            spare, self.spare = self.spare, None
            spare.stop(60)

    def heal(self):
        """Waits until all know each other, and nobody is down."""
        for cable in self.cables:
            cable.silent = False
            cable.mend()
        self.leave()
        known = sorted(f"{outer}:{self.port}" for outer in self.outer[:self.count])
        with self.lock:
            self.disturbed.clear()

        def agree():
            for replica in self.replicas:
                listed = replica.get("/tarn/v1/replicas").json()["members"]
                if [one["address"] for one in listed] != known \
                        or any(one["state"] == "down" for one in listed) or replica.flights():
                    return False
            return True
        wait_until(agree, "all replicas to know each other and to be at rest", HEAL_SECONDS,
                   pause=0.1)

    def end(self):
        for replica in [*self.replicas, *([self.spare] if self.spare else [])]:
            replica.thaw()
            replica.kill()
        for cable in self.cables:
            cable.stop()


class Client:
    """One client of a replica: pulls everything of a round, and goes elsewhere only when its
    replica was killed or stopped."""

    def __init__(self, chaos, plan, content, place, number):
        self.chaos, self.plan, self.content, self.place = chaos, plan, content, place
        self.chance = random.Random(f"{plan.name} client {place} {number}")
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        paths = list(self.content)
        self.chance.shuffle(paths)
        try:
            for path in paths:
                if self.chaos.findings:
                    return
                if self.plan.kind in OF_LISTS:
                    time.sleep(self.chance.uniform(0, 1.2))
                self._get(path, self.content[path])
        except AssertionError as wrong:
            self.chaos.findings.append(str(wrong))
        except BaseException as error:  # a defect of the test is reported too
            self.chaos.findings.append(f"{type(error).__name__}: {error}")

    def _get(self, path, whole):
        fields, right, status = {}, whole, 200
        if "/blobs/" in path and self.chance.random() < 0.25:
            first = self.chance.randrange(len(whole))
            last = self.chance.randrange(first, len(whole))
            fields, right, status = {"Range": f"bytes={first}-{last}"}, whole[first:last + 1], 206
        place, until = self.place, time.monotonic() + PATIENCE
        while not self._ask(place, path, fields, right, status):
            assert time.monotonic() < until, f"{path} did not come within {PATIENCE} s"
            place = self.chance.randrange(self.chaos.fleet.count)
            self.chaos.add("tries at another replica")
            time.sleep(0.05)

    def _ask(self, place, path, fields, right, status):
        """False: it has to be asked elsewhere, because the replica was killed or stopped."""
        began, reply = time.monotonic(), None
        what = f"{path} {fields} at replica {place}"
        try:
            reply = fetch(self.chaos.fleet.replicas[place].url + path, fields, timeout=PATIENCE)
        except OSError as error:
            what += f": {type(error).__name__}: {error}"
        if reply and reply.status in (200, 206):
            self._check(what, reply, right, status)
            if reply.complete:
                return True
        assert self.chaos.fleet.was_disturbed(place, began), f"{what}: {reply}"
        return False

    def _check(self, what, reply, right, status):
        self.chaos.add("requests")
        self.chaos.add("bytes", len(reply.body))
        assert reply.status == status, f"{what}: {reply.status}"
        assert not reply.complete or len(reply.body) == len(right), \
            f"{what}: whole, but {len(reply.body)} of {len(right)} bytes"
        # Only a whole body is held back until its digest is known.
        is_sure = self.plan.kind != "wrong" or (reply.complete and status == 200)
        assert not is_sure or reply.body == right[:len(reply.body)], \
            f"{what}: wrong bytes; {digest_of(reply.body)}, not {digest_of(right)}"


class ReplicaChaos:
    """The replicas, their upstream and their bucket, and what the clients found."""

    def __init__(self, program, directory, seed, count, uses_bucket):
        self.seed, self.program = seed, program
        directory = pathlib.Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        self.upstream = ScriptedRegistry()
        self.store = ObjectStore() if uses_bucket else None
        settings = {"log": {"level": "warn", "format": "text"}, "max_size": 64 * MIB,
                    "grace": "30s", "upstreams": [{
                        "host": "fake.test", "url": self.upstream.url, "default": True,
                        "tag_ttl": "0"}]}
        if self.store:
            settings["bucket"] = self.store.settings()
        self.fleet = Fleet(program, directory, count, settings,
                           self.store.environment if self.store else None)
        self.findings, self.counts, self.lock = [], Counter(), threading.Lock()
        self.fresh, self.sent, self.rounds = Counter(), Counter(), Counter()  # by kind
        self.paths = []     # of the content of the last rounds
        self.warm = None    # the figures after warming up
        self.is_away = False  # the bucket

    def add(self, what, count=1):
        with self.lock:
            self.counts[what] += count

    def end(self):
        self.fleet.end()
        self.upstream.stop()
        if self.store:
            self.store.stop()

    # ---- a round

    def _new_content(self, plan):
        """path -> bytes of what nobody has asked for yet."""
        count = BLOBS_OF_LISTS if plan.kind in OF_LISTS else BLOBS
        chance = random.Random(f"{plan.name} sizes")
        blobs = [noise(chance.choice(SIZES), f"{plan.name} {number}") for number in range(count)]
        tag = f"round-{plan.number}"
        image = self.upstream.image(REPOSITORY, blobs, tag=tag)
        text, _ = self.upstream.repository(REPOSITORY).manifests[image]
        content = {f"/v2/{REPOSITORY}/blobs/{digest_of(blob)}": blob for blob in blobs}
        self.paths.append((tag, image, list(content)))
        return {**content, f"/v2/{REPOSITORY}/manifests/{tag}": text,
                f"/v2/{REPOSITORY}/manifests/{image}": text}

    def _forget_old_content(self):
        """So that this process does not grow."""
        repository = self.upstream.repository(REPOSITORY)
        while len(self.paths) > KEPT_ROUNDS:
            tag, image, paths = self.paths.pop(0)
            repository.tags.pop(tag)
            repository.manifests.pop(image)
            for path in paths:
                repository.blobs.pop(path.rpartition("/")[2])
                for key in self.store.keys() if self.store else []:
                    if path.rpartition(":")[2] in key:
                        self.store.remove(key)
        self.upstream.forget_ended()
        if self.store:
            self.store.forget_ended()

    def round(self, plan):
        content = self._new_content(plan)
        fresh = sum(len(body) for path, body in content.items() if "/blobs/" in path)
        self.set_bucket(plan.has_bucket)
        self.upstream.heal()
        self.upstream.fault("/blobs/", bytes_per_second=PACE)
        before = self.upstream.blob_bytes()
        downs = self._downs()
        clients = [Client(self, plan, content, place, number)
                   for place in range(self.fleet.count) for number in range(CLIENTS)]
        copies = getattr(self, f"_{plan.kind}")(random.Random(f"{plan.name} driver"), content)
        for client in clients:
            client.thread.join(2 * PATIENCE)
            assert not client.thread.is_alive(), "a client is still waiting"
        assert not self.findings, self.findings[0]
        self.fleet.heal()
        sent = self.upstream.blob_bytes() - before
        self._judge(plan, sent, fresh, copies, self._downs() > downs)
        self._forget_old_content()
        for replica in self.fleet:
            replica.check_log()

    def _downs(self):
        return sum(replica.log().count("a replica is down") for replica in self.fleet)

    def _judge(self, plan, sent, fresh, copies, was_down):
        kind = plan.kind
        if kind == "calm" and was_down:
            kind = "calm, but a replica stood still for 3 s"  # on a busy machine
            copies = self.fleet.count
        self.rounds[kind] += 1
        self.sent[kind] += sent
        self.fresh[kind] += fresh
        most = CALM_MOST if kind == "calm" else copies
        assert sent <= most * fresh, \
            f"upstream sent {sent / fresh:.2f} x of the blobs, at most {most} are allowed"

    def set_bucket(self, is_here):
        if not self.store or is_here != self.is_away:
            return
        self.is_away = not is_here
        if not is_here:
            self.store.refuse()
            self.counts["times without the bucket"] += 1
            return
        self.store.listen_again()
        for replica in self.fleet:
            wait_settled(replica, UPLOAD_SECONDS)

    # ---- what happens in a round; each returns how often upstream may send a blob

    def _any(self, chance):
        return chance.randrange(self.fleet.count)

    def _calm(self, _chance, _content):
        return 1

    def _kill(self, chance, _content):
        place = self._any(chance)
        time.sleep(chance.uniform(0.05, 1.5))
        end = self.fleet.disturb(place)
        self._note_end_of(place)
        self.fleet.replicas[place].kill()
        self.counts["kill -9"] += 1
        time.sleep(chance.uniform(0.1, 2))
        self.fleet.replicas[place].start()
        end()
        return self.fleet.count + 1

    def _freeze(self, chance, _content):
        place = self._any(chance)
        time.sleep(chance.uniform(0.05, 1.5))
        self.fleet.replicas[place].freeze()
        self.counts["SIGSTOP"] += 1
        time.sleep(chance.uniform(1, 6))
        self.fleet.replicas[place].thaw()
        return self.fleet.count

    def _cut(self, chance, _content):
        place = self._any(chance)
        time.sleep(chance.uniform(0.05, 1.5))
        self.fleet.cables[place].cut()
        self.counts["cut off"] += 1
        return self.fleet.count

    def _silence(self, chance, _content):
        place = self._any(chance)
        time.sleep(chance.uniform(0.05, 1.5))
        self.fleet.cables[place].silent = True
        self.counts["cut off without a word"] += 1
        time.sleep(chance.uniform(1, 6))
        self.fleet.cables[place].silent = False
        return self.fleet.count

    def _roll(self, chance, _content):
        """A rolling restart."""
        for place in range(self.fleet.count):
            time.sleep(chance.uniform(0.05, 0.7))
            end = self.fleet.disturb(place)
            self._note_end_of(place)
            self.fleet.replicas[place].stop(60)
            self.fleet.replicas[place].start()
            end()
            self.counts["SIGTERM"] += 1
        return self.fleet.count

    def _join(self, chance, _content):
        """Another one joins, and leaves again when all may know it."""
        time.sleep(chance.uniform(0.05, 1))
        self.fleet.join()
        self.counts["joins"] += 1
        time.sleep(chance.uniform(1, 8))
        self.fleet.leave()
        return self.fleet.count + 1

    def _lists(self, chance, _content):
        """Each believes in a list of its own."""
        places = range(self.fleet.count)
        for hosts in self.fleet.hosts[:self.fleet.count]:
            some = chance.sample(places, chance.randint(1, self.fleet.count))
            point_to(hosts, *self.fleet.members(some))
        self.counts["lists that differ"] += 1
        time.sleep(7)
        self.fleet.set_lists(places)
        return self.fleet.count

    def _wrong(self, chance, content):
        """Upstream sends a wrong byte in one of the blobs, once."""
        path = chance.choice([path for path in content if "/blobs/" in path])
        for place in range(self.fleet.count):
            self.fleet.disturb(place)
        self.upstream.heal()
        self.upstream.fault(path.rpartition("/")[2], times=1, ignore_range=True,
                            flip=chance.randrange(len(content[path])), bytes_per_second=PACE)
        self.upstream.fault("/blobs/", bytes_per_second=PACE)
        self.counts["wrong blobs"] += 1
        return self.fleet.count

    # ---- reports

    def _note_end_of(self, place):
        """Adds the counts of a process that is about to end."""
        for name, value in self.fleet.replicas[place].metrics().items():
            if name.startswith(("tarn_replica_takeovers", "tarn_replica_list_changes")):
                self.counts[name] += int(value)

    def figures(self):
        """The most of any replica."""
        figures = [replica.figures() for replica in self.fleet]
        return {name: max(one[name] for one in figures) for name in figures[0]}

    def is_flat(self):
        if not self.warm:
            return
        for name, more in FLAT.items():
            wait_until(lambda name=name, more=more:
                       self.figures()[name] <= self.warm[name] + more,
                       f"{name} of at most {self.warm[name] + more}", 10, pause=0.2)

    def _total(self, name):
        return self.counts[name] + sum(int(replica.metrics().get(name, 0))
                                       for replica in self.fleet)

    def line(self, plan):
        figures = self.figures()
        return (f"{plan}: {self.counts['bytes'] >> 20} MiB checked; upstream "
                f"{sum(self.sent.values()) / sum(self.fresh.values()):.3f} x; "
                f"{figures['resident'] >> 20} MiB resident, {figures['descriptors']} descriptors, "
                f"{figures['threads']} threads at most")

    def summary(self, minutes):
        """The table of the whole run; the replicas have to run still."""
        counts, last = self.counts, self.figures()
        events = ("kill -9", "SIGSTOP", "SIGTERM", "cut off", "cut off without a word", "joins",
                  "lists that differ", "wrong blobs", "times without the bucket")
        rows = [
            ("minutes, seed, replicas", f"{minutes:.1f}, {self.seed}, {self.fleet.count}"),
            ("requests", f"{counts['requests']:,}"),
            ("bytes checked", f"{counts['bytes'] / (1 << 30):.1f} GiB"),
            ("what happened", ", ".join(f"{name} {counts[name]:,}" for name in events
                                        if counts[name])),
            ("tries at another replica, after a kill or a stop",
             f"{counts['tries at another replica']:,}"),
            ("takeovers by a follower", f"{self._total('tarn_replica_takeovers_total'):,}"),
            ("changes of the list", f"{self._total('tarn_replica_list_changes_total'):,}"),
        ]
        rows += [(f"sent by upstream: {kind}, {self.rounds[kind]} rounds",
                  f"{self.sent[kind] / self.fresh[kind]:.3f} x") for kind in sorted(self.rounds)]
        if self.warm:
            rows += [(f"{name} of the largest replica, first and last",
                      f"{self.warm[name]:,}, {last[name]:,}") for name in FLAT]
        return "| | |\n|---|---|\n" + "\n".join(f"| {what} | {value} |" for what, value in rows)


def run_replica_rounds(program, directory, seed, count=3, uses_bucket=True, rounds=None,
                       minutes=None, tell=None):
    """
    Runs so many rounds, or rounds for so many minutes, as run_rounds() does. With minutes, no
    process ends in the second half, and their memory, descriptors and threads have to be flat.
    """
    chaos = ReplicaChaos(program, directory, seed, count, uses_bucket)
    started = time.monotonic()
    half, until = (started + 30 * minutes, started + 60 * minutes) if minutes else (None, None)
    lived = 0  # rounds in the second half
    try:
        chaos.fleet.heal()
        for plan in plans(seed, uses_bucket):
            if plan.number == rounds or (until and time.monotonic() >= until):
                break
            if half and time.monotonic() >= half:
                if plan.kind in ENDS_A_PROCESS:
                    continue
                lived += 1
            try:
                chaos.round(plan)
            except AssertionError as wrong:
                raise Wrong(f"seed {seed}, {plan}: {wrong}") from wrong
            if lived == len(KINDS) and not is_sanitized(program):
                chaos.warm = chaos.figures()
            if tell:
                tell(chaos, plan)
        try:
            chaos.set_bucket(uses_bucket)
            chaos.is_flat()
            chaos.table = chaos.summary((time.monotonic() - started) / 60)
            for replica in chaos.fleet:
                replica.stop(60)
        except AssertionError as wrong:
            raise Wrong(f"seed {seed}, at the end: {wrong}") from wrong
    finally:
        chaos.end()
    return chaos
