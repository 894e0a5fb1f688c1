"""The figures. Each is a function that measures and yields rows of the table.

A row has one quantity in one unit for each server, and may have a ratio with a goal. The servers
are measured in turn, round after round. The table has the medians of the rounds, and the median of
the rounds' ratios, so that other work on the machine affects all servers alike.
"""
import hashlib
import os
import statistics
import subprocess
import tempfile
import time

import clients
from content import MIB


class Row:
    def __init__(self, name, unit, values, ratio=None, goal=None, note=""):
        self.name, self.unit, self.values = name, unit, values
        self.ratio = ratio  # (text, number), as ("x nginx", 1.2); None: there is no ratio
        self.goal = goal    # (">=" or "<=", number), for the ratio, or for tarn's value without one
        self.note = note

    @property
    def met(self):
        if self.goal is None or "tarn" not in self.values:
            return None
        value = self.ratio[1] if self.ratio else self.values["tarn"]
        return value >= self.goal[1] if self.goal[0] == ">=" else value <= self.goal[1]


def in_turn(rounds, servers, measure, over):
    """Calls measure(server) for all servers in turn, round after round. Returns the median of each
    server by its name, and the median of tarn's ratios to the server named `over`."""
    found = [{server.name: measure(server) for server in servers} for _ in range(rounds)]
    values = {server.name: statistics.median(one[server.name] for one in found)
              for server in servers}
    if "tarn" not in values or any(not one[over] for one in found):
        return values, None
    return values, (f"x {over}", statistics.median(one["tarn"] / one[over] for one in found))


def hot_manifest(bench):
    """requests/s for a cached manifest, by digest and by tag, over 32 and 256 connections"""
    servers = [*bench.caches, bench.nginx]
    for server in bench.caches:
        server.fresh()
    for kind, reference in (("digest", f"sha256:{bench.content.manifest}"),
                            ("tag", bench.content.tag)):
        path = clients.manifest_path(reference)
        for server in servers:
            clients.download(server.port, path)
        for connections in (32, 256):
            values, ratio = in_turn(
                bench.rounds, servers,
                lambda server: clients.requests_per_second(server.port, path, connections,
                                                           1 if bench.quick else 3), "nginx")
            yield Row(f"hot manifest by {kind}, {connections} connections", "requests/s", values,
                      ratio, (">=", 1.1))


def hot_blob(bench):
    """the server's CPU time to send cached blobs"""
    size, times = 256 * MIB, 8
    path = clients.blob_path(bench.content.blob(size))
    servers = [*bench.caches, bench.nginx]
    for server in bench.caches:
        server.fresh()
    for server in servers:
        clients.download(server.port, path)
    bench.upstream.settled_counters()  # docker-registry may still be storing

    def measure(server):
        before = server.cpu_seconds()
        for _ in range(times):
            bench.check(clients.download(server.port, path).is_whole, server, path)
        return (server.cpu_seconds() - before) / (times * size / 1e9)

    # The kernel keeps bytes that were written in small pieces in small folios, and sending those
    # costs more. Pages read from the disk, as after a restart, are alike for all servers.
    for note in ("just written", "read from disk"):
        values, ratio = in_turn(4 * bench.rounds, servers, measure, "nginx")
        yield Row(f"hot blob, pages {note}: server CPU", "s/GB", values, ratio, ("<=", 1.0))
        for server in servers:
            server.drop_pages()
            clients.download(server.port, path)


def one_transfer(bench):
    """bytes that upstream sends when 8 and 50 clients pull one cold blob at once"""
    size = (16 if bench.quick else 64) * MIB
    path = clients.blob_path(bench.content.blob(size))
    for count in (8, 50):
        values = {}
        for server in bench.caches:
            server.fresh()
            bench.upstream.set(rate=20_000_000)
            results = clients.download_together(server.port, path, count)
            bench.check(all(result and result.is_whole for result in results), server, path)
            values[server.name] = bench.upstream.settled_counters()["blob_bytes"] / size
        yield Row(f"{count} cold clients of one blob: upstream bytes", "x blob", values, None,
                  ("<=", 1.0))
    bench.upstream.set()


