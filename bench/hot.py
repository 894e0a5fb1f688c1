"""The figures of what is cached already."""
import clients
from content import MIB
from rows import Row, in_turn


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
