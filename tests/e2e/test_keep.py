"""`tarn keep` on a cluster of stand-ins: images come onto the nodes, and stay known there."""

import json
import os
import pathlib
import re
import signal
import subprocess

import pytest
import yaml

from kit.content import OCI_INDEX, OCI_MANIFEST
from kit.keeps import LAB, digest, keeper, kubelets, registry
from kit.kubelets import listed, succeeded, waiting
from kit.kubernetes_api import ALL_RIGHTS, Fault
from kit.processes import run, wait_until

TREE = pathlib.Path(__file__).resolve().parents[2]
RULES = TREE / "deploy" / "prometheus" / "tarn-keep.rules.yml"


def test_missing_images_are_pulled_once_and_their_pods_are_gone(keeper, kubelets, registry):
    kubelets.node("n1")
    done = keeper().once()
    assert (done.returncode, done.stderr) == (0, "")
    assert kubelets.pulls == [("n1", f"{LAB}:recommended"), ("n1", f"{LAB}:w_2024_02")]
    assert not kubelets.pods()
    assert keeper(name="two").once().returncode == 0
    assert len(kubelets.pulls) == 2


def test_a_kept_image_stays_known_while_tarn_serves(keeper, kubelets, registry):
    kubelets.node("n1")
    kubelets.node("n2")
    one = keeper().start()
    one.wait_all(count=4)
    kubelets.wait_no_pods()
    assert len(kubelets.pulls) == 4
    image = one.json("/tarn/v1/keeps/labs")["images"][0]
    assert image["image"] == f"{LAB}:recommended"
    assert image["digest"] == digest(registry, "recommended")
    assert image["tags"] == ["recommended", "w_2024_03"]
    assert image["display"] == "Recommended (Weekly 2024_03)"
    assert (image["kept"], image["pending"], image["failed"]) == (2, 0, 0)
    kubelets.node("n3")
    one.wait_all(count=6)
    assert sorted(kubelets.pulls)[4:] == [("n3", f"{LAB}:recommended"), ("n3", f"{LAB}:w_2024_02")]


def test_cachemachines_pages_tell_before_and_after(keeper, kubelets, registry):
    kubelets.node("n1", images=[listed("registry.k8s.io/pause@sha256:1", "registry.k8s.io/pause:3.9")])
    kubelets.outcomes.append(("", lambda pod, node: None))
    one = keeper().start()
    wait_until(lambda: len(kubelets.pulls) == 1, "a pull")
    recommended, second = digest(registry, "recommended"), digest(registry, "w_2024_02")
    def element(tag, name, hash_of):
        return {"image_url": f"{LAB}:{tag}", "image_hash": hash_of, "name": name}
    before = one.get("/cachemachine/labs")
    assert before.headers["Content-Type"] == "application/json; charset=utf-8"
    pause = {"image_url": "registry.k8s.io/pause:3.9", "image_hash": "sha256:1", "tags": []}
    everything = [element(tag, tag, digest(registry, tag))
                  for tag in ("w_2024_03", "w_2024_02", "w_2024_01", "recommended")]
    desired = [element("recommended", "Recommended", recommended),
               element("w_2024_03", "Weekly 2024_03", recommended),
               element("w_2024_02", "Weekly 2024_02", second)]
    assert before.body.decode() == json.dumps(
        {"name": "labs", "labels": {}, "common_cache": [pause], "all_images": everything,
         "available_images": [], "desired_images": desired, "images_to_cache": desired})
    kubelets.outcomes.clear()
    pod = kubelets.pods()[0]
    kubelets._list("n1", f"{LAB}:recommended", recommended)
    kubelets.set_status(pod, succeeded(f"{LAB}:recommended", recommended))
    one.wait_all(count=2)
    desired[0]["name"] = "Recommended (Weekly 2024_03)"
    after = one.json("/cachemachine/labs")
    assert after["available_images"] == after["desired_images"] == desired
    assert after["images_to_cache"] == []
    assert {"image_url": f"{LAB}:recommended", "image_hash": recommended, "tags": []} \
        in after["common_cache"]
    assert one.get("/cachemachine/labs/available").body.decode() == json.dumps(
        {"images": desired, "all": everything})
    assert one.get("/cachemachine/labs/desired").body.decode() == json.dumps(
        {"images": desired, "all": everything})
    assert one.get("/cachemachine/").body == b'["labs"]'


