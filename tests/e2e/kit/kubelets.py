"""Nodes with kubelets on the stand-in for kube-apiserver: they pull, fail, are slow, and forget."""

import collections
import concurrent.futures
import json
import re
import subprocess
import threading

from kit.client import fetch
from kit.kubernetes_api import Kubeconfig
from kit.processes import Program, free_port, wait_until
from kit.tarn import SANITIZER_REPORT, bare_environment
from kit.yaml_text import yaml_text

READY = [{"type": "Ready", "status": "True"}]


def listed(*names, size=1000):
    """An image in a node's list."""
    return {"names": list(names), "sizeBytes": size}


class Kubelets:
    """
    Answers each pod that is created on one of its nodes. `outcomes` has pairs of a pattern for
    "NODE IMAGE" and a function of (pod, node) that gives the pod's status, or None for one that never
    changes; the last pair that matches counts. Without one the pull succeeds after `delay` seconds
    and the image is added to the node's list.
    """

    def __init__(self, api, namespace="tarn"):
        self.api, self.namespace = api, namespace
        self.outcomes, self.delay = [], 0.0
        self.list_limit, self.lists_pulls = 50, True
        self.pulls = []                       # (node, image) of each pod that was created
        self.running, self.most = {}, {}      # by node: pods at once
        self.most_at_once = {}                # by node, by keep ("keep NAME"), by (node, image)
        self.lock = threading.Lock()
        self.pool = concurrent.futures.ThreadPoolExecutor(32)
        api.hooks.append(self._hook)

    def node(self, name, labels=None, taints=None, images=(), **more):
        status = {"conditions": READY, "images": list(images),
                  "nodeInfo": {"architecture": "amd64", "operatingSystem": "linux",
                               "bootID": "boot-1"},
                  "capacity": {"ephemeral-storage": "100Gi"}, **more.pop("status", {})}
        return self.api.put("nodes", name, metadata={"name": name, "labels": labels or {}},
                            spec={"taints": taints or [], **more.pop("spec", {})}, status=status)

    def images(self, name, images=None):
        """The node's list; with `images` it is changed first."""
        with self.api.lock:
            item = json.loads(json.dumps(self.api.objects[("nodes", "", name)]))
            if images is not None:
                item["status"]["images"] = images
                self.api.put("nodes", name, **{k: item[k] for k in ("spec", "status")})
            return item["status"]["images"]

    def pods(self):
        with self.api.lock:
            return [item for (kind, _, _), item in self.api.objects.items() if kind == "pods"]

    def wait_no_pods(self, seconds=60):
        wait_until(lambda: not self.pods(), "no pod to be left", seconds)

    def _hook(self, verb, resource, item):
        if resource != "pods" or verb != "create":
            return
        node, image = item["spec"]["nodeName"], item["spec"]["containers"][0]["image"]
        self._count_pods()
        with self.lock:
            self.pulls.append((node, image))
            self.running[node] = self.running.get(node, 0) + 1
            self.most[node] = max(self.most.get(node, 0), self.running[node])
        self.pool.submit(self._pull, item, node, image)

    def _count_pods(self):
        """The most pods that were there at the same time, whatever their phase."""
        with self.lock, self.api.lock:
            counts = collections.Counter()
            for pod in self.pods():
                node, image = pod["spec"]["nodeName"], pod["spec"]["containers"][0]["image"]
                keep = pod["metadata"]["labels"]["tarn/keep"]
                counts.update((node, f"keep {keep}", (node, image)))
            for key, count in counts.items():
                self.most_at_once[key] = max(count, self.most_at_once.get(key, 0))

    def _pull(self, pod, node, image):
        outcome = next((function for pattern, function in reversed(self.outcomes)
                        if re.search(pattern, f"{node} {image}")), None)
        if self.delay:
            self.api.stopped.wait(self.delay)
        digest = pod["metadata"]["annotations"].get("tarn/digest", "sha256:" + "0" * 64)
        if outcome:
            status = outcome(pod, node)
        else:
            status = succeeded(image, digest)
            if self.lists_pulls:
                self._list(node, image, digest)
        if status is None:
            return
        with self.lock:
            self.running[node] -= 1
        self.set_status(pod, status)

    def set_status(self, pod, status):
        name = pod["metadata"]["name"]
        with self.api.lock:
            now = self.api.objects.get(("pods", self.namespace, name))
            if now:
                self.api.put("pods", name, self.namespace, spec=now["spec"], status=status)

    def _list(self, node, image, digest):
        with self.api.lock:
            if ("nodes", "", node) not in self.api.objects:
                return
            images = self.images(node)
            repository = image.partition("@")[0].rpartition(":")[0]
            names = [f"{repository}@{digest}"]
            names += [image] if "@" not in image else []
            images = [one for one in images if not set(names) & set(one["names"])]
            images = sorted([*images, listed(*names)], key=lambda one: -one["sizeBytes"])
            self.images(node, images[:self.list_limit])


