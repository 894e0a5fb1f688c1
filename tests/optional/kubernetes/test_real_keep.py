"""Whole keeps on a real API server, with the documented rights, in a namespace that is `restricted`."""

import json

import pytest

from kit.keeps import LAB, digest, keeper, registry
from kit.processes import run
from kit.tarn import bare_environment
from real_kubelets import PODS, wait_for

ONE = [{"image": f"{LAB}:w_2024_01"}]
MACHINE = {"name": "machine", "labels": {"pool": "user"}, "repomen": [
    {"type": "RubinRepoMan", "registry_url": "fake.test", "repo": "org/lab", "num_releases": 0,
     "num_weeklies": 1, "num_dailies": 0}]}


def test_a_keep_goes_from_pending_to_kept(keeper, kubelets, registry):
    one = keeper(ONE).start()
    kubelets.node("n1")
    nodes = wait_for(lambda: one.json("/tarn/v1/keeps/labs")["nodes"]["list"], "the node")
    assert nodes[0]["eligible"] is False
    assert nodes[0]["comment"] == "Node is tainted (NoSchedule, node.kubernetes.io/not-ready)"
    kubelets.held.add("n1")
    kubelets.lift_taint("n1")
    one.wait_all("pulling")
    pod = kubelets.pods()[0]
    assert pod["metadata"]["name"].startswith("keep-w-2024-01-")
    assert pod["spec"]["nodeName"] == "n1"
    assert pod["metadata"]["annotations"]["tarn/digest"] == digest(registry, "w_2024_01")
    kubelets.held.clear()
    one.wait_all("kept")
    kubelets.wait_no_pods()
    assert kubelets.pulls == [("n1", f"{LAB}:w_2024_01")]
    kubelets.node("n2")
    kubelets.lift_taint("n2")
    one.wait_all("kept", count=2)