def test_an_alias_says_what_it_stands_for_as_soon_as_all_nodes_have_its_image(keeper, kubelets,
                                                                              registry):
    of = digest(registry, "w_2024_03")
    here = [listed(f"{LAB}@{of}", f"{LAB}:w_2024_03")]
    kubelets.node("n1", images=here)
    kubelets.node("n2")
    kubelets.outcomes.append(("", lambda pod, node: None))
    one = keeper().start()
    def names():
        return [image["name"] for image in one.json("/cachemachine/labs")["desired_images"]]
    wait_until(lambda: len(names()) == 3, "a list")
    assert names()[0] == "Recommended"
    kubelets.images("n2", here)
    wait_until(lambda: names()[0] == "Recommended (Weekly 2024_03)", "the alias's name")
    urls = [image["image_url"] for image in one.json("/cachemachine/labs")["images_to_cache"]]
    assert f"{LAB}:recommended" in urls


@pytest.mark.parametrize("method, path, status, body", [
    ("GET", "/cachemachine/none", 404, "404: Not Found"),
    ("GET", "/cachemachine/none/available", 404, "404: Not Found"),
    ("GET", "/cachemachine/labs/else", 404, "404: Not Found"),
    ("GET", "/cachemachine", 404, "404: Not Found"),
    ("POST", "/cachemachine", 404, "404: Not Found"),
    ("PUT", "/cachemachine/", 405, "405: Method Not Allowed"),
    ("DELETE", "/cachemachine/", 405, "405: Method Not Allowed"),
    ("POST", "/cachemachine/labs", 405, "405: Method Not Allowed"),
    ("DELETE", "/cachemachine/none", 200, "200: OK"),
])
def test_cachemachines_errors_are_plain_text(keeper, kubelets, method, path, status, body):
    one = keeper(operators="anyone").start()
    response = one.get(path, method=method)
    assert (response.status, response.body.decode()) == (status, body)
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"


def test_the_root_is_metadata_for_programs_and_a_page_for_browsers(keeper, kubelets):
    kubelets.node("<b>n1")
    one = keeper().start()
    assert list(one.json("/")) == ["name", "version", "description", "repository_url",
                                   "documentation_url"]
    assert one.json("/")["name"] == "cachemachine"
    one.wait_all(count=2)
    page = one.get("/", {"Accept": "text/html,*/*"})
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert b"&#60;b&#62;n1" in page.body and b"<b>" not in page.body
    assert b'class="kept"' in page.body


def test_nublados_pages(keeper, kubelets, registry):
    kubelets.node("n1")
    kubelets.node("n2", taints=[{"key": "some-taint", "value": "other-value",
                                 "effect": "NoSchedule"}])
    one = keeper().start()
    one.wait_all(count=2)
    images = one.json("/nublado/spawner/v1/images")
    newest = digest(registry, "w_2024_03")
    weekly = {"reference": f"{LAB}:w_2024_03", "tag": "w_2024_03", "name": "Weekly 2024_03",
              "digest": newest, "aliases": ["recommended"], "prepulled": True}
    assert images["latest_weekly"] == weekly
    assert images["recommended"] == {
        "reference": f"{LAB}:recommended", "tag": "recommended",
        "name": "Recommended (Weekly 2024_03)", "digest": newest, "aliases": ["w_2024_03"],
        "prepulled": True}
    assert images["latest_daily"] is None and images["latest_release"] is None
    assert [image["tag"] for image in images["all"]] == ["recommended", "w_2024_03", "w_2024_02",
                                                         "w_2024_01"]
    assert images["all"][3]["prepulled"] is False
    prepulls = one.json("/nublado/spawner/v1/prepulls")
    assert prepulls["config"] == {
        "source": {"type": "docker", "registry": "fake.test", "repository": "org/lab"},
        "refresh_interval": 300.0, "prepull_timeout": 1200.0, "recommended_tag": "recommended",
        "num_releases": 0, "num_weeklies": 2, "num_dailies": 0, "cycle": None, "pin": [],
        "alias_tags": []}
    assert prepulls["images"]["pending"] == []
    assert prepulls["images"]["prepulled"][0] == {
        "reference": f"{LAB}:w_2024_03", "tag": "w_2024_03", "name": "Weekly 2024_03",
        "digest": newest, "size": 1000, "nodes": ["n1"], "missing": []}
    assert prepulls["nodes"][0]["name"] == "n1"
    assert sorted(prepulls["nodes"][0]["cached"]) == [f"{LAB}:w_2024_02", f"{LAB}:w_2024_03"]
    assert prepulls["nodes"][1] == {
        "name": "n2", "eligible": False, "cached": [],
        "comment": "Node is tainted (NoSchedule, some-taint = other-value)"}


