"""The figures of replicas: what three tarns cost an upstream, and what a follower loses by following."""
import concurrent.futures
import contextlib
import hashlib
import json
import os
import pathlib
import secrets
import signal
import socket
import statistics
import sys
import threading
import time
import urllib.request

import clients
from content import MIB
from rows import Comparison, Row, in_turn
from servers import Tarn, free_port

COUNT = 3
CLIENTS = 20  # of each replica
RATE = 40 * MIB  # bytes a second of each connection to upstream, where a transfer has to last


KIT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "e2e"


def write_secret(bench):
    path = os.path.join(bench.folder, "replicas.secret")
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w",
              encoding="ascii") as file:
        file.write(secrets.token_hex(32) + "\n")
    return path


def ranking(members, key):
    """The members, the owner of the key first."""
    return sorted(members, reverse=True,
                  key=lambda member: hashlib.sha256(f"{member}\0{key}".encode()).digest())


class Scene:
    """Three replicas, each with a disk of its own."""

    def __init__(self, bench):
        self.bench = bench
        secret = write_secret(bench)
        self.replicas = [Tarn(bench.folder, bench.upstream, bench.program, bench.connections,
                              variant=f"-replica-{place}") for place in range(COUNT)]
        for replica in self.replicas:
            replica.port = free_port()
        members = ", ".join(f'"{self.member(replica)}"' for replica in self.replicas)
        for replica in self.replicas:
            replica.extra = f"replicas: {{peers: [{members}], secret_file: {secret}}}\n"

    @staticmethod
    def member(replica):
        return f"127.0.0.1:{replica.port}"

    def by_rank(self, name):
        """The replicas, the blob's owner first."""
        order = ranking(map(self.member, self.replicas), f"sha256:{name}")
        return sorted(self.replicas, key=lambda replica: order.index(self.member(replica)))

    def fresh(self):
        for replica in self.replicas:
            replica.fresh()

    def __enter__(self):
        self.fresh()
        return self

    def __exit__(self, *_):
        self.bench.upstream.set()
        for replica in self.replicas:
            replica.stop()
            replica.forget()


def pull(bench, replica, path, count):
    """Downloads with so many clients; each must get the whole."""
    for result in clients.download_together(replica.port, path, count):
        bench.check(result is not None and result.is_whole, replica, path)


def together(calls):
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def replicas_transfer(bench):
    """what three replicas with twenty clients each cost an upstream"""
    if bench.tarn is None:
        return
    size = (64 if bench.quick else 256) * MIB
    name = bench.content.blob(size, seed=70)
    with Scene(bench) as scene:
        bench.upstream.set()
        together([lambda replica=replica: pull(bench, replica, clients.blob_path(name), CLIENTS)
                  for replica in scene.replicas])
        sent = bench.upstream.settled_counters()["blob_bytes"] / size
        yield Row(f"3 replicas x {CLIENTS} clients, cold {size // MIB} MiB: sent by upstream",
                  "x", {"tarn": sent}, None, ("<=", 1.0))
        bench.upstream.set()
        together([lambda replica=replica: pull(
            bench, replica, clients.manifest_path(bench.content.tag), CLIENTS)
            for replica in scene.replicas])
        counters = bench.upstream.settled_counters()
        asked = counters["manifest_gets"] + counters["manifest_heads"]
        yield Row("the same, a tag: requests to upstream", "", {"tarn": asked}, None, ("<=", 1))


def replicas_first_byte(bench):
    """the first byte of a small cold blob, at its owner and at another replica"""
    if bench.tarn is None:
        return
    rounds = 30 if bench.quick else 100
    names = [bench.content.blob(100_000, seed=1000 + index) for index in range(2 * rounds)]
    with Scene(bench) as scene:
        bench.upstream.set()
        watch = bench.watch()

        def first_byte(place):
            name = names.pop()
            replica = scene.by_rank(name)[place]
            result = clients.download(replica.port, clients.blob_path(name))
            bench.check(result.is_whole, replica, name)
            return result.first_byte * 1000

        found = in_turn(rounds, {"owner": lambda: first_byte(0), "other": lambda: first_byte(2)})
        added = statistics.median(one["other"] for one in found) - \
            statistics.median(one["owner"] for one in found)
        yield Row(f"cold blob at a replica that does not own it: first byte later than at its owner, "
                  f"median of {rounds}", "ms", {"tarn": added}, None, ("<=", 5.0),
                  doubt=watch.doubt())


