"""A real kube-apiserver, and helm against it."""

import itertools
import os
import pathlib
import shutil

import pytest

from kit.processes import run, wait_until
from kit.real_kubernetes import Cluster

# Kinds that are no part of Kubernetes: (group, version, kind, plural).
FOREIGN = [("cert-manager.io", "v1", "Certificate", "certificates"),
           ("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes"),
           ("monitoring.coreos.com", "v1", "PodMonitor", "podmonitors"),
           ("monitoring.coreos.com", "v1", "ServiceMonitor", "servicemonitors"),
           ("monitoring.coreos.com", "v1", "PrometheusRule", "prometheusrules")]
NUMBERS = itertools.count()
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def define(cluster, group, version, kind, plural):
    """Makes a kind whose objects may hold anything."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    cluster.make(CRDS, {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}", "annotations": {
            "api-approved.kubernetes.io": "https://github.com/kubernetes/kubernetes/pull/1"}},
        "spec": {"group": group, "scope": "Namespaced",
                 "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
                 "versions": [{"name": version, "served": True, "storage": True,
                               "schema": {"openAPIV3Schema": schema}}]}})
    path = f"/apis/{group}/{version}/{plural}"  # until it is served, the answer is no JSON
    wait_until(lambda: cluster.ask("GET", path, parse=False)[0] == 200, f"the kind {kind}", 120)


class Helm:
    """Runs helm in a namespace of a cluster."""

    def __init__(self, cluster, namespace, home):
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(home),
                            "KUBECONFIG": str(cluster.kubeconfig())}
        self.namespace = namespace

    def __call__(self, *arguments, check=True):
        return run(["helm", *arguments, "--namespace", self.namespace], self.environment,
                   check=check)


@pytest.fixture(scope="session")
def manager():
    """The path of a kube-controller-manager, or None."""
    return shutil.which("kube-controller-manager")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory, manager):
    assets = pathlib.Path(os.environ.get("KUBEBUILDER_ASSETS") or "/absent")
    for name in ("kube-apiserver", "etcd"):
        if not os.access(assets / name, os.X_OK):
            pytest.skip(f"it needs {name} in the folder that KUBEBUILDER_ASSETS names")
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), assets, manager)
    for kind in FOREIGN:
        define(cluster, *kind)
    yield cluster
    cluster.stop()


@pytest.fixture
def make_namespace(cluster, manager):
    """Makes a namespace: (name, level of Pod Security)."""
    def make(name, level=None):
        labels = {"pod-security.kubernetes.io/enforce": level} if level else {}
        cluster.make("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace",
                                            "metadata": {"name": name, "labels": labels}})
        if manager:
            account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
            wait_until(lambda: cluster.ask("GET", account)[0] == 200, "the default account")
        return name
    return make


@pytest.fixture
def helm(cluster, make_namespace, tmp_path):
    """helm in a namespace of this test's own. What was installed there goes with the test."""
    name = make_namespace(f"test-{next(NUMBERS)}")
    make_namespace("tarn-nodes", "privileged")
    helm = Helm(cluster, name, tmp_path)
    yield helm
    for release in helm("list", "--short").stdout.split():
        helm("uninstall", release)
