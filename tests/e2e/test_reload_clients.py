"""A reload changes who may log in, and where tarn listens, without a dropped connection."""

import hashlib
import http.client
import socket
import ssl

import pytest

from kit.authority import Authority
from kit.client import fetch
from kit.content import KIB, MIB, digest_of, noise
from kit.htpasswd import HASH, write_htpasswd
from kit.issuer import Issuer
from kit.processes import free_port, wait_until
from kit.reloadable import Load, Reloadable, entry
from kit.tarn import TlsTarn, self_signed
from kit.tokens import basic

BLOB = noise(6 * MIB)
MANIFEST = "/v2/org/app/manifests/1"
OTHER_HASH = "$2b$04$EVY4iTOUmZgMOrgMgb5rAOvZx07JAum6ZWaxJGYgXg/kmML.20UIi"  # of "other"


def as_user(user, password="secret"):
    return {"Authorization": basic(user, password)}


@pytest.fixture
def running(start_tarn, upstream):
    upstream.image("org/app", [noise(KIB)], tag="1")
    upstream.repository("org/app").add_blob(BLOB)
    return Reloadable(start_tarn([entry(upstream, default=True)]), upstream)


class Kept:
    """A connection that stays open: `get` fails if tarn has closed it."""

    def __init__(self, tarn, context=None):
        kind = http.client.HTTPSConnection if context else http.client.HTTPConnection
        more = {"context": context} if context else {}
        self.connection = kind("127.0.0.1", tarn.port, timeout=30, **more)
        self.connection.connect()
        self.socket = self.connection.sock

    def ask(self, path=MANIFEST, headers=None):
        self.connection.request("GET", path, headers=headers or {})
        answer = self.connection.getresponse()
        answer.read()
        return answer

    def get(self, path=MANIFEST, headers=None):
        answer = self.ask(path, headers)
        assert self.connection.sock is self.socket, "the connection was closed"
        return answer.status


# ---- passwords


def test_a_login_is_switched_on_and_off_while_a_download_runs(running, tmp_path):
    tarn, upstream = running.tarn, running.upstream
    upstream.fault("/blobs/", bytes_per_second=2 * MIB)
    users = write_htpasswd(tmp_path / "htpasswd", "ann")
    kept = Kept(tarn)
    assert kept.get() == 200
    with tarn.download(f"/v2/org/app/blobs/{digest_of(BLOB)}", timeout=60) as download:
        first = download.read(64 * KIB)
        running.reload(clients={"htpasswd": str(users)})
        assert (kept.get(), kept.get(headers=as_user("ann"))) == (401, 200)
        assert tarn.get("/v2/").status == 401
        assert 'Basic realm="tarn"' in tarn.get("/v2/")["WWW-Authenticate"]
        running.reload(clients={"htpasswd": str(users), "realm": "the lake"})
        assert 'Basic realm="the lake"' in tarn.get("/v2/")["WWW-Authenticate"]
        running.reload(clients=None)
        assert kept.get() == 200
        rest = download.read(len(BLOB) - len(first))
    assert hashlib.sha256(first + rest).hexdigest() == hashlib.sha256(BLOB).hexdigest()


def test_another_file_of_passwords_counts_at_once(running, tmp_path):
    tarn = running.tarn
    first = write_htpasswd(tmp_path / "first", "ann")
    second = write_htpasswd(tmp_path / "second", "bob")
    running.reload(clients={"htpasswd": str(first)})
    kept = Kept(tarn)
    assert (kept.get(headers=as_user("ann")), kept.get(headers=as_user("bob"))) == (200, 401)
    running.reload(clients={"htpasswd": str(second)})
    assert (kept.get(headers=as_user("ann")), kept.get(headers=as_user("bob"))) == (401, 200)
    first.unlink()  # it is of no interest any more
    running.reload(clients={"htpasswd": str(second), "rules": [{"users": ["bob"]}]})
    assert kept.get(headers=as_user("bob")) == 200
    # a reload reads the same file, too, without waiting for the next look
    second.write_text(f"bob:{OTHER_HASH}\n")
    running.reload()
    assert kept.get(headers=as_user("bob")) == 401
    assert kept.get(headers=as_user("bob", "other")) == 200