def succeeded(image, digest):
    repository = image.partition("@")[0].rpartition(":")[0]
    return {"phase": "Succeeded", "containerStatuses": [
        {"imageID": f"{repository}@{digest}",
         "state": {"terminated": {"reason": "Completed", "exitCode": 0}}}]}


def waiting(reason, message="why not"):
    return {"phase": "Pending", "containerStatuses": [
        {"imageID": "", "state": {"waiting": {"reason": reason, "message": message}}}]}


class Keeper:
    """A `tarn keep` that serves."""

    def __init__(self, program, directory, api, keep, settings=None, environment=None,
                 token="secret-token"):
        self.program, self.directory = program, directory
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        kubeconfig = Kubeconfig(api).write(directory / "kubeconfig", {"token": token})
        self.config = directory / "tarn.yaml"
        self.settings = {"log": {"level": "debug", "format": "text"}, "grace": "2s",
                         **(settings or {}),
                         "keep": {"listen": f"127.0.0.1:{self.port}", "kubeconfig": str(kubeconfig),
                                  "lease": "none", **keep}}
        self.environment = bare_environment(directory, **(environment or {}))
        self.process = None

    def write(self):
        self.config.write_text(yaml_text(self.settings))
        return self.config

    def start(self, ready=True):
        self.write()
        self.process = Program([self.program, "keep", "--config", self.config],
                               self.directory / "keep.log", self.environment, self.directory)
        self.process.wait_ready(lambda: self._is_up(ready))
        return self

    def _is_up(self, ready):
        try:
            return self.get("/readyz" if ready else "/livez").status == 200
        except OSError:
            return False

    def once(self, *arguments):
        """Runs it with --once; gives the finished process."""
        self.write()
        return subprocess.run([self.program, "keep", "--config", self.config, "--once", *arguments],
                              env=self.environment, cwd=self.directory, text=True,
                              capture_output=True, timeout=120, check=False)

    def get(self, path, headers=None, **more):
        return fetch(f"http://127.0.0.1:{self.port}{path}", headers, **more)

    def json(self, path):
        response = self.get(path)
        assert response.status == 200, response.body
        return json.loads(response.body)

    def states(self, keep="labs"):
        """{(image, node): state}"""
        return {(image["image"], node): cell["state"]
                for image in self.json(f"/tarn/v1/keeps/{keep}")["images"]
                for node, cell in image["nodes"].items()}

    def wait_states(self, expected, keep="labs", seconds=60):
        wait_until(lambda: self.states(keep) == expected,
                   f"{expected}; now {self.states(keep)}", seconds)

    def wait_all(self, state="kept", keep="labs", count=1, seconds=60):
        wait_until(lambda: len(self.states(keep)) >= count
                   and set(self.states(keep).values()) == {state},
                   f"all of {keep} to be {state}", seconds)

    def log(self):
        return self.process.log()

    def stop(self):
        code = self.process.stop()
        found = SANITIZER_REPORT.search(self.log())
        assert not found, self.log()[max(0, found.start() - 500):][:8000]
        assert code == 0, f"tarn keep exited with {code}:\n{self.log()[-6000:]}"

    def finish(self):
        if self.process and self.process.child.returncode is None:
            self.stop()