def replicas_throughput(bench):
    """a large cold blob at a replica that follows, beside one at its owner"""
    if bench.tarn is None:
        return
    size = 256 * MIB
    rounds = 3 if bench.quick else 5
    names = [bench.content.blob(size, seed=80 + index) for index in range(2 * rounds)]
    with Scene(bench) as scene:
        bench.upstream.set(rate=RATE)
        watch = bench.watch()

        def speed(place):
            name = names.pop()
            replica = scene.by_rank(name)[place]
            result = clients.download(replica.port, clients.blob_path(name))
            bench.check(result.is_whole, replica, name)
            return size / 1e6 / result.seconds

        compared = Comparison(in_turn(rounds, {"owner": lambda: speed(0), "tarn": lambda: speed(2)}),
                              "owner")
        yield Row(f"cold blob of {size // MIB} MiB at a follower", "MB/s", compared.values,
                  compared.ratio, (">=", 0.95), doubt=watch.doubt(compared.over, compared.rounds))


class Watched:
    """A download that is hashed, and of which the longest pause is known."""

    def __init__(self, replica, path):
        self.replica, self.path, self.received, self.pause = replica, path, 0, 0.0
        self.hash, self.announced = hashlib.sha256(), None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        with clients.connect_and_ask(self.replica.port, self.path) as sock:
            try:
                _, self.announced, rest = clients.read_head(sock)
                last = time.monotonic()
                while self.received < self.announced:
                    rest = rest or sock.recv(1 << 20)
                    if not rest:
                        return
                    now = time.monotonic()
                    self.pause, last = max(self.pause, now - last), now
                    self.hash.update(rest)
                    self.received += len(rest)
                    rest = b""
            except (OSError, ConnectionError, socket.timeout):
                pass

    def end(self, bench, name):
        self.thread.join()
        bench.check(self.hash.hexdigest() == name, self.replica, name)


