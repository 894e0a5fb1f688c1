"""Machines that are POSTed while the cluster refuses, is gone, or is written by others."""

import concurrent.futures
import json

import pytest

from kit.keeps import LAB, keeper, kubelets, registry
from kit.kubernetes_api import Fault
from kit.processes import wait_until

ONE = [{"image": f"{LAB}:w_2024_01"}]
MACHINE = {"name": "machine", "labels": {"pool": "user"}, "repomen": [
    {"type": "RubinRepoMan", "registry_url": "fake.test", "repo": "org/lab", "num_releases": 0,
     "num_weeklies": 1, "num_dailies": 0}]}


def post(one, body=MACHINE):
    return one.get("/cachemachine/", {"Content-Type": "application/json"}, method="POST",
                   body=json.dumps(body).encode())


@pytest.mark.parametrize("verb, status", [
    ("get", 500), ("create", 500), ("create", 403), ("create", 422), ("create", 404)])
def test_a_machine_that_the_cluster_does_not_keep_is_not_taken(keeper, kubelets, api, verb, status):
    one = keeper(ONE, operators="anyone").start()
    wait_until(lambda: api.asked("get", "configmaps"), "the first read")
    fault = Fault(verb, "configmaps", status)
    api.faults.append(fault)
    answer = post(one)
    assert fault.times == 0
    assert answer.status == 503, answer.body
    assert b"machine was not taken" in answer.body
    assert one.json("/cachemachine/") == ["labs"]
    assert post(one).status == 200
    assert one.json("/cachemachine/") == ["labs", "machine"]
    api.faults.append(Fault("update", "configmaps", 500))
    answer = one.get("/cachemachine/machine", method="DELETE")
    assert answer.status == 503, answer.body
    assert one.json("/cachemachine/") == ["labs", "machine"]
    assert one.get("/cachemachine/machine", method="DELETE").status == 200


def test_pages_go_on_while_the_cluster_is_gone(keeper, kubelets, api):
    kubelets.node("n1")
    one = keeper(ONE, operators="anyone").start()
    one.wait_all()
    kubelets.wait_no_pods()
    api.cut_off["tester"] = ("refuse", None)
    wait_until(lambda: "cut" in json.dumps(one.json("/tarn/v1/keeps")["kubernetes"]),
               "the loss to be told")
    assert one.get("/readyz").status == 200
    assert one.states() == {(f"{LAB}:w_2024_01", "n1"): "kept"}
    assert post(one).status == 503
    api.cut_off.clear()
    kubelets.node("n2")
    one.wait_all(count=2)


def test_a_conflict_is_written_again(keeper, kubelets, api):
    one = keeper(ONE, operators="anyone").start()
    assert post(one).status == 200
    api.faults.append(Fault("update", "configmaps", 409, "Conflict", times=2))
    assert post(one, {**MACHINE, "name": "b"}).status == 200
    assert one.json("/cachemachine/") == ["labs", "machine", "b"]


def test_many_posts_at_once_lose_nothing(keeper, kubelets, api):
    one = keeper(ONE, operators="anyone").start()
    two = keeper(ONE, "two", operators="anyone").start()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda number: post((one, two)[number % 2], {
            **MACHINE, "name": f"m{number}"}).status, range(24)))
    assert done == [200] * 24
    held = api.objects[("configmaps", "tarn", "tarn-keep")]["data"]
    assert sorted(held) == sorted(f"m{number}" for number in range(24))
