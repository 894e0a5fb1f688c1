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


def check_unread_or_confirmed(early, upstream):
    """A client gets nothing through a repository that has neither sent a head nor confirmed by
    HEAD that it holds the blob."""
    assert not early.done() or upstream.asked("/blobs/", "HEAD")


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
        check_unread_or_confirmed(early, first)
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
    {"status": 416}, {"status": 416, "headers": {"Content-Range": f"bytes */{MIB}"}}],
    ids=["silent", "cut", "500", "404", "429", "416", "416 with another size"])
def test_another_upstream_that_fails_takes_nothing_from_a_slow_one(tarn, clients, upstreams,
                                                                  failure, silence):
    first, second, _ = upstreams
    slow = first.fault("/blobs/", **SILENCES[silence])
    second.fault("/blobs/", **failure)
    early = begin(tarn, clients, first)
    late = clients.submit(tarn.blob, SECOND, DIGEST, timeout=90)
    wait_asked(second)
    slow.gate.set()
    assert told(early.result(60)) == WHOLE
    assert told(late.result(60)) == WHOLE


WRONG = {"another size": {"content": BLOB[:MIB]}, "a wrong byte": {"flip": 3 * MIB}}


@pytest.mark.parametrize("wrong", WRONG)
def test_the_clients_of_a_slow_upstream_do_not_pay_for_anothers_wrong_bytes(tarn, clients,
                                                                            upstreams, wrong):
    first, second, _ = upstreams
    slow = first.fault("/blobs/", hold_head=True)
    second.fault("/blobs/", **WRONG[wrong])
    early = begin(tarn, clients, first)
    late = tarn.blob(SECOND, DIGEST, timeout=90)
    assert not late.complete or late.status == 502, late
    wait_until(lambda: tarn.metrics()["tarn_blob_digest_mismatches_total"] == 1, "the end", 20)
    slow.gate.set()
    assert told(early.result(60)) == WHOLE


def test_a_size_that_contradicts_what_is_here_is_not_believed(tarn, clients, upstreams):
    first, second, _ = upstreams
    slow = first.fault("/blobs/", hold_after=MIB + 1)
    second.fault("/blobs/", content=BLOB[:MIB])
    early = begin(tarn, clients, first)
    late = clients.submit(tarn.blob, SECOND, DIGEST, timeout=90)
    wait_asked(second)
    slow.gate.set()
    assert told(early.result(60)) == WHOLE
    assert told(late.result(60)) == WHOLE
    assert first.blob_bytes() == len(BLOB)


def test_bytes_of_two_upstreams_that_make_no_blob_are_nobodys(tarn, clients, upstreams):
    first, second, _ = upstreams
    first.fault("/blobs/", hold_after=MIB + 1)
    second.fault("/blobs/", flip=3 * MIB)
    early = begin(tarn, clients, first)
    for reply in (tarn.blob(SECOND, DIGEST, timeout=90), early.result(60)):
        assert not reply.complete or reply.status == 502, reply
    for upstream in upstreams:
        upstream.heal()
    assert told(tarn.blob(FIRST, DIGEST)) == WHOLE
    assert told(tarn.blob(SECOND, DIGEST)) == WHOLE


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


def test_a_silent_upstream_that_wakes_up_late_sends_no_blob_a_second_time(tarn, clients,
                                                                          upstreams):
    first, second, _ = upstreams
    slow = first.fault("/blobs/", hold_head=True, bytes_per_second=4 * MIB)
    early = begin(tarn, clients, first)
    assert told(tarn.blob(SECOND, DIGEST)) == WHOLE
    tarn.wait_cached(SECOND, DIGEST)
    slow.gate.set()
    assert told(early.result(60)) == WHOLE
    first.wait_idle("/blobs/")
    assert len(first.asked("/blobs/", "GET")) == 1
    assert first.blob_bytes() < 2 * MIB, "tarn ends the response that nobody needs"
    assert second.blob_bytes() == len(BLOB)


def test_an_upstream_that_hangs_beside_holds_no_bytes_back(tarn, clients, upstreams):
    """The one that was silent fails, and is asked again for what the other one was asked for."""
    first, second, _ = upstreams
    first.fault("/blobs/", hold_after=MIB + 1, times=1)
    second.fault("/blobs/", hold_head=True)
    early = begin(tarn, clients, first)
    late = clients.submit(tarn.blob, SECOND, DIGEST, timeout=90)
    wait_asked(second)
    first.refuse()
    first.listen_again()
    assert told(late.result(60)) == WHOLE
    assert told(early.result(60)) == WHOLE


