"""Names that clients make up leave nothing behind: they take no other name's place, and no metrics,
folders or connections stay."""

import os
import threading

import pytest

from kit.client import at_once, fetch
from kit.content import digest_of, noise
from kit.processes import wait_until

PATTERN = "*.mirror.test"
REAL = "real.mirror.test"
MIB = 1 << 20
LAYER = noise(70000, "layer")
DIGEST = digest_of(LAYER)
MADE_UP = 2400  # more than twice the hosts that tarn keeps something for


def ask_for_made_up(tarn, count, first=0, clients=8):
    """Asks for so many hosts, in each way in which a client can name one; returns the statuses."""
    def path(number):
        host = f"a{number}.mirror.test"
        return (f"/v2/{host}/org/none/manifests/1", f"/v2/org/none/manifests/1?ns={host}",
                f"/{host}/v2/org/none/manifests/1", f"/v2/{host.upper()}/org/none/manifests/1",
                f"/v2/{host}/org/none/blobs/{DIGEST}",
                f"/v2/org/none/tags/list?ns={host.upper()}")[number % 6]

    def ask(client):
        return [fetch(tarn.url + path(number)).status
                for number in range(first + client, first + count, clients)]
    return [status for statuses in at_once(
        *[lambda client=client: ask(client) for client in range(clients)]) for status in statuses]


def series(tarn):
    return {name for name in tarn.metrics() if "upstream=" in name}


def connections(tarn):
    folder = f"/proc/{tarn.process.pid}/fd"
    return len(os.listdir(folder))


def folders(tarn):
    """The hosts that have a folder in the cache."""
    found = set()
    for path, names, _ in os.walk(tarn.root):
        found.update(name for name in names if name.endswith("mirror.test"))
    return found


@pytest.fixture
def mirror(start_tarn, upstream):
    upstream.image("org/app", [LAYER], tag="1")
    return start_tarn([{"host": PATTERN, "url": upstream.url, "tag_ttl": "0s",
                        "stall_timeout": "60s", "first_byte_timeout": "60s"}])


def test_made_up_hosts_take_no_real_host_s_place(mirror, upstream):
    assert mirror.manifest(f"{REAL}/org/app", "1").status == 200
    ask_for_made_up(mirror, 60)
    before, open_before = series(mirror), connections(mirror)
    assert set(ask_for_made_up(mirror, MADE_UP, first=60)) == {404}
    assert series(mirror) == before
    assert {name for name in before if ".mirror.test" in name} == \
        {name for name in before if f'"{PATTERN}"' in name}
    assert not [name for name in before if "a1.mirror" in name]
    for host in (REAL, "other.mirror.test"):
        reply = mirror.manifest(f"{host}/org/app", "1")
        assert reply.status == 200, reply
        assert mirror.blob(f"{host}/org/app", DIGEST).body == LAYER
    mirror.settle()
    assert folders(mirror) == {REAL, "other.mirror.test"}
    # Some hosts keep a connection, so that the next request to them is fast.
    assert connections(mirror) < open_before + 160


def test_hosts_that_answer_nothing_take_no_place(start_tarn, upstream, make_upstream):
    silent = make_upstream()
    silent.fault(".", drop=True, method=None)
    upstream.image("org/app", [LAYER], tag="1")
    tarn = start_tarn([{"host": "*.silent.test", "url": silent.url, "first_byte_timeout": "5s"},
                       {"host": PATTERN, "url": upstream.url}])

    def ask(client):
        return {fetch(f"{tarn.url}/v2/a{client}x{number}.silent.test/org/app/manifests/1").status
                for number in range(10)}
    assert set.union(*at_once(*[lambda client=client: ask(client) for client in range(12)])) <= \
        {502, 503, 504}
    names = series(tarn)
    assert not [name for name in names if "silent.test" in name and '"*.silent.test"' not in name]
    assert tarn.manifest(f"{REAL}/org/app", "1").status == 200
    assert not [host for host in folders(tarn) if "silent" in host]


def test_a_transfer_goes_on_while_hosts_come_and_go(mirror, upstream):
    """A flight, its slow reader and a question outlive everything that is kept for other hosts."""
    blob = noise(8 * MIB, "slow")
    digest = upstream.repository("org/app").add_blob(blob)
    release = threading.Event()
    upstream.image("org/slow", [LAYER], tag="1")
    upstream.fault(f"/v2/org/app/blobs/{digest}", hold_after=100000, gate=release)
    upstream.fault("/v2/org/slow/manifests/1", hold_after=10, gate=release)
    question = threading.Thread(target=lambda: replies.append(
        mirror.manifest("question.mirror.test/org/slow", "1")))
    replies = []
    download = threading.Thread(target=lambda: replies.append(
        mirror.blob(f"{REAL}/org/app", digest)))
    for thread in (question, download):
        thread.start()
    wait_until(lambda: upstream.asked(f"blobs/{digest}") and upstream.asked("org/slow"),
               "both are asked for")
    ask_for_made_up(mirror, MADE_UP // 2)
    release.set()
    for thread in (question, download):
        thread.join()
    assert [reply.status for reply in replies] == [200, 200]
    assert blob in [reply.body for reply in replies]
    mirror.wait_cached(f"{REAL}/org/app", digest)
