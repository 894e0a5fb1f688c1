"""SIGHUP and tarn reload: another configuration without a dropped connection, transfer or request."""

import hashlib
import json
import re
import signal

import pytest

from kit.client import at_once, fetch
from kit.content import KIB, MIB, digest_of, noise
from kit.processes import wait_until
from kit.reloadable import Load, Reloadable, entry
from kit.tarn import Tarn, tarn_command

BLOB = noise(6 * MIB)
TIMEOUTS = {}  # of start_tarn: the upstreams of a file are then those of entry()
PATHS = ["/v2/org/app/manifests/1", f"/v2/org/app/blobs/{digest_of(BLOB[:KIB])}", "/v2/"]


@pytest.fixture
def running(start_tarn, upstream):
    upstream.image("org/app", [noise(KIB)], tag="1")
    upstream.repository("org/app").add_blob(BLOB)
    return Reloadable(start_tarn([entry(upstream, default=True)]), upstream)


# ---- what is taken


@pytest.mark.parametrize("by_signal", [False, True])
def test_upstreams_are_added_changed_and_removed(running, make_upstream, by_signal):
    tarn, other = running.tarn, make_upstream()
    other.image("org/new", [noise(KIB)], tag="1")
    by_name = f"{tarn.url}/v2/org/new/manifests/1?ns=other.test"
    assert fetch(by_name).status == 404

    def take(upstreams):
        running.write(upstreams=upstreams)
        if by_signal:
            running.hang_up()
        else:
            running.reload()

    take([entry(running.upstream, default=True), entry(other, "other.test")])
    assert fetch(by_name).status == 200
    assert fetch(f"{tarn.url}/v2/other.test/org/new/manifests/1").status == 200
    assert tarn.manifest("org/app", "1").status == 200
    other.image("org/moved", [noise(KIB)], tag="1")
    take([entry(other, default=True), entry(other, "other.test")])  # another URL
    assert tarn.manifest("org/moved", "1").status == 200
    take([entry(other, default=True, repositories=["org/moved"])])
    gone = fetch(by_name)
    assert (gone.status, gone.code) == (404, "NAME_UNKNOWN")
    assert tarn.manifest("org/app", "1").status == 403
    assert tarn.manifest("org/moved", "1").status == 200


def test_a_changed_ttl_holds_from_then_on(running):
    tarn, upstream = running.tarn, running.upstream
    running.reload(upstreams=[entry(upstream, default=True, tag_ttl="1h")])
    assert tarn.manifest("org/app", "1").status == 200
    upstream.forget_requests()
    assert "hit" in tarn.manifest("org/app", "1").cache_status
    assert not upstream.asked("/manifests/1")
    running.reload(upstreams=[entry(upstream, default=True, tag_ttl="0")])
    upstream.image("org/app", [noise(2 * KIB)], tag="2")
    tarn.manifest("org/app", "2")
    upstream.forget_requests()
    tarn.manifest("org/app", "2")
    assert upstream.asked("/manifests/2")


def test_changed_credentials_are_used(running, tmp_path):
    tarn, upstream = running.tarn, running.upstream
    password = tmp_path / "password"
    password.write_text("secret")
    running.reload(upstreams=[entry(upstream, default=True, tag_ttl="0", credentials={
        "username": "robot", "password_file": str(password)})])
    # the scripted registry asks for no login, so what tarn would send is seen from the page
    assert "static" in tarn.get("/").body.decode()


def test_rules_are_taken_as_a_whole(running):
    tarn, upstream = running.tarn, running.upstream
    upstream.image("org/other", [noise(KIB)], tag="1")
    assert tarn.manifest("org/other", "1").status == 200
    running.reload(clients={"rules": [{"anonymous": True, "repositories": ["org/app"]}]})
    assert tarn.manifest("org/app", "1").status == 200
    assert tarn.manifest("org/other", "1").status == 403
    running.reload(clients={"rules": [{"anonymous": True, "repositories": ["org/other"]}]})
    assert tarn.manifest("org/app", "1").status == 403
    assert tarn.manifest("org/other", "1").status == 200
    running.reload(clients=None)
    assert tarn.manifest("org/app", "1").status == 200


