"""
A blob that one upstream is silent about, and that another upstream has: the clients of the second
do not wait for the first (promise 10), and no upstream is asked beside one that is quick
(promise 2).
"""

from concurrent.futures import ThreadPoolExecutor

import pytest

from kit.client import at_once
from kit.content import MIB, digest_of, noise
from kit.processes import wait_until

BLOB = noise(6 * MIB)
DIGEST = digest_of(BLOB)
# Longer than any client of these tests waits.
PATIENT = {"first_byte_timeout": "60s", "stall_timeout": "60s", "connections": 2}
FIRST, SECOND, THIRD = ("first.test/org/app", "second.test/org/app", "third.test/org/app")


@pytest.fixture
def upstreams(make_upstream):
    """Three upstreams that have the blob."""
    made = [make_upstream(host=f"127.0.0.{number}") for number in (3, 4, 5)]
    for one in made:
        one.repository("org/app").add_blob(BLOB)
    return made


@pytest.fixture
def tarn(start_tarn, upstreams):
    return start_tarn([{"host": name.split("/", maxsplit=1)[0], "url": one.url, **PATIENT}
                       for name, one in zip((FIRST, SECOND, THIRD), upstreams)])


@pytest.fixture
def clients():
    with ThreadPoolExecutor() as pool:
        yield pool


WHOLE = (200, len(BLOB), DIGEST)


def told(reply):
    """A reply in short: status, length, and the digest of the body."""
    return reply.status, len(reply.body), digest_of(reply.body)


def wait_asked(upstream):
    wait_until(lambda: upstream.asked("/blobs/", "GET"), "a request for the blob", 20)


def begin(tarn, clients, upstream):
    """A client whose upstream has been asked for the blob."""
    reply = clients.submit(tarn.blob, FIRST, DIGEST, timeout=90)
    wait_asked(upstream)
    return reply


SILENCES = {
    "no head": {"hold_head": True},
    "a head alone": {"hold_after": 0},
    "a part": {"hold_after": MIB + 1},
    "a part of a stream": {"hold_after": MIB + 1, "ignore_range": True},
    "chunks": {"hold_after": MIB + 1, "chunked": True, "ignore_range": True},
    "drops": {"bytes_per_second": 100, "piece": 10},
}


@pytest.mark.parametrize("silence", SILENCES)
def test_a_silent_upstream_keeps_no_client_of_another_waiting(tarn, clients, upstreams, silence):
    first, second, _ = upstreams
    fault = first.fault("/blobs/", **SILENCES[silence])
    early = begin(tarn, clients, first)
    late = tarn.blob(SECOND, DIGEST)
    assert told(late) == WHOLE
    assert second.blob_bytes() <= len(BLOB)
    if silence == "no head":
        assert not early.done(), "read through a repository that has not answered"
        fault.gate.set()
    assert told(early.result(30)) == WHOLE


@pytest.mark.parametrize("silence", ["no head", "a part"])
def test_a_range_does_not_wait_for_a_silent_upstream(tarn, clients, upstreams, silence):
    first, _, _ = upstreams
    first.fault("/blobs/", **SILENCES[silence])
    early = begin(tarn, clients, first)
    late = tarn.blob(SECOND, DIGEST, {"Range": f"bytes={5 * MIB}-{5 * MIB + 9}"})
    assert (late.status, late.body) == (206, BLOB[5 * MIB:5 * MIB + 10])
    first.heal()
    assert told(early.result(30)) == WHOLE


@pytest.mark.parametrize("silence", ["no head", "a part"])
def test_several_silent_upstreams_are_passed_over(tarn, clients, upstreams, silence):
    first, second, third = upstreams
    for one in (first, second):
        one.fault("/blobs/", **SILENCES[silence])
    early = begin(tarn, clients, first)
    middle = clients.submit(tarn.blob, SECOND, DIGEST, timeout=90)
    wait_asked(second)
    late = tarn.blob(THIRD, DIGEST)
    assert told(late) == WHOLE
    assert told(middle.result(30)) == WHOLE
    assert third.blob_bytes() <= len(BLOB)
    first.heal()
    assert told(early.result(30)) == WHOLE


@pytest.mark.parametrize("silence", ["no head", "a part"])
@pytest.mark.parametrize("failure", [
    {"hold_head": True}, {"drop": True}, {"status": 500}, {"status": 404}, {"status": 429},
    {"content": BLOB[:MIB]}], ids=["silent", "cut", "500", "404", "429", "another size"])
def test_another_upstream_that_fails_takes_nothing_from_a_slow_one(tarn, clients, upstreams,
                                                                  failure, silence):
    first, second, _ = upstreams
    slow = first.fault("/blobs/", **SILENCES[silence])
    second.fault("/blobs/", **failure)
    early = begin(tarn, clients, first)
    late = clients.submit(tarn.blob, SECOND, DIGEST, timeout=90)
    if failure != {"content": BLOB[:MIB]} or silence == "a part":
        wait_asked(second)
        slow.gate.set()
        assert told(early.result(60)) == WHOLE
        assert told(late.result(60)) == WHOLE


def test_a_silent_upstream_that_comes_back_serves_its_own_clients(tarn, clients, upstreams):
    first, second, _ = upstreams
    slow = first.fault("/blobs/", hold_head=True)
    held = second.fault("/blobs/", hold_after=3 * MIB)
    early = begin(tarn, clients, first)
    late = clients.submit(tarn.blob, SECOND, DIGEST, timeout=90)
    wait_until(lambda: second.blob_bytes() >= 3 * MIB, "half of the blob from the second", 20)
    slow.gate.set()
    wait_until(lambda: tarn.metrics()["tarn_flights"] == 1, "one transfer", 5)
    held.gate.set()
    assert told(late.result(60)) == WHOLE
    assert told(early.result(60)) == WHOLE


def test_what_a_silent_upstream_has_not_granted_is_not_read_through_it(start_tarn, clients,
                                                                       upstreams):
    first, second, _ = upstreams
    tarn = start_tarn([
        {"host": "first.test", "url": first.url, **PATIENT, "first_byte_timeout": "8s"},
        {"host": "second.test", "url": second.url, **PATIENT}])
    first.fault("/blobs/", method=None, black_hole=True)
    early = begin(tarn, clients, first)
    late = tarn.blob(SECOND, DIGEST)
    assert told(late) == WHOLE
    tarn.wait_cached(SECOND, DIGEST)
    assert early.result(60).status == 504


def test_a_transfer_whose_upstream_has_died_goes_on_at_another(tarn, clients, upstreams):
    first, _, _ = upstreams
    first.fault("/blobs/", reset_after=MIB)
    early = begin(tarn, clients, first)
    first.refuse()
    assert told(tarn.blob(SECOND, DIGEST)) == WHOLE
    assert told(early.result(30)) == WHOLE


def test_of_two_upstreams_that_are_quick_one_is_asked(tarn, upstreams):
    first, second, _ = upstreams
    replies = at_once(*[lambda name=name: tarn.blob(name, DIGEST)
                        for name in (FIRST, SECOND) * 4])
    assert [told(reply) for reply in replies] == [WHOLE] * 8
    assert first.blob_bytes() + second.blob_bytes() == len(BLOB)
    assert not (first.asked("/blobs/", "GET") and second.asked("/blobs/", "GET"))


