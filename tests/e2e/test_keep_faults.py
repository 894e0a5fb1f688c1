"""`tarn keep` is killed, stopped, cut off and refused: nothing is pulled twice, and no pod is left."""

import signal
import threading
import time

import pytest

from kit.keeps import LAB, digest, keeper, kubelets, registry
from kit.kubelets import listed, succeeded, waiting
from kit.kubernetes_api import Fault
from kit.processes import wait_until

ONE = [{"image": f"{LAB}:w_2024_01"}]


def all_kept_once(keeper, kubelets, nodes, images=2, seconds=60):
    """Every image came onto every node by one pull, and no pod is left."""
    keeper.wait_all(count=images * nodes, seconds=seconds)
    kubelets.wait_no_pods()
    assert len(kubelets.pulls) == len(set(kubelets.pulls)) == images * nodes, kubelets.pulls
    assert max(kubelets.most_at_once.values()) <= max(nodes, images)
    assert all(most == 1 for key, most in kubelets.most_at_once.items() if isinstance(key, tuple))


# ---- kill -9

STEPS = [*((verb, resource, 1, False) for verb, resource in (
             ("get", "configmaps"), ("list", "nodes"), ("list", "pods"), ("watch", "nodes"),
             ("watch", "pods"))),
         *((verb, "pods", number, after) for verb in ("create", "delete") for number in (1, 2, 4)
           for after in (False, True))]


@pytest.mark.parametrize("verb, resource, number, after", STEPS)
def test_kill_9_at_any_request_leaves_no_pod_and_pulls_nothing_twice(
        keeper, kubelets, api, verb, resource, number, after):
    kubelets.node("n1")
    kubelets.node("n2")
    gate = api.hold(verb, resource, number, after)
    one = keeper(operators="anyone").start(ready=False)
    gate.wait()
    one.process.kill()
    gate.drop()
    one.start()
    all_kept_once(one, kubelets, 2)


@pytest.mark.parametrize("verb", ["create", "delete"])
def test_a_request_that_the_killed_process_left_is_performed_all_the_same(keeper, kubelets, api, verb):
    kubelets.node("n1")
    kubelets.node("n2")
    gate = api.hold(verb, "pods", 2)
    one = keeper().start(ready=False)
    gate.wait()
    one.process.kill()
    before = len(kubelets.pods())
    gate.go_on()
    wait_until(lambda: len(kubelets.pods()) != before, "the request to be performed")
    one.start()
    all_kept_once(one, kubelets, 2)


@pytest.mark.parametrize("status", ["running", "kept", "refused", "deleting"])
def test_what_a_pod_became_while_nobody_watched_is_taken_up(keeper, kubelets, api, registry, status):
    kubelets.node("n1")
    kubelets.outcomes.append(("", lambda pod, node: None))
    api.lingering = True
    one = keeper(ONE).start()
    pod = wait_until(kubelets.pods, "a pod")[0]
    one.process.kill()
    done = succeeded(f"{LAB}:w_2024_01", digest(registry, "w_2024_01"))
    name = pod["metadata"]["name"]
    if status == "kept":
        kubelets.set_status(pod, done)
    elif status == "refused":
        kubelets.set_status(pod, waiting("ErrImagePull", "denied"))
    elif status == "deleting":
        with api.lock:
            api.put("pods", name, "tarn", spec=pod["spec"],
                    metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}, status=waiting("Pulling"))
    one.start()
    if status == "refused":
        one.wait_all("failed")
        api.wait_asked("delete", "pods")
        wait_until(lambda: "deletionTimestamp" in kubelets.pods()[0]["metadata"], "the deletion")
        api.finish_deletion("pods", name, "tarn")
        wait_until(lambda: "ErrImagePull: denied" in str(one.json("/tarn/v1/keeps/labs")),
                   "the reason")
        assert len(kubelets.pulls) == 1
        return
    if status == "running":
        one.wait_all("pulling")
        kubelets.set_status(pod, done)
    elif status == "deleting":
        # It pulls until its kubelet agrees; only then another one may come.
        one.wait_all("pulling")
        kubelets.outcomes.clear()
        api.finish_deletion("pods", name, "tarn")
        one.wait_all()
        kubelets.wait_no_pods()
        assert len(kubelets.pulls) == 2 and max(kubelets.most_at_once.values()) == 1
        return
    one.wait_all()
    kubelets.wait_no_pods()
    assert len(kubelets.pulls) == 1


@pytest.mark.slow
@pytest.mark.parametrize("verb, resource, number, after", [
    ("create", "leases", 1, False), ("create", "leases", 1, True), ("update", "leases", 1, False),
    ("create", "pods", 2, True), ("delete", "pods", 2, True)])