def _lose_owner(bench, number, seed, followers):
    """(upstream's bytes over the size, the longest pause) when the owner gets the signal at 50 %."""
    size = (128 if bench.quick else 256) * MIB
    name = bench.content.blob(size, seed=seed)
    path = clients.blob_path(name)
    with Scene(bench) as scene:
        owner, *others = scene.by_rank(name)
        bench.upstream.set(rate=RATE // 4)
        pulls = [Watched(replica, path) for replica in (others if followers else [owner])]
        while bench.upstream.counters()["blob_bytes"] < size // 2:
            time.sleep(0.02)
        pid = owner.process.pid
        os.kill(pid, number)
        if not followers:
            pulls[0].thread.join()
            pulls = [Watched(others[0], path)]
        for one in pulls:
            one.end(bench, name)
        sent = bench.upstream.settled_counters()["blob_bytes"] / size
        if number == signal.SIGSTOP:
            os.kill(pid, signal.SIGCONT)
        return sent, max(one.pause for one in pulls)


def replicas_loss(bench):
    """what the death of an owner in the middle of a transfer costs"""
    if bench.tarn is None:
        return
    sent, pause = _lose_owner(bench, signal.SIGKILL, 90, True)
    yield Row("owner killed at 50 %, two follow: sent by upstream", "x", {"tarn": sent}, None,
              ("<=", 1.15))
    yield Row("the same, longest pause of a client", "s", {"tarn": pause}, None, ("<=", 2.0))
    sent, _ = _lose_owner(bench, signal.SIGKILL, 91, False)
    yield Row("owner killed at 50 %, nobody follows: sent by upstream", "x", {"tarn": sent}, None,
              ("<=", 1.6))
    sent, pause = _lose_owner(bench, signal.SIGSTOP, 92, True)
    yield Row("owner frozen at 50 %, two follow: longest pause of a client", "s", {"tarn": pause},
              None, ("<=", 6.0))


# ---- more replicas, and fewer

GROWN = 5
COLD = 200            # blobs that are pulled meanwhile
COLD_RATE = MIB       # bytes a second of each connection to upstream: a blob lasts for a second
PULLERS = 6
LISTED_SECONDS = 6    # the name is resolved every five seconds, by each at a time of its own


@contextlib.contextmanager
def _kit():
    sys.path.insert(0, str(KIT))
    try:
        from kit import replicas as kit
        yield kit
    finally:
        sys.path.remove(str(KIT))


class Growing:
    """Replicas that find each other by a name; some start later."""

    def __init__(self, bench, kit):
        self.bench, self.kit = bench, kit
        self.hosts = pathlib.Path(bench.folder) / "hosts"
        program = kit.own_hosts(os.path.abspath(bench.program), pathlib.Path(bench.folder),
                                self.hosts)
        secret, port = write_secret(bench), kit.free_port("127.0.1.1")
        self.port = port
        self.replicas = [Tarn(bench.folder, bench.upstream, program, bench.connections,
                              variant=f"-growing-{place}") for place in range(GROWN)]
        for place, replica in enumerate(self.replicas):
            replica.address = f"127.0.1.{place + 1}"
            replica.more_listen = [f"{replica.address}:{port}"]
            replica.extra = (f"confine: off\nreplicas: {{dns: {kit.NAME}, port: {port}, self: "
                             f"{replica.address}, secret_file: {secret}}}\n")
        self.running = []
        self._list(COUNT)
        self._grow(COUNT)

    def member(self, replica):
        return f"{replica.address}:{self.port}"

    def _list(self, count):
        self.kit.point_to(self.hosts, *[one.address for one in self.replicas[:count]])

    def _grow(self, count):
        """The name gets an address when its replica is ready."""
        for replica in self.replicas[len(self.running):count]:
            replica.fresh()
            self.running.append(replica)
        self._list(count)

    def grow(self):
        self._grow(GROWN)

    def shrink(self):
        """The last ones get SIGTERM in the moment in which the name loses them."""
        leaving, self.running = self.running[COUNT:], self.running[:COUNT]
        self._list(COUNT)
        for replica in leaving:
            replica.process.send_signal(signal.SIGTERM)
        for replica in leaving:
            replica.process.wait(60)
            replica.process = None

    def moved(self, keys=5000):
        """The share of keys that another replica owns when there are more."""
        few = [self.member(replica) for replica in self.replicas[:COUNT]]
        many = [self.member(replica) for replica in self.replicas]
        return sum(ranking(few, f"key {key}")[0] != ranking(many, f"key {key}")[0]
                   for key in range(keys)) / keys

    def share_of_new(self):
        """What the first replica says is owned by those that have joined."""
        url = f"http://127.0.0.1:{self.replicas[0].port}/tarn/v1/replicas"
        with urllib.request.urlopen(url) as answer:
            members = json.load(answer)["members"]
        new = [self.member(replica) for replica in self.replicas[COUNT:]]
        return sum(one["share"] for one in members if one["address"] in new)

    def end(self):
        self.bench.upstream.set()
        for replica in self.replicas:
            replica.stop()
            replica.forget()


def _pull_somewhere(bench, growing, name, place):
    """By a client that goes to another replica when one is leaving."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        running = growing.running
        replica = running[place % len(running)]
        place += 1
        with contextlib.suppress(OSError, ConnectionError):
            result = clients.download(replica.port, clients.blob_path(name))
            if result.is_whole:
                return
        time.sleep(0.05)
    bench.check(False, growing.replicas[0], name)


def replicas_scale(bench):
    """what it costs an upstream that three replicas become five and three again under load"""
    if bench.tarn is None:
        return
    names = [bench.content.blob(MIB, seed=3000 + index) for index in range(COLD)]
    with _kit() as kit:
        growing = Growing(bench, kit)
        try:
            bench.upstream.set(rate=COLD_RATE)
            with concurrent.futures.ThreadPoolExecutor(2 * PULLERS) as pool:
                pulls = [pool.submit(_pull_somewhere, bench, growing, name, index + more)
                         for index, name in enumerate(names) for more in range(2)]
                _wait_done(pulls, COLD // 2)
                growing.grow()
                time.sleep(LISTED_SECONDS)
                share = growing.share_of_new()
                _wait_done(pulls, COLD)
                growing.shrink()
                for pull in pulls:
                    pull.result()
            sent = bench.upstream.settled_counters()["blob_bytes"] / (COLD * MIB)
            yield Row(f"{COUNT} -> {GROWN} replicas: share of the keys that the new ones own", "",
                      {"tarn": share}, None, ("<=", 0.45),
                      note=f"{growing.moved():.2f} of the keys move")
            yield Row(f"{COUNT} -> {GROWN} -> {COUNT} replicas during {COLD} cold blobs: sent by "
                      "upstream", "x", {"tarn": sent}, None, ("<=", 1.10),
                      note="1.05 is wanted; while the lists differ, a blob may be sent twice")
        finally:
            growing.end()


def _wait_done(pulls, count):
    while sum(pull.done() for pull in pulls) < count:
        time.sleep(0.05)
