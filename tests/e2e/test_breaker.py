"""An upstream that does not respond is left alone for a while, and its clients are told at once."""

import threading
import time

import pytest

from kit.content import MIB, digest_of, noise
from kit.crowd import silent_registry
from kit.processes import wait_until
from kit.tokens import TokenService

LAYER = noise(4 * MIB)
DIGEST = digest_of(LAYER)
OPEN = 'tarn_upstream_breaker_open{upstream="fake.test"}'
SILENCE = {"first_byte_timeout": "1500ms", "connect_timeout": "1500ms", "stall_timeout": "1500ms"}


@pytest.fixture
def tarn(start_tarn, upstream):
    upstream.image("org/app", [LAYER], tag="1")
    return start_tarn([{"host": "fake.test", "url": upstream.url, "default": True, "tag_ttl": "0",
                        **SILENCE}])


def silence(upstream):
    upstream.fault(".*", black_hole=True, method=None)


def refuse(upstream):
    upstream.refuse()


def ask_many(tarn, number=8, what="manifests/none"):
    """So many requests at once; gives their statuses."""
    statuses = []
    threads = [threading.Thread(target=lambda at=at: statuses.append(
        tarn.get(f"/v2/org/{at}/{what}", timeout=60).status)) for at in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


def open_breaker(tarn, upstream, fails=silence):
    """Makes the upstream fail until tarn leaves it alone."""
    fails(upstream)

    def is_open():
        assert not {200, 404} & set(ask_many(tarn))
        return tarn.metrics()[OPEN] == 1

    wait_until(is_open, "the breaker to open", 60)


def is_refused(reply):
    return reply.status == 503 and "got no response" in reply.message


@pytest.mark.parametrize("fails", [silence, refuse])
@pytest.mark.parametrize("target", ["manifests/none", "tags/list", f"blobs/{DIGEST}",
                                    f"referrers/{DIGEST}"])
def test_after_failures_in_a_row_requests_fail_at_once(tarn, upstream, fails, target):
    open_breaker(tarn, upstream, fails)
    replies = [tarn.get(f"/v2/org/more{number}/{target}", timeout=60) for number in range(8)]
    refused = [reply for reply in replies if is_refused(reply)]
    assert refused, replies  # one may have been the probe
    for reply in refused:
        assert reply.code == "UNAVAILABLE"
        assert int(reply["Retry-After"]) >= 1
        assert "fake.test" in reply.message
        assert reply.seconds < 1


@pytest.mark.parametrize("scheme, reason", [("http", "no response in time"),
                                            ("https", "no response in time"),
                                            ("nowhere", "no such host")])
def test_no_kind_of_silence_is_waited_for_again_and_again(start_tarn, scheme, reason):
    with silent_registry() as url:
        where = {"http": url, "https": url.replace("http:", "https:"),
                 "nowhere": "http://nowhere.invalid"}[scheme]
        tarn = start_tarn([{"host": "fake.test", "url": where, "default": True, **SILENCE}])
        wait_until(lambda: ask_many(tarn) and tarn.metrics()[OPEN] == 1, "the breaker to open", 60)
        assert any(is_refused(tarn.get(f"/v2/org/{number}/tags/list", timeout=60))
                   for number in range(4))
        assert f"[-]upstream fake.test failed: {reason}" in tarn.get("/readyz?verbose").body.decode()


def test_people_and_monitors_see_which_upstream_is_left_alone(tarn, upstream):
    calm = tarn.get("/readyz?verbose")
    assert calm.status == 200
    assert calm.body.decode().splitlines() == [
        "[+]store ok", "[+]upstream fake.test ok", "readyz check passed"]
    assert tarn.metrics()[OPEN] == 0
    open_breaker(tarn, upstream)
    told = tarn.get("/readyz?verbose")
    assert told.status == 200
    assert "[-]upstream fake.test failed: no response in time" in told.body.decode().splitlines()
    assert tarn.get("/readyz").body == b"ok\n"
    assert "no response in time" in tarn.get("/").body.decode()
    tarn.logged(r"upstream does not respond.* upstream=fake\.test")


@pytest.mark.parametrize("fails", [silence, refuse])
def test_one_response_closes_it(tarn, upstream, fails):
    open_breaker(tarn, upstream, fails)
    upstream.heal()
    if fails is refuse:
        upstream.listen_again()
    wait_until(lambda: tarn.manifest("org/app", "1").status == 200, "upstream to be asked", 40,
               pause=0.1)
    assert tarn.metrics()[OPEN] == 0
    assert tarn.blob("org/app", DIGEST).body == LAYER
    assert "[+]upstream fake.test ok" in tarn.get("/readyz?verbose").body.decode()
    tarn.logged(r"upstream responds again.* upstream=fake\.test")


def test_what_is_held_is_served_stale_at_once(tarn, upstream):
    assert tarn.manifest("org/app", "1").status == 200
    open_breaker(tarn, upstream)
    replies = [tarn.manifest("org/app", "1") for _ in range(8)]
    assert all(reply.status == 200 and "fwd=stale" in reply.cache_status for reply in replies)
    assert min(reply.seconds for reply in replies) < 1


def test_one_probe_at_a_time_asks_a_silent_upstream(tarn, upstream):
    open_breaker(tarn, upstream)
    upstream.forget_requests()
    until = time.monotonic() + 5
    while time.monotonic() < until:
        assert set(ask_many(tarn)) <= {503, 504}
    assert len(upstream.requests) <= 3  # each takes 1.5 s, and the next waits for longer than that


@pytest.mark.parametrize("status", [500, 503, 429, 404, 401])
def test_an_answer_is_no_failure_whatever_its_status(tarn, upstream, status):
    upstream.fault(".*", status=status, method=None)
    for _ in range(3):
        ask_many(tarn)
        time.sleep(0.5)
    assert tarn.metrics()[OPEN] == 0
    upstream.heal()
    wait_until(lambda: tarn.manifest("org/app", "1").status == 200, "upstream to be asked", 60,
               pause=0.1)


def test_a_fallback_is_asked_at_once_in_place_of_a_silent_upstream(
        start_tarn, upstream, make_upstream):
    mirror = make_upstream()
    for number in range(20):
        mirror.image(f"org/app{number}", [LAYER], tag="1")
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True,
                        "fallbacks": [mirror.url], "first_byte_timeout": "4s",
                        "connect_timeout": "4s"}])
    silence(upstream)
    wait_until(lambda: ask_many(tarn) and tarn.metrics()[OPEN] == 1, "the breaker to open", 60)
    replies = [tarn.manifest(f"org/app{number}", "1") for number in range(20)]
    assert all(reply.status == 200 for reply in replies)
    assert min(reply.seconds for reply in replies) < 1
    assert tarn.blob("org/app1", DIGEST).body == LAYER
    assert mirror.asked("org/app1/blobs")


