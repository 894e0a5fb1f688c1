"""What upstream does not have, as a replica hears it from the owner."""

import pytest

from kit.content import digest_of, noise
from kit.replicas import Cluster, addresses, ranking

BLOB = noise(1000)
TIMEOUTS = {}
LOAD_BALANCER = {"status": 404, "headers": {"Content-Type": "text/html"}, "body": b"<html>404</html>"}
REGISTRY = {"status": 404, "headers": {"Content-Type": "application/json"},
            "body": b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}'}


@pytest.fixture
def pair(make_replica, upstream):
    """(the owner, the other) of fake.test/org/app:1, and the image; both have stopped to believe it
    at once."""
    image = upstream.image("org/app", [BLOB], tag="1")
    members = ranking(addresses(2), "fake.test/org/app:1")
    two = Cluster(make_replica, members)
    for member in members:
        two.start(member)
    return two[0], two[1], image


def forget(owner):
    """The owner holds the tag no more."""
    path = "/tarn/v1/forget?name=fake.test/org/app"
    assert owner.ask(path, "forget", "POST").status == 200


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_load_balancers_404_through_the_owner_does_not_end_a_tag(pair, upstream, method):
    owner, other, image = pair
    assert digest_of(other.manifest("org/app", "1").body) == image
    other.settle()
    owner.settle()
    forget(owner)
    upstream.fault("/manifests/1$", method=None, **LOAD_BALANCER)
    reply = other.manifest("org/app", "1", method=method)
    assert (reply.status, reply["Docker-Content-Digest"]) == (200, image)
    assert "fwd=stale" in reply.cache_status
    assert owner.manifest("org/app", "1").status == 404  # it has nothing else to say
    upstream.heal()
    assert digest_of(other.manifest("org/app", "1").body) == image


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_registrys_404_through_the_owner_ends_a_tag(pair, upstream, method):
    owner, other, image = pair
    assert digest_of(other.manifest("org/app", "1").body) == image
    other.settle()
    owner.settle()
    forget(owner)
    upstream.fault("/manifests/1$", method=None, **REGISTRY)
    assert other.manifest("org/app", "1", method=method).status == 404
    reply = other.manifest("org/app", "1")
    assert (reply.status, reply.code) == (404, "MANIFEST_UNKNOWN")


@pytest.mark.parametrize("fault, status", [(LOAD_BALANCER, 200), (REGISTRY, 404)])
def test_a_list_ends_only_by_a_registrys_404(make_replica, upstream, fault, status):
    upstream.image("org/app", [BLOB], tag="1")
    members = ranking(addresses(2), "fake.test/org/app tags")
    two = Cluster(make_replica, members)
    for member in members:
        two.start(member)
    assert two[1].get("/v2/org/app/tags/list").json()["tags"] == ["1"]
    two[0].restart()  # lists are in memory alone
    upstream.fault("/tags/list", **fault)
    assert two[1].get("/v2/org/app/tags/list").status == status
