"""Promise 9: after kill -9 it starts at once, serves nothing unverified, loses nothing complete."""

import os
import random
import time

import pytest

from kit.content import KIB, MIB, digest_of, noise
from kit.processes import wait_until
from kit.tarn import serve_that_fails

BLOB = noise(24 * MIB)
DIGEST = digest_of(BLOB)
PATH = f"/v2/org/app/blobs/{DIGEST}"


@pytest.fixture
def image(upstream):
    return upstream.image("org/app", [BLOB], tag="1")


def crash_in_mid_blob(tarn, upstream):
    held = upstream.fault("/blobs/", hold_after=3 * MIB)
    with tarn.download(PATH) as download:
        download.read(2 * MIB)
        tarn.kill()
    held.gate.set()
    upstream.heal()
    upstream.wait_idle()


def files_below(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_what_was_complete_survives_kill_9(tarn, upstream, image):
    tarn.manifest("org/app", "1")
    assert tarn.get(PATH).body == BLOB
    tarn.wait_cached("org/app", DIGEST)
    tarn.kill()
    upstream.refuse()
    started = time.monotonic()
    tarn.start()
    assert time.monotonic() - started < 3
    assert tarn.manifest("org/app", "1")["Docker-Content-Digest"] == image
    assert tarn.manifest("org/app", image).status == 200
    hit = tarn.get(PATH)
    assert (hit.body == BLOB, "hit" in hit.cache_status) == (True, True)


def test_what_was_half_here_is_served_right_after_kill_9(tarn, upstream, image):
    crash_in_mid_blob(tarn, upstream)
    tarn.start()
    assert tarn.get(PATH).body == BLOB


def test_a_half_blob_is_no_hit_after_kill_9(tarn, upstream, image):
    crash_in_mid_blob(tarn, upstream)
    upstream.refuse()
    tarn.start()
    reply = tarn.get(PATH, timeout=3, method="HEAD")
    assert reply.status != 200 or "hit" not in reply.cache_status


@pytest.mark.parametrize("damage", ["flip", "truncate", "zeros", "garbage", "append"])
def test_a_partial_that_was_damaged_never_makes_a_wrong_body(tarn, upstream, image, damage):
    crash_in_mid_blob(tarn, upstream)
    files = files_below(tarn.root / "partial")
    assert files, "a flight was under way"
    for path in files:
        content = bytearray(path.read_bytes())
        if damage == "flip":
            for place in range(0, len(content), 10000):
                content[place] ^= 0x55
        elif damage == "truncate":
            content = content[:len(content) // 2]
        elif damage == "zeros":
            content = bytearray(len(content))
        elif damage == "garbage":
            content = bytearray(noise(len(content), 3))
        else:
            content += noise(10 * KIB)
        path.write_bytes(content)
    tarn.start()

    def right():
        reply = tarn.get(PATH, timeout=15)
        assert reply.body == BLOB or not reply.complete, "a whole body of wrong bytes"
        return reply.complete

    wait_until(right, "the right bytes", 20)


@pytest.mark.parametrize("damage", [b"", b"\0" * 100, b"{", b"\xff" * 5000])
def test_records_that_were_damaged_are_asked_for_again(tarn, upstream, image, damage):
    tarn.manifest("org/app", "1")
    tarn.stop()
    for path in files_below(tarn.root / "repositories"):
        path.write_bytes(damage)
    tarn.start()
    reply = tarn.manifest("org/app", "1")
    assert (reply.status, reply["Docker-Content-Digest"]) == (200, image), reply
    assert reply["Content-Type"].startswith("application/vnd.oci.image.manifest")


def test_a_damaged_manifest_is_noticed_and_asked_for_again(tarn, upstream, image):
    content = tarn.manifest("org/app", image).body
    tarn.stop()
    path = next(path for path in files_below(tarn.root / "blobs")
                if path.name == image.partition(":")[2])
    path.chmod(0o600)
    path.write_bytes(content.replace(b"2", b"3"))
    tarn.start()
    reply = tarn.manifest("org/app", image)
    assert (reply.status, reply.body) == (200, content)


def test_killed_again_and_again_at_any_moment(tarn, upstream, image):
    chance = random.Random(9)
    for _ in range(5):
        upstream.fault("/blobs/", bytes_per_second=6 * MIB)
        download = tarn.download(PATH)
        download.read_what_comes(chance.uniform(0.02, 0.8))
        assert download.body == BLOB[:len(download.body)]
        tarn.kill()
        download.close()
        upstream.heal()
        tarn.start()
    assert tarn.get(PATH).body == BLOB


def test_two_tarns_do_not_share_a_root(tarn, program, tmp_path, upstream):
    config = tmp_path / "second.yaml"
    config.write_text(tarn.config_path.read_text().replace(str(tarn.port), "0"))
    refused = serve_that_fails(program, "--config", str(config), home=tmp_path)
    assert refused.returncode == 1
    assert str(tarn.process.pid) in refused.stderr
    assert str(tarn.root) in refused.stderr
    assert tarn.get("/readyz").status == 200


def test_the_lock_of_a_killed_tarn_holds_nobody_up(tarn):
    tarn.kill()
    tarn.start()
    assert tarn.get("/readyz").status == 200


def test_only_its_user_can_write_the_cache(tarn, upstream, image):
    tarn.get(PATH)
    tarn.wait_cached("org/app", DIGEST)
    for path in tarn.root.rglob("*"):
        assert not os.stat(path).st_mode & 0o022, path
