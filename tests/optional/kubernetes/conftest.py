"""A kube-apiserver with etcd for each session, and the fixtures of the end-to-end tests."""

import json
import os
import pathlib

import pytest

from kit.driver import build_driver
from kit.e2e_fixtures import FIXTURES
from kit.processes import wait_until
from kit.real_kubernetes import Cluster
from real_kubelets import RealApi, RealKubelets

program = FIXTURES.program
make_upstream = FIXTURES.make_upstream
upstream = FIXTURES.upstream
ASSETS = pathlib.Path(os.environ["KUBEBUILDER_ASSETS"])
RBAC = "/apis/rbac.authorization.k8s.io/v1"
NODE_RULES = [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]}]
RULES = [
    {"apiGroups": [""], "resources": ["pods"],
     "verbs": ["get", "list", "watch", "create", "delete"]},
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": ["tarn-keep"],
     "verbs": ["get", "update"]},
    {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]},
    {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["tarn-keep"],
     "verbs": ["get", "update"]}]


def make_rights(cluster):
    cluster.make("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace",
                                        "metadata": {"name": "tarn", "labels": {
                                            "pod-security.kubernetes.io/enforce": "restricted"}}})
    user = [{"kind": "User", "name": "keeper", "apiGroup": "rbac.authorization.k8s.io"}]
    for kind, folder, rules in (("ClusterRole", "", NODE_RULES),
                                ("Role", "/namespaces/tarn", RULES)):
        cluster.make(f"{RBAC}{folder}/{kind.lower()}s", {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
            "metadata": {"name": "tarn-keep"}, "rules": rules})
        cluster.make(f"{RBAC}{folder}/{kind.lower()}bindings", {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind + "Binding",
            "metadata": {"name": "tarn-keep"}, "subjects": user,
            "roleRef": {"kind": kind, "name": "tarn-keep", "apiGroup": "rbac.authorization.k8s.io"}})


class Rights:
    """The rules of user `keeper`, which a test takes away one by one."""

    PLACES = (("nodes", f"{RBAC}/clusterroles/tarn-keep", NODE_RULES),
              ("", f"{RBAC}/namespaces/tarn/roles/tarn-keep", RULES))

    def __init__(self, cluster):
        self.cluster = cluster

    def _write(self, path, rules):
        role = self.cluster.ask("GET", path)[1]
        status, answer = self.cluster.ask("PUT", path, {**role, "rules": rules})
        assert status == 200, answer

    def take_away(self, resource, verb):
        _, path, rules = self.PLACES[0 if resource == "nodes" else 1]
        self._write(path, [{**rule, "verbs": [one for one in rule["verbs"] if one != verb
                                              or rule["resources"] != [resource]]}
                           for rule in rules
                           if rule["verbs"] != [verb] or rule["resources"] != [resource]])

    def _is_denied(self, resource, verb):
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
                  "spec": {"resourceAttributes": {"resource": resource, "verb": verb,
                                                  "namespace": "tarn"}}}
        status, answer = self.cluster.ask(
            "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review, "keeper-token")
        assert status == 201, answer
        return not answer["status"]["allowed"]

    def wait_denied(self, resource, verb):
        """The server reads rules some time after they were written."""
        wait_until(lambda: self._is_denied(resource, verb), "the right to be gone", 60)

    def restore(self):
        for _, path, rules in self.PLACES:
            self._write(path, rules)
        wait_until(lambda: not any(self._is_denied("pods", verb) for verb in RULES[0]["verbs"])
                   and not any(self._is_denied("nodes", verb) for verb in NODE_RULES[0]["verbs"]),
                   "the rights to be back", 60)


@pytest.fixture
def rights(cluster):
    rights = Rights(cluster)
    yield rights
    rights.restore()


@pytest.fixture
def api(cluster):
    return RealApi(cluster)


@pytest.fixture
def kubelets(cluster):
    for node in cluster.ask("GET", "/api/v1/nodes")[1]["items"]:
        cluster.ask("DELETE", f"/api/v1/nodes/{node['metadata']['name']}")
    kubelets = RealKubelets(cluster)
    yield kubelets
    kubelets.finish()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), ASSETS)
    make_rights(cluster)
    yield cluster
    cluster.stop()


@pytest.fixture(scope="session")
def driver(program):
    return build_driver(program, "kubernetes_driver")


@pytest.fixture
def config(cluster, tmp_path):
    """Writes a kubeconfig file."""
    def write(user=None, namespace="tarn"):
        path = tmp_path / "config"
        path.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "real",
            "contexts": [{"name": "real", "context": {"cluster": "real", "user": "keeper",
                                                      "namespace": namespace}}],
            "clusters": [{"name": "real", "cluster": {
                "server": cluster.url, "certificate-authority": str(cluster.serving_authority())}}],
            "users": [{"name": "keeper", "user": user or {"token": "keeper-token"}}]}))
        return path
    return write