def test_a_wrong_file_of_passwords_changes_nothing(running, tmp_path):
    tarn = running.tarn
    right, wrong = write_htpasswd(tmp_path / "right", "ann"), tmp_path / "wrong"
    running.reload(clients={"htpasswd": str(right)})
    wrong.write_text("ann:secret\n")
    said = running.refused(clients={"htpasswd": str(wrong)}, headers=["X-New: 1"])
    assert str(wrong) in said and "htpasswd" in said
    answer = tarn.get(MANIFEST, headers=as_user("ann"))
    assert (answer.status, answer["X-New"]) == (200, None)
    assert tarn.get(MANIFEST).status == 401


def test_who_is_locked_out_stays_so_and_the_limit_changes(running, tmp_path):
    tarn = running.tarn
    users = {"htpasswd": str(write_htpasswd(tmp_path / "htpasswd", "ann"))}

    def limit(failures):
        return {"logins": {"failures": failures, "within": "10m"}}

    def guess(times):
        return [tarn.get("/v2/", headers=as_user("ann", f"wrong-{i}")).status
                for i in range(times)]

    running.reload(clients=users, limits=limit(1000))
    assert guess(5) == [401] * 5
    running.reload(clients=users, limits=limit(6))
    assert guess(2) == [401, 429]
    running.reload(clients={**users, "realm": "another"}, limits=limit(1000))
    assert tarn.get("/v2/", headers=as_user("ann")).status == 429


def test_reloads_of_logins_fail_no_request(running, tmp_path):
    running.upstream.repository("org/app").add_blob(BLOB[:KIB])
    tarn = running.tarn
    files = [tmp_path / "a", tmp_path / "b"]
    for path in files:
        write_htpasswd(path, "ann", "bob")
    running.reload(clients={"htpasswd": str(files[0])})
    paths = [MANIFEST, f"/v2/org/app/blobs/{digest_of(BLOB[:KIB])}", "/v2/"]
    with Load(tarn, paths, headers=as_user("ann")) as load:
        for number in range(12):
            running.reload(clients={"htpasswd": str(files[number % 2]),
                                    "realm": f"realm {number // 2}"},
                           headers=[f"X-Turn: {number}"] if number % 3 else None,
                           limits={"logins": {"failures": 100 + number, "waiting": 4 + number}})
        served = load.count
        wait_until(lambda: load.count > served + 10, "further answers")
    assert load.failed == []


# ---- tokens


def test_a_key_of_tokens_is_exchanged(running, tmp_path):
    tarn = running.tarn
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    old, new = Issuer(tmp_path / "old"), Issuer(tmp_path / "new", "https://new.test/token")
    running.reload(clients={"token": old.settings})
    by_old, by_new = old.bearer("org/app"), new.bearer("org/app")
    kept = Kept(tarn)
    assert (kept.get(headers=by_old), kept.get(headers=by_new)) == (200, 401)
    running.reload(clients={"token": new.settings})
    assert (kept.get(headers=by_old), kept.get(headers=by_new)) == (401, 200)
    assert "https://new.test/token" in tarn.get("/v2/")["WWW-Authenticate"]
    running.reload(clients={"token": {**new.settings, "service": "another.test"}})
    assert kept.get(headers=by_new) == 401
    assert kept.get(headers=new.bearer("org/app", aud="another.test")) == 200
    users = write_htpasswd(tmp_path / "htpasswd", "ann")
    running.reload(clients={"htpasswd": str(users)})  # from tokens to passwords
    assert (kept.get(headers=by_new), kept.get(headers=as_user("ann"))) == (401, 200)


# ---- certificates


@pytest.fixture
def with_tls(program, upstream, tmp_path):
    upstream.image("org/app", [noise(KIB)], tag="1")
    certificate, key = self_signed(tmp_path)
    tarn = TlsTarn(program, tmp_path / "tarn", {
        "upstreams": [entry(upstream, default=True)],
        "tls": {"certificate": str(certificate), "key": str(key)}})
    tarn.own_certificate = certificate
    yield Reloadable(tarn, upstream)
    tarn.finish()


