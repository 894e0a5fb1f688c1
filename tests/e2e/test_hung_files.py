"""
Files on a file system that hangs or fails, as that of a network server that has gone: passwords,
keys of tokens, certificates, credentials, the configuration and the cache itself. What hangs there
holds nothing but what needs it, and a configuration that names it no longer is taken.
"""

import http.client
import os
import re
import shutil
import signal
import ssl
import time

import pytest

from kit.authority import Authority
from kit.content import KIB, MIB, digest_of, noise
from kit.fuse_disk import fuse_disk_or_skip
from kit.htpasswd import write_htpasswd
from kit.issuer import Issuer
from kit.processes import Program, free_port, wait_until
from kit.replica_signature import new_secret, signed, write_secrets
from kit.reloadable import Reloadable, entry
from kit.tarn import TlsTarn, bare_environment, self_signed
from kit.tokens import basic
from kit.yaml_text import yaml_text

LAYER = noise(8 * KIB)
DIGEST = digest_of(LAYER)
ALICE = {"Authorization": basic("alice", "secret")}
# The time in which a file system counts as hung (5 s), and some for a slow machine.
SOON = 15
# So long after SIGTERM tarn has ended (the grace of these tests is 2 s, and one more).
ENDS = 3 + 7

# LeakSanitizer waits at the end for every thread, also for one that hangs.
NO_LEAK_CHECK = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}


@pytest.fixture
def disk(tmp_path, start_tarn):  # it answers again before a tarn is ended
    disk = fuse_disk_or_skip(tmp_path / "fuse")
    yield disk
    disk.end()


@pytest.fixture
def image(upstream):
    upstream.image("org/app", [LAYER], tag="1")
    upstream.image("org/cold", [noise(KIB, "cold")], tag="1")
    return upstream


@pytest.fixture
def start(start_tarn, image):
    """Starts a tarn whose cache has org/app."""

    def start_it(headers=None, **settings):
        tarn = start_tarn([entry(image, default=True, tag_ttl="1h")],
                          environment=NO_LEAK_CHECK, **settings)
        fill(tarn, headers)
        return tarn

    return start_it


def fill(tarn, headers=None):
    assert tarn.get("/v2/org/app/manifests/1", headers).status == 200
    for _ in range(3):
        assert tarn.get(f"/v2/org/app/blobs/{DIGEST}", headers).body == LAYER
    wait_until(lambda: "hit" in tarn.get(f"/v2/org/app/blobs/{DIGEST}", headers).cache_status,
               "the layer to be cached")
    assert "hit" in tarn.get(f"/v2/org/app/blobs/{DIGEST}", headers).cache_status
    tarn.wait_for_workers()  # now it is in memory


def check_hits(tarn, headers=None):
    for path in ("/livez", "/metrics"):
        assert tarn.get(path, timeout=10).status == 200, path
    for path in ("manifests/1", f"blobs/{DIGEST}"):
        assert tarn.get(f"/v2/org/app/{path}", headers, timeout=10).status == 200, path


def has_exited(process):
    """Whether the program has exited. The kernel keeps its process as a zombie as long as a thread
    waits for FUSE, and nothing can end that wait."""
    try:
        with open(f"/proc/{process.pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z" or not process.runs()
    except FileNotFoundError:
        return True


def terminate(tarn, disk):
    """SIGTERM; fails if tarn does not end in time."""
    began = time.monotonic()
    tarn.process.send_signal(signal.SIGTERM)
    wait_until(lambda: has_exited(tarn.process), "tarn to end", 60)
    assert time.monotonic() - began < ENDS
    disk.mend()
    tarn.kill()
    tarn.check_log()


def hung(key):
    """What is logged of a file that hangs; a long path is shortened."""
    return rf"{key}: [^\n]*cannot be read: its file system has not answered for \d+ s"


RELOADED = "the configuration was reloaded"


def reload_by_signal(tarn, pattern, seconds=SOON):
    """SIGHUP; waits for a line of the log that was not there before."""
    known = len(tarn.log())
    tarn.process.send_signal(signal.SIGHUP)
    wait_until(lambda: re.search(pattern, tarn.log()[known:]), f"a line like {pattern}", seconds)


def reload_after_mending(tarn):
    """Who comes in the moment in which the file system answers again may still be told that it
    hangs."""
    known = len(tarn.log())

    def is_taken():
        tarn.process.send_signal(signal.SIGHUP)
        return RELOADED in tarn.log()[known:]
    wait_until(is_taken, "the reload", SOON, pause=0.2)


# ---- logins

KEYS = {"htpasswd": "clients.htpasswd", "jwks": "clients.token.jwks"}


def login_files(disk, kind):
    """(settings of clients, the fields of a login) of a login whose file is on the disk."""
    if kind == "htpasswd":
        write_htpasswd(disk.folder / "users", "alice")
        return {"htpasswd": str(disk.mount / "users")}, ALICE
    issuer = Issuer(disk.folder)
    settings = {**issuer.settings, "jwks": str(disk.mount / "jwks.json")}
    return {"token": settings}, issuer.bearer("org/app", "org/cold")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["htpasswd", "jwks"])
