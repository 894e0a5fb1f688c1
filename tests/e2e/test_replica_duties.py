"""What one of several replicas does for all of them: warming, and cleaning the bucket."""

import itertools
import re
import signal

import pytest

from kit.content import digest_of, noise
from kit.processes import wait_until
from kit.reloadable import Reloadable
from kit.replicas import Cluster, addresses, ranking

TIMEOUTS = {}  # bytes of the upstream are counted (conftest.py)

DAY = 86400
JANITOR = "tarn/tarn/v1/janitor.json"
OLD = b"x" * 1000
OLD_KEY = f"tarn/docker/registry/v2/blobs/sha256/{digest_of(OLD)[7:9]}/{digest_of(OLD)[7:]}/data"


# ---- warming

def images_for(members, upstream):
    """Images of which each member owns two, in such an order that each member's second one comes
    last: who has warmed it has passed all others."""
    owned = {member: [] for member in members}
    for number in itertools.count():
        image = f"org/app-{number}:1"
        owner = ranking(members, f"warm {image}")[0]
        if len(owned[owner]) < 2:
            owned[owner].append(image)
        if all(len(images) == 2 for images in owned.values()):
            break
    for place in (0, 1):
        for images in owned.values():
            name, _, tag = images[place].partition(":")
            upstream.image(name, [noise(50_000, name)], tag=tag)
    return owned, [images[place] for place in (0, 1) for images in owned.values()]


def test_each_image_is_warmed_by_one_replica(cluster, upstream):
    owned, images = images_for(cluster.members, upstream)
    for replica in cluster:
        Reloadable(replica, upstream).write(warm=[{"images": images}])
        replica.process.send_signal(signal.SIGHUP)
    for replica in cluster:
        replica.logged(f"image warmed.*{owned[replica.member][1]}", 60)
    for replica in cluster:
        warmed = [image for image in images
                  if re.search(rf"image warmed.*{image}\b", replica.log())]
        assert sorted(warmed) == sorted(owned[replica.member])
    assert len(upstream.asked("/manifests/1$", method="GET")) == len(images)
    blobs = {digest: len(blob) for repository in upstream.repositories.values()
             for digest, blob in repository.blobs.items()}
    assert upstream.blob_bytes() == sum(blobs.values())


def test_the_image_of_an_owner_that_is_gone_is_warmed_by_the_next(cluster, upstream):
    owned, images = images_for(cluster.members, upstream)
    gone = cluster[0]
    gone.kill()
    others = [replica for replica in cluster if replica is not gone]
    blobs = itertools.count()
    for replica in others:  # each notices when it next asks
        while "a replica is down" not in replica.log():
            blob = noise(1000, f"any {next(blobs)}")
            digest = upstream.repository("org/any").add_blob(blob)
            assert replica.blob("org/any", digest).body == blob
    for replica in others:
        Reloadable(replica, upstream).write(warm=[{"images": images}])
        replica.process.send_signal(signal.SIGHUP)
    for image in owned[gone.member]:
        heir = cluster.replicas[ranking(cluster.members, f"warm {image}")[1]]
        heir.logged(f"image warmed.*{image}", 60)
    gone.start()


# ---- the janitor

@pytest.mark.slow
def test_one_replica_cleans_the_bucket(make_replica, object_store):
    object_store.put(OLD_KEY, OLD, age=40 * DAY)
    three = Cluster(make_replica, addresses(3))
    for member in three.members:
        three.start(member, environment=object_store.environment, bucket=object_store.settings())
    owner, *others = three.by_rank("janitor")
    wait_until(lambda: object_store.get(JANITOR), "the bucket to be cleaned", 90)
    assert object_store.get(OLD_KEY) is None
    owner.logged("bucket cleaned")
    # Each looks whether it is time before it asks itself whether the work is its own.
    wait_until(lambda: object_store.count("head", "janitor.json") >= 3, "all to have looked", 90)
    for replica in three:
        replica.stop(60)
    assert ["bucket cleaned" in replica.log() for replica in others] == [False, False]
    assert object_store.count("put", "janitor.json") == 1
    for replica in three:
        replica.start()
