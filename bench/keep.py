"""The figures of tarn keep on a cluster of 1,000 nodes, on a fast stand-in for kube-apiserver (cluster.c)."""
import contextlib
import hashlib
import http.server
import json
import os
import pathlib
import statistics
import subprocess
import threading
import time
import urllib.request

from content import MIB
from rows import Comparison, Row, in_turn
from servers import free_port

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = "org/lab"
TAGS = [f"v{number}" for number in range(6)]
# Of a write. kube-apiserver 1.37 with etcd creates and deletes 83 pods a second on one connection.
DELAY_MS = 5
REQUESTS = 16  # that tarn keep sends at once, and so does the bare client


class Registry:
    """Knows the digests of a few tags."""

    def __init__(self):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                reference = self.path.rpartition("/")[2]
                tag = reference if reference in TAGS else next(
                    (tag for tag in TAGS if digest(tag) == reference), None)
                found = tag and "/manifests/" in self.path
                body = manifest(tag) if found else b"{}"
                self.send_response(200 if found or self.path == "/v2/" else 404)
                self.send_header("Content-Type", "application/vnd.oci.image.manifest.v1+json")
                self.send_header("Content-Length", str(len(body)))
                if found:
                    self.send_header("Docker-Content-Digest", digest(tag))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, *arguments):
                pass
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


def manifest(tag):
    blob = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "size": 1000,
            "digest": "sha256:" + "1" * 64}
    return json.dumps({"schemaVersion": 2,
                       "mediaType": "application/vnd.oci.image.manifest.v1+json",
                       "config": {**blob, "mediaType": "application/vnd.oci.image.config.v1+json"},
                       "layers": [blob], "annotations": {"tag": tag}}).encode()


def digest(tag):
    return "sha256:" + hashlib.sha256(manifest(tag)).hexdigest()


def cpu_times(process):
    """Its user and system time in seconds."""
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return tuple(int(ticks) / os.sysconf("SC_CLK_TCK") for ticks in fields[11:13])


class Cluster:
    """The stand-in, with so many nodes."""

    def __init__(self, program, count, delay):
        self.child = subprocess.Popen([program, "serve", str(count), str(delay)], stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, text=True)
        self.port = int(self.child.stdout.readline())

    def cpu_times(self):
        return cpu_times(self.child)

    def order(self, word="look"):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/bench/{word}") as response:
            return json.load(response)

    def stop(self):
        self.child.stdin.close()
        self.child.wait(20)
        self.child.stdout.close()


class Keep:
    """A tarn keep on the cluster."""

    def __init__(self, bench, folder, cluster, registry, tags):
        self.port = free_port()
        kubeconfig, config = folder / "kubeconfig", folder / "tarn.json"
        kubeconfig.write_text(json.dumps({
            "current-context": "c", "contexts": [{"name": "c", "context": {
                "cluster": "c", "user": "u", "namespace": "tarn"}}],
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{cluster.port}"}}],
            "users": [{"name": "u", "user": {"token": "t"}}]}))
        images = [{"image": f"registry.example/{REPOSITORY}:{tag}"} for tag in tags]
        config.write_text(json.dumps({
            "log": {"level": "warn"},
            "upstreams": [{"host": "registry.example", "url": registry.url}],
            "keep": {"listen": f"127.0.0.1:{self.port}", "kubeconfig": str(kubeconfig),
                     "machines": str(folder / "machines"),
                     "keeps": [{"name": "labs", "images": images,
                                "pull": {"nodes_at_once": 50}}]}}))
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [bench.program, "keep", "--config", config], cwd=folder,
            env={"PATH": os.environ["PATH"], "HOME": str(folder), "NO_GCE_CHECK": "true"})

    def page(self, path="/tarn/v1/keeps/labs"):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}") as response:
            return response.read()

    def cpu_times(self):
        return cpu_times(self.process)

    def resident(self, kind):
        """VmRSS now, or VmHWM at most."""
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(kind + ":"):
                return int(line.split()[1]) * 1024
        raise RuntimeError(f"no {kind}")

    def stop(self):
        self.process.terminate()
        self.process.wait(30)


def _until(condition, seconds=120, pause=0.02):
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise RuntimeError("what was awaited did not happen")
        time.sleep(pause)


class Place:
    """Where the figures are measured."""

    def __init__(self, bench):
        self.bench = bench
        self.folder = pathlib.Path(bench.folder) / "keep"
        self.folder.mkdir(exist_ok=True)
        self.program = self.folder / "cluster"
        subprocess.run(["cc", "-D_GNU_SOURCE", "-O2", "-o", self.program, HERE / "cluster.c",
                        "-ljansson", "-lpthread"], check=True)
        self.registry = Registry()

    @contextlib.contextmanager
    def _counted(self, server):
        """Its time is the bench's own: see quiet.py."""
        self.bench.temporary.append(server)
        try:
            yield server
        finally:
            server.stop()
            self.bench.temporary.remove(server)

    @contextlib.contextmanager
    def cluster(self, count, delay=0):
        with self._counted(Cluster(self.program, count, delay)) as cluster:
            yield cluster

    @contextlib.contextmanager
    def keep(self, cluster, tags=TAGS):
        (self.folder / "machines").mkdir(exist_ok=True)
        with self._counted(Keep(self.bench, self.folder, cluster, self.registry, tags)) as keep:
            yield keep


def keep(bench):
    """tarn keep on 1,000 nodes: pods, requests, memory, CPU, and how soon it acts"""
    if bench.program is None:
        return
    place = Place(bench)
    try:
        yield from _all_pods(place)
        yield from _at_rest(place)
        yield from _memory(place)
    finally:
        place.registry.stop()


