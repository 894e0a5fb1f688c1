"""Three real replicas of which something is wrong: their secrets, their clocks, their lists, or one of
them."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from kit.client import at_once
from kit.content import MIB, digest_of, noise
from kit.processes import bound, run, wait_until
from kit.replica_signature import new_secret, write_secrets
from kit.release import release_build
from kit.replicas import Cluster, addresses, ranking

TIMEOUTS = {}  # bytes of the upstream are counted (conftest.py)

BLOB = noise(6 * MIB)
DIGEST = digest_of(BLOB)
PATH = f"/v2/org/app/blobs/{DIGEST}"
TAG = "fake.test/org/app:1"


@pytest.fixture
def image(upstream, repository):
    return upstream.image("org/app", [BLOB], tag="1")


def pull_everything(replicas, image, clients=2):
    """Every way of asking succeeds at each of them, with right bytes."""
    def all_of(replica):
        blob = replica.get(PATH, timeout=120)
        part = replica.get(PATH, {"Range": "bytes=1000-1999"}, timeout=120)
        return (blob.status, digest_of(blob.body), part.status, part.body == BLOB[1000:2000],
                replica.head(PATH)["Content-Length"], digest_of(replica.manifest("org/app", "1").body),
                digest_of(replica.manifest("org/app", image).body),
                replica.get("/v2/org/app/tags/list").json()["tags"],
                replica.get(f"/v2/org/app/referrers/{image}").status,
                replica.manifest("org/app", "absent").status)
    got = at_once(*[lambda replica=replica: all_of(replica)
                    for replica in replicas for _ in range(clients)], timeout=150)
    assert got == [(200, DIGEST, 206, True, str(len(BLOB)), image, image, ["1"], 200, 404)] \
        * (len(got))


# ---- secrets

def start_with(make_replica, tmp_path, *secrets):
    """Each replica has the secrets of its place."""
    three = Cluster(make_replica, addresses(3))
    for place, (member, lines) in enumerate(zip(three.members, secrets)):
        file = write_secrets(tmp_path / f"secrets-{place}", *lines)
        three.start(member, replicas={"secret_file": str(file)})
    return three


def test_with_a_secret_each_every_replica_fetches_for_itself(make_replica, tmp_path, upstream, image):
    three = start_with(make_replica, tmp_path, *[[new_secret()] for _ in range(3)])
    pull_everything(three, image)
    assert upstream.blob_bytes() <= 3 * len(BLOB)
    for replica in three:
        assert replica.asks("in", answer="refused") > 0
        assert [one["state"] for one in replica.get("/tarn/v1/replicas").json()["members"]
                if one["state"] == "down"] == []
        replica.logged("a replica refuses what it is asked")


def test_a_replica_with_another_secret_costs_one_more_transfer(make_replica, tmp_path, upstream,
                                                               image):
    good = new_secret()
    three = start_with(make_replica, tmp_path, [good], [good], [new_secret()])
    upstream.fault("/blobs/", bytes_per_second=8 * MIB)
    pull_everything(three, image)
    assert upstream.blob_bytes() <= 2 * len(BLOB)


def test_while_a_secret_is_exchanged_nothing_is_refused(make_replica, tmp_path, upstream, image):
    old, new = new_secret(), new_secret()
    three = start_with(make_replica, tmp_path, [old, new], [new, old], [old, new])
    upstream.fault("/blobs/", bytes_per_second=8 * MIB)
    pull_everything(three, image)
    assert upstream.blob_bytes() == len(BLOB)
    assert [replica.asks("in", answer="refused") for replica in three] == [0, 0, 0]


# ---- lists

def test_a_guest_asks_owners_and_is_asked_by_nobody(make_replica, upstream, image):
    members = addresses(3)
    two = Cluster(make_replica, members[:2])
    for member in two.members:
        two.start(member)
    guest = make_replica(members[2], members[:2])
    upstream.fault("/blobs/", bytes_per_second=8 * MIB)
    pull_everything([*two, guest], image)
    assert upstream.blob_bytes() == len(BLOB)
    assert guest.asks("in") == 0
    assert guest.asks("out") > 0


@pytest.mark.parametrize("kind", ["refuses", "hangs"])
def test_a_member_that_never_was_there_costs_a_moment(make_replica, upstream, image, kind):
    """Whether its machine refuses connections, or accepts them and is silent."""
    members = ranking(addresses(3), DIGEST)
    listener = None
    if kind == "hangs":
        host, _, port = members[0].rpartition(":")
        listener = bound(host, int(port))
        listener.listen(64)
    two = [make_replica(member, members) for member in members[1:]]
    began = time.monotonic()
    pull_everything(two, image)
    assert time.monotonic() - began < 60
    assert upstream.blob_bytes() == len(BLOB)
    if listener:
        listener.close()


# ---- one that dies while documents are asked

@pytest.mark.parametrize("how", ["kill", "freeze"])
def test_a_tag_comes_although_its_owner_dies_while_it_asks(cluster, upstream, image, how):
    owner, *others = cluster.by_rank(TAG)
    held = upstream.fault("/manifests/1$", hold_head=True, times=1, method=None)
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(replica.manifest, "org/app", "1", timeout=60) for replica in others]
        wait_until(lambda: upstream.asked("/manifests/1$"), "upstream to be asked")
        getattr(owner, how)()
        try:
            got = [one.result(60) for one in asked]
        finally:
            held.gate.set()
            if how == "freeze":
                owner.thaw()
    assert [(reply.status, digest_of(reply.body)) for reply in got] == [(200, image)] * 2
    assert len(upstream.asked("/manifests/1$")) <= 3


# ---- leaving

def test_documents_and_heads_are_still_answered_for_replicas_while_one_leaves(make_replica, upstream,
                                                                             image):
    three = Cluster(make_replica, addresses(3))
    for member in three.members:
        three.start(member, grace="60s")
    owner, *others = three.by_rank(DIGEST)
    held = upstream.fault("/blobs/", hold_after=MIB, method="GET")
    with others[0].download(PATH) as follower:
        others[0].wait_place(DIGEST, "replica")
        owner.process.child.send_signal(signal.SIGTERM)
        wait_until(lambda: owner.get("/readyz").status == 503, "the owner to leave")
        for replica in others:
            assert digest_of(replica.manifest("org/app", "1").body) == image
            assert replica.head(PATH)["Content-Length"] == str(len(BLOB))
            assert replica.get("/v2/org/app/tags/list").status == 200
        held.gate.set()
        assert digest_of(follower.read(len(BLOB))) == DIGEST
    assert upstream.blob_bytes() == len(BLOB)
    owner.process.child.wait(60)
    owner.start()


# ---- configurations that differ

@pytest.mark.parametrize("other", [
    {"upstreams": [{"host": "another.test"}]},
    {"upstreams": [{"repositories": ["allowed/**"]}]},
], ids=["without the upstream", "without the repository"])
def test_a_replica_that_may_not_fetch_for_the_others_is_passed_over(make_replica, upstream, image,
                                                                    other):
    """A 404 or 403 of its own is no word of upstream."""
    members = ranking(addresses(3), DIGEST)
    strange = make_replica(members[0], members, **other)
    two = [make_replica(member, members) for member in members[1:]]
    upstream.fault("/blobs/", bytes_per_second=8 * MIB)
    pull_everything(two, image)
    assert upstream.blob_bytes() == len(BLOB)
    assert strange.asks("in", answer="refused") > 0


def test_logins_of_clients_bind_no_replica(make_replica, upstream, image, users):
    members = ranking(addresses(3), DIGEST)
    strict = make_replica(members[0], members, clients={"htpasswd": str(users)})
    two = [make_replica(member, members) for member in members[1:]]
    upstream.fault("/blobs/", bytes_per_second=8 * MIB)
    pull_everything(two, image)
    assert upstream.blob_bytes() == len(BLOB)
    assert strict.get(PATH).status == 401


@pytest.mark.parametrize("small", [0, 2], ids=["owner", "follower"])
def test_a_blob_that_one_replica_cannot_keep_reaches_all(make_replica, upstream, image, small):
    members = ranking(addresses(3), DIGEST)
    three = [make_replica(member, members, **({"max_size": MIB} if place == small else {}))
             for place, member in enumerate(members)]
    upstream.fault("/blobs/", bytes_per_second=8 * MIB)
    pull_everything(three, image)
    for replica in three:
        reply = replica.get(PATH)
        assert (reply.status, digest_of(reply.body)) == (200, DIGEST)


# ---- clocks

SHIFTED_CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int code = real(clock, now);
    if (code == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += atoi(getenv("CLOCK_SHIFT"));
    return code;
}
time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out)
        *out = now.tv_sec;
    return now.tv_sec;
}
"""


@pytest.mark.parametrize("shift, transfers", [(40, 1), (-40, 1), (300, 2), (-300, 2)])
def test_clocks_that_differ_by_more_than_a_minute_cost_a_transfer(make_replica, tmp_path, upstream,
                                                                 image, program, shift, transfers):
    library = tmp_path / "clock.so"
    (tmp_path / "clock.c").write_text(SHIFTED_CLOCK)
    run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "clock.c"])
    members = ranking(addresses(3), DIGEST)
    environment = {"LD_PRELOAD": str(library), "CLOCK_SHIFT": str(shift)}
    three = [make_replica(member, members, program=release_build(program),
                          environment=environment if place == 2 else {})
             for place, member in enumerate(members)]
    upstream.fault("/blobs/", bytes_per_second=8 * MIB)
    pull_everything(three, image)
    assert upstream.blob_bytes() <= transfers * len(BLOB)
    refused = [replica.asks("in", answer="refused") > 0 for replica in three]
    assert refused[:2] == [transfers > 1] * 2