# ---- machines

MACHINE = {"name": "machine", "labels": {"pool": "user"}, "repomen": [
    {"type": "RubinRepoMan", "registry_url": "fake.test", "repo": "org/lab", "num_releases": 0,
     "num_weeklies": 1, "num_dailies": 0}]}


def post(keeper, body):
    return keeper.get("/cachemachine/", {"Content-Type": "application/json"}, method="POST",
                      body=body if isinstance(body, bytes) else json.dumps(body).encode())


def test_a_posted_machine_survives_a_restart_and_ends_with_delete(keeper, kubelets, api):
    kubelets.node("n1", {"pool": "user"})
    kubelets.node("n2", {"pool": "other"})
    one = keeper(images=[{"image": "fake.test/org/lab:w_2024_01"}], operators="anyone").start()
    answer = post(one, MACHINE)
    assert answer.status == 200
    assert json.loads(answer.body) == {"name": "machine", "labels": {"pool": "user"},
                                       "common_cache": [], "all_images": [], "available_images": [],
                                       "desired_images": [], "images_to_cache": []}
    one.wait_all(keep="machine")
    assert one.json("/cachemachine/") == ["labs", "machine"]
    held = api.objects[("configmaps", "tarn", "tarn-keep")]["data"]
    assert json.loads(held["machine"]) == MACHINE
    one.stop()
    one.start()
    wait_until(lambda: "machine" in one.json("/cachemachine/"), "the machine to be there again")
    one.wait_all(keep="machine")
    assert one.get("/cachemachine/machine", method="DELETE").status == 200
    assert one.json("/cachemachine/") == ["labs"]
    assert api.objects[("configmaps", "tarn", "tarn-keep")]["data"] == {}
    assert one.get("/cachemachine/labs", method="DELETE").body == b"200: OK"
    assert one.json("/cachemachine/") == []
    kubelets.wait_no_pods()
    one.stop()
    one.start()
    assert one.json("/cachemachine/") == ["labs"]


def test_a_machine_that_is_taken_away_while_it_pulls_leaves_no_pod(keeper, kubelets, api):
    kubelets.node("n1", {"pool": "user"})
    kubelets.outcomes.append(("", lambda pod, node: None))
    one = keeper(nodes={"labels": {"pool": "none"}}, operators="anyone").start()
    assert post(one, MACHINE).status == 200
    wait_until(kubelets.pods, "a pod")
    api.put("pods", "stranger", "tarn", metadata={"name": "stranger", "labels": {"tarn/keep": "x"}},
            spec={"nodeName": "n1"}, status={"phase": "Succeeded"})
    assert one.get("/cachemachine/machine", method="DELETE").status == 200
    wait_until(lambda: [pod["metadata"]["name"] for pod in kubelets.pods()] == ["stranger"],
               "the stranger's pod alone to be left")


