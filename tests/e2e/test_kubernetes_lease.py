"""The lease by which one of several processes leads."""

import signal
import time

import pytest

from kit.driver import Driven
from kit.kubernetes_api import ALL_RIGHTS, Fault, Kubeconfig
from kit.processes import wait_until

API_TLS = False
LEASES = ("leases", "tarn", "tarn-keep")


class Process(Driven):
    """A process that wants the lease."""

    def changes(self):
        return [told["leading"] for told in self.told if "leading" in told]

    def wait_leading(self, leading=True, seconds=40):
        self.wait(lambda one: one.changes()[-1:] == [leading], f"leading {leading}", seconds)
        return next(told["at"] for told in reversed(self.told) if "leading" in told) / 1000

    def acts(self):
        """When it held the lease, in seconds of time.monotonic()."""
        return [told["acts"] / 1000 for told in self.told if "acts" in told]


@pytest.fixture
def process(api, driver, tmp_path):
    started = []

    def start(token="secret-token"):
        api.tokens.setdefault(token, token.split("-")[0])
        config = Kubeconfig(api).write(tmp_path / f"config-{len(started)}", {"token": token})
        started.append(Process(driver, config, tmp_path, "lease", "tarn", "tarn-keep"))
        return started[-1]
    yield start
    for one in started:
        if one.child.poll() is None:
            one.child.send_signal(signal.SIGCONT)
            one.stop()


def never_both(one, other):
    """No moment at which one held the lease lies between two at which the other did."""
    wait_until(lambda: one.acts() and other.acts(), "both have led")
    first, second = sorted((one.acts(), other.acts()))
    assert first and second and first[-1] < second[0], (first[-1], second[0])


def spec(api):
    return api.objects[LEASES]["spec"]


def test_the_first_one_leads_and_renews_every_five_seconds(api, process):
    one = process()
    one.wait_leading()
    written = spec(api)
    assert written["leaseDurationSeconds"] == 15 and written["leaseTransitions"] == 0
    assert len(written["renewTime"]) == len("2026-11-21T03:55:00.123456Z")
    first, second = api.wait_asked("update", "leases", 2)
    assert 4.8 < second.at - first.at < 7
    assert spec(api)["acquireTime"] == written["acquireTime"]
    assert spec(api)["renewTime"] > written["renewTime"]
    # A holder only writes, and with the version that it knows.
    assert len(api.asked("get", "leases")) == 1
    assert second.body["metadata"]["resourceVersion"]
    assert first.body["metadata"]["uid"] == second.body["metadata"]["uid"]


def test_a_process_that_ends_gives_the_lease_back(api, process):
    one = process()
    one.wait_leading()
    other = process("other-secret")
    api.wait_asked("get", "leases", 3)
    assert other.changes() == []
    ended = time.monotonic()
    one.stop()
    assert one.changes() == [True, False]
    released = next(request for request in api.asked("update", "leases")
                    if request.body["spec"]["holderIdentity"] == "")
    assert released.body["spec"]["leaseDurationSeconds"] == 1
    assert other.wait_leading() - ended < 8
    assert spec(api)["leaseTransitions"] == 1
    never_both(one, other)


def test_after_kill_minus_9_another_one_takes_over_and_not_too_soon(api, process):
    one = process()
    one.wait_leading()
    other = process("other-secret")
    api.wait_asked("get", "leases", 3)
    one.child.kill()
    one.child.wait(20)
    last = one.acts()[-1]
    taken = other.wait_leading()
    assert 9 < taken - last < 35
    never_both(one, other)


@pytest.mark.slow
def test_a_stopped_process_leads_no_more_when_it_wakes_up(api, process):
    one = process()
    one.wait_leading()
    other = process("other-secret")
    api.wait_asked("get", "leases", 3)
    one.child.send_signal(signal.SIGSTOP)
    other.wait_leading()
    taken = other.acts
    time.sleep(2)    # it leads for a while
    one.child.send_signal(signal.SIGCONT)
    one.wait_leading(False)
    api.wait_asked("get", "leases", len(api.asked("get", "leases")) + 2)
    assert taken()
    never_both(one, other)


@pytest.mark.slow
def test_a_process_that_is_cut_off_gives_up_before_another_one_leads(api, process):
    one = process()
    began = one.wait_leading()
    other = process("other-secret")
    api.wait_asked("get", "leases", 3)
    del api.tokens["secret-token"]
    cut = time.monotonic()
    given_up = one.wait_leading(False)
    assert given_up - cut < 11 and given_up - began > 5
    assert other.wait_leading() > given_up
    never_both(one, other)
    assert "cannot use the lease" in one.log()


def test_a_silent_server_makes_the_holder_give_up_in_time(api, process):
    one = process()
    one.wait_leading()
    api.faults = [Fault("update", "leases", silent=True, times=100),
                  Fault("get", "leases", silent=True, times=100)]
    given_up = one.wait_leading(False)
    renewed = max(request.at for request in api.requests
                  if request.verb in ("create", "update") and not request.silenced)
    assert 9.5 < given_up - renewed < 12.5


def test_who_loses_the_race_waits(api, process):
    api.faults = [Fault("create", "leases", 409, "AlreadyExists")]
    one = process()
    one.wait_leading()
    assert len(api.asked("create", "leases")) == 2
    assert "cannot use" not in one.log()


def test_a_lease_that_another_client_changed_is_read_again(api, process):
    one = process()
    one.wait_leading()
    with api.lock:
        item = api.objects[LEASES]
        api.put("leases", "tarn-keep", "tarn", spec=item["spec"],
                metadata={"labels": {"by": "hand"}})
    api.wait_asked("update", "leases", 2)
    assert one.changes() == [True]
    assert api.objects[LEASES]["metadata"]["labels"] == {"by": "hand"}


def test_a_lease_that_is_deleted_is_made_anew(api, process):
    one = process()
    one.wait_leading()
    api.remove("leases", "tarn-keep", "tarn")
    api.wait_asked("create", "leases", 2)
    api.wait_asked("update", "leases", 2)
    assert one.changes() == [True]


def test_without_the_right_nobody_leads_and_the_reason_is_told_once(api, process):
    api.rights["tester"] = ALL_RIGHTS - {("get", "leases")}
    one = process()
    api.wait_asked("get", "leases", 3)
    assert one.changes() == []
    assert one.log().count("cannot use the lease") == 1 and "forbidden" in one.log()


def test_what_stands_beside_the_record_is_no_sign_of_life(api, process):
    one = process()
    one.wait_leading()
    other = process("other-secret")
    api.wait_asked("get", "leases", 3)
    one.child.kill()
    killed = time.monotonic()
    stamps = iter(range(1000))
    def mark():
        held = api.objects[LEASES]
        if held["spec"]["holderIdentity"]:
            api.put("leases", "tarn-keep", "tarn", spec=held["spec"], metadata={
                "annotations": {"tarn/machines": str(next(stamps))}})
        return other.changes() == [True]
    wait_until(mark, "the other to lead", 40)
    assert time.monotonic() - killed < 30
    assert api.objects[LEASES]["metadata"]["annotations"]["tarn/machines"]