def test_an_upstream_that_was_given_up_holds_no_bytes_back(tarn, clients, upstreams):
    """The stream of the second breaks while the request to the first hangs."""
    first, second, _ = upstreams
    first.fault("/blobs/", hold_head=True)
    second.fault("/blobs/", cut_after=MIB, chunked=True, ignore_range=True, times=1)
    early = begin(tarn, clients, first)
    assert told(tarn.blob(SECOND, DIGEST, timeout=90)) == WHOLE
    check_unread_or_confirmed(early, first)
    first.heal()
    assert told(early.result(60)) == WHOLE


# ---- what is asked of upstream

@pytest.mark.parametrize("silence", ["no head", "a part"])
def test_head_asks_its_own_upstream_and_fetches_nothing(tarn, clients, upstreams, silence):
    first, second, _ = upstreams
    first.fault("/blobs/", **SILENCES[silence])
    early = begin(tarn, clients, first)
    for name in (FIRST, SECOND) * 3:
        reply = tarn.blob(name, DIGEST, method="HEAD")
        assert (reply.status, reply["Content-Length"]) == (200, str(len(BLOB)))
    assert not second.asked("/blobs/", "GET")
    first.heal()
    assert told(early.result(30)) == WHOLE


def test_head_through_a_silent_upstream_is_a_timeout_though_another_has_the_blob(
        start_tarn, clients, upstreams):
    first, second, _ = upstreams
    tarn = start_tarn([
        {"host": "first.test", "url": first.url, **PATIENT, "first_byte_timeout": "6s"},
        {"host": "second.test", "url": second.url, **PATIENT}])
    first.fault("/blobs/", method=None, black_hole=True)
    early = begin(tarn, clients, first)
    head = clients.submit(tarn.blob, FIRST, DIGEST, method="HEAD", timeout=90)
    assert told(tarn.blob(SECOND, DIGEST)) == WHOLE
    assert tarn.blob(SECOND, DIGEST, method="HEAD").status == 200
    assert head.result(60).status == 504
    assert early.result(60).status == 504


BRIEF = {"first_byte_timeout": "5s", "stall_timeout": "2s", "connections": 2}


def test_if_all_are_silent_each_client_is_told_in_time(start_tarn, clients, upstreams):
    first, second, _ = upstreams
    tarn = start_tarn([{"host": "first.test", "url": first.url, **BRIEF},
                       {"host": "second.test", "url": second.url, **BRIEF}])
    for one in (first, second):
        one.fault("/blobs/", hold_head=True)
    early = begin(tarn, clients, first)
    late = tarn.blob(SECOND, DIGEST, timeout=90)
    assert late.status == 504 and late.seconds < 20
    assert early.result(60).status == 504
    for one in (first, second):
        one.heal()
    # The breaker of an upstream that was silent may be open for a moment.
    wait_until(lambda: told(tarn.blob(FIRST, DIGEST)) == WHOLE, "the first to be asked", 60)
    assert told(tarn.blob(SECOND, DIGEST)) == WHOLE


def test_if_all_fall_silent_in_mid_blob_the_transfer_goes_on_with_whoever_wakes_up(
        start_tarn, clients, upstreams):
    first, second, _ = upstreams
    tarn = start_tarn([{"host": "first.test", "url": first.url, **BRIEF},
                       {"host": "second.test", "url": second.url, **BRIEF}])
    first.fault("/blobs/", hold_after=MIB + 1, times=2)
    first.fault("/blobs/", hold_after=0)
    second.fault("/blobs/", hold_after=0)
    early = begin(tarn, clients, first)
    late = clients.submit(tarn.blob, SECOND, DIGEST, timeout=90)
    wait_asked(second)
    second.heal()
    assert told(late.result(60)) == WHOLE
    assert told(early.result(60)) == WHOLE


