"""The figures of resident memory."""
import time

import clients
from content import MIB
from rows import Row


def memory(bench):
    """resident memory: idle, and with 1,000 downloads of one blob in progress, hot and cold"""
    count = 1000
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


def idle_connections(bench):
    """resident memory of each of 10,000 idle connections"""
    yield from _idle(bench, "plain", bench.for_crowds, 1.0)


def idle_connections_tls(bench):
    """resident memory of each of 10,000 idle connections with TLS"""
    yield from _idle(bench, "TLS", bench.for_crowds_tls, 16.0)


def _idle(bench, kind, pair, goal):
    """The row of one kind of connection. Each has had one response."""
    count, values = min(10_000, bench.descriptors - 500), {}
    path = clients.manifest_path(bench.reference("digest"))
    for server in pair:
        if server is None:
            continue
        with bench.running([server]):
            clients.IdleCrowd(server, path, 1).close()
            time.sleep(1)
            before = server.resident_bytes()
            crowd = clients.IdleCrowd(server, path, count)
            values[server.name] = (server.settled_bytes() - before) / count / 1024
            bench.check(crowd.closed() == 0, server, f"{crowd.closed()} idle connections closed")
            crowd.close()
    yield Row(f"idle connection, {kind}: resident memory of each of {count:,}", "KiB", values, None,
              ("<=", goal))


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
