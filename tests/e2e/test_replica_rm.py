"""tarn rm reaches every replica, and names those that it does not reach."""

import time

import pytest

from kit.content import digest_of, noise
from kit.processes import run
from kit.replicas import addresses

BLOB = noise(100_000)
DIGEST = digest_of(BLOB)
TAG = "/v2/fake.test/org/app/manifests/1"


@pytest.fixture
def images(upstream):
    upstream.image("org/app", [BLOB], tag="1")
    upstream.image("org/app", [BLOB, b"more"], tag="2")
    return upstream


def rm(program, tarn, *names):
    return run([program, "rm", "--root", tarn.root, *names], tarn.environment, check=False)


def holds(tarn, program, name):
    listed = run([program, "ls", "--root", tarn.root, name], tarn.environment, check=False)
    return "fake.test/org/app" in listed.stdout


def test_an_image_goes_from_all_replicas(program, images, cluster):
    for replica in cluster:
        for tag in ("1", "2"):
            assert replica.get(f"/v2/fake.test/org/app/manifests/{tag}").status == 200
    assert all(holds(replica, program, "fake.test/org/app:1") for replica in cluster)
    done = rm(program, cluster[0], "fake.test/org/app:1")
    assert (done.returncode, done.stderr) == (0, "")
    for replica in cluster:
        assert not holds(replica, program, "fake.test/org/app:1")
        assert holds(replica, program, "fake.test/org/app:2")


def test_an_image_that_another_replica_has_alone_goes(program, images, cluster):
    assert cluster[1].get(TAG).status == 200
    having = [replica for replica in cluster if holds(replica, program, "fake.test/org/app:1")]
    without = next(replica for replica in cluster if replica not in having)
    done = rm(program, without, "fake.test/org/app:1")
    assert (done.returncode, done.stderr) == (0, "")
    assert not any(holds(replica, program, "fake.test/org/app:1") for replica in cluster)
    again = rm(program, without, "fake.test/org/app:1")
    assert again.returncode == 1
    assert "nothing in the cache is named fake.test/org/app:1" in again.stderr


def test_patterns_reach_the_replicas_too(program, images, cluster):
    for replica in cluster:
        assert replica.get(TAG).status == 200
    assert rm(program, cluster[2], "fake.test/org/**").returncode == 0
    assert not any(holds(replica, program, "fake.test/org/app") for replica in cluster)


def test_each_replica_that_is_not_reached_is_named(program, images, make_replica):
    members = addresses(4)
    here, there = (make_replica(member, members) for member in members[:2])
    for replica in (here, there):
        assert replica.get(TAG).status == 200
    done = rm(program, here, "fake.test/org/app:1", "fake.test/org/app:1")
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if "was not reached" in line]
    assert len(lines) == 2
    for line, member in zip(lines, sorted(members[2:])):
        assert [each for each in members if each in line] == [member]
    assert not holds(there, program, "fake.test/org/app:1")


def test_a_replica_that_is_frozen_is_named_soon(program, images, cluster):
    """It accepts the connection, and answers neither the order nor its /livez."""
    assert cluster[0].get(TAG).status == 200
    cluster[1].freeze()
    try:
        began = time.monotonic()
        done = rm(program, cluster[0], "fake.test/org/app:1", "fake.test/org/app:2")
        seconds = time.monotonic() - began
    finally:
        cluster[1].thaw()
    assert done.returncode == 1
    named = [line for line in done.stderr.splitlines() if "was not reached" in line]
    assert len(named) == 1 and cluster.members[1] in named[0]
    assert seconds < 15


def test_a_replica_with_another_secret_is_named(program, images, make_replica, tmp_path):
    members = addresses(2)
    other = tmp_path / "other"
    other.write_text("x" * 40)
    other.chmod(0o600)
    here = make_replica(members[0], members)
    make_replica(members[1], members, replicas={"secret_file": str(other)})
    assert here.get(TAG).status == 200
    done = rm(program, here, "fake.test/org/app:1")
    assert done.returncode == 1
    assert members[1] in done.stderr and "401" in done.stderr
    assert members[0] not in done.stderr
