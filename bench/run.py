"""Measures tarn, nginx and docker-registry and prints a table in Markdown: see --help.

If there is no program at --tarn, it measures only the others.
"""
import argparse
import json
import os
import platform
import resource
import shutil
import signal
import sys
import tempfile
import time

import figures
from content import Content
from servers import DockerRegistry, Nginx, PacedRegistry, Tarn

COLUMNS = ["tarn", "nginx", "docker-registry", "curl", "SHA-256 alone"]


class Bench:
    """What all figures use: the servers, and how many rounds to measure."""

    def __init__(self, folder, options):
        self.quick = options.quick
        self.rounds = 2 if options.quick else 5
        self.blobs = options.blobs
        self.connections = 4
        self.faults = []
        self.content = Content(os.path.join(folder, "content"))
        self.upstream = PacedRegistry(folder, self.content.folder)
        self.nginx = Nginx(folder, self.content.folder)
        self.registry = DockerRegistry(folder, self.upstream)
        self.tarn = None
        if os.access(options.tarn, os.X_OK):
            self.tarn = Tarn(folder, self.upstream, os.path.abspath(options.tarn), self.connections)
        self.caches = [server for server in (self.tarn, self.registry) if server]
        self.servers = [self.upstream, self.nginx, *self.caches]

    def check(self, is_well, server, what):
        """Records a wrong response. The run goes on; at the end it fails if a response of
        tarn's was wrong."""
        if not is_well:
            print(f"bench: {server.name}: wrong response: {what}", file=sys.stderr)
            self.faults.append(server.name)


def number(value):
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}".rstrip("0").rstrip(".")


def table(rows):
    names = [name for name in COLUMNS if any(name in row.values for row in rows)]
    lines = ["| figure | unit | " + " | ".join(names) + " | ratio | goal | met |",
             "|---|---|" + "---:|" * len(names) + "---|---|---|"]
    for row in rows:
        cells = [number(row.values[name]) if name in row.values else "" for name in names]
        compared = f"{number(row.ratio[1])} {row.ratio[0]}" if row.ratio else ""
        goal = f"{row.goal[0]} {number(row.goal[1])}" if row.goal else ""
        met = {True: "yes", False: "**no**", None: ""}[row.met]
        name = f"{row.name} ({row.note})" if row.note else row.name
        lines.append("| " + " | ".join([name, row.unit, *cells, compared, goal, met]) + " |")
    return "\n".join(lines)


def as_json(rows):
    return {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {"processors": os.cpu_count(), "kernel": platform.release(),
                    "architecture": platform.machine(), "load": os.getloadavg()[0]},
        "rows": [{"figure": row.name, "unit": row.unit, "values": row.values,
                  "ratio": row.ratio and {"to": row.ratio[0], "value": row.ratio[1]},
                  "goal": row.goal and " ".join(map(str, row.goal)), "met": row.met,
                  "note": row.note} for row in rows],
    }


def parse_options():
    described = "\n".join(f"  {name:14} {figure.__doc__}" for name, figure in figures.ALL.items())
    parser = argparse.ArgumentParser(
        prog="script/bench", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Measures tarn beside nginx and docker-registry in one run.",
        epilog="figures:\n" + described)
    parser.add_argument("figure", nargs="*", help="only these; default: all")
    parser.add_argument("--quick", action="store_true",
                        help="fewer rounds and smaller blobs: faster (a minute or two), less exact")
    parser.add_argument("--blobs", type=int, default=100_000, metavar="N",
                        help="blobs in the cache for `start` (default %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="also write the results to this file")
    parser.add_argument("--dir", metavar="DIR",
                        help="the folder to work in (default: the temporary folder)")
    parser.add_argument("--tarn", metavar="PROGRAM", default="build/tarn", help=argparse.SUPPRESS)
    options = parser.parse_args()
    for name in options.figure:
        if name not in figures.ALL:
            parser.error(f"no figure {name}: {' '.join(figures.ALL)}")
    return options


def main():
    options = parse_options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers are stopped
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    folder = tempfile.mkdtemp(prefix="tarn-bench-", dir=options.dir)
    bench, rows = Bench(folder, options), []
    if os.getloadavg()[0] > 0.5:
        print(f"bench: the machine is busy (load {os.getloadavg()[0]}): expect rough figures",
              file=sys.stderr)
    try:
        for server in bench.servers:
            server.start()
        for name in options.figure or figures.ALL:
            print(f"bench: {name} ...", file=sys.stderr)
            for row in figures.ALL[name](bench):
                rows.append(row)
                shown = ", ".join(f"{key} {number(value)}" for key, value in row.values.items())
                print(f"bench:   {row.name}: {shown} {row.unit}", file=sys.stderr)
    finally:
        for server in bench.servers:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    print(table(rows))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(as_json(rows), file, indent=2)
            file.write("\n")
    return 1 if "tarn" in bench.faults else 0


if __name__ == "__main__":
    sys.exit(main())