def test_the_level_and_the_format_of_the_log_change(running):
    tarn = running.tarn
    running.reload(log={"level": "info", "format": "json"})
    tarn.get("/livez")
    tarn.manifest("org/app", "1")
    tarn.logged(r'"repository": ?"org/app"')
    line = next(line for line in tarn.log().splitlines() if '"org/app"' in line)
    assert json.loads(line)
    assert '"/livez"' not in tarn.log().split("the configuration was reloaded")[-1]
    running.reload(log={"level": "debug", "format": "text"})
    tarn.manifest("org/app", "1")
    wait_until(lambda: re.search(r"repository=org/app", tarn.log().rpartition("reloaded")[2]),
               "a line of text")


def test_limits_change(running):
    tarn = running.tarn
    running.reload(max_size="64MiB", limits={"per_client": {"requests": "10%"}}, max_connections=77,
                   head_timeout="3s", grace="1s", negative_ttl="1ms", server_names=["new.example"])
    assert tarn.metrics()["tarn_store_limit_bytes"] == 64 << 20
    assert tarn.get("/livez", {"Host": "new.example"}).status == 200
    assert tarn.get("/livez", {"Host": "tarn"}).status == 421
    running.reload(max_size="1GiB", server_names=["tarn"])
    assert tarn.metrics()["tarn_store_limit_bytes"] == 1 << 30
    assert tarn.get("/livez", {"Host": "new.example"}).status == 421


def test_a_smaller_cache_evicts_at_once(running):
    tarn, upstream = running.tarn, running.upstream
    blobs = [noise(MIB, seed) for seed in range(8)]
    for content in blobs:
        upstream.repository("org/app").add_blob(content)
        assert tarn.blob("org/app", digest_of(content)).status == 200
        tarn.wait_cached("org/app", digest_of(content))
    running.reload(max_size="4MiB")
    wait_until(lambda: tarn.metrics()["tarn_store_bytes"] <= 1.01 * (4 << 20), "the eviction")


def test_a_schedule_is_taken(running):
    tarn, upstream = running.tarn, running.upstream
    upstream.image("org/warm", [noise(KIB)], tag="1")
    running.reload(warm=[{"images": ["fake.test/org/warm:1"]}])
    tarn.logged("image warmed.*org/warm")
    upstream.forget_requests()
    running.reload(log={"level": "info", "format": "text"})  # the same schedule is not due again
    running.reload(warm=None)
    assert not upstream.asked("org/warm")


def test_an_unchanged_upstream_stays_what_it_is(running, make_upstream):
    tarn, upstream = running.tarn, running.upstream
    running.reload(upstreams=[entry(upstream, default=True), entry(make_upstream(), "other.test")])
    tarn.logged("upstreams_added=1 upstreams_removed=0")


# ---- what goes on meanwhile


def test_a_download_and_its_flight_survive_the_end_of_their_upstream(running, make_upstream):
    tarn, upstream = running.tarn, running.upstream
    upstream.fault("/blobs/", bytes_per_second=1 * MIB)
    with tarn.download(f"/v2/org/app/blobs/{digest_of(BLOB)}", timeout=60) as download:
        first = download.read(64 * KIB)
        running.reload(upstreams=[entry(make_upstream(), "other.test", default=True)])
        assert fetch(f"{tarn.url}/v2/fake.test/org/app/manifests/1").status == 404
        rest = download.read(len(BLOB) - len(first))
    assert hashlib.sha256(first + rest).hexdigest() == hashlib.sha256(BLOB).hexdigest()
    # the blob was kept, and is served once the upstream is back
    running.reload(upstreams=[entry(upstream, default=True)])
    upstream.forget_requests()
    assert "hit" in tarn.blob("org/app", digest_of(BLOB)).cache_status