def _pull_all(place, delay):
    """The counters after 6,000 pulls."""
    with place.cluster(1000, delay) as cluster, place.keep(cluster):
        def done():
            seen = cluster.order()
            return seen["deleted"] == 6000 == seen["created"] and seen
        found = _until(done, pause=0.1)
        if found["twice"]:
            raise RuntimeError(f"{found['twice']} images were pulled twice")
        return found


def _bodies(place):
    """A file with the pods that tarn would create, a line each."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {
        "generateName": "keep-v0-", "labels": {"app.kubernetes.io/component": "puller"},
        "annotations": {"tarn/image": "i", "tarn/digest": digest("v0")}}, "spec": {
            "nodeName": "node-0001", "containers": [{"name": "pull", "image": "i",
                                                     "command": ["/bin/true"]}],
            "padding": "x" * 1000}}  # as long as tarn's
    path = place.folder / "pods"
    path.write_text(json.dumps(pod, separators=(",", ":")) + "\n")
    return path


def _all_pods(place):
    bodies = _bodies(place)
    counters = []
    for delay, goal in ((DELAY_MS, ("<=", 2.0)), (0, None)):
        watch = place.bench.watch()

        def pull(delay=delay):
            counters.append(_pull_all(place, delay))
            return counters[-1]["seconds"]

        def loop(delay=delay):
            with place.cluster(1000, delay) as cluster:
                subprocess.run([place.program, "loop", str(cluster.port), "6000", str(REQUESTS),
                                bodies], check=True, timeout=600)
                return cluster.order()["seconds"]
        rounds = 3 if place.bench.quick else 5
        found = Comparison(in_turn(rounds, {"tarn": pull, "bare loop": loop}), "bare loop")
        yield Row(f"keep: 6,000 pods on 1,000 nodes, writes take {delay} ms", "s", found.values,
                  found.ratio, goal, doubt=watch.doubt("the bare loop", found.rounds))
    yield Row("keep: pods at once, of 50", "pods", {"tarn": max(one["most"] for one in counters)},
              None, ("<=", 50))
    yield Row("keep: requests for a pull", "requests",
              {"tarn": round(max(one["requests"] for one in counters) / 6000, 3)}, None, ("<=", 2.02))


def _at_rest(place):
    with place.cluster(1000) as cluster, place.keep(cluster, TAGS[:1]) as keep:
        _until(lambda: cluster.order()["deleted"] == 1000)
        seconds = 20 if place.bench.quick else 60
        before, cpu = cluster.order(), sum(keep.cpu_times())
        time.sleep(seconds)
        after = cluster.order()
        others = after["requests"] - before["requests"] - (
            after["lease_requests"] - before["lease_requests"])
        yield Row(f"keep: requests in {seconds} s at rest, without the lease's", "requests",
                  {"tarn": others}, None, ("<=", 0))
        yield Row("keep: CPU at rest", "% of a core", {"tarn": 100 * (sum(keep.cpu_times()) - cpu) / seconds})
        watch = place.bench.watch()
        cluster.order("updates/100")
        _until(lambda: cluster.order()["updates"] > 100)
        before, cpu, began = cluster.order()["updates"], sum(keep.cpu_times()), time.monotonic()
        time.sleep(10)
        passed = time.monotonic() - began
        rate = (cluster.order()["updates"] - before) / passed
        yield Row(f"keep: {rate:.0f} updates of nodes a second: CPU", "% of a core",
                  {"tarn": 100 * (sum(keep.cpu_times()) - cpu) / passed}, None, ("<=", 10.0),
                  doubt=watch.doubt())
        cluster.order("updates/0")
        yield from _how_soon(cluster, keep)


def _how_soon(cluster, keep):
    """How long after a node is Ready its first pod is created, and after an end the page tells it."""
    first, told = [], []
    for number in range(10):
        name = f"slow-{number}"
        cluster.order(f"add/{name}")
        seen = _until(lambda: (found := cluster.order())["node_first_pod"] and found, 30, 0.005)
        first.append(seen["node_first_pod"] - seen["node_added"])

        def state():
            cells = json.loads(keep.page())["images"][0]["nodes"]
            return cells.get(name, {}).get("state")
        _until(lambda: state() == "pulling")
        cluster.order("end")
        began = time.monotonic()
        _until(lambda: state() == "kept", 30, 0.005)
        told.append(time.monotonic() - began)
    yield Row("keep: a node is Ready until its first pod", "s", {"tarn": max(first)}, None,
              ("<=", 1.0), f"median {statistics.median(first) * 1000:.0f} ms")
    yield Row("keep: a pull has ended until the page says so", "s", {"tarn": max(told)}, None,
              ("<=", 1.0), f"median {statistics.median(told) * 1000:.0f} ms")


def _memory(place):
    most, watch = {}, place.bench.watch()
    for count in (1, 1000):
        with place.cluster(count) as cluster, place.keep(cluster) as keep:
            if count == 1000:
                first = _until(lambda: cluster.order()["created"] and time.monotonic(), pause=0.01)
                yield Row("keep: from the start to the first pod of 1,000 nodes", "s",
                          {"tarn": first - keep.started}, None, ("<=", 5.0), doubt=watch.doubt())
            _until(lambda: cluster.order()["deleted"] == 6 * count)
            for _ in range(5):
                keep.page()
            time.sleep(1)
            most[count] = keep.resident("VmHWM") / MIB
    yield Row("keep: resident memory at most, 1,000 nodes", "MiB", {"tarn": most[1000]}, None,
              ("<=", 48.0))
    yield Row("keep: resident memory at most, above that of one node", "MiB",
              {"tarn": most[1000] - most[1]}, None, ("<=", 16.0))
