"""Measures tarn, nginx and docker-registry and prints a table in Markdown: see --help.

If there is no program at --tarn, it measures only the others.
"""
import argparse
import contextlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile

import figures
import machine
import quiet
from content import Content
from report import Run, number, table
from servers import Certificate, DockerRegistry, Nginx, PacedRegistry, Tarn


class Bench:
    """What all figures use: the servers, and how many rounds to measure."""

    def __init__(self, folder, options, descriptors):
        self.quick = options.quick
        self.rounds = 4 if options.quick else 9
        self.blobs = options.blobs
        self.descriptors = descriptors
        self.connections = 4
        self.faults = []  # names of servers that sent something wrong
        self.failed = []  # names of figures
        self.content = Content(os.path.join(folder, "content"))
        self.program = os.path.abspath(options.tarn) if os.access(options.tarn, os.X_OK) else None
        self.folder = folder
        self.upstream = PacedRegistry(folder, self.content.folder)
        self.nginx = Nginx(folder, self.content.folder)
        self.registry = DockerRegistry(folder, self.upstream)
        self.tarn = self._tarn()
        self.caches = [server for server in (self.tarn, self.registry) if server]
        if options.without_docker_registry:
            self.caches.remove(self.registry)
        self.servers = [self.upstream, self.nginx, *self.caches]
        self._make_pairs(Certificate(folder))

    def _tarn(self, **settings):
        if self.program is None:
            return None
        return Tarn(self.folder, self.upstream, self.program, self.connections, **settings)

    def _nginx(self, **settings):
        return Nginx(self.folder, self.content.folder, **settings)

    def _make_pairs(self, certificate):
        """Pairs of a tarn (or None) and an nginx that run during one figure only."""
        crowd = {"level": "warn", "extra": "max_connections: 20000\nidle_timeout: 10m\n"}
        self.without_log = (self._tarn(variant="-without-log", level="warn"),
                            self._nginx(variant="-without-log", is_logging=False))
        self.with_tls = (self._tarn(variant="-tls", certificate=certificate),
                         self._nginx(variant="-tls", certificate=certificate))
        self.for_crowds = (self._tarn(variant="-crowd", **crowd), self._nginx(variant="-crowd"))
        self.for_crowds_tls = (
            self._tarn(variant="-crowd-tls", certificate=certificate, **crowd),
            self._nginx(variant="-crowd-tls", certificate=certificate))
        self.temporary = [server for pair in (self.without_log, self.with_tls, self.for_crowds,
                                              self.for_crowds_tls) for server in pair if server]

    def reference(self, kind):
        """The manifest's digest or its tag."""
        return f"sha256:{self.content.manifest}" if kind == "digest" else self.content.tag

    @contextlib.contextmanager
    def running(self, servers):
        """Starts those of the servers that do not run, and stops these again."""
        started = [server for server in servers if server.process is None]
        try:
            for server in started:
                server.start()
            yield
        finally:
            for server in started:
                server.stop()

    def watch(self):
        """Watches how busy others are, from now on."""
        return quiet.Watch(self._own_times)

    def _own_times(self):
        own = os.times()
        found = [(own.user + own.children_user, own.system + own.children_system)]
        found += [server.cpu_times() for server in self.servers + self.temporary]
        return tuple(map(sum, zip(*found)))

    def stop(self):
        for server in self.servers + self.temporary:
            server.stop()

    def check(self, is_well, server, what):
        """Records a wrong response. The run goes on; at the end it fails if a response of
        tarn's was wrong."""
        if not is_well:
            print(f"bench: {server.name}: wrong response: {what}", file=sys.stderr)
            self.faults.append(server.name)


def parse_options():
    width = max(map(len, figures.ALL))
    described = "\n".join(f"  {name:{width}}  " + " ".join(figure.__doc__.split())
                          for name, figure in figures.ALL.items())
    parser = argparse.ArgumentParser(
        prog="script/bench", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Measures tarn beside nginx and docker-registry in one run.",
        epilog=quiet.DESCRIPTION + "\nfigures:\n" + described)
    parser.add_argument("figure", nargs="*", help="only these (bucket, replicas, push: all of these); default: all")
    parser.add_argument("--quick", action="store_true",
                        help="fewer and shorter rounds: about five minutes, less exact")
    parser.add_argument("--without-docker-registry", action="store_true",
                        help="measure only tarn and nginx: faster")
    parser.add_argument("--blobs", type=int, default=100_000, metavar="N",
                        help="blobs in the cache for `start` (default %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="also write the results to this file")
    parser.add_argument("--dir", metavar="DIR",
                        help="the folder to work in (default: the temporary folder)")
    parser.add_argument("--tarn", metavar="PROGRAM", default="build/tarn", help=argparse.SUPPRESS)
    options = parser.parse_args()
    for group in ("bucket", "replicas", "push"):
        if group in options.figure:
            at = options.figure.index(group)
            options.figure[at:at + 1] = [name for name in figures.ALL
                                         if name.startswith(f"{group}-")]
    for name in options.figure:
        if name not in figures.ALL:
            parser.error(f"no figure {name}: {' '.join(figures.ALL)}")
    return options


def command_line(options):
    """The command as a reader can repeat it."""
    words = ["script/bench", *options.figure]
    words += ["--quick"] if options.quick else []
    words += ["--without-docker-registry"] if options.without_docker_registry else []
    words += [f"--blobs {options.blobs}"] if options.blobs != 100_000 else []
    return " ".join(words)


def measure(bench, names):
    """Measures the figures and returns their rows. A figure that fails does not end the run."""
    rows = []
    for name in names:
        print(f"bench: {name} ...", file=sys.stderr)
        try:
            for server in bench.servers:
                server.start_unless_running()
            for row in figures.ALL[name](bench):
                rows.append(row)
                shown = ", ".join(f"{key} {number(value)}" for key, value in row.values.items())
                doubt = f" (in doubt: {row.doubt})" if row.doubt else ""
                print(f"bench:   {row.name}: {shown} {row.unit}{doubt}", file=sys.stderr)
        except (OSError, RuntimeError) as error:
            print(f"bench: {name} failed: {error}", file=sys.stderr)
            bench.failed.append(name)
    return rows


def main():
    options = parse_options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers are stopped
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    folder = tempfile.mkdtemp(prefix="tarn-bench-", dir=options.dir)
    run = Run(command_line(options), machine.processor(), machine.system(folder))
    bench = Bench(folder, options, most)
    try:
        run.versions = machine.versions(bench)
        rows = measure(bench, options.figure or figures.ALL)
    finally:
        bench.stop()
        shutil.rmtree(folder, ignore_errors=True)
    print(run.paragraph(rows), table(rows), sep="\n\n")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(run.as_json(rows), file, indent=2)
            file.write("\n")
    return 1 if "tarn" in bench.faults or bench.failed else 0


if __name__ == "__main__":
    sys.exit(main())
