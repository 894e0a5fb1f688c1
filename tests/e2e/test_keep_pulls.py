"""How `tarn keep` pulls: by which name, with which policy, and what counts as there afterwards."""

import pytest

from kit.keeps import LAB, digest, keeper, kubelets, registry
from kit.kubelets import listed
from kit.processes import wait_until

ONE = [{"image": f"{LAB}:w_2024_01"}]


def containers(api):
    return [request.body["spec"]["containers"][0] for request in api.asked("create", "pods")]


def test_by_digest_the_node_need_not_have_the_tag(keeper, kubelets, api, registry):
    of = digest(registry, "w_2024_01")
    kubelets.node("n1")
    kubelets.node("n2", images=[listed(f"elsewhere/other@{of}")])
    one = keeper(ONE, pull={"by": "digest"}).start()
    one.wait_all(count=2)
    kubelets.wait_no_pods()
    assert kubelets.pulls == [("n1", f"{LAB}:w_2024_01@{of}")]
    assert containers(api)[0]["imagePullPolicy"] == "IfNotPresent"


def test_by_tag_an_image_that_is_there_by_its_digest_alone_is_asked_for(keeper, kubelets, api, registry):
    kubelets.node("n1", images=[listed(f"{LAB}@{digest(registry, 'w_2024_01')}")])
    one = keeper(ONE).start()
    one.wait_all()
    wait_until(lambda: len(kubelets.pulls) == 1, "a pull")
    kubelets.wait_no_pods()
    assert containers(api)[0]["image"] == f"{LAB}:w_2024_01"
    assert containers(api)[0]["imagePullPolicy"] == "Always"


def test_a_tag_that_is_another_image_on_the_node_is_pulled_anew(keeper, kubelets, api, registry):
    kubelets.node("n1", images=[listed(f"{LAB}@{digest(registry, 'w_2024_02')}", f"{LAB}:w_2024_01")])
    one = keeper(ONE).start()
    one.wait_all()
    wait_until(lambda: len(kubelets.pulls) == 1, "a pull")
    assert containers(api)[0]["imagePullPolicy"] == "Always"


def test_nodes_may_pull_by_another_name(keeper, kubelets, api, registry):
    local = "localhost:30026/fake.test/org/lab"
    kubelets.node("n1")
    kubelets.node("n2", images=[listed(f"{local}@{digest(registry, 'w_2024_03')}",
                                       f"{local}:recommended", f"{local}:w_2024_03")])
    one = keeper([{"repository": LAB, "rubin": {"weeklies": 2, "recommended": "recommended"},
                   "pull_as": local}]).start()
    one.wait_all(count=4)
    kubelets.wait_no_pods()
    assert sorted(kubelets.pulls) == [("n1", f"{local}:recommended"), ("n1", f"{local}:w_2024_02"),
                                      ("n2", f"{local}:w_2024_02")]
    assert [image["image_url"] for image in one.json("/cachemachine/labs")["available_images"]] == [
        f"{local}:{tag}" for tag in ("recommended", "w_2024_03", "w_2024_02")]


def test_pods_belong_to_tarns_own_pod_when_it_says_who_it_is(keeper, kubelets, api):
    kubelets.node("n1")
    done = keeper(ONE, environment={"POD_NAME": "keep-0", "POD_UID": "123"}).once()
    assert done.returncode == 0
    assert api.asked("create", "pods")[0].body["metadata"]["ownerReferences"] == [
        {"apiVersion": "v1", "kind": "Pod", "name": "keep-0", "uid": "123"}]
    kubelets.node("n2")
    # An owner in another namespace would be none: the garbage collector would delete the pods.
    kubelets.namespace = "pullers"
    other = keeper(ONE, name="two", environment={"POD_NAME": "keep-0", "POD_UID": "123"},
                   namespace="pullers").once()
    assert other.returncode == 0
    assert "ownerReferences" not in api.asked("create", "pods")[1].body["metadata"]


@pytest.mark.parametrize("settings, expected", [
    ({"timeout": "90s"}, {"activeDeadlineSeconds": 90}),
    ({"secret": "s", "service_account": "a", "priority_class": "p"},
     {"imagePullSecrets": [{"name": "s"}], "serviceAccountName": "a", "priorityClassName": "p"}),
    ({}, {"activeDeadlineSeconds": 1200, "imagePullSecrets": None, "serviceAccountName": None,
          "priorityClassName": None, "hostNetwork": None, "tolerations": []})])
def test_the_pods_are_as_the_keep_says(keeper, kubelets, api, settings, expected):
    kubelets.node("n1")
    assert keeper(ONE, pull=settings).once().returncode == 0
    spec = api.asked("create", "pods")[0].body["spec"]
    assert {key: spec.get(key) for key in expected} == expected


def test_a_node_that_comes_back_under_its_name_is_another_node(keeper, kubelets, api):
    kubelets.node("n1")
    one = keeper(ONE).start()
    one.wait_all()
    kubelets.wait_no_pods()
    api.remove("nodes", "n1")
    wait_until(lambda: one.states() == {}, "the node to be gone")
    kubelets.node("n1")
    wait_until(lambda: len(kubelets.pulls) == 2, "a second pull")
    one.wait_all()


def test_a_node_that_goes_while_it_pulls_leaves_no_pod(keeper, kubelets, api):
    kubelets.node("n1")
    kubelets.node("n2")
    kubelets.outcomes.append(("n1 ", lambda pod, node: None))
    one = keeper(ONE).start()
    wait_until(lambda: len(kubelets.pulls) == 2, "both pulls")
    api.remove("nodes", "n1")
    kubelets.wait_no_pods()
    assert one.states() == {(f"{LAB}:w_2024_01", "n2"): "kept"}


@pytest.mark.parametrize("change", [
    {"spec": {"unschedulable": True}},
    {"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}},
    {"status": {"conditions": [{"type": "Ready", "status": "True"},
                               {"type": "DiskPressure", "status": "True"}]}},
    {"spec": {"taints": [{"key": "a", "effect": "NoExecute"}]}}])
def test_a_node_that_becomes_ineligible_gets_no_more_pods(keeper, kubelets, api, change):
    kubelets.node("n1")
    kubelets.outcomes.append(("", lambda pod, node: None))
    one = keeper([*ONE, {"image": f"{LAB}:w_2024_02"}]).start()
    pod = wait_until(kubelets.pods, "a pod")[0]
    with api.lock:
        old = api.objects[("nodes", "", "n1")]
        api.put("nodes", "n1", spec={**old["spec"], **change.get("spec", {})},
                status={**old["status"], **change.get("status", {})})
    wait_until(lambda: not one.json("/tarn/v1/keeps/labs")["nodes"]["list"][0]["eligible"],
               "the node to be ineligible")
    of = pod["metadata"]["annotations"]["tarn/digest"]
    kubelets.set_status(pod, {"phase": "Succeeded", "containerStatuses": [{"imageID": f"x@{of}"}]})
    kubelets.wait_no_pods()
    kubelets.node("n1")
    wait_until(lambda: len(kubelets.pulls) == 2, "the second image")
    assert kubelets.pulls == [("n1", f"{LAB}:w_2024_01"), ("n1", f"{LAB}:w_2024_02")]
