"""Promise 9: after kill -9 tarn starts at once, serves only verified bytes, loses no whole blob."""

import hashlib
import http.client
import os
import random
import time

import pytest

from kit.client import at_once
from kit.content import KIB, MIB, digest_of, noise
from kit.disk_shim import DiskShim
from kit.power_loss import Replay
from kit.processes import wait_until
from kit.tarn import is_sanitized, serve_that_fails, tarn_command

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
    tarn.settle()
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


# ---- what a crash leaves behind

@pytest.mark.serial
def test_left_overs_go_after_start_without_delaying_it(tarn, upstream, image):
    assert tarn.get(PATH).body == BLOB
    tarn.wait_cached("org/app", DIGEST)
    tarn.stop()
    old = time.time() - 3 * 24 * 3600
    left = [tarn.root / "tmp" / f"0badcafe-{number}" for number in range(3000)]
    for number in range(300):
        name = f"sha256-{number:064x}"
        left += [tarn.root / "partial" / name, tarn.root / "partial" / f"{name}.state"]
    for path in left:
        path.write_bytes(b"left")
        os.utime(path, (old, old))
    started = time.monotonic()
    tarn.start()
    assert "hit" in tarn.get(PATH, method="HEAD").cache_status
    assert time.monotonic() - started < 3
    wait_until(lambda: not any(path.exists() for path in left), "left-overs to go", 60, pause=0.2)
    assert tarn.get(PATH).body == BLOB


@pytest.mark.serial
def test_left_overs_do_not_delay_the_end(tarn):
    """SIGTERM while old partials are being deleted."""
    tarn.stop()
    (tarn.root / "tmp").mkdir(exist_ok=True)
    for number in range(20000):
        (tarn.root / "tmp" / f"0badcafe-{number}").write_bytes(b"")
    tarn.start()
    started = time.monotonic()
    tarn.stop()
    assert time.monotonic() - started < 5


def test_half_a_blob_of_yesterday_is_continued(tarn, upstream, image):
    """A partial is deleted only when it is old."""
    crash_in_mid_blob(tarn, upstream)
    upstream.forget_requests()
    tarn.start()
    assert tarn.get(PATH).body == BLOB
    assert upstream.blob_bytes() < len(BLOB), "the bytes that were here were asked for again"


def verify(tarn, program, *flags):
    """`tarn verify` on this tarn's cache, whether it runs or not."""
    return tarn_command(program, "verify", "--root", str(tarn.root), *flags, home=tarn.directory)


SMALL = [noise(size, f"small {number}") for number, size in enumerate(
    [KIB, 70 * KIB, 300 * KIB, 900 * KIB, 2 * MIB] * 6)]


def pull_until(tarn, moment, chance, seen_as_hit):
    """A client that pulls at random until `moment`, and goes on if a kill ends its request."""
    while time.monotonic() < moment:
        content = chance.choice(SMALL)
        digest = digest_of(content)
        try:
            reply = tarn.blob("org/app", digest)
            tarn.manifest("org/app", "1")
        except (OSError, http.client.HTTPException):
            continue
        if reply.status == 200:
            assert content[:len(reply.body)] == reply.body
            assert not reply.complete or digest_of(reply.body) == digest, (reply, reply.headers)
        if reply.complete and "hit" in reply.cache_status:
            seen_as_hit.add(digest)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_killed_while_blobs_come_and_go(start_tarn, upstream, program, seed):
    """After the kill every blob in place is right, and an earlier hit is one without upstream."""
    upstream.image("org/app", SMALL, tag="1")
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True,
                        "tag_ttl": "0"}], max_size=9 * MIB)
    chance = random.Random(f"killed {seed}")
    for _ in range(3):
        hits = set()
        moment = time.monotonic() + chance.uniform(0.5, 1.8)
        clients = [lambda number=number: pull_until(tarn, moment + 0.2,
                                                    random.Random(f"{seed} {number}"), hits)
                   for number in range(4)]
        at_once(*clients, lambda: (time.sleep(moment - time.monotonic()), tarn.kill()))
        files = files_below(tarn.root / "blobs")
        for path in files:
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
        sound = verify(tarn, program)
        assert sound.returncode == 0, sound
        upstream.refuse()
        tarn.start()
        sound = verify(tarn, program)
        assert sound.returncode == 0, sound
        for content in SMALL:
            digest = digest_of(content)
            if digest in hits and digest.partition(":")[2] in {path.name for path in files}:
                reply = tarn.blob("org/app", digest)
                assert (reply.status, reply.body == content) == (200, True), reply
        upstream.listen_again()
    # What a kill left above the limit is evicted after the start. A small part of the records does
    # not count.
    wait_until(lambda: tarn.metrics()["tarn_store_bytes"] <= 1.01 * 9 * MIB, "the limit to hold")


# ---- bytes that changed on disk

