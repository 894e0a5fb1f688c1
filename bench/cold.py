"""The figures of blobs that have to come from upstream."""
import hashlib
import statistics
import time

import clients
from content import MIB
from rows import Comparison, Ratio, Row, in_turn


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
        watch = bench.watch()
        for _ in range(3 if bench.quick else 7):
            for server in bench.caches:
                server.fresh()
                bench.upstream.set(rate=100_000_000)
                direct = clients.download(bench.upstream.port, path).first_byte
                cold = clients.download(server.port, path).first_byte
                found[server.name].append((cold - direct) * 1000)
        values = {name: statistics.median(times) for name, times in found.items()}
        yield Row(f"cold blob of {mib} MiB: first byte after a direct fetch's", "ms", values, None,
                  ("<=", 20.0), doubt=watch.doubt())
    bench.upstream.set()


def added_time(bench):
    """how much later than upstream's own the first byte of a miss arrives: median and 99 %"""
    pairs = 100 if bench.quick else 400
    blobs = [bench.content.blob(4096, seed=100 + index) for index in range(pairs)]
    misses = {
        # Upstream has its image in every repository, so each of them is a miss of its own.
        "manifest": [clients.manifest_path(bench.content.tag, f"bench/cold{index}")
                     for index in range(pairs)],
        "blob of 4 KiB": [clients.blob_path(blob) for blob in blobs],
    }
    for what, paths in misses.items():
        found, watch = {}, bench.watch()
        for server in bench.caches:
            server.fresh()
            bench.upstream.set()
            found[server.name] = [_added(bench, server, path) for path in paths]
        for share, name in ((50, "median"), (99, "99 %")):
            values = {server: statistics.quantiles(times, n=100)[share - 1]
                      for server, times in found.items()}
            yield Row(f"cold {what}: first byte after upstream's own, {name}", "ms", values, None,
                      ("<=", 5.0), doubt=watch.doubt())


def _added(bench, server, path):
    """The milliseconds between the two of one pair: upstream's own response, and then the cache's,
    so that both meet with the same machine."""
    direct = clients.download(bench.upstream.port, path)
    cold = clients.download(server.port, path)
    bench.check(direct.is_whole and cold.is_whole, server, path)
    return (cold.first_byte - direct.first_byte) * 1000


def capped(bench):
    """a large cold blob from an upstream that caps each connection at 20 MB/s"""
    size, rate = (64 if bench.quick else 256) * MIB, 20_000_000
    path = clients.blob_path(bench.content.blob(size, seed=2))
    bench.upstream.set(rate=rate)
    watch = bench.watch()
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
        times = values["curl"] / values["tarn"]
        speedup = Ratio("curl's speed", times, times, times)
    yield Row(f"cold blob of {size // MIB} MiB, upstream 20 MB/s a connection", "s", values,
              speedup, (">=", 0.9 * bench.connections),
              f"tarn with `connections: {bench.connections}`", watch.doubt())


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
    size = 256 * MIB
    names = [bench.content.blob(size, seed=10 + index) for index in range(bench.rounds)]
    left = {server: list(names) for server in bench.caches}
    for server in bench.caches:
        server.fresh()

    def measure(server):
        before, name = server.cpu_seconds(), left[server].pop()
        result = clients.download(server.port, clients.blob_path(name))
        bench.check(result.is_whole, server, name)
        bench.upstream.settled_counters()  # docker-registry stores it afterwards
        return (server.cpu_seconds() - before) / (size / 1e9)

    measures = {server.name: lambda server=server: measure(server) for server in bench.caches}
    measures["SHA-256 alone"] = lambda: _sha256_seconds(size) / (size / 1e9)
    watch = bench.watch()
    cost = Comparison(in_turn(bench.rounds, measures), "SHA-256 alone")
    yield Row("cold blob, server CPU", "s/GB", cost.values, cost.ratio, ("<=", 1.2),
              doubt=watch.doubt(cost.over, cost.rounds))


def _sha256_seconds(size):
    """The CPU time to hash so many bytes of memory."""
    block, hasher = bytes(MIB), hashlib.sha256()
    before = time.process_time()
    for _ in range(size // MIB):
        hasher.update(block)
    return time.process_time() - before