@pytest.mark.parametrize("silence", ["no head", "a part"])
def test_an_upstream_that_is_left_alone_takes_nothing_from_a_slow_one(tarn, clients, upstreams,
                                                                      silence):
    """The second is known to hold the blob by its manifest, and does not respond any more."""
    first, second, _ = upstreams
    second.image("org/app", [BLOB], tag="1")
    assert tarn.manifest(SECOND, "1").status == 200
    second.refuse()
    wait_until(lambda: tarn.manifest(SECOND, "none").status in (502, 503) and
               tarn.metrics()['tarn_upstream_breaker_open{upstream="second.test"}'] == 1,
               "the breaker to open", 60)
    slow = first.fault("/blobs/", **SILENCES[silence])
    early = begin(tarn, clients, first)
    late = clients.submit(tarn.blob, SECOND, DIGEST, timeout=90)
    wait_until(lambda: tarn.metrics()["tarn_requests_waiting"] == 2, "both clients to wait", 20)
    slow.gate.set()
    assert told(early.result(60)) == WHOLE
    assert told(late.result(60)) == WHOLE


def test_an_upstream_that_is_left_alone_keeps_nobody_waiting(tarn, upstreams):
    first, _, _ = upstreams
    first.refuse()
    wait_until(lambda: tarn.blob(FIRST, DIGEST).status in (502, 503) and
               tarn.metrics()['tarn_upstream_breaker_open{upstream="first.test"}'] == 1,
               "the breaker to open", 60)
    refused, late = at_once(lambda: tarn.blob(FIRST, DIGEST), lambda: tarn.blob(SECOND, DIGEST))
    assert told(late) == WHOLE
    assert refused.status in (502, 503), refused
    assert tarn.blob(FIRST, DIGEST).status in (502, 503), "what it has not granted"


# ---- fallbacks

def test_the_fallback_of_another_upstream_is_asked_as_well(start_tarn, clients, upstreams):
    first, second, third = upstreams
    tarn = start_tarn([
        {"host": "first.test", "url": first.url, **PATIENT},
        {"host": "second.test", "url": second.url, "fallbacks": [third.url], **PATIENT}])
    first.fault("/blobs/", hold_head=True)
    second.fault("/blobs/", status=500)
    early = begin(tarn, clients, first)
    assert told(tarn.blob(SECOND, DIGEST, timeout=90)) == WHOLE
    assert third.blob_bytes() == len(BLOB)
    first.heal()
    assert told(early.result(60)) == WHOLE


def test_the_clients_of_a_silent_upstream_are_served_by_the_word_of_its_fallback(
        start_tarn, clients, upstreams):
    first, second, third = upstreams
    tarn = start_tarn([
        {"host": "first.test", "url": first.url, "fallbacks": [third.url], **PATIENT,
         "first_byte_timeout": "8s"},
        {"host": "second.test", "url": second.url, **PATIENT}])
    first.fault("/blobs/", method=None, black_hole=True)
    early = begin(tarn, clients, first)
    assert told(tarn.blob(SECOND, DIGEST)) == WHOLE
    assert told(early.result(60)) == WHOLE
    assert second.blob_bytes() + third.blob_bytes() == len(BLOB)


# ---- nobody else's

REFUSALS = {"404": {"status": 404}, "403": {"status": 403}, "401": {"status": 401}}


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("silence", ["no head", "a part"])
def test_a_repository_that_does_not_give_the_blob_gets_none_of_it(tarn, clients, upstreams,
                                                                  refusal, silence):
    first, second, third = upstreams
    expected = (404,) if refusal == "404" else (403,)
    third.fault("/blobs/", method=None, **REFUSALS[refusal])
    first.fault("/blobs/", **SILENCES[silence])
    early = begin(tarn, clients, first)

    def ask_without_right():
        for method in ("GET", "HEAD"):
            reply = tarn.blob(THIRD, DIGEST, method=method, timeout=90)
            assert reply.status in expected, reply
            reply = tarn.blob("second.test/org/other", DIGEST, method=method, timeout=90)
            assert reply.status == 404, reply

    ask_without_right()  # while the first is silent
    assert not third.asked("/blobs/", "GET") or third.blob_bytes() == 0
    held = second.fault("/blobs/", hold_after=3 * MIB)
    late = clients.submit(tarn.blob, SECOND, DIGEST, timeout=90)
    wait_until(lambda: second.blob_bytes() >= 3 * MIB, "half of the blob from the second", 20)
    ask_without_right()  # while the second brings it
    held.gate.set()
    assert told(late.result(60)) == WHOLE
    tarn.wait_cached(SECOND, DIGEST)
    ask_without_right()
    first.heal()
    assert told(early.result(60)) == WHOLE