DAMAGES = {"a flipped byte": lambda content: content[:1000] + bytes([content[1000] ^ 1])
           + content[1001:], "truncated": lambda content: content[:len(content) // 2],
           "emptied": lambda content: b"", "longer": lambda content: content + b"x"}


@pytest.mark.parametrize("runs", [True, False], ids=["running", "stopped"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_verify_finds_what_changed_and_a_pull_repairs_it(tarn, upstream, image, program, damage,
                                                         runs):
    assert tarn.get(PATH).body == BLOB
    other = upstream.repository("org/app").add_blob(noise(MIB, "sound"))
    tarn.blob("org/app", other)
    tarn.manifest("org/app", "1")
    tarn.wait_cached("org/app", DIGEST)
    tarn.wait_cached("org/app", other)
    assert verify(tarn, program).returncode == 0
    if not runs:
        tarn.stop()
    path = next(path for path in files_below(tarn.root / "blobs")
                if path.name == DIGEST.partition(":")[2])
    path.write_bytes(DAMAGES[damage](BLOB))
    found = verify(tarn, program)
    assert found.returncode == 1, found
    assert DIGEST in found.stdout
    assert other not in found.stdout
    verify(tarn, program, "--repair")
    assert not path.exists()
    sound = verify(tarn, program)
    assert sound.returncode == 0, sound
    if runs:
        assert tarn.metrics()["tarn_store_bad_blobs_total"] >= 1
    else:
        tarn.start()
    upstream.forget_requests()
    assert tarn.get(PATH).body == BLOB
    tarn.wait_cached("org/app", DIGEST)
    assert upstream.asked(DIGEST, "GET")
    assert not upstream.asked(other)
    assert verify(tarn, program).returncode == 0


@pytest.mark.parametrize("damage", ["truncated", "emptied", "longer"])
def test_a_file_of_another_length_is_noticed_while_it_is_served(tarn, upstream, image, damage):
    assert tarn.get(PATH).body == BLOB
    tarn.wait_cached("org/app", DIGEST)
    path = next(path for path in files_below(tarn.root / "blobs")
                if path.name == DIGEST.partition(":")[2])
    path.write_bytes(DAMAGES[damage](BLOB))
    reply = tarn.get(PATH)
    assert reply.body == BLOB or not reply.complete, "a whole body of wrong bytes"
    wait_until(lambda: tarn.get(PATH).body == BLOB, "the right bytes")
    assert tarn.metrics()["tarn_store_bad_blobs_total"] >= 1


# ---- power loss

@pytest.fixture
def traced(start_tarn, upstream, program, tmp_path):
    """(tarn, shim): the shim records everything that tarn does to its disk."""
    release = os.environ.get("TARN_RELEASE") or program
    if is_sanitized(release):
        pytest.skip("a sanitizer and the library that writes down what is done to the disk both "
                    "want to be first: TARN_RELEASE=PATH names a build without")
    root = tmp_path / "traced"
    shim = DiskShim(tmp_path / "shim", root, trace=True)
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True,
                        "tag_ttl": "0"}], program=release, environment=shim.environment,
                      root=str(root), max_size=12 * MIB)
    return tarn, shim


def test_what_has_its_name_is_synced_and_then_its_folder_is(traced, upstream):
    """write, fdatasync, rename, fsync of the folder: in this order, for blobs and manifests."""
    tarn, shim = traced
    image = upstream.image("org/app", SMALL[:6], tag="1")
    tarn.manifest("org/app", "1")
    for content in SMALL[:6]:
        tarn.blob("org/app", digest_of(content))
        tarn.wait_cached("org/app", digest_of(content))
    names = [digest_of(content) for content in SMALL[:6]] + [image]
    paths = [f"blobs/sha256/{digest[7:9]}/{digest[7:]}" for digest in names]
    wait_until(lambda: all(Replay(shim.trace()).is_durable(path) for path in paths),
               "names to be synced", 5)
    events = shim.trace()
    replay = Replay(events)
    assert replay.renamed >= len(names)
    assert not replay.mistakes
    for path in paths:
        renames = [at for at, event in enumerate(events) if event[0] == "rename"
                   and event[2] == path]
        assert len(renames) == 1, f"{path} was renamed into place {len(renames)} times"
        source = events[renames[0]][1]
        wrote = [at for at, event in enumerate(events) if event == ("write", source)]
        synced = [at for at, event in enumerate(events[:renames[0]]) if event == ("sync", source)]
        folder = os.path.dirname(path)
        after = [at for at, event in enumerate(events) if event == ("sync", folder)
                 and at > renames[0]]
        assert wrote and synced and after, events
        assert wrote[-1] < synced[-1] < renames[0] < after[0]


@pytest.mark.parametrize("seed", range(4))
def test_power_loss_at_any_moment(traced, start_tarn, upstream, program, tmp_path, seed):
    """tarn starts on one of the worst disks that a power loss at a random moment may leave."""
    tarn, shim = traced
    upstream.image("org/app", SMALL, tag="1")
    chance = random.Random(f"power {seed}")
    moment = time.monotonic() + chance.uniform(0.3, 2)
    at_once(*[lambda number=number: pull_until(tarn, moment + 0.1,
                                               random.Random(f"{seed} {number}"), set())
              for number in range(4)],
            lambda: (time.sleep(moment - time.monotonic()), tarn.kill()))
    replay = Replay(shim.trace())
    assert not replay.mistakes
    sure = [content for content in SMALL if replay.is_durable(
        f"blobs/sha256/{digest_of(content)[7:9]}/{digest_of(content)[7:]}")]
    for content in sure:
        assert any(path.name == digest_of(content)[7:] for path in files_below(
            tarn.root / "blobs")), "the trace and the disk do not agree: the test is no good"
    copy = tmp_path / "after"
    replay.lose_power(tarn.root, copy, chance)
    after = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True,
                         "tag_ttl": "0"}], root=str(copy), max_size=64 * MIB)
    sound = verify(after, program)
    assert sound.returncode == 0, sound
    upstream.forget_requests()
    for content in sure:
        assert after.blob("org/app", digest_of(content)).body == content
    assert upstream.blob_bytes() == 0, "what was complete and synced is lost"
    for content in SMALL:
        wait_until(lambda content=content: right(after, content), "the right bytes", 20)
    assert after.manifest("org/app", "1").status == 200


def right(tarn, content):
    reply = tarn.blob("org/app", digest_of(content))
    assert reply.body == content or not reply.complete, "a whole body of wrong bytes"
    return reply.complete