@pytest.mark.parametrize("body, why", [
    (b"", b"400: "),
    (b"{", b"400: "),
    ({**MACHINE, "labels": 7}, b"400: labels: is not an object"),
    ({**MACHINE, "repomen": [{"type": "Other"}]}, b"400: repomen[0].type: is not one of"),
    ({**MACHINE, "more": 1}, b"400: more: is not a key of this object"),
])
def test_a_wrong_machine_is_refused_with_its_place(keeper, kubelets, api, body, why):
    one = keeper(operators="anyone").start()
    answer = post(one, body)
    assert answer.status == 400
    assert answer.body.startswith(why)
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert ("configmaps", "tarn", "tarn-keep") not in api.objects
    assert one.json("/cachemachine/") == ["labs"]


def test_what_does_not_fit_is_413_and_changes_nothing(keeper, kubelets, api):
    one = keeper(operators="anyone").start()
    assert post(one, b"x" * (1 << 20) + b"y").status == 413
    big = {**MACHINE, "name": "big", "labels": {f"k{i}": "v" * 60000 for i in range(14)}}
    assert post(one, big).status == 200
    assert post(one, {**MACHINE, "labels": {"k": "v" * 100000}}).status == 413
    assert one.json("/cachemachine/") == ["labs", "big"]
    assert list(api.objects[("configmaps", "tarn", "tarn-keep")]["data"]) == ["big"]


def test_nobody_posts_unless_it_is_said(keeper, kubelets, tmp_path):
    one = keeper().start()
    assert post(one, MACHINE).status == 403
    assert one.get("/cachemachine/labs", method="DELETE").status == 403
    one.stop()
    operators = tmp_path / "operators"
    operators.write_text("op:$2y$05$" + "c" * 53 + "\n")
    one = keeper(name="two", operators=str(operators)).start()
    answer = post(one, MACHINE)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic ")


def test_machines_of_a_folder_are_keeps(keeper, kubelets, registry, tmp_path):
    folder = tmp_path / "specs"
    folder.mkdir()
    (folder / "machine").write_text(json.dumps(MACHINE))
    (folder / "..data").mkdir()
    kubelets.node("n1", {"pool": "user"})
    one = keeper(images=[{"image": "fake.test/org/lab:w_2024_01"}], machines=folder,
                 environment={"DOCKER_SECRET_NAME": "pull-secret"}).start()
    one.wait_all(keep="machine")
    assert one.json("/cachemachine/") == ["machine", "labs"]
    assert one.json("/cachemachine/machine")["labels"] == {"pool": "user"}
    assert ("n1", f"{LAB}:w_2024_03") in kubelets.pulls
    one.stop()
    (folder / "bad").write_text("{")
    done = keeper(name="bad", machines=folder).once()
    assert done.returncode == 1
    assert f"{folder}/bad: not JSON" in done.stderr


# ---- failures

def test_once_says_what_failed_and_why(keeper, kubelets):
    kubelets.node("n1")
    kubelets.outcomes.append(("w_2024_02", lambda pod, node: waiting("ErrImagePull", "no such tag")))
    done = keeper().once()
    assert done.returncode == 1
    assert done.stderr == (f"labs: {LAB}:w_2024_02 on n1: failed: ErrImagePull: no such tag\n")
    kubelets.wait_no_pods()


def test_once_gives_up_after_its_time(keeper, kubelets):
    kubelets.node("n1")
    kubelets.outcomes.append(("", lambda pod, node: None))
    done = keeper().once("--timeout", "3s")
    assert done.returncode == 1
    assert f"labs: {LAB}:recommended on n1: pulling\n" in done.stderr