def test_kill_9_of_a_leader_leaves_no_pod_and_pulls_nothing_twice(
        keeper, kubelets, api, verb, resource, number, after):
    kubelets.node("n1")
    kubelets.node("n2")
    gate = api.hold(verb, resource, number, after)
    one = keeper(lease="tarn-keep").start(ready=False)
    gate.wait()
    one.process.kill()
    gate.drop()
    one.start()
    all_kept_once(one, kubelets, 2, seconds=90)


# ---- two replicas

class Replicas:
    """Two processes with users of their own, and nodes that come all the time."""

    def __init__(self, make, kubelets, api):
        self.kubelets, self.api, self.stopped = kubelets, api, threading.Event()
        api.tokens.update({"token-a": "a", "token-b": "b"})
        self.first = make(ONE, "first", token="token-a", lease="tarn-keep").start()
        wait_until(lambda: self.leads(self.first), "the first to lead")
        self.second = make(ONE, "second", token="token-b", lease="tarn-keep").start()
        self.nodes = 0
        self.feeder = threading.Thread(target=self._feed)
        self.feeder.start()

    def leads(self, one):
        return one.json("/tarn/v1/keeps")["leader"]["me"]

    def _feed(self):
        while not self.stopped.wait(0.2):
            self.kubelets.node(f"n{self.nodes}")
            self.nodes += 1

    def acts(self, user):
        """When the user asked to create or to delete a pod."""
        with self.api.lock:
            return [one.at for one in self.api.requests if one.user == user
                    and one.resource == "pods" and one.verb in ("create", "delete")]

    def renewals(self, user):
        with self.api.lock:
            return [one.at for one in self.api.requests if one.user == user
                    and one.resource == "leases" and one.verb in ("create", "update")
                    and not one.silenced and one.status in (200, 201)]

    def wait_takeover(self):
        """When the second one first had the lease."""
        wait_until(lambda: self.renewals("b"), "the second to take the lease", 60)
        count = len(self.acts("b"))
        wait_until(lambda: len(self.acts("b")) > count + 6, "the second to create", 60)
        return self.renewals("b")[0]

    def finish(self):
        self.stopped.set()
        self.feeder.join()

    def check(self):
        """All is kept, nothing twice, and the second one began when the first one had ended."""
        self.finish()
        all_kept_once(self.second, self.kubelets, self.nodes, images=1)
        assert self.acts("a") and self.acts("b")
        assert max(self.acts("a")) < min(self.acts("b")), \
            f"the first one acted {max(self.acts('a')) - min(self.acts('b')):.1f} s too late"


@pytest.fixture
def replicas(keeper, kubelets, api):
    both = Replicas(keeper, kubelets, api)
    yield both
    both.finish()
    api.cut_off.clear()


@pytest.mark.slow
def test_a_leader_that_ends_hands_over_at_once(replicas):
    wait_until(lambda: len(replicas.acts("a")) > 4, "the first to create")
    replicas.first.stop()
    ended = time.monotonic()
    assert replicas.wait_takeover() - ended < 8
    replicas.check()


@pytest.mark.slow
def test_after_kill_9_of_the_leader_the_other_one_leads_in_time(replicas):
    wait_until(lambda: len(replicas.acts("a")) > 4, "the first to create")
    replicas.first.process.kill()
    last = replicas.renewals("a")[-1]
    # The lease's 15 s, what the second one had not looked for, and a busy machine.
    assert 14.9 < replicas.wait_takeover() - last < 15 + 4 + 10
    replicas.check()


@pytest.mark.slow
def test_a_leader_that_stands_still_for_20_s_creates_nothing_more(replicas):
    wait_until(lambda: len(replicas.acts("a")) > 4, "the first to create")
    replicas.first.process.send_signal(signal.SIGSTOP)
    try:
        stopped = time.monotonic()
        replicas.wait_takeover()
        time.sleep(max(0, stopped + 20 - time.monotonic()))
    finally:
        replicas.first.process.send_signal(signal.SIGCONT)
    wait_until(lambda: not replicas.leads(replicas.first), "the first to lead no more")
    before = len(replicas.acts("b"))
    wait_until(lambda: len(replicas.acts("b")) > before + 10, "the second to go on")
    replicas.check()
    replicas.first.wait_all(count=replicas.nodes)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["refuse", "swallow", "deny"])
