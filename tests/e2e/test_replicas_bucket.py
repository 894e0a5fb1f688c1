"""Replicas over one bucket: what is complete comes from the bucket, what arrives from who has it."""

import pytest

from kit.client import at_once
from kit.content import MIB, digest_of, noise
from kit.processes import wait_until
from kit.replicas import Cluster, addresses, ranking
from kit.shared_bucket import data_key, layer_key, put_blob, wait_settled, wait_stored

TIMEOUTS = {}  # bytes of the upstream are counted (conftest.py)

BLOB = noise(12 * MIB)
DIGEST = digest_of(BLOB)
PATH = f"/v2/org/app/blobs/{DIGEST}"
WIRE = f"/v2/fake.test/org/app/blobs/{DIGEST}"
REPOSITORY = "fake.test/org/app"


@pytest.fixture
def start(make_replica, object_store):
    """A replica on the bucket."""
    def one(member, peers, **bucket):
        return make_replica(member, peers, environment=object_store.environment,
                            bucket=object_store.settings(**{"patience": "20s", **bucket}))
    return one


@pytest.fixture
def scripted(start, make_scripted_replica, repository):
    """(the scripted owner of the blob, the replica that asks it)"""
    members = ranking(addresses(2), DIGEST)
    return make_scripted_replica(members[0]), start(members[1], members)


@pytest.fixture
def three(start, repository):
    """Three replicas on the bucket, the owner of the blob first."""
    members = ranking(addresses(3), DIGEST)
    cluster = Cluster(start, members)
    for member in members:
        cluster.start(member)
    return list(cluster)


def fetched(_request):
    return 200, {"Content-Type": "application/octet-stream", "Tarn-Answer": "arriving"}, BLOB


def test_a_complete_blob_comes_from_the_bucket(scripted, object_store, upstream):
    owner, tarn = scripted
    put_blob(object_store, BLOB, DIGEST, REPOSITORY)
    reply = tarn.get(PATH)
    assert (reply.status, digest_of(reply.body)) == (200, DIGEST)
    assert "detail=bucket" in reply.cache_status
    assert owner.asked_for(WIRE) == ["arriving"]
    assert upstream.asked() == []


def test_a_blob_that_arrives_at_the_owner_comes_from_there(scripted, object_store, upstream):
    owner, tarn = scripted
    put_blob(object_store, BLOB, DIGEST, REPOSITORY)
    owner.answer(WIRE, fetched, ask="arriving")
    reply = tarn.get(PATH)
    assert (reply.status, digest_of(reply.body)) == (200, DIGEST)
    assert "detail=replica" in reply.cache_status
    assert object_store.count("get", "/blobs/") == 0
    assert upstream.asked() == []


def test_the_owner_is_told_that_the_bucket_lacks_the_blob(scripted, object_store, upstream):
    owner, tarn = scripted
    owner.answer(WIRE, fetched, ask="fetch; bucket=absent")
    assert digest_of(tarn.get(PATH).body) == DIGEST
    assert owner.asked_for(WIRE) == ["arriving", "fetch; bucket=absent"]
    assert upstream.asked() == []
    tarn.wait_cached("org/app", DIGEST)
    wait_settled(tarn)
    assert object_store.get(data_key(DIGEST)) is None  # who got it from upstream uploads it


@pytest.mark.parametrize("fault", [{"status": 500, "code": "InternalError"}, {"status": 403},
                                   {"hold_head": True}])
def test_what_a_bucket_that_fails_lacks_is_not_known(start, make_scripted_replica, repository,
                                                     object_store, upstream, fault):
    members = ranking(addresses(2), DIGEST)
    owner = make_scripted_replica(members[0])
    tarn = start(members[1], members, patience="500ms")
    object_store.fault("get", key="/blobs/", **fault)
    owner.answer(WIRE, fetched, ask="fetch")
    assert digest_of(tarn.get(PATH).body) == DIGEST
    assert owner.asked_for(WIRE) == ["arriving", "fetch"]
    assert upstream.asked() == []


def test_a_herd_costs_upstream_one_blob_and_the_bucket_one_upload(three, object_store, upstream):
    upstream.fault("/blobs/", bytes_per_second=16 * MIB)
    got = at_once(*[lambda replica=replica: digest_of(replica.get(PATH, timeout=120).body)
                    for replica in three for _ in range(4)], timeout=150)
    assert got == [DIGEST] * 12
    assert upstream.blob_bytes() == len(BLOB)
    wait_stored(object_store, data_key(DIGEST), layer_key(REPOSITORY, DIGEST))
    for replica in three:
        wait_settled(replica)
    assert object_store.count("put", data_key(DIGEST)) == 1
    assert digest_of(object_store.get(data_key(DIGEST))) == DIGEST


def test_what_the_owner_holds_and_the_bucket_lost_comes_from_the_owner_and_is_uploaded_again(
        three, object_store, upstream):
    owner, second, _ = three
    assert digest_of(owner.get(PATH).body) == DIGEST
    wait_stored(object_store, data_key(DIGEST))
    wait_settled(owner)
    assert owner.ask(WIRE, "arriving")["Tarn-Answer"] == "no"  # it is to be had from the bucket
    object_store.remove(data_key(DIGEST))
    upstream.forget_requests()
    reply = second.get(PATH)
    assert (reply.status, digest_of(reply.body)) == (200, DIGEST)
    assert "detail=replica" in reply.cache_status
    assert upstream.blob_bytes() == 0
    wait_stored(object_store, data_key(DIGEST))


def test_what_is_owed_to_the_bucket_comes_from_the_owner(three, object_store, upstream):
    owner, second, _ = three
    object_store.fault("put", key=data_key(DIGEST), status=500, code="InternalError")
    assert digest_of(owner.get(PATH).body) == DIGEST
    owner.wait_cached("org/app", DIGEST)
    upstream.forget_requests()
    reply = second.get(PATH)
    assert (reply.status, digest_of(reply.body)) == (200, DIGEST)
    assert "detail=replica" in reply.cache_status
    assert second.asks(ask="arriving", answer="held") == 1
    assert upstream.asked("/blobs/") == []
    object_store.heal()


def test_without_the_bucket_for_a_while_nothing_fails_and_uploads_catch_up(three, object_store,
                                                                          upstream):
    others = [noise(MIB, seed=seed) for seed in range(2, 8)]
    repository = upstream.repository("org/app")
    paths = {f"/v2/org/app/blobs/{repository.add_blob(content)}": digest_of(content)
             for content in others}
    object_store.refuse()
    got = at_once(*[lambda replica=replica, path=path: (replica.get(path, timeout=120).status,
                                                       digest_of(replica.get(path).body))
                    for replica in three for path in paths], timeout=180)
    assert got == [(200, digest) for _ in three for digest in paths.values()]
    assert upstream.blob_bytes() == sum(map(len, others))
    object_store.listen_again()
    wait_stored(object_store, *[data_key(digest) for digest in paths.values()], seconds=90)