def test_a_dry_run_prints_the_plan_and_creates_nothing(keeper, kubelets, api, registry):
    kubelets.node("n1", images=[listed(f"{LAB}@{digest(registry, 'w_2024_02')}", f"{LAB}:w_2024_02")])
    done = keeper().once("--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"labs: n1: {LAB}:recommended: pending: is not on the node\n"
    line = json.loads(keeper(name="json").once("--dry-run", "--json").stdout)
    assert line == {"keep": "labs", "node": "n1", "image": f"{LAB}:recommended",
                    "digest": digest(registry, "recommended"), "state": "pending",
                    "why": "is not on the node"}
    assert not api.asked("create", "pods")


def test_three_equal_refusals_stop_the_other_nodes(keeper, kubelets):
    for i in range(6):
        kubelets.node(f"n{i}")
    kubelets.outcomes.append(("", lambda pod, node: waiting("ErrImagePull", "denied")))
    one = keeper(images=[{"image": "fake.test/org/lab:w_2024_01"}], pull={"nodes_at_once": 1}).start()
    one.wait_all("failed", count=6)
    assert len(kubelets.pulls) == 3
    page = one.json("/tarn/v1/keeps/labs")["images"][0]["nodes"]
    assert all("denied" in cell["reason"] for cell in page.values())


@pytest.mark.parametrize("status, state, reason", [
    ({"phase": "Failed", "containerStatuses": [
        {"imageID": "x@sha256:1", "state": {"terminated": {"reason": "StartError", "exitCode": 128}}}]},
     "kept", None),
    (waiting("CreateContainerConfigError"), "kept", None),
    (waiting("CreateContainerError"), "kept", None),
    (waiting("RunContainerError"), "kept", None),
    (waiting("InvalidImageName"), "failed", "InvalidImageName: why not"),
    (waiting("SignatureValidationFailed"), "failed", "SignatureValidationFailed: why not"),
    ({"phase": "Failed", "reason": "OutOfpods", "message": "too many"}, "failed",
     "OutOfpods: too many"),
    ({"phase": "Failed", "reason": "DeadlineExceeded", "containerStatuses": [
        {"imageID": "", "state": {"terminated": {"reason": "ContainerStatusUnknown",
                                                 "exitCode": 137}}}]}, "failed", "timeout"),
])
def test_what_a_pod_says_is_what_is_known(keeper, kubelets, status, state, reason):
    kubelets.node("n1")
    kubelets.outcomes.append(("", lambda pod, node: status))
    one = keeper(images=[{"image": "fake.test/org/lab:w_2024_01"}]).start()
    one.wait_all(state)
    kubelets.wait_no_pods()
    cell = one.json("/tarn/v1/keeps/labs")["images"][0]["nodes"]["n1"]
    assert cell["reason"] == reason


def test_a_registry_that_is_down_keeps_what_was_listed(keeper, kubelets, registry):
    kubelets.node("n1")
    one = keeper(refresh="1s").start()
    one.wait_all(count=2)
    registry.fault("/tags/list", status=503)
    wait_until(lambda: one.json("/tarn/v1/keeps/labs")["source"]["error"], "the failure to be told")
    assert len(one.states()) == 2
    assert one.json("/tarn/v1/keeps/labs")["source"]["stale"] is True
    registry.heal()
    wait_until(lambda: not one.json("/tarn/v1/keeps/labs")["source"]["error"], "the list to be fresh")


def test_only_the_digests_that_matter_are_asked_for_again(keeper, kubelets, registry):
    kubelets.node("n1")
    one = keeper(refresh="1s").start()
    def heads(tag):
        return len(registry.asked(f"/manifests/{tag}$", "HEAD"))
    wait_until(lambda: heads("w_2024_02") >= 3 and heads("recommended") >= 3, "three lists")
    assert heads("w_2024_01") == 1
    registry.image("org/lab", [b"new"], tag="w_2024_04")
    wait_until(lambda: ("n1", f"{LAB}:w_2024_04") in kubelets.pulls, "the new weekly to be pulled")
    one.wait_all(count=2)


def test_a_tag_that_moves_is_pulled_again(keeper, kubelets, registry):
    kubelets.node("n1")
    one = keeper(images=[{"image": "fake.test/org/lab:recommended"}], refresh="1s").start()
    one.wait_all()
    old = digest(registry, "recommended")
    registry.repository("org/lab").tags["recommended"] = digest(registry, "w_2024_01")
    wait_until(lambda: len(kubelets.pulls) == 2, "a second pull")
    one.wait_all()
    wait_until(lambda: old not in json.dumps(one.json("/cachemachine/labs")), "the node's new list")
    pods = api_creations(one, kubelets)
    assert [pod["spec"]["containers"][0]["imagePullPolicy"] for pod in pods] == ["Always", "Always"]


def api_creations(_, kubelets):
    return [request.body for request in kubelets.api.asked("create", "pods")]


def add_index(registry, platforms, tag="multi"):
    """An index of an image for each platform; returns its digest, and those of its images."""
    repository, children = registry.repository("org/lab"), {}
    for platform in platforms:
        children[platform] = registry.image("org/lab", [platform.encode() * 100], tag=None)
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [
        {"mediaType": OCI_MANIFEST, "digest": of, "size": len(repository.manifests[of][0]),
         "platform": dict(zip(("os", "architecture"), platform.split("/")))}
        for platform, of in children.items()]}).encode()
    return repository.add_manifest(index, OCI_INDEX, tag), children