def test_a_file_of_logins_that_hangs_stops_neither_requests_nor_reloads(disk, start, image, kind):
    clients, headers = login_files(disk, kind)
    tarn = start(headers, clients=clients)
    reloadable = Reloadable(tarn, image)
    disk.hang()
    for _ in range(3):
        check_hits(tarn, headers)
    assert tarn.get("/v2/org/cold/manifests/1", headers, timeout=10).status == 200
    assert tarn.get("/v2/org/app/manifests/1", timeout=10).status == 401
    reload_by_signal(tarn, hung(KEYS[kind]))
    reload_by_signal(tarn, hung(KEYS[kind]), 5)  # whoever comes later does not wait again
    check_hits(tarn, headers)
    # A configuration without the file is taken, though others still hang.
    reloadable.write(clients=None)
    reload_by_signal(tarn, RELOADED, 5)
    check_hits(tarn)
    disk.mend()
    reloadable.write(clients=clients)
    reload_after_mending(tarn)
    assert tarn.get("/v2/org/app/manifests/1").status == 401
    check_hits(tarn, headers)


@pytest.mark.slow
def test_a_file_of_logins_that_fails_leaves_the_passwords_in_use(disk, start):
    clients, headers = login_files(disk, "htpasswd")
    tarn = start(headers, clients=clients)
    disk.fail()
    for _ in range(3):
        check_hits(tarn, headers)
    reload_by_signal(tarn, "clients.htpasswd: [^\n]*Input/output error")
    check_hits(tarn, headers)
    disk.mend()
    reload_after_mending(tarn)


@pytest.mark.slow
def test_tarn_does_not_start_with_logins_that_hang_and_says_why(disk, program, tmp_path):
    clients, _ = login_files(disk, "htpasswd")
    disk.hang()
    config = tmp_path / "hung.yaml"
    config.write_text(yaml_text({"root": str(tmp_path / "root"), "clients": clients}))
    tarn = Program([program, "serve", "--config", config], tmp_path / "said",
                   bare_environment(tmp_path, **NO_LEAK_CHECK))
    wait_until(lambda: has_exited(tarn), "the refusal", 60)
    said = tarn.log()
    disk.mend()
    tarn.child.wait()
    assert tarn.child.returncode == 1
    assert re.search(hung("clients.htpasswd"), said), said


@pytest.mark.slow
def test_tarn_ends_in_time_while_its_files_hang(disk, start):
    clients, headers = login_files(disk, "htpasswd")
    tarn = start(headers, clients=clients)
    disk.hang()
    reload_by_signal(tarn, "its file system has not answered")
    check_hits(tarn, headers)
    terminate(tarn, disk)


# ---- TLS

@pytest.fixture
def secure(disk, program, image, tmp_path):
    """A tarn whose certificate, key and authorities of clients are on the disk."""
    self_signed(disk.folder)
    authority = Authority(disk.folder, "clients")
    files = {"certificate": str(disk.mount / "tls.crt"), "key": str(disk.mount / "tls.key")}
    tarn = TlsTarn(program, tmp_path / "tarn", {
        "upstreams": [entry(image, default=True, tag_ttl="1h")], "tls": files,
        "clients": {"ca": str(disk.mount / "clients.pem")}}, NO_LEAK_CHECK)
    tarn.pair = authority.issue("/CN=alice")
    yield tarn
    disk.mend()
    tarn.finish()