def client_context(tarn, pair=None):
    context = ssl.create_default_context(cafile=str(tarn.own_certificate))
    context.check_hostname = False
    if pair:
        context.load_cert_chain(*map(str, pair))
    return context


def test_authorities_of_clients_are_changed_switched_on_and_off(with_tls, tmp_path):
    tarn = with_tls.tarn
    first, second = Authority(tmp_path, "first"), Authority(tmp_path, "second")
    by_first = client_context(tarn, first.issue("/CN=ann"))
    by_second = client_context(tarn, second.issue("/CN=bob"))
    plain = Kept(tarn, client_context(tarn))
    assert plain.get() == 200
    with_tls.reload(clients={"ca": str(first.certificate)})
    # tarn asks for a certificate at the beginning of a session only, so the client must begin one
    answer = plain.ask()
    assert (answer.status, answer.getheader("Connection")) == (401, "close")
    ann = Kept(tarn, by_first)
    assert (ann.get(), ann.get()) == (200, 200)

    both = tmp_path / "both.pem"
    both.write_text(first.certificate.read_text() + second.certificate.read_text())
    with_tls.reload(clients={"ca": str(both)})
    answer = ann.ask()  # the certificate is still right, and the client begins anew
    assert (answer.status, answer.getheader("Connection")) == (200, "close")
    ann = Kept(tarn, by_first)
    assert (ann.get(), Kept(tarn, by_second).get()) == (200, 200)

    with_tls.reload(clients={"ca": str(second.certificate)})
    answer = ann.ask()
    assert (answer.status, answer.getheader("Connection")) == (401, "close")
    bob = Kept(tarn, by_second)
    assert (bob.get(), bob.get()) == (200, 200)

    users = write_htpasswd(tmp_path / "htpasswd", "eve")
    with_tls.reload(clients={"htpasswd": str(users)})
    assert (bob.get(), bob.get(headers=as_user("eve"))) == (401, 200)
    with_tls.reload(clients={"ca": str(second.certificate)})
    assert (bob.get(), bob.get()) == (200, 200)
    with_tls.reload(clients=None)
    assert (bob.get(), Kept(tarn, client_context(tarn)).get()) == (200, 200)


def test_authorities_that_cannot_be_used_change_nothing(with_tls, tmp_path):
    tarn = with_tls.tarn
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate\n")
    assert str(wrong) in with_tls.refused(clients={"ca": str(wrong)})
    assert Kept(tarn, client_context(tarn)).get() == 200


# ---- fields and the prefix of paths


def test_fields_and_the_prefix_of_paths_change(running):
    tarn = running.tarn
    kept = Kept(tarn)
    assert kept.get("/images" + MANIFEST) == 404
    running.reload(headers=["X-Lake: tarn", "Strict-Transport-Security: max-age=1"],
                   path_prefix="/images")
    answer = kept.ask("/images" + MANIFEST)
    assert (answer.status, answer.getheader("X-Lake")) == (200, "tarn")
    assert tarn.get("/nothing")["Strict-Transport-Security"] == "max-age=1"
    running.reload(headers=["X-Lake: other"], path_prefix="/pictures")
    answer = kept.ask("/pictures" + MANIFEST)
    assert (answer.status, answer.getheader("X-Lake")) == (200, "other")
    assert kept.get("/images" + MANIFEST) == 404
    running.reload(headers=None, path_prefix=None)
    assert kept.ask(MANIFEST).getheader("X-Lake") is None
    assert kept.get("/pictures" + MANIFEST) == 404


# ---- addresses


def connects(address, port):
    try:
        with socket.create_connection((address, port), 10):
            return True
    except OSError:
        return False