def head(bench):
    """bytes that upstream sends for a HEAD of a cold blob"""
    size = 16 * MIB
    path = clients.blob_path(bench.content.blob(size, seed=7))
    values = {}
    for server in bench.caches:
        server.fresh()
        bench.upstream.set()
        with clients.connect_and_ask(server.port, path, "HEAD") as sock:
            status, length, _ = clients.read_head(sock)
        bench.check((status, length) == (200, size), server, path)
        values[server.name] = bench.upstream.settled_counters()["blob_bytes"] / size
    yield Row("HEAD of a cold blob: upstream bytes", "x blob", values, None, ("<=", 0.0))


def first_byte(bench):
    """how much later than directly from upstream a cold blob's first byte arrives"""
    for mib in (1, 64, 256):
        path = clients.blob_path(bench.content.blob(mib * MIB, seed=1))
        found = {server.name: [] for server in bench.caches}
        for _ in range(3 if bench.quick else 7):
            for server in bench.caches:
                server.fresh()
                bench.upstream.set(rate=100_000_000)
                direct = clients.download(bench.upstream.port, path).first_byte
                cold = clients.download(server.port, path).first_byte
                found[server.name].append((cold - direct) * 1000)
        values = {name: statistics.median(times) for name, times in found.items()}
        yield Row(f"cold blob of {mib} MiB: first byte after a direct fetch's", "ms", values, None,
                  ("<=", 20.0))
    bench.upstream.set()


def memory(bench):
    """resident memory: idle, and with 1,000 downloads of one blob in progress, hot and cold"""
    count = 200 if bench.quick else 1000
    path = clients.blob_path(bench.content.blob(256 * MIB))
    idle, hot, cold = {}, {}, {}
    for server in bench.caches:
        server.fresh()
        clients.download(server.port, clients.manifest_path(bench.content.tag))
        time.sleep(1)
        idle[server.name] = server.resident_bytes() / MIB

        bench.upstream.set(rate=8_000_000)
        cold[server.name] = _crowded(bench, server, path, count)

        server.fresh()
        bench.upstream.set()
        clients.download(server.port, path)
        bench.upstream.settled_counters()
        hot[server.name] = _crowded(bench, server, path, count)
        server.stop()
    yield Row("resident memory, idle", "MiB", idle)
    yield Row(f"resident memory, {count:,} downloads of a cached blob", "MiB", hot, None,
              ("<=", 40.0))
    yield Row(f"resident memory, {count:,} downloads of one cold blob", "MiB", cold, None,
              ("<=", 40.0))
    bench.upstream.set()
    for server in bench.caches:
        server.start()


def _crowded(bench, server, path, count):
    """The largest resident memory in MiB during a few seconds of that many slow downloads."""
    crowd = clients.SlowCrowd(server.port, path, count)
    most = 0
    for _ in range(6):
        crowd.read_on(0.5)
        most = max(most, server.resident_bytes())
    crowd.close()
    bench.check(crowd.fed == count, server, f"{path}: {crowd.fed} of {count} downloads began")
    return most / MIB


def capped(bench):
    """a large cold blob from an upstream that caps each connection at 20 MB/s"""
    size, rate = (64 if bench.quick else 256) * MIB, 20_000_000
    path = clients.blob_path(bench.content.blob(size, seed=2))
    bench.upstream.set(rate=rate)
    values = {"curl": clients.curl_seconds(bench.upstream.port, path)}
    for server in bench.caches:
        server.fresh()
        bench.upstream.set(rate=rate)
        result = clients.download(server.port, path)
        bench.check(result.is_whole, server, path)
        values[server.name] = result.seconds
    bench.upstream.set()
    speedup = None
    if "tarn" in values:
        speedup = ("x curl's speed", values["curl"] / values["tarn"])
    yield Row(f"cold blob of {size // MIB} MiB, upstream 20 MB/s a connection", "s", values, speedup,
              (">=", 0.9 * bench.connections), f"tarn with `connections: {bench.connections}`")