@pytest.mark.slow
def test_a_hundred_reloads_under_load_fail_no_request_and_leave_no_memory(running):
    tarn, upstream = running.tarn, running.upstream
    upstream.repository("org/app").add_blob(BLOB[:KIB])

    def turn(number):
        return [entry(upstream, default=True, tag_ttl=f"{number + 1}ms"),
                *({**entry(upstream, f"h{number}-{i}.test"), "url": f"http://127.0.0.1:{1 + i}"}
                  for i in range(20))]

    with Load(tarn, PATHS) as load:
        for number in range(20):
            running.reload(upstreams=turn(number))
        before = tarn.figures()
        for number in range(20, 120):
            running.reload(upstreams=turn(number))
        served = load.count
        wait_until(lambda: load.count > served + 10, "further answers")
    assert load.failed == []
    # threads rest for some seconds after their work, and connections are closed behind an answer
    wait_until(lambda: tarn.figures()["threads"] <= before["threads"] + 3, "threads to end")
    wait_until(lambda: tarn.figures()["descriptors"] <= before["descriptors"] + 10,
               "descriptors to be closed")
    after = tarn.figures()
    assert tarn.log().count("the configuration was reloaded") == 120
    # a sanitizer keeps freed memory; the metrics of 2,000 more names stay (some 200 KiB a reload)
    if "asan" not in tarn.program and "tsan" not in tarn.program:
        assert after["resident"] <= before["resident"] + 40 * MIB


@pytest.mark.slow
def test_a_thousand_upstreams_are_taken_under_load(running):
    tarn, upstream = running.tarn, running.upstream
    upstream.repository("org/app").add_blob(BLOB[:KIB])
    many = [entry(upstream, default=True), *(entry(upstream, f"h{i}.test") for i in range(999))]
    with Load(tarn, PATHS) as load:
        running.reload(upstreams=many)
        assert fetch(f"{tarn.url}/v2/h998.test/org/app/manifests/1").status == 200
        many[500] = entry(upstream, "h499.test", tag_ttl="2s")
        running.reload(upstreams=many)
        tarn.logged("upstreams_added=1 upstreams_removed=1")
        running.reload(upstreams=many[:1])
    assert load.failed == []
    assert fetch(f"{tarn.url}/v2/h998.test/org/app/manifests/1").status == 404


def test_two_reloads_at_once_are_both_taken(running):
    """One after the other: the one that comes last stays."""
    done = at_once(*[running.command for _ in range(4)])
    assert [each.returncode for each in done] == [0] * 4
    assert running.tarn.manifest("org/app", "1").status == 200


def test_many_signals_are_no_more_work_than_needed(running):
    for _ in range(50):
        running.tarn.process.send_signal(signal.SIGHUP)
    running.hang_up()
    assert running.tarn.manifest("org/app", "1").status == 200


def test_a_reload_while_tarn_stops_neither_hangs_nor_breaks_the_stop(running):
    tarn = running.tarn
    running.upstream.fault("/blobs/", bytes_per_second=2 * MIB)
    with tarn.download(f"/v2/org/app/blobs/{digest_of(BLOB)}", timeout=60) as download:
        download.read(KIB)
        tarn.process.send_signal(signal.SIGTERM)
        tarn.logged("stopping")
        tarn.process.send_signal(signal.SIGHUP)
        done = running.command()
        assert done.returncode == 1
        assert done.stderr
    wait_until(lambda: not tarn.process.runs(), "the end", 20)
    assert tarn.process.child.returncode == 0
    tarn.check_log()
    tarn.start()


# ---- what is refused


