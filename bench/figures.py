"""All figures by name, and the two of the program itself. A figure is a function that measures and
yields rows of the table."""
import hashlib
import os
import statistics
import subprocess
import tempfile
import time

import clients
from bucket import (bucket_blob, bucket_first_byte, bucket_memory, bucket_miss, bucket_requests,
                    bucket_visible)
from build import build
from cold import added_time, capped, cold_cpu, cuts, first_byte, head, one_transfer
from hot import hot_blob, hot_manifest, hot_manifest_tls, hot_manifest_without_log
from images import images
from keep import keep
from memory import idle_connections, idle_connections_tls, memory
from push import push_append, push_copy, push_cuts, push_memory, push_time
from replicas import (replicas_first_byte, replicas_loss, replicas_scale, replicas_throughput,
                      replicas_transfer)
from rows import Row


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
    times, watch = [], bench.watch()
    for _ in range(5):
        begin = time.monotonic()
        tarn.start()
        bench.check(clients.download(tarn.port, path).is_whole, tarn, path)
        times.append((time.monotonic() - begin) * 1000)
        tarn.stop()
    tarn.fresh()
    yield Row(f"start with {bench.blobs:,} blobs cached: first response", "ms",
              {"tarn": statistics.median(times)}, None, ("<=", 100.0), doubt=watch.doubt())


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
    programs = {"nginx": "/usr/sbin/nginx"}
    if bench.registry in bench.caches:
        programs["docker-registry"] = "/usr/bin/docker-registry"
    if bench.tarn is not None:
        programs["tarn"] = bench.tarn.program
    for name, program in programs.items():
        with tempfile.NamedTemporaryFile() as stripped:
            subprocess.run(["strip", "-o", stripped.name, program], check=True)
            values[name] = os.path.getsize(stripped.name) / 1e6
    yield Row("stripped binary", "MB", values, None, ("<=", 2.0))


ALL = {figure.__name__.replace("_", "-"): figure for figure in (
    hot_manifest, hot_manifest_without_log, hot_manifest_tls, hot_blob, one_transfer, head,
    first_byte, added_time, capped, cuts, cold_cpu, memory, idle_connections, idle_connections_tls, start,
    images, keep, bucket_blob, bucket_first_byte, bucket_miss, bucket_visible, bucket_memory,
    bucket_requests, replicas_transfer, replicas_first_byte, replicas_throughput, replicas_loss,
    replicas_scale, push_time, push_cuts, push_memory, push_copy, push_append, build, binary)}
