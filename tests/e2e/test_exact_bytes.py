"""Upstream sends each byte of a blob once, whatever ranges clients ask for, and in which order."""

import random
import time

import pytest

from kit.client import at_once
from kit.content import MIB, digest_of, noise

TIMEOUTS = {}  # bytes are counted
BLOB = noise(40 * MIB, seed=7)
SIZE = len(BLOB)
PATH = f"/v2/org/app/blobs/{digest_of(BLOB)}"


def is_range(reply, first, last):
    assert reply.status == 206, reply
    assert reply.body == BLOB[first:last + 1]


def parallel(chances, parts):
    """As containerd 2.4 does: equal parts at once, in any order."""
    step = SIZE // parts + 1
    ranges = [(first, min(first + step, SIZE) - 1) for first in range(0, SIZE, step)]
    chances.shuffle(ranges)
    return ranges


def anywhere(chances, parts):
    """Parts of any length at any place, which overlap."""
    ranges = []
    for _ in range(parts):
        first = chances.randrange(SIZE)
        ranges.append((first, min(SIZE - 1, first + chances.randrange(8 * MIB))))
    return ranges


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("pattern", [parallel, anywhere])
@pytest.mark.parametrize("rate", [None, 12 * MIB])
def test_each_byte_is_sent_once(tarn, upstream, repository, pattern, seed, rate):
    chances = random.Random(seed)
    if rate:
        upstream.fault("/blobs/", bytes_per_second=rate)

    def read(first, last, pause):
        time.sleep(pause)
        is_range(tarn.get(PATH, {"Range": f"bytes={first}-{last}"}, timeout=60), first, last)

    at_once(*[lambda one=one, pause=chances.random() / 2: read(*one, pause)
              for one in pattern(chances, chances.randrange(2, 14))], timeout=90)
    assert tarn.get(PATH, timeout=60).body == BLOB
    assert upstream.blob_bytes() == SIZE


def test_requests_that_wait_for_a_connection_are_not_sent_in_vain(start_tarn, upstream, repository):
    """With few connections to the upstream, planned ranges wait while more readers come."""
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True,
                        "connections": 6, "max_connections": 2}])
    upstream.fault("/blobs/", bytes_per_second=20 * MIB)
    ranges = parallel(random.Random(1), 10)
    replies = at_once(*[lambda one=one: tarn.get(PATH, {"Range": "bytes={}-{}".format(*one)},
                                                 timeout=60) for one in ranges], timeout=90)
    for reply, one in zip(replies, ranges):
        is_range(reply, *one)
    assert tarn.get(PATH, timeout=60).body == BLOB
    assert upstream.blob_bytes() == SIZE