def test_a_mistake_is_refused_as_a_whole_with_the_text_of_check_config(running):
    tarn = running.tarn
    reasons = running.refused(log={"level": "loud", "format": "text"}, server_names=["new.example"],
                              upstreams=[entry(running.upstream, tag_ttl="soon")])
    checked = tarn_command(tarn.program, "check-config", str(tarn.config_path), home=tarn.directory)
    assert reasons == checked.stderr
    assert re.match(re.escape(str(tarn.config_path)) + r":\d+: upstreams\[0\]\.tag_ttl: ",
                    reasons) or "log.level" in reasons.splitlines()[0]
    assert tarn.get("/livez", {"Host": "new.example"}).status == 421
    assert tarn.manifest("org/app", "1").status == 200


def test_a_signal_with_a_mistake_leaves_the_lines_in_the_log(running):
    running.write(max_size="much")
    running.hang_up()
    assert re.search(r"was not reloaded.*tarn\.yaml:\d+: max_size: ", running.tarn.log())
    assert running.tarn.manifest("org/app", "1").status == 200


@pytest.mark.parametrize("by_signal", [False, True])
def test_another_root_needs_a_restart(running, tmp_path, by_signal):
    tarn = running.tarn
    before = tarn.settings["root"]
    running.write(root=str(tmp_path / "elsewhere"), max_size="64MiB")
    if by_signal:
        running.hang_up()
        said = tarn.log()
    else:
        done = running.command("--root", before)
        assert done.returncode == 1
        said = done.stderr
    assert re.search(r"tarn\.yaml:\d+: root: .*restart", said)
    assert tarn.metrics().get("tarn_store_limit_bytes") != 64 << 20
    # without --root the command looks where the file says; there is no tarn, and why is said, too
    done = running.command()
    assert done.returncode == 1
    assert "root" in done.stderr and "restart" in done.stderr
    running.write(root=before)


def test_a_file_that_is_gone_is_named(running):
    tarn = running.tarn
    tarn.config_path.rename(tarn.config_path.with_suffix(".away"))
    done = running.command("--root", str(tarn.root))
    assert done.returncode == 1
    assert str(tarn.config_path) in done.stderr and "No such file" in done.stderr
    running.hang_up()
    assert re.search("was not reloaded.*No such file", tarn.log())
    tarn.config_path.with_suffix(".away").rename(tarn.config_path)
    assert tarn.manifest("org/app", "1").status == 200
    running.reload()


def test_a_key_given_twice_is_refused(running):
    path = running.tarn.config_path
    path.write_text(path.read_text() + "max_size: 1GiB\nmax_size: 2GiB\n")
    done = running.command("--root", str(running.tarn.root))
    assert done.returncode == 1
    assert re.search(r":\d+: max_size: appears twice", done.stderr)


def test_flags_and_variables_still_override_the_file(program, tmp_path, upstream):
    upstream.image("org/app", [noise(KIB)], tag="1")
    tarn = Tarn(program, tmp_path / "tarn", {"upstreams": [entry(upstream, default=True)]},
                environment={"TARN_MAX_SIZE": "100MiB"}, flags=["--log-level", "debug"])
    try:
        running = Reloadable(tarn, upstream)
        running.reload(max_size="50MiB", log={"level": "error", "format": "text"})
        assert tarn.metrics()["tarn_store_limit_bytes"] == 100 << 20
        tarn.get("/livez")
        wait_until(lambda: "/livez" in tarn.log().rpartition("reloaded")[2]
                   or "live" in tarn.log().rpartition("reloaded")[2], "a line of level debug")
    finally:
        tarn.finish()


def test_without_a_running_tarn_it_says_so(program, tmp_path):
    done = tarn_command(program, "reload", "--root", str(tmp_path), home=tmp_path)
    assert done.returncode == 1
    assert "no tarn runs" in done.stderr and str(tmp_path) in done.stderr


@pytest.mark.parametrize("arguments", [["extra"], ["--unknown"], ["--config"]])
def test_bad_usage_is_exit_2(program, tmp_path, arguments):
    assert tarn_command(program, "reload", *arguments, home=tmp_path).returncode == 2
