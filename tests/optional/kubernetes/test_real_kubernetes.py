"""Identity, rights, lists, watches and the lease, as a real API server sees them."""

import json

from kit.driver import Driven
from kit.kubernetes_api import Follower
from kit.processes import run, wait_until
from kit.tarn import bare_environment

PODS = "/api/v1/namespaces/tarn/pods"
RESTRICTED = {"runAsNonRoot": True, "runAsUser": 65532, "allowPrivilegeEscalation": False,
              "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}}


def put_node(cluster, name):
    cluster.make("/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})


def whoami(program, tmp_path, *arguments):
    return run([program, "keep", "--whoami", *arguments], check=False,
               environment=bare_environment(tmp_path))


def test_the_documented_rights_are_all_that_it_uses(program, config, tmp_path):
    done = whoami(program, tmp_path, "--kubeconfig", config())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "user:       keeper" in done.stdout
    assert "rights:     all that tarn keep uses" in done.stdout


def test_other_namespaces_and_other_users_are_refused(program, config, tmp_path):
    done = whoami(program, tmp_path, "--kubeconfig", config(namespace="default"))
    assert done.returncode == 1 and "create pods in default" in done.stdout
    done = whoami(program, tmp_path, "--kubeconfig", config({"token": "no-token"}))
    assert done.returncode == 1 and "401" in done.stderr and "no-token" not in done.stderr


def test_a_certificate_says_who_we_are(program, cluster, config, tmp_path):
    certificate, key = cluster.issue("keeper")
    user = {"client-certificate": str(certificate), "client-key": str(key)}
    done = whoami(program, tmp_path, "--kubeconfig", config(user))
    assert done.returncode == 0, done.stderr
    assert "user:       keeper" in done.stdout


def test_nodes_are_listed_in_pages_and_watched(cluster, driver, config, tmp_path):
    names = [f"page-{number:03}" for number in range(120)]
    for name in names:
        put_node(cluster, name)
    follower = Follower(driver, config(), "nodes", "/api/v1/nodes", tmp_path)
    follower.wait_lists(1)
    assert sorted(follower.objects.values()) == names
    wait_until(lambda: follower.state()["connected"], "a watch")
    put_node(cluster, "new")
    cluster.ask("DELETE", "/api/v1/nodes/page-000")
    follower.wait_names([*names[1:], "new"])
    assert follower.lists == 1
    assert 'code="200"' in follower.metrics()
    follower.stop()


def test_a_restart_of_the_server_is_survived_without_a_list(cluster, driver, config, tmp_path):
    put_node(cluster, "kept")
    put_node(cluster, "deleted")
    follower = Follower(driver, config(), "nodes", "/api/v1/nodes", tmp_path)
    wait_until(lambda: follower.state()["connected"], "a watch")
    cluster.server.kill()
    cluster.start()
    cluster.ask("DELETE", "/api/v1/nodes/deleted")
    follower.wait(lambda one: "deleted" not in one.objects.values(), "the deletion", 90)
    assert not follower.state()["lists_only"]
    follower.stop()


def test_a_version_that_is_forgotten_is_listed_anew(cluster, driver, config, tmp_path):
    put_node(cluster, "forgotten")
    follower = Follower(driver, config(), "nodes", "/api/v1/nodes", tmp_path)
    wait_until(lambda: follower.state()["connected"], "a watch")
    cluster.server.kill()
    cluster.forget()
    cluster.start()
    cluster.ask("DELETE", "/api/v1/nodes/forgotten")
    follower.wait_lists(2, 90)
    follower.wait(lambda one: "forgotten" not in one.objects.values(), "the deletion", 90)
    assert 'reason="expired"' in follower.metrics()
    follower.stop()


def test_pods_are_created_and_deleted(driver, config, tmp_path):
    def call(verb, path, body=None):
        done = run([driver, config(), "call", verb, "pods", path,
                    *([json.dumps(body)] if body else [])], environment=bare_environment(tmp_path))
        return json.loads(done.stdout)
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "keep-"},
           "spec": {"nodeName": "page-001", "containers": [
               {"name": "pull", "image": "x", "securityContext": RESTRICTED}]}}
    name = call("create", PODS, pod)["answer"]["metadata"]["name"]
    assert name.startswith("keep-")
    assert call("get", f"{PODS}/{name}")["answer"]["spec"]["nodeName"] == "page-001"
    assert "answer" in call("delete", f"{PODS}/{name}")
    pod["metadata"]["generateName"] = "NO-"
    refused = call("create", PODS, pod)
    assert (refused["status"], refused["code"]) == (422, "Invalid")
    assert "metadata.generateName" in refused["error"]


def test_one_of_two_leads_and_hands_over(cluster, driver, config, tmp_path):
    one = Driven(driver, config(), tmp_path, "lease", "tarn", "tarn-keep")
    one.wait(lambda it: any(told.get("leading") for told in it.told), "leading")
    path = "/apis/coordination.k8s.io/v1/namespaces/tarn/leases/tarn-keep"
    _, first = cluster.ask("GET", path)
    assert first["spec"]["leaseDurationSeconds"] == 15
    other = Driven(driver, config(), tmp_path, "lease", "tarn", "tarn-keep")
    wait_until(lambda: cluster.ask("GET", path)[1]["spec"]["renewTime"]
               > first["spec"]["renewTime"], "a renewal")
    assert not any(told.get("leading") for told in other.told)
    one.stop()
    other.wait(lambda it: any(told.get("leading") for told in it.told), "leading")
    _, second = cluster.ask("GET", path)
    assert second["spec"]["leaseTransitions"] == first["spec"]["leaseTransitions"] + 1
    other.stop()
