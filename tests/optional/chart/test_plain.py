"""deploy/kubernetes by kubectl: an overlay with all components, applied to a real API server."""

import os
import shutil

import pytest
import yaml

from kit.chart import TREE, objects
from kit.processes import run, wait_until

OVERLAY = {
    "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
    "resources": ["plain"], "components": ["plain/keep", "plain/nodes", "plain/streaming"],
    "images": [{"name": "registry.example/tarn", "newName": "registry.test/mine/tarn", "newTag": "1.2.3"}]}


@pytest.fixture
def kubectl(tmp_path):
    """Runs kubectl beside an overlay of deploy/kubernetes."""
    if not shutil.which("kubectl"):
        pytest.skip("it needs kubectl")
    shutil.copytree(TREE / "deploy" / "kubernetes", tmp_path / "plain")
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(OVERLAY))

    def call(*arguments, **environment):
        return run(["kubectl", *arguments], directory=tmp_path, environment={
            "PATH": os.environ["PATH"], "HOME": str(tmp_path), **environment}).stdout
    return call


def test_the_components_add_to_the_cache(kubectl):
    alone = {(one["kind"], one["metadata"]["name"]) for one in objects(kubectl("kustomize", "plain"))}
    things = objects(kubectl("kustomize", "."))
    assert alone == {("Namespace", "tarn"), ("ServiceAccount", "tarn"), ("ConfigMap", "tarn"),
                     ("Service", "tarn"), ("Service", "tarn-headless"), ("StatefulSet", "tarn")}
    assert {(one["kind"], one["metadata"]["name"]) for one in things} > alone
    services = {one["metadata"]["name"]: one["spec"] for one in things if one["kind"] == "Service"}
    assert services["tarn"]["type"] == "NodePort"
    assert services["tarn"]["ports"][0]["nodePort"] == 30500
    for one in things:
        spec = one.get("spec", {}).get("template", {}).get("spec", {})
        for container in [*spec.get("containers", []), *spec.get("initContainers", [])]:
            assert container["image"] == "registry.test/mine/tarn:1.2.3"


def test_kubectl_applies_it_and_deletes_it(kubectl, cluster, manager):
    configuration = {"KUBECONFIG": str(cluster.kubeconfig())}
    told = kubectl("apply", "-k", ".", "--server-side", "--validate=strict", **configuration)
    assert "statefulset.apps/tarn serverside-applied" in told
    again = kubectl("diff", "-k", ".", "--server-side", **configuration)
    assert again == ""
    if manager:
        for name in ("tarn", "tarn-nodes"):
            account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
            wait_until(lambda account=account: cluster.ask("GET", account)[0] == 200, account)
        pod = "/api/v1/namespaces/tarn/pods/tarn-0"
        wait_until(lambda: cluster.ask("GET", pod)[0] == 200, "the pod in a restricted namespace", 60)
    kubectl("delete", "-k", ".", "--wait=false", **configuration)