def test_a_transfer_under_way_goes_on_once_upstream_is_back(tarn, upstream):
    """It keeps its own patience, and is a probe as well."""
    cut = upstream.fault("/blobs/", hold_after=MIB, times=1)
    download = tarn.download(f"/v2/org/app/blobs/{DIGEST}", timeout=60)
    assert download.status == 200
    download.read(MIB // 2)
    upstream.refuse()
    cut.gate.set()
    wait_until(lambda: ask_many(tarn) and tarn.metrics()[OPEN] == 1, "the breaker to open", 60)
    upstream.heal()
    upstream.listen_again()
    download.read(len(LAYER) - MIB // 2)
    assert download.body == LAYER
    download.close()


# ---- a token service that does not respond

@pytest.fixture
def with_tokens(start_tarn, upstream):
    upstream.image("org/app", [LAYER], tag="1")
    upstream.image("org/held", [LAYER], tag="1")
    upstream.tokens = TokenService()
    return start_tarn([{"host": "fake.test", "url": upstream.url, "default": True, "tag_ttl": "0",
                        **SILENCE}])


def silent_tokens(upstream):
    upstream.fault("/token", black_hole=True, method=None)


def cut_tokens(upstream):
    upstream.fault("/token", reset=True, method=None)


def is_refused_for_its_tokens(reply):
    return is_refused(reply) and "token service" in reply.message and "/token" in reply.message


@pytest.mark.parametrize("fails", [silent_tokens, cut_tokens])
@pytest.mark.parametrize("target", ["manifests/1", "tags/list", f"blobs/{DIGEST}",
                                    f"referrers/{DIGEST}"])
def test_without_tokens_requests_fail_at_once(with_tokens, upstream, fails, target):
    tarn = with_tokens
    assert tarn.manifest("org/held", "1").status == 200
    open_breaker(tarn, upstream, fails)
    replies = [tarn.get(f"/v2/org/more{number}/{target}", timeout=60) for number in range(8)]
    refused = [reply for reply in replies if is_refused_for_its_tokens(reply)]
    assert refused, replies  # one may have been the probe
    for reply in refused:
        assert reply.code == "UNAVAILABLE" and int(reply["Retry-After"]) >= 1
        assert "fake.test" in reply.message
        assert reply.seconds < 3  # a silent one would take 4
    told = tarn.get("/readyz?verbose").body.decode()
    assert "[-]upstream fake.test failed: token service: no " in told
    tarn.logged(r"token service does not respond.* upstream=fake\.test")
    # What has a token needs no other one.
    assert tarn.manifest("org/held", "1")["Cache-Status"] == "tarn; fwd=stale; fwd-status=304"


@pytest.mark.parametrize("fails", [silent_tokens, cut_tokens])
def test_one_token_ends_it(with_tokens, upstream, fails):
    tarn = with_tokens
    open_breaker(tarn, upstream, fails)
    upstream.heal()
    wait_until(lambda: tarn.manifest("org/app", "1").status == 200, "a token", 40, pause=0.1)
    assert tarn.metrics()[OPEN] == 0
    assert tarn.blob("org/app", DIGEST).body == LAYER
    assert "[+]upstream fake.test ok" in tarn.get("/readyz?verbose").body.decode()
    tarn.logged(r"token service responds again.* upstream=fake\.test")


def test_one_probe_at_a_time_asks_a_silent_token_service(with_tokens, upstream):
    open_breaker(with_tokens, upstream, silent_tokens)
    upstream.forget_requests()
    until = time.monotonic() + 5
    while time.monotonic() < until:
        assert set(ask_many(with_tokens)) <= {503, 504}
    assert len(upstream.asked("/token")) <= 3


@pytest.mark.parametrize("status", [500, 503, 429, 404, 401])
def test_a_refused_token_is_no_silence(with_tokens, upstream, status):
    upstream.fault("/token", status=status, method=None)
    for _ in range(3):
        ask_many(with_tokens)
        time.sleep(0.5)
    assert with_tokens.metrics()[OPEN] == 0