def test_the_namespace_accepts_the_pullers_pods_and_no_others(cluster, keeper, kubelets):
    """Pod Security admits pods of every setting of `pull`; a plain one is refused."""
    plain = {"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "plain-"},
             "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "x"}]}}
    status, answer = cluster.ask("POST", PODS, plain)
    assert status == 403 and "violates PodSecurity" in answer["message"], answer
    kubelets.node("n1", {"pool": "user"})
    kubelets.ask("PATCH", "/api/v1/nodes/n1", {"spec": {"taints": [
        {"key": "only", "value": "labs", "effect": "NoSchedule"}]}}, kind="application/merge-patch+json")
    one = keeper(ONE, nodes={"labels": {"pool": "user"}, "tolerations": [
        {"key": "only", "operator": "Equal", "value": "labs", "effect": "NoSchedule"}]},
        pull={"by": "digest", "secret": "pull-secret", "service_account": "puller", "timeout": "5m",
              "pod_labels": {"team": "labs"}, "pod_annotations": {"note": "x"}}).start()
    one.wait_all("kept")
    kubelets.wait_no_pods()
    assert [node for node, _ in kubelets.pulls] == ["n1"]


def test_a_refused_pull_is_told_and_its_pod_goes_when_the_kubelet_agrees(keeper, kubelets):
    kubelets.node("n1")
    kubelets.lift_taint("n1")
    kubelets.refuse("n1")
    one = keeper(ONE).start()
    one.wait_all("failed")
    cell = one.json("/tarn/v1/keeps/labs")["images"][0]["nodes"]["n1"]
    assert cell["reason"] == "ErrImagePull: no such tag"
    kubelets.wait_no_pods()
    assert len(kubelets.pulls) == 1


def test_a_machine_is_posted_survives_a_restart_and_ends(cluster, keeper, kubelets):
    kubelets.node("n1", {"pool": "user"})
    kubelets.lift_taint("n1")
    kubelets.held.add("n1")
    one = keeper(ONE, nodes={"labels": {"pool": "none"}}, operators="anyone").start()
    def post():
        return one.get("/cachemachine/", {"Content-Type": "application/json"}, method="POST",
                       body=json.dumps(MACHINE).encode())
    assert post().status == 200
    path = "/api/v1/namespaces/tarn/configmaps/tarn-keep"
    assert json.loads(cluster.ask("GET", path)[1]["data"]["machine"]) == MACHINE
    one.wait_all("pulling", keep="machine")
    one.stop()
    one.start()
    one.wait_all("pulling", keep="machine")
    assert len(kubelets.pulls) == 1
    assert one.get("/cachemachine/machine", method="DELETE").status == 200
    assert one.json("/cachemachine/") == ["labs"]
    assert not cluster.ask("GET", path)[1].get("data")
    wait_for(lambda: kubelets.pods()[0]["metadata"].get("deletionTimestamp"), "the pod to be deleted")
    kubelets.held.clear()
    kubelets.wait_no_pods()
    assert post().status == 200
    one.wait_all("kept", keep="machine")


def test_of_two_replicas_one_creates_and_hands_over(keeper, kubelets):
    for i in range(4):
        kubelets.node(f"n{i}")
        kubelets.lift_taint(f"n{i}")
    first = keeper(ONE, lease="tarn-keep").start()
    def leads(one):
        return one.json("/tarn/v1/keeps")["leader"]["me"]
    wait_for(lambda: leads(first), "the first to lead")
    second = keeper(ONE, "second", lease="tarn-keep").start()
    first.wait_all(count=4)
    second.wait_all(count=4)
    assert not leads(second)
    first.process.kill()
    wait_for(lambda: leads(second), "the second to lead")
    kubelets.node("n9")
    kubelets.lift_taint("n9")
    second.wait_all(count=5)
    kubelets.wait_no_pods()
    assert len(kubelets.pulls) == len(set(kubelets.pulls)) == 5
    first.start()
    wait_for(lambda: first.json("/tarn/v1/keeps")["leader"]["holder"]
             == second.json("/tarn/v1/keeps")["leader"]["holder"], "the first to know the holder")
    second.stop()
    wait_for(lambda: leads(first), "the first to lead again")


# ---- rights

RIGHTS = [("nodes", verb) for verb in ("get", "list", "watch")] + \
         [("pods", verb) for verb in ("get", "list", "watch", "create", "delete")] + \
         [(resource, verb) for resource in ("leases", "configmaps")
          for verb in ("create", "get", "update")]
NEEDED = {("nodes", "list"), ("pods", "list"), ("pods", "create"), ("pods", "delete")}


@pytest.mark.parametrize("resource, verb", RIGHTS)
def test_a_right_that_is_taken_away_is_reported(program, rights, config, tmp_path, resource, verb):
    rights.take_away(resource, verb)
    def whoami():
        return run([program, "keep", "--whoami", "--kubeconfig", config()], check=False,
                   environment=bare_environment(tmp_path))
    # The server reads the rules some time after they were written.
    done = wait_for(lambda: (found := whoami()) and "rights:     all" not in found.stdout and found,
                    "the right to be missing")
    missing = [line.split(maxsplit=1)[1] for line in done.stdout.splitlines()
               if line.startswith("missing:")]
    assert len(missing) == 1 and missing[0].startswith(f"{verb} {resource}"), done.stdout
    assert done.returncode == ((resource, verb) in NEEDED)


@pytest.mark.parametrize("resource, verb", sorted(NEEDED))
def test_without_a_needed_right_nothing_is_kept_and_the_reason_is_told(
        keeper, kubelets, rights, resource, verb):
    kubelets.node("n1")
    kubelets.lift_taint("n1")
    rights.take_away(resource, verb)
    rights.wait_denied(resource, verb)
    one = keeper(ONE).start(ready=False)
    wait_for(lambda: "forbidden" in one.log(), "the refusal in the log")
    if verb == "list":
        assert one.get("/readyz").status == 503
        assert f"{resource} were not listed yet" in one.get("/readyz").body.decode()
    if (resource, verb) == ("pods", "create"):
        wait_for(lambda: "forbidden" in str(one.json("/tarn/v1/keeps/labs")), "the reason")
    rights.restore()
    if verb != "create":    # which is tried again after a minute
        one.wait_all("kept", seconds=100)
        kubelets.wait_no_pods(100)


@pytest.mark.parametrize("resource", ["nodes", "pods"])
def test_without_the_right_to_watch_it_lists(keeper, kubelets, rights, resource):
    rights.take_away(resource, "watch")
    rights.wait_denied(resource, "watch")
    kubelets.node("n1")
    kubelets.lift_taint("n1")
    one = keeper(ONE).start()
    one.wait_all("kept", seconds=100)
    kubelets.wait_no_pods(100)
    assert len(kubelets.pulls) == 1