def ask_securely(tarn, path="/v2/org/app/manifests/1"):
    context = ssl._create_unverified_context()
    context.load_cert_chain(*map(str, tarn.pair))
    connection = http.client.HTTPSConnection("127.0.0.1", tarn.port, timeout=10, context=context)
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


@pytest.mark.slow
def test_certificates_that_hang_stop_neither_handshakes_nor_reloads_nor_the_end(
        disk, secure, image, tmp_path):
    for _ in range(3):
        assert ask_securely(secure) == 200
    reloadable = Reloadable(secure, image)
    disk.hang()
    for _ in range(5):
        assert ask_securely(secure) == 200
    reload_by_signal(secure, hung("tls.key"), 60)
    assert ask_securely(secure) == 200
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(disk.folder, elsewhere)
    reloadable.write(tls={"certificate": str(elsewhere / "tls.crt"),
                          "key": str(elsewhere / "tls.key")},
                     clients={"ca": str(elsewhere / "clients.pem")})
    reload_by_signal(secure, RELOADED)
    assert ask_securely(secure) == 200
    reloadable.write(tls={"certificate": str(disk.mount / "tls.crt"),
                          "key": str(disk.mount / "tls.key")})
    reload_by_signal(secure, hung("tls.key"), 60)
    terminate(secure, disk)


@pytest.mark.slow
def test_a_certificate_that_was_renewed_while_it_hung_is_taken_when_it_answers(disk, secure):
    assert ask_securely(secure) == 200
    disk.hang()
    time.sleep(2.5)  # so that looks hang
    assert ask_securely(secure) == 200
    before = certificate_of(secure)
    self_signed(disk.folder)
    disk.mend()
    wait_until(lambda: certificate_of(secure) != before, "the new certificate")
    assert ask_securely(secure) == 200


def certificate_of(tarn):
    return ssl.get_server_certificate(("127.0.0.1", tarn.port))


# ---- what upstreams need

@pytest.mark.slow
@pytest.mark.parametrize("where", ["ca", "password_file", "docker_config"])
def test_an_upstreams_file_that_hangs_holds_up_nobody_else(disk, start_tarn, image, make_upstream,
                                                           authority, where):
    other = make_upstream()
    other.basic = ("alice", "secret")
    other.image("org/cold", [noise(KIB, "other")], tag="1")
    (disk.folder / "password").write_text("secret")
    (disk.folder / "config.json").write_text('{"auths": {}}')
    shutil.copy(authority[0], disk.folder / "ca.pem")
    more = {"ca": {"url": "https://127.0.0.1:1", "ca": str(disk.mount / "ca.pem")},
            "password_file": {"credentials": {"username": "alice", "password_file":
                                              str(disk.mount / "password")}},
            "docker_config": {"credentials": {"docker": {"file": str(disk.mount / "config.json")}}},
            }[where]
    tarn = start_tarn([entry(image, default=True, tag_ttl="1h"),
                       {**entry(other, "hung.test"), **more}], environment=NO_LEAK_CHECK)
    fill(tarn)
    disk.hang()
    began = time.monotonic()
    answer = tarn.get("/v2/hung.test/org/cold/manifests/1", timeout=40)
    assert answer.status in (502, 503, 504) and time.monotonic() - began < 27
    assert str(disk.mount) not in answer.body.decode()  # clients get no path of this machine
    check_hits(tarn)
    assert tarn.get("/v2/org/cold/manifests/1", timeout=10).status == 200
    reload_by_signal(tarn, hung({"ca": "ca", "password_file": "password_file",
                                 "docker_config": "file"}[where]))
    terminate(tarn, disk)