def test_an_index_is_there_by_the_image_of_the_nodes_architecture(keeper, kubelets, registry):
    of, children = add_index(registry, ["linux/amd64", "linux/arm64"])
    names = [f"{LAB}@{children['linux/amd64']}", f"{LAB}:multi"]
    kubelets.node("n1", images=[listed(*names)])
    kubelets.node("n2", status={"nodeInfo": {"architecture": "arm64", "operatingSystem": "linux"},
                                "images": [listed(*names)]})
    kubelets.node("n3", status={"nodeInfo": {"architecture": "s390x", "operatingSystem": "linux"}})
    done = keeper(images=[{"image": f"{LAB}:multi"}]).once()
    assert done.returncode == 0
    assert done.stderr == (f"labs: {LAB}:multi on n3: skipped: the image has no platform "
                           "linux/s390x\n")
    assert kubelets.pulls == [("n2", f"{LAB}:multi")]
    assert kubelets.api.asked("create", "pods")[0].body["metadata"]["annotations"]["tarn/digest"] == of


def test_what_does_not_fit_on_the_disk_is_skipped(keeper, kubelets, registry):
    registry.image("org/lab", [bytes(3000)], tag="large")
    registry.image("org/lab", [bytes(100)], tag="small")
    kubelets.node("n1", status={"capacity": {"ephemeral-storage": "4000"}})
    one = keeper(images=[{"image": f"{LAB}:large"}, {"image": f"{LAB}:small"}],
                 pull={"disk": "50%"}).start()
    one.wait_states({(f"{LAB}:large", "n1"): "skipped", (f"{LAB}:small", "n1"): "kept"})
    reason = one.json("/tarn/v1/keeps/labs")["images"][0]["nodes"]["n1"]["reason"]
    assert re.fullmatch(r"no room \(needs 3\.\d KiB of 3\.9 KiB x 50%\)", reason)


# ---- the cluster

def test_without_a_list_it_is_not_ready_and_then_it_is(keeper, kubelets, api):
    kubelets.node("n1")
    api.faults.append(Fault("list", "nodes", status=500, times=3))
    one = keeper().start(ready=False)
    answer = one.get("/readyz")
    assert answer.status in (200, 503)
    if answer.status == 503:
        assert b"nodes were not listed yet" in answer.body
    one.wait_all(count=2)
    assert one.get("/readyz").status == 200


def test_the_least_rights_suffice(keeper, kubelets, api):
    api.rights["tester"] = {("list", "nodes"), ("list", "pods"), ("create", "pods"),
                            ("delete", "pods")}
    kubelets.node("n1")
    done = keeper(images=[{"image": "fake.test/org/lab:w_2024_01"}]).once("--timeout", "100s")
    assert (done.returncode, done.stderr) == (0, "")