@pytest.mark.parametrize("resources", [None, ("leases",)])
def test_a_leader_that_is_cut_off_creates_nothing_after_its_10_s(replicas, api, how, resources):
    wait_until(lambda: len(replicas.acts("a")) > 4, "the first to create")
    api.cut_off["a"] = (how, resources)
    last = replicas.renewals("a")[-1]
    assert 14.9 < replicas.wait_takeover() - last < 15 + 4 + 10
    assert max(replicas.acts("a")) < last + 10.5
    api.cut_off.clear()
    before = len(replicas.acts("b"))
    wait_until(lambda: len(replicas.acts("b")) > before + 10, "the second to go on")
    replicas.finish()
    wait_until(lambda: not replicas.leads(replicas.first), "the first to lead no more")
    replicas.check()
    if resources or how != "swallow":    # a watch that is silent may be an idle one
        replicas.first.wait_all(count=replicas.nodes)


@pytest.mark.slow
def test_a_new_leader_lists_the_pods_before_it_creates(replicas, api):
    """Its watch may be behind: what the old leader created last would be created again."""
    wait_until(lambda: len(replicas.acts("a")) > 4, "the first to create")
    replicas.first.stop()
    replicas.wait_takeover()
    with api.lock:
        asked = [(one.verb, one.resource) for one in api.requests if one.user == "b"]
    taken = next(i for i, one in enumerate(asked)
                 if one in (("update", "leases"), ("create", "leases")))
    created = asked.index(("create", "pods"))
    assert ("list", "pods") in asked[taken:created]
    replicas.check()


# ---- limits

def test_no_more_pods_than_the_limits_at_any_time(keeper, kubelets, api):
    for i in range(12):
        kubelets.node(f"n{i}")
    kubelets.delay = 0.05
    api.lingering = True
    kubelets.outcomes.append(("n3 ", lambda pod, node: waiting("ErrImagePull", "denied")))

    def let_go(verb, resource, item):
        if (verb, resource) == ("delete", "pods") and "deletionTimestamp" in item["metadata"]:
            threading.Timer(0.3, api.finish_deletion,
                            ("pods", item["metadata"]["name"], "tarn")).start()
    api.hooks.append(let_go)
    images = [{"image": f"{LAB}:w_2024_0{i}"} for i in (1, 2, 3)]
    keeps = [{"name": "a", "images": images[:2], "pull": {"nodes_at_once": 5, "node_limit": 1}},
             {"name": "b", "images": images[2:], "pull": {"nodes_at_once": 3, "node_limit": 2}}]
    one = keeper(keeps=keeps).start()
    wait_until(lambda: set(one.states("a").values()) | set(one.states("b").values())
               == {"kept", "failed"} and len(one.states("a")) == 24, "all pulls to end", 90)
    kubelets.wait_no_pods()
    most = kubelets.most_at_once
    assert most["keep a"] == 5 and most["keep b"] == 3
    assert all(count <= (1 if isinstance(key, tuple) else 2) for key, count in most.items()
               if not str(key).startswith("keep"))
    assert len(kubelets.pulls) == len(set(kubelets.pulls)) == 36


# ---- the table of ends

def ended(reason, message="", **container):
    """A pod that failed; without `container` none of its containers was ever made."""
    status = {"phase": "Failed", "reason": reason, "message": message}
    if container:
        status["containerStatuses"] = [{"imageID": "", **container}]
    return status


UNKNOWN = {"state": {"terminated": {"reason": "ContainerStatusUnknown", "exitCode": 137,
                                    "message": "The container could not be located"}}}


@pytest.mark.parametrize("status, state, reason", [
    *((waiting(reason), "failed", f"{reason}: why not") for reason in (
        "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ImageInspectError",
        "ErrImageNeverPull", "RegistryUnavailable", "SignatureValidationFailed")),
    *((ended(reason, "no"), "failed", f"{reason}: no") for reason in (
        "OutOfpods", "OutOfcpu", "OutOfmemory", "TaintToleration", "NodeAffinity", "Evicted")),
    (ended("DeadlineExceeded", "Pod was active on the node longer than the specified deadline",
           **UNKNOWN), "failed",
     "timeout: Pod was active on the node longer than the specified deadline"),
    (ended("DeadlineExceeded"), "failed", "timeout"),
    (ended("NodeShutdown", "Pod was terminated", **UNKNOWN), "failed",
     "NodeShutdown: Pod was terminated"),
    *((waiting(reason), "kept", None) for reason in (
        "CreateContainerConfigError", "CreateContainerError", "RunContainerError")),
    *(({"phase": "Failed", "containerStatuses": [{
        "imageID": "elsewhere/other@sha256:" + "1" * 64,
        "state": {"terminated": {"reason": reason, "exitCode": code}}}]}, "kept", None)
      for reason, code in (("StartError", 128), ("Error", 1), ("OOMKilled", 137),
                           ("ContainerCannotRun", 127))),
])
def test_every_end_of_a_pod_is_what_it_means(keeper, kubelets, status, state, reason):
    kubelets.node("n1")
    kubelets.outcomes.append(("", lambda pod, node: status))
    one = keeper(ONE).start()
    one.wait_all(state)
    kubelets.wait_no_pods()
    cell = one.json("/tarn/v1/keeps/labs")["images"][0]["nodes"]["n1"]
    assert cell["reason"] == reason
    assert len(kubelets.pulls) == 1