def cuts(bench):
    """bytes that upstream sends for a cold blob when it breaks off 0, 1 and 10 times"""
    size = 256 * MIB
    name = bench.content.blob(size, seed=3)
    path = clients.blob_path(name)
    for count, goal in ((0, 1.0), (1, 1.05), (10, 1.1)):
        values, wrong = {}, []
        for server in bench.caches:
            server.fresh()
            bench.upstream.set(rate=100_000_000, cuts=count, over=size)
            result = clients.download(server.port, path, hashed=True)
            counters = bench.upstream.settled_counters()
            values[server.name] = counters["blob_bytes"] / size
            if result.digest != name:
                wrong.append(f"{server.name}'s client got {result.received} bytes of {size}")
            elif counters["cuts_made"] < count:
                wrong.append(f"{server.name}: upstream broke off {counters['cuts_made']} times only")
        yield Row(f"cold blob, upstream breaks off {count} times: upstream bytes", "x blob", values,
                  None, ("<=", goal), "; ".join(wrong))
    bench.upstream.set()


def cold_cpu(bench):
    """the server's CPU time for a cold blob, and what SHA-256 alone costs"""
    size, times = 256 * MIB, 2 if bench.quick else 6
    names = [bench.content.blob(size, seed=10 + index) for index in range(times)]
    values = {}
    for server in bench.caches:
        server.fresh()
        before = server.cpu_seconds()
        for name in names:
            result = clients.download(server.port, clients.blob_path(name))
            bench.check(result.is_whole, server, name)
        bench.upstream.settled_counters()
        values[server.name] = (server.cpu_seconds() - before) / (times * size / 1e9)
    block, hasher = bytes(MIB), hashlib.sha256()
    before = time.process_time()
    for _ in range(1024):
        hasher.update(block)
    values["SHA-256 alone"] = (time.process_time() - before) / (1024 * MIB / 1e9)
    ratio = None
    if "tarn" in values:
        ratio = ("x SHA-256 alone", values["tarn"] / values["SHA-256 alone"])
    yield Row("cold blob, server CPU", "s/GB", values, ratio)


def start(bench):
    """time from exec to the first cached manifest, with many blobs in the cache"""
    if bench.tarn is None:
        return
    tarn = bench.tarn
    tarn.fresh()
    path = clients.manifest_path(bench.content.tag)
    clients.download(tarn.port, path)
    tarn.stop()
    blobs = os.path.join(tarn.folder, "root", "blobs", "sha256")
    fill(blobs, bench.blobs)
    times = []
    for _ in range(5):
        begin = time.monotonic()
        tarn.start()
        bench.check(clients.download(tarn.port, path).is_whole, tarn, path)
        times.append((time.monotonic() - begin) * 1000)
        tarn.stop()
    tarn.fresh()
    yield Row(f"start with {bench.blobs:,} blobs cached: first response", "ms",
              {"tarn": statistics.median(times)}, None, ("<=", 100.0))


def fill(folder, count):
    """Makes `count` blobs with made-up digests. Hard links make that a matter of seconds."""
    original = None
    for index in range(count):
        name = hashlib.sha256(b"%d" % index).hexdigest()
        path = os.path.join(folder, name[:2], name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if index % 10_000 == 0:
            original = path
            with open(path, "wb") as file:
                file.write(name.encode())
        else:
            os.link(original, path)


def binary(bench):
    """size of the program, stripped"""
    values = {}
    programs = {"docker-registry": "/usr/bin/docker-registry", "nginx": "/usr/sbin/nginx"}
    if bench.tarn is not None:
        programs["tarn"] = bench.tarn.program
    for name, program in programs.items():
        with tempfile.NamedTemporaryFile() as stripped:
            subprocess.run(["strip", "-o", stripped.name, program], check=True)
            values[name] = os.path.getsize(stripped.name) / 1e6
    yield Row("stripped binary", "MB", values, None, ("<=", 1.0))


ALL = {figure.__name__.replace("_", "-"): figure for figure in (
    hot_manifest, hot_blob, one_transfer, head, first_byte, capped, cuts, cold_cpu, memory, start,
    binary)}