def test_after_kill_nothing_is_pulled_twice_and_no_pod_is_left(keeper, kubelets):
    for i in range(3):
        kubelets.node(f"n{i}")
    kubelets.outcomes.append(("n[12]", lambda pod, node: None))
    one = keeper(images=[{"image": "fake.test/org/lab:w_2024_01"}]).start()
    wait_until(lambda: len(kubelets.pulls) == 3, "three pulls")
    one.process.kill()
    waiting_pods = kubelets.pods()
    first = next(pod for pod in waiting_pods if pod["spec"]["nodeName"] == "n1")
    image, of = first["spec"]["containers"][0]["image"], first["metadata"]["annotations"]["tarn/digest"]
    kubelets.set_status(first, succeeded(image, of))
    one.start()
    wait_until(lambda: one.states() == {(f"{LAB}:w_2024_01", "n0"): "kept",
                                        (f"{LAB}:w_2024_01", "n1"): "kept",
                                        (f"{LAB}:w_2024_01", "n2"): "pulling"}, "the states")
    second = next(pod for pod in kubelets.pods() if pod["spec"]["nodeName"] == "n2")
    kubelets.set_status(second, succeeded(image, of))
    one.wait_all(count=3)
    kubelets.wait_no_pods()
    assert len(kubelets.pulls) == 3


def test_of_two_replicas_one_creates_and_both_show(keeper, kubelets, api):
    for i in range(4):
        kubelets.node(f"n{i}")
    first = keeper(lease="tarn-keep", operators="anyone").start()
    second = keeper(name="second", lease="tarn-keep", operators="anyone").start()
    first.wait_all(count=8)
    second.wait_all(count=8)
    assert len(kubelets.pulls) == 8
    leaders = [one.json("/tarn/v1/keeps")["leader"]["me"] for one in (first, second)]
    assert sorted(leaders) == [False, True]
    leader, other = (first, second) if leaders[0] else (second, first)
    leader.stop()
    kubelets.node("n9")
    wait_until(lambda: other.json("/tarn/v1/keeps")["leader"]["me"], "the other to lead")
    other.wait_all(count=10)
    assert len(kubelets.pulls) == 10


# ---- what is told

def test_status_prints_the_table_of_a_running_one(keeper, kubelets, program):
    kubelets.node("n1")
    kubelets.outcomes.append(("w_2024_02", lambda pod, node: waiting("ErrImagePull", "denied")))
    one = keeper().start()
    one.wait_states({(f"{LAB}:recommended", "n1"): "kept", (f"{LAB}:w_2024_02", "n1"): "failed"})
    def ask(*arguments):
        return run([program, "keep", "status", *arguments], check=False)
    url = f"http://127.0.0.1:{one.port}"
    done = ask("--url", url)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == "labs: 0 of 1 nodes complete".split()
    assert lines[1] == ["IMAGE", "SIZE", "KEPT", "PENDING", "PULLING", "FAILED", "SKIPPED"]
    assert lines[2] == [f"{LAB}:recommended", "1000", "B", "1", "0", "0", "0", "0"]
    assert done.stdout.splitlines()[-1] == \
        f"failed: {LAB}:w_2024_02 on n1: ErrImagePull: denied"
    assert json.loads(ask("--url", url, "--json", "labs").stdout)["name"] == "labs"
    gone = ask("--url", url, "none")
    assert (gone.returncode, gone.stdout) == (1, "")
    assert "keeps nothing of the name none" in gone.stderr
    assert ask("--url", "http://127.0.0.1:1").returncode == 1