def test_a_pod_that_somebody_deletes_is_pending_and_made_again(keeper, kubelets, api):
    kubelets.node("n1")
    pulling = threading.Event()
    kubelets.outcomes.append(("", lambda pod, node: pulling.set()))
    one = keeper(ONE).start()
    pod = wait_until(kubelets.pods, "a pod")[0]
    assert pulling.wait(60)
    kubelets.outcomes.clear()
    api.remove("pods", pod["metadata"]["name"], "tarn")
    one.wait_all()
    assert len(kubelets.pulls) == 2


def test_a_pod_that_could_not_be_deleted_is_deleted_later(keeper, kubelets, api):
    kubelets.node("n1")
    api.faults.append(Fault("delete", "pods", 500, times=2))
    one = keeper(ONE).start()
    one.wait_all()
    kubelets.wait_no_pods()
    assert len(api.asked("delete", "pods")) == 3 and len(kubelets.pulls) == 1


@pytest.mark.parametrize("fault", [Fault("create", "pods", 500), Fault("create", "pods", cut=True),
                                   Fault("create", "pods", 503, headers={"Retry-After": "1"}),
                                   Fault("create", "pods", 429, headers={"Retry-After": "1"})])
def test_a_creation_that_failed_stops_no_other_node(keeper, kubelets, api, fault):
    for i in range(5):
        kubelets.node(f"n{i}")
    api.faults.append(fault)
    one = keeper(ONE).start()
    wait_until(lambda: sorted(one.states().values()).count("kept") == 4,
               f"the others to be kept: {fault}")
    kubelets.wait_no_pods()
    assert len(kubelets.pulls) == 4


# ---- lists that are cut

@pytest.mark.parametrize("limit", [25, 50])
def test_an_image_that_falls_off_a_cut_list_is_not_pulled_again(keeper, kubelets, registry, limit):
    others = [listed(f"h/other-{i}@sha256:{i:064x}", f"h/other-{i}:v", size=10**6 + i)
              for i in range(limit)]
    kubelets.list_limit = limit
    kubelets.node("n1", images=others[:limit - 1])
    one = keeper(ONE).start()
    one.wait_all()
    wait_until(lambda: LAB in str(kubelets.images("n1")), "the image to be listed")
    wait_until(lambda: one.json("/tarn/v1/keeps/labs")["images"][0]["nodes"]["n1"]["bytes"],
               "the list to be read")
    kubelets.images("n1", others)
    wait_until(lambda: one.json("/tarn/v1/keeps/labs")["nodes"]["list"][0]["list_cut"],
               "the cut list to be read")
    kubelets.node("n2")
    wait_until(lambda: one.states() == {(f"{LAB}:w_2024_01", "n1"): "kept",
                                        (f"{LAB}:w_2024_01", "n2"): "kept"}, "a later step")
    assert [node for node, _ in kubelets.pulls] == ["n1", "n2"]


def test_an_image_that_falls_off_a_list_that_holds_smaller_ones_is_gone(keeper, kubelets, registry):
    others = [listed(f"h/other-{i}@sha256:{i:064x}", f"h/other-{i}:v", size=10 + i)
              for i in range(60)]
    kubelets.list_limit = 50
    kubelets.node("n1", images=others[:49])
    one = keeper(ONE).start()
    one.wait_all()
    wait_until(lambda: LAB in str(kubelets.images("n1")), "the image to be listed")
    wait_until(lambda: one.json("/tarn/v1/keeps/labs")["images"][0]["nodes"]["n1"]["bytes"],
               "the list to be read")
    kubelets.images("n1", others[:50])
    wait_until(lambda: len(kubelets.pulls) == 2, "a second pull")


def test_a_tag_beyond_the_five_names_of_an_image_is_taken_for_there(keeper, kubelets, registry):
    of = digest(registry, "w_2024_01")
    five = [f"{LAB}@{of}", *(f"{LAB}:alias-{i}" for i in range(4))]
    kubelets.node("cut", images=[listed(*five)])
    kubelets.node("whole", images=[listed(*five[:4])])
    one = keeper(ONE).start()
    one.wait_all(count=2)
    assert [node for node, _ in kubelets.pulls] == ["whole"]