def test_tarn_listens_elsewhere_and_connections_stay(running):
    tarn = running.tarn
    old, new, side = tarn.port, free_port(), free_port()
    running.upstream.fault("/blobs/", bytes_per_second=3 * MIB)
    kept = Kept(tarn)
    assert kept.get() == 200
    with tarn.download(f"/v2/org/app/blobs/{digest_of(BLOB)}", timeout=60) as download:
        first = download.read(64 * KIB)
        running.reload(listen=f"127.0.0.1:{new}", metrics_listen=f"127.0.0.1:{side}")
        assert not connects("127.0.0.1", old)
        assert fetch(f"http://127.0.0.1:{new}{MANIFEST}").status == 200
        assert fetch(f"http://127.0.0.1:{side}/metrics").status == 200
        assert fetch(f"http://127.0.0.1:{side}{MANIFEST}").status == 404
        assert kept.get() == 200
        rest = download.read(len(BLOB) - len(first))
    assert hashlib.sha256(first + rest).hexdigest() == hashlib.sha256(BLOB).hexdigest()
    tarn.port = new
    running.reload(listen=[f"127.0.0.1:{new}", f"127.0.0.1:{old}"], metrics_listen=None)
    assert not connects("127.0.0.1", side)
    assert connects("127.0.0.1", new) and connects("127.0.0.1", old)
    # an address may become one for metrics, and back
    running.reload(listen=f"127.0.0.1:{new}", metrics_listen=f"127.0.0.1:{old}")
    assert fetch(f"http://127.0.0.1:{old}{MANIFEST}").status == 404
    assert fetch(f"http://127.0.0.1:{old}/metrics").status == 200
    running.reload(listen=f"127.0.0.1:{new}", metrics_listen=None)


def test_an_address_grows_to_all_addresses_and_shrinks_again(running):
    tarn = running.tarn
    port = tarn.port
    assert not connects("127.0.0.2", port)
    for address in (f"0.0.0.0:{port}", f":{port}", f"127.0.0.2:{port}", f"127.0.0.1:{port}"):
        running.reload(listen=address)
        assert connects("127.0.0.2", port) == (address != f"127.0.0.1:{port}")
        assert connects("127.0.0.1", port) == (address != f"127.0.0.2:{port}")
    # no other process can come between, as when tarn has started with the address
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with pytest.raises(OSError):
            other.bind(("127.0.0.1", port))
            other.listen()


def test_an_address_in_use_is_refused_as_a_whole(running, upstream):
    tarn = running.tarn
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port, free = taken.getsockname()[1], free_port()
        said = running.refused(listen=[f"127.0.0.1:{free}", f"127.0.0.1:{port}"],
                               upstreams=[entry(upstream, "other.test", default=True)])
        assert f"127.0.0.1:{port}" in said and "in use" in said
        assert not connects("127.0.0.1", free)
        assert tarn.get("/v2/fake.test/org/app/manifests/1").status == 200
        both = running.refused(listen=[f"127.0.0.1:{tarn.port}", f"0.0.0.0:{tarn.port}"])
        assert "in use" in both
    running.reload(listen=f"127.0.0.1:{tarn.port}")
    assert tarn.get(MANIFEST).status == 200


def test_addresses_change_under_load(running):
    tarn = running.tarn
    ports = [free_port() for _ in range(3)]
    before = tarn.figures()["descriptors"]
    with Load(tarn, [MANIFEST, "/v2/"]) as load:
        for number in range(30):
            running.reload(listen=[f"127.0.0.1:{tarn.port}", f"127.0.0.1:{ports[number % 3]}"])
            assert connects("127.0.0.1", ports[number % 3])
            assert not connects("127.0.0.1", ports[(number + 1) % 3])
    assert load.failed == []
    running.reload(listen=f"127.0.0.1:{tarn.port}")
    wait_until(lambda: tarn.figures()["descriptors"] <= before + 5, "descriptors to be closed")


def test_a_stop_right_after_a_change_of_addresses(running):
    tarn = running.tarn
    port = free_port()
    running.reload(listen=[f"127.0.0.1:{tarn.port}", f"127.0.0.1:{port}"])
    tarn.stop()
    assert not connects("127.0.0.1", port)
    tarn.start()
