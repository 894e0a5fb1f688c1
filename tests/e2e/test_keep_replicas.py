"""Several `tarn keep` of one cluster: what one is told reaches the others, and nobody asks for it
again and again."""

import json

import pytest

from kit.keeps import LAB, keeper, kubelets, registry  # noqa: F401  (fixtures)
from kit.kubernetes_api import Fault
from kit.processes import wait_until

MAP = ("configmaps", "tarn", "tarn-keep")
MACHINE = {"name": "machine", "labels": {"pool": "user"}, "repomen": [
    {"type": "RubinRepoMan", "registry_url": "fake.test", "repo": "org/lab", "num_releases": 0,
     "num_weeklies": 1, "num_dailies": 0}]}
ONE_IMAGE = [{"image": f"{LAB}:w_2024_01"}]


def post(one, machine=MACHINE):
    answer = one.get("/cachemachine/", {"Content-Type": "application/json"}, method="POST",
                     body=json.dumps(machine).encode())
    assert answer.status == 200, answer.body


def delete(one, name):
    answer = one.get(f"/cachemachine/{name}", method="DELETE")
    assert (answer.status, answer.body) == (200, b"200: OK")


def names(one):
    return one.json("/cachemachine/")


@pytest.fixture
def replicas(keeper):
    """Two of them: the one that leads, and the other."""
    def start(**keep):
        pair = [keeper(name=name, lease="tarn-keep", operators="anyone",
                       **{"images": ONE_IMAGE, **keep}).start() for name in ("first", "second")]
        def leads(one):
            return one.json("/tarn/v1/keeps")["leader"]["me"]
        wait_until(lambda: [leads(one) for one in pair].count(True) == 1, "one to lead")
        return sorted(pair, key=leads, reverse=True)
    return start


def test_a_machine_reaches_the_leader_and_the_others_whoever_got_it(replicas, kubelets):
    kubelets.node("n1", {"pool": "user"})
    leader, other = replicas()
    post(other)
    wait_until(lambda: "machine" in names(leader), "the leader to know it")
    leader.wait_all(keep="machine")
    post(leader, {**MACHINE, "name": "second"})
    wait_until(lambda: names(other) == ["labs", "machine", "second"], "the other to know it")
    delete(other, "machine")
    wait_until(lambda: names(leader) == ["labs", "second"], "the leader to forget it")
    kubelets.wait_no_pods()


def test_a_configured_keep_stops_for_all_until_one_starts(replicas, kubelets, api):
    kubelets.node("n1")
    kubelets.outcomes.append(("", lambda pod, node: None))
    leader, other = replicas()
    wait_until(kubelets.pods, "a pod")
    delete(other, "labs")
    assert names(other) == []
    wait_until(lambda: names(leader) == [], "the leader to stop it")
    kubelets.wait_no_pods()
    assert json.loads(api.objects[MAP]["data"][".stopped"]) == ["labs"]
    delete(other, "labs")
    other.stop()
    assert names(leader) == []
    other.start()
    wait_until(lambda: names(leader) == names(other) == ["labs"], "it to be there again")
    assert api.objects[MAP]["data"] == {}
    wait_until(kubelets.pods, "a pod again")


def test_at_rest_nobody_asks_for_the_machines(replicas, kubelets, api):
    kubelets.node("n1", {"pool": "user"})
    leader, other = replicas()
    post(leader)
    wait_until(lambda: "machine" in names(other), "the other to know it")
    leader.wait_all(keep="machine")
    kubelets.wait_no_pods()
    def asked():
        return [request for request in api.requests if request.resource != "leases"]
    before = len(asked())
    api.wait_asked("update", "leases", len(api.asked("update", "leases")) + 2, seconds=30)
    assert [(r.verb, r.resource) for r in asked()[before:]] == []


def test_a_process_alone_asks_for_the_machines_only_once(keeper, kubelets, api):
    kubelets.node("n1")
    one = keeper(images=ONE_IMAGE, operators="anyone").start()
    one.wait_all()
    kubelets.wait_no_pods()
    wait_until(lambda: api.asked("get", "configmaps"), "the first look")
    api.stopped.wait(4)
    assert len(api.asked("get", "configmaps")) == 1
    delete(one, "labs")
    assert names(one) == []
    assert MAP not in api.objects


def test_who_begins_to_lead_reads_what_nobody_told(replicas, kubelets, api):
    kubelets.node("n1", {"pool": "user"})
    leader, other = replicas()
    api.put("configmaps", "tarn-keep", "tarn", data={"machine": json.dumps(MACHINE)})
    leader.stop()
    wait_until(lambda: "machine" in names(other), "the other to know it")
    other.wait_all(keep="machine")


def test_a_stop_that_cannot_be_recorded_is_refused(replicas, kubelets, api):
    leader, _ = replicas()
    api.faults.append(Fault("create", "configmaps", status=500, times=1))
    answer = leader.get("/cachemachine/labs", method="DELETE")
    assert answer.status == 503
    assert b"the keep was not stopped" in answer.body
    assert names(leader) == ["labs"]
    delete(leader, "labs")
    assert names(leader) == []


@pytest.mark.parametrize("name", [".stopped", "%2Estopped", "a%2Fb", "x" * 64])
def test_a_name_that_no_keep_can_have_is_deleted_without_asking(replicas, kubelets, api, name):
    leader, _ = replicas()
    delete(leader, "labs")
    delete(leader, name)
    assert json.loads(api.objects[MAP]["data"][".stopped"]) == ["labs"]


@pytest.mark.parametrize("stopped", ["7", "{}", "[1, null]", "[", "x" * 1000])
def test_a_list_of_stops_that_is_none_stops_nothing(replicas, kubelets, api, stopped):
    kubelets.node("n1")
    api.put("configmaps", "tarn-keep", "tarn", data={".stopped": stopped, "bad": "{"})
    leader, other = replicas()
    leader.wait_all()
    assert names(leader) == names(other) == ["labs"]
    post(leader)
    wait_until(lambda: "machine" in names(other), "the other to know the machine")