@pytest.mark.slow
def test_the_systems_certificates_that_hang_hold_up_no_upstream_that_has_its_own(
        disk, start_tarn, image, make_upstream, authority, tmp_path):
    """What was read of them before stays in use."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority)
    first, own = (make_upstream(tls=context) for _ in range(2))
    for each in (first, own):
        each.image("org/app", [LAYER], tag="1")
        each.image("org/cold", [noise(KIB, "cold")], tag="1")
    shutil.copy(authority[0], disk.folder / "ca.pem")
    shutil.copy(authority[0], tmp_path / "own.pem")
    tarn = start_tarn([entry(image, default=True, tag_ttl="1h"), entry(first, "first.test"),
                       entry(own, "own.test", ca=str(tmp_path / "own.pem"))],
                      environment={**NO_LEAK_CHECK, "SSL_CERT_FILE": str(disk.mount / "ca.pem")})
    fill(tarn)
    assert tarn.get("/v2/first.test/org/app/manifests/1").status == 200
    disk.hang()
    assert tarn.get("/v2/own.test/org/cold/manifests/1", timeout=10).status == 200
    assert tarn.get("/v2/first.test/org/cold/manifests/1", timeout=20).status == 200
    check_hits(tarn)
    terminate(tarn, disk)


# ---- the configuration

@pytest.mark.slow
def test_a_configuration_that_hangs_is_not_taken(disk, start, image):
    tarn = start()
    shutil.copy(tarn.config_path, disk.folder / "tarn.yaml")
    tarn.config_path.unlink()
    os.symlink(disk.mount / "tarn.yaml", tarn.config_path)
    reload_by_signal(tarn, RELOADED)
    disk.hang()
    reload_by_signal(tarn, "its file system has not answered for 5 s")
    check_hits(tarn)
    disk.mend()
    reload_after_mending(tarn)


# ---- replicas

def replicas_of(disk, port, secret):
    write_secrets(disk.folder / "secrets", secret)
    return {"peers": [f"127.0.0.1:{port}"], "secret_file": str(disk.mount / "secrets")}


@pytest.mark.slow
def test_a_file_of_secrets_that_hangs_stops_neither_requests_nor_reloads_nor_the_end(
        disk, start, image):
    port, secret, path = free_port(), new_secret(), "/v2/fake.test/org/app/manifests/1"
    tarn = start(listen=[f"127.0.0.1:{port}"], replicas=replicas_of(disk, port, secret))
    disk.hang()
    for _ in range(3):
        check_hits(tarn)
        assert tarn.get(path, signed(secret, path), timeout=10).status == 200
    reload_by_signal(tarn, hung("replicas.secret_file"))
    reload_by_signal(tarn, hung("replicas.secret_file"), 5)
    assert tarn.get(path, signed(secret, path), timeout=10).status == 200
    tarn.logged("cannot read the replicas' secrets again")
    disk.mend()
    reload_after_mending(tarn)
    disk.hang()
    terminate(tarn, disk)


# ---- the cache

@pytest.mark.slow
def test_a_cache_that_hangs_holds_up_no_reload(disk, start):
    """Its size is asked of the file system, unless the configuration says it."""
    tarn = start(root=str(disk.mount / "root"))
    reloadable = Reloadable(tarn, None)
    disk.hang()
    reload_by_signal(tarn, "size of the file system of [^\n]*its file system has not answered")
    check_hits(tarn)
    reloadable.write(max_size="64MiB")
    reload_by_signal(tarn, RELOADED, 5)
    check_hits(tarn)
    disk.mend()


@pytest.fixture
def on_disk(disk, start):
    """A tarn whose cache is on the disk, and has org/app."""
    return start(root=str(disk.mount / "root"), max_size="64MiB")


@pytest.mark.slow
def test_a_cache_that_hangs_stops_no_answer_from_memory_and_goes_on_when_it_answers(
        disk, on_disk, image):
    cold = noise(2 * MIB, "later")
    image.repository("org/app").add_blob(cold)
    disk.hang()
    for _ in range(3):
        check_hits(on_disk)
    with pytest.raises(TimeoutError):
        on_disk.download(f"/v2/org/app/blobs/{digest_of(cold)}", timeout=1)
    check_hits(on_disk)
    disk.mend()
    assert digest_of(on_disk.blob("org/app", digest_of(cold)).body) == digest_of(cold)
    check_hits(on_disk)


@pytest.mark.slow
def test_a_cache_that_fails_serves_on_without_keeping(disk, on_disk, image):
    cold = noise(2 * MIB, "later")
    image.repository("org/app").add_blob(cold)
    disk.fail()
    check_hits(on_disk)
    for _ in range(2):
        assert digest_of(on_disk.blob("org/app", digest_of(cold)).body) == digest_of(cold)
    assert on_disk.get("/v2/org/cold/manifests/1").status == 200
    disk.mend()

    def is_kept():
        on_disk.blob("org/app", digest_of(cold))
        return "hit" in on_disk.blob("org/app", digest_of(cold)).cache_status
    wait_until(is_kept, "the blob to be kept", 60)