def test_metrics_count_images_pulls_and_evictions(keeper, kubelets):
    kubelets.node("n1")
    one = keeper(images=[{"image": "fake.test/org/lab:w_2024_01"}]).start()
    one.wait_all()
    kubelets.wait_no_pods()
    def metric(name):
        found = [line for line in one.get("/metrics").body.decode().splitlines()
                 if line.startswith(name + " ")]
        return float(found[0].split()[-1]) if found else None
    assert metric('tarn_keep_images{keep="labs",state="kept"}') == 1
    assert metric('tarn_keep_images{keep="labs",state="pending"}') == 0
    assert metric('tarn_keep_nodes{keep="labs",state="complete"}') == 1
    assert metric('tarn_keep_pulls_total{keep="labs",outcome="kept"}') == 1
    assert metric('tarn_keep_pull_seconds_count{keep="labs"}') == 1
    assert metric('tarn_keep_pull_seconds_bucket{keep="labs",le="3600"}') == 1
    assert metric("tarn_keep_leader") == 1
    assert metric('tarn_keep_oldest_pending_seconds{keep="labs"}') == 0
    assert metric('tarn_keep_listed_seconds{keep="labs"}') < 60
    kubelets.images("n1", [])
    wait_until(lambda: len(kubelets.pulls) == 2, "another pull")
    one.wait_all()
    wait_until(lambda: kubelets.images("n1"), "the image to be listed")
    wait_until(lambda: one.json("/tarn/v1/keeps/labs")["images"][0]["nodes"]["n1"]["bytes"],
               "the list to be known")
    kubelets.images("n1", [])
    one.wait_all("skipped")
    assert metric('tarn_keep_evictions_total{keep="labs"}') == 1
    cell = one.json("/tarn/v1/keeps/labs")["images"][0]["nodes"]["n1"]
    assert cell["reason"] == "evicted by the node"
    assert cell["retry_at"]


def test_requests_want_a_login_when_clients_have_one(keeper, kubelets, tmp_path):
    users = tmp_path / "users"
    users.write_text("me:$2y$05$" + "c" * 53 + "\n")
    one = keeper(settings={"clients": {"htpasswd": str(users)}}).start()
    for path in ("/livez", "/readyz", "/metrics"):
        assert one.get(path).status == 200
    for path in ("/", "/cachemachine/", "/tarn/v1/keeps", "/nublado/spawner/v1/images"):
        assert one.get(path).status == 401


def test_at_rest_only_the_watches_ask(keeper, kubelets, api):
    kubelets.node("n1")
    one = keeper().start()
    one.wait_all(count=2)
    kubelets.wait_no_pods()
    before = [(r.verb, r.resource) for r in api.requests]
    wait_until(lambda: one.get("/metrics").status == 200, "metrics")
    api.stopped.wait(5)
    assert [(r.verb, r.resource) for r in api.requests] == before
    assert before.count(("create", "pods")) == before.count(("delete", "pods")) == 2


def exported(keeper):
    return set(re.findall(r"^# TYPE (\S+) ", keeper.get("/metrics").body.decode(), re.MULTILINE))


def test_every_metric_of_the_documentation_and_the_alerts_is_there_from_the_start(keeper, kubelets):
    kubelets.node("n1")
    one = keeper().start()
    one.wait_all(count=2)
    written = set(re.findall(r"^\| `(tarn_[a-z_]+)", (TREE / "docs" / "keep.md").read_text(),
                             re.MULTILINE))
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    assert written <= exported(one)
    anchors = (TREE / "docs" / "keep.md").read_text()
    for rule in rules:
        assert set(re.findall(r"\btarn_[a-z_]+", rule["expr"])) <= written, rule["alert"]
        assert f"### {rule['alert']}\n" in anchors


def test_each_alert_fires_and_stays_silent_in_the_tests_of_rules():
    for command in (["check", "rules", RULES], ["test", "rules", RULES.with_suffix(".test.yml")]):
        done = subprocess.run(["promtool", *command], capture_output=True, text=True, timeout=60,
                              check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_a_leader_that_was_stopped_for_a_while_creates_nothing_more(keeper, kubelets, api):
    kubelets.node("n0")
    first = keeper(lease="tarn-keep").start()
    first.wait_all(count=2)
    second = keeper(name="second", lease="tarn-keep").start()
    first.process.send_signal(signal.SIGSTOP)
    try:
        wait_until(lambda: second.json("/tarn/v1/keeps")["leader"]["me"], "the second to lead", 60)
        for i in range(5):
            kubelets.node(f"n{i + 1}")
        second.wait_all(count=12)
        before = len(api.asked("create", "pods"))
        assert before == 12
    finally:
        first.process.send_signal(signal.SIGCONT)
    first.wait_all(count=12)
    assert first.json("/tarn/v1/keeps")["leader"]["me"] is False
    assert len(api.asked("create", "pods")) == before
    assert len(kubelets.pulls) == len(set(kubelets.pulls))
