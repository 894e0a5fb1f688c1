"""Nodes and kubelets on a real API server: what kubelets write, through the API alone."""

import threading

from kit.kubelets import READY, listed, succeeded, waiting
from kit.processes import wait_until

PODS = "/api/v1/namespaces/tarn/pods"
MERGE = "application/merge-patch+json"


class RealApi:
    """What kit.kubelets.Keeper asks of its API: where it is, and how it is trusted."""

    context = True

    def __init__(self, cluster):
        self.cluster, self.url = cluster, cluster.url
        self.authority = cluster.serving_authority()


class RealKubelets:
    """
    Acts on the pods of its nodes as kubelets do: a pull ends well and is listed, or as `outcomes`
    says (node -> status). A node in `held` does nothing. A pod that is to be deleted while it pulls
    goes when its kubelet agrees.
    """

    def __init__(self, cluster):
        self.cluster, self.nodes = cluster, {}
        self.outcomes, self.held, self.pulls, self.refused = {}, set(), [], []
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def ask(self, method, path, body=None, **more):
        status, answer = self.cluster.ask(method, path, body, **more)
        assert status in (200, 201, 404, 409), answer
        return answer

    def node(self, name, labels=None, architecture="amd64"):
        """A node that has just come, with images; the test lifts the taint of admission."""
        self.nodes[name] = []
        self.ask("POST", "/api/v1/nodes", {"apiVersion": "v1", "kind": "Node",
                                           "metadata": {"name": name, "labels": labels or {}}})
        self.set_node(name, {"conditions": READY, "capacity": {"ephemeral-storage": "100Gi"},
                             "nodeInfo": {"architecture": architecture, "operatingSystem": "linux",
                                          "bootID": "boot", "machineID": "", "systemUUID": "",
                                          "kernelVersion": "", "osImage": "", "kubeletVersion": "",
                                          "kubeProxyVersion": "", "containerRuntimeVersion": ""}})

    def set_node(self, name, status):
        self.ask("PATCH", f"/api/v1/nodes/{name}/status", {"status": status}, kind=MERGE)

    def lift_taint(self, name):
        self.ask("PATCH", f"/api/v1/nodes/{name}", {"spec": {"taints": None}}, kind=MERGE)

    def pods(self):
        return self.ask("GET", PODS)["items"]

    def wait_no_pods(self, seconds=60):
        wait_until(lambda: not self.pods(), "no pod to be left", seconds, 0.1)

    def _run(self):
        seen = set()
        while not self.stopped.wait(0.05):
            for pod in self.pods():
                uid, node = pod["metadata"]["uid"], pod["spec"]["nodeName"]
                if uid not in seen:
                    self.pulls.append((node, pod["spec"]["containers"][0]["image"]))
                seen.add(uid)
                if node in self.nodes and node not in self.held:
                    self._act(pod, node)

    def _act(self, pod, node):
        path = f"{PODS}/{pod['metadata']['name']}"
        if pod["metadata"].get("deletionTimestamp"):
            self.ask("DELETE", path, {"apiVersion": "v1", "kind": "DeleteOptions",
                                      "gracePeriodSeconds": 0})
        elif pod["status"]["phase"] == "Pending" and "containerStatuses" not in pod["status"]:
            image = pod["spec"]["containers"][0]["image"]
            digest = pod["metadata"]["annotations"]["tarn/digest"]
            status = self.outcomes.get(node) or succeeded(image, digest)
            for container in status["containerStatuses"]:
                container.update(name="pull", image=image, ready=False, restartCount=0)
            self.ask("PATCH", path + "/status", {"status": status}, kind=MERGE)
            if node not in self.outcomes:
                self.nodes[node].append(listed(f"{image.rpartition(':')[0]}@{digest}", image))
                self.set_node(node, {"images": self.nodes[node]})

    def refuse(self, node):
        self.outcomes[node] = waiting("ErrImagePull", "no such tag")

    def finish(self):
        self.stopped.set()
        self.thread.join()
        for pod in self.pods():
            self.ask("DELETE", f"{PODS}/{pod['metadata']['name']}",
                     {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0})
        for name in self.nodes:
            self.ask("DELETE", f"/api/v1/nodes/{name}")
        for path in ("/api/v1/namespaces/tarn/configmaps/tarn-keep",
                     "/apis/coordination.k8s.io/v1/namespaces/tarn/leases/tarn-keep"):
            self.ask("DELETE", path)


def wait_for(condition, what, seconds=60):
    """As wait_until(), for what asks a server that is slow."""
    return wait_until(condition, what, seconds, 0.1)


