"""The figures of what is cached already.

wrk takes one of the processors, so that requests/s depend on what is left for the server. The
server's CPU time for each request depends less on that, so each figure has both.
"""
import clients
import quiet
from content import MIB
from rows import Comparison, Row, in_turn


def hot_manifest(bench):
    """requests/s and CPU time for a cached manifest by digest and by tag, over 32 and 256
    connections, with the log of requests"""
    for kind in ("digest", "tag"):
        for connections in (32, 256):
            yield from _manifest(bench, (bench.tarn, bench.nginx), kind, connections, "",
                                 (">=", 1.25))


def hot_manifest_without_log(bench):
    """the same by digest over 32 connections without the log of requests"""
    yield from _manifest(bench, bench.without_log, "digest", 32, ", no log", None)


def hot_manifest_tls(bench):
    """the same by digest over 32 connections with TLS 1.3"""
    yield from _manifest(bench, bench.with_tls, "digest", 32, ", TLS", (">=", 1.0))


def _manifest(bench, pair, kind, connections, note, goal):
    """The rows of one kind of request. `pair` is a tarn (or None) and an nginx."""
    url_path = clients.manifest_path(bench.reference(kind))
    seconds, sent = 2 if bench.quick else 3, {}
    servers = {server.name: server for server in pair if server}

    def measure(server):
        server.empty_log()
        before = server.cpu_seconds()
        load = clients.load(server.url(url_path), connections, seconds)
        sent[server] = load.requests
        return load.per_second, (server.cpu_seconds() - before) / load.requests * 1e6

    with bench.running(servers.values()):
        for server in servers.values():  # each worker has to have opened the file
            clients.load(server.url(url_path), connections, 1)
        watch = bench.watch()
        found = in_turn(bench.rounds, {name: lambda server=server: measure(server)
                                       for name, server in servers.items()})
        rate = Comparison([{name: one[name][0] for name in servers} for one in found], "nginx")
        cost = Comparison([{name: one[name][1] for name in servers} for one in found], "nginx")
        lost = _lost_lines(sent)
        doubts = [quiet.both(watch.doubt("nginx", of.rounds), lost) for of in (rate, cost)]
    if bench.nginx in pair:
        rate.values |= _registry(bench, url_path, connections, seconds)
    name = f"hot manifest by {kind}, {connections} connections{note}"
    yield Row(name, "requests/s", rate.values, rate.ratio, goal, doubt=doubts[0])
    yield Row(f"{name}: server CPU", "us/request", cost.values, cost.ratio, doubt=doubts[1])


def _lost_lines(sent):
    """Says which servers did not log all the requests that wrk counted in the last round; ""
    if all did. A log with gaps costs less than a whole one, so it must not count."""
    lost = ""
    for server, requests in sent.items():
        logged = server.logged_lines(requests)
        if server.is_logging and logged < requests:
            lost = quiet.both(lost, f"{server.name} logged {logged / requests:.0%} of the requests")
    return lost


def _registry(bench, path, connections, seconds):
    """docker-registry's rate, which is measured once, because it is far from the others."""
    if bench.registry not in bench.caches:
        return {}
    clients.download(bench.registry.port, path)
    result = clients.load(bench.registry.url(path), connections, seconds)
    return {bench.registry.name: result.per_second}


def hot_blob(bench):
    """the server's CPU time to send cached blobs"""
    size, times = 256 * MIB, 24
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
    compared = [server for server in servers if server is not bench.registry]
    for note in ("just written", "read from disk"):
        watch = bench.watch()
        sent = Comparison(in_turn(bench.rounds, {server.name: lambda server=server: measure(server)
                                                 for server in compared}), "nginx")
        doubt = watch.doubt("nginx", sent.rounds)
        if bench.registry in servers:
            sent.values[bench.registry.name] = measure(bench.registry)
        yield Row(f"hot blob, pages {note}: server CPU", "s/GB", sent.values, sent.ratio,
                  ("<=", 1.0), doubt=doubt)
        for server in servers:
            server.drop_pages()
            clients.download(server.port, path)
