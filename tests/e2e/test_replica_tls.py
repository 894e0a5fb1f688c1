"""Replicas that speak TLS with each other, and those that cannot."""

import pytest

from kit.authority import Authority
from kit.client import at_once
from kit.content import MIB, digest_of, noise
from kit.replicas import Cluster, addresses
from kit.tarn import self_signed

TIMEOUTS = {}  # bytes of the upstream are counted (conftest.py)

BLOB = noise(4 * MIB)
DIGEST = digest_of(BLOB)
PATH = f"/v2/org/app/blobs/{DIGEST}"


@pytest.fixture
def start(make_replica, tmp_path, repository):
    """Starts three replicas with a certificate for these names; `trust` is their replicas.tls."""
    def begin(names, trust):
        self_signed(tmp_path, names)
        three = Cluster(make_replica, addresses(3))
        for member in three.members:
            three.start(member, tls={"certificate": str(tmp_path / "tls.crt"),
                                     "key": str(tmp_path / "tls.key")},
                        replicas={"tls": trust} if trust else {})
        return three
    return begin


def pull_everywhere(three):
    def pull(replica):
        reply = replica.get(PATH, timeout=120)
        return reply.status, digest_of(reply.body)
    got = at_once(*[lambda replica=replica: pull(replica) for replica in three for _ in range(3)],
                  timeout=150)
    assert got == [(200, DIGEST)] * 9


@pytest.mark.parametrize("names, name", [
    ("DNS:tarn.test", "tarn.test"),
    ("IP:127.0.0.2,IP:127.0.0.3,IP:127.0.0.4", None)], ids=["by name", "by address"])
def test_replicas_speak_tls_with_each_other(start, upstream, tmp_path, names, name):
    upstream.fault("/blobs/", bytes_per_second=8 * MIB)
    three = start(names, {"ca": str(tmp_path / "tls.crt"), **({"name": name} if name else {})})
    pull_everywhere(three)
    assert upstream.blob_bytes() == len(BLOB)
    follower = three.by_rank(DIGEST)[2]
    assert follower.metrics()['tarn_replica_bytes_total{direction="in"}'] == len(BLOB)
    tag = upstream.image("org/app", [BLOB], tag="1")
    for replica in three:
        assert digest_of(replica.manifest("org/app", "1").body) == tag


def another_authority(tmp_path):
    return {"ca": str(Authority(tmp_path, "another").certificate), "name": "tarn.test"}


@pytest.mark.parametrize("trust, reason", [
    (lambda folder: {"ca": str(folder / "tls.crt"), "name": "other.test"}, "is down.*TLS"),
    (another_authority, "is down.*TLS"),
    (lambda folder: {"ca": str(folder / "tls.crt")}, "is down.*TLS"),
    (lambda _: None, "refuses what it is asked.*status 400"),
], ids=["another name", "another authority", "the address", "no TLS"])
def test_without_trust_each_fetches_for_itself(start, upstream, tmp_path, trust, reason):
    three = start("DNS:tarn.test", trust(tmp_path))
    pull_everywhere(three)
    assert upstream.blob_bytes() <= 3 * len(BLOB)
    three.by_rank(DIGEST)[2].logged(f"a replica {reason}")
