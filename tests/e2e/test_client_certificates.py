"""Clients that log in by a certificate: `clients.ca`."""

import http.client
import ssl

import pytest

from kit.authority import Authority
from kit.content import KIB, noise
from kit.htpasswd import write_htpasswd
from kit.processes import run, wait_until
from kit.tarn import TlsTarn, self_signed
from kit.tokens import basic

LAYER = noise(4 * KIB)
MANIFEST = "/v2/team/app/manifests/1"
BOB = {"Authorization": basic("bob", "secret")}


class Client:
    def __init__(self, tarn, pair=None):
        self.tarn = tarn
        self.context = ssl.create_default_context(cafile=str(tarn.own_certificate))
        self.context.check_hostname = False
        if pair:
            self.context.load_cert_chain(*map(str, pair))

    def get(self, path, headers=None):
        """The status; None: the TLS handshake failed."""
        connection = http.client.HTTPSConnection("127.0.0.1", self.tarn.port, timeout=20,
                                                 context=self.context)
        try:
            connection.request("GET", path, headers=headers or {})
            answer = connection.getresponse()
            answer.read()
            return answer.status
        except (ssl.SSLError, ConnectionError):  # after the handshake as TLS 1.3 sees it
            return None
        finally:
            connection.close()


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path, "authority")


@pytest.fixture
def start(program, upstream, authority, tmp_path):
    started = []

    def start_it(*rules, htpasswd=False):
        for repository in ("team/app", "public/app"):
            upstream.image(repository, [LAYER], tag="1")
        certificate, key = self_signed(tmp_path)
        clients = {"ca": str(authority.certificate)}
        if rules:
            clients["rules"] = list(rules)
        if htpasswd:
            write_htpasswd(tmp_path / "htpasswd", "bob")
            clients["htpasswd"] = str(tmp_path / "htpasswd")
        tarn = TlsTarn(program, tmp_path / "tarn", {
            "upstreams": [{"host": "fake.test", "url": upstream.url, "default": True}],
            "tls": {"certificate": str(certificate), "key": str(key)}, "clients": clients})
        tarn.own_certificate = certificate
        started.append(tarn)
        return tarn

    yield start_it
    for tarn in started:
        tarn.finish()


def test_a_certificate_is_a_login(start, authority):
    tarn = start()
    alice = Client(tarn, authority.issue("/O=Example/CN=alice"))
    for _ in range(3):  # a new connection each, and the session may be resumed
        assert alice.get(MANIFEST) == 200
    assert alice.get("/v2/") == 200
    tarn.logged(r"user=alice .*reference=1 .*status=200")
    nobody = Client(tarn)
    assert nobody.get(MANIFEST) == 401
    assert nobody.get("/v2/") == 401
    for path in ("/livez", "/readyz", "/metrics"):
        assert nobody.get(path) == 200


def test_the_common_name_is_the_user_of_the_rules(start, authority):
    tarn = start({"users": ["alice"], "repositories": ["team/*"]},
                 {"anonymous": True, "repositories": ["public/*"]})
    assert Client(tarn, authority.issue("/CN=alice")).get(MANIFEST) == 200
    assert Client(tarn, authority.issue("/CN=carol")).get(MANIFEST) == 403
    # Without one name that it could be, a certificate names nobody.
    assert Client(tarn, authority.issue("/O=alice")).get(MANIFEST) == 401
    assert Client(tarn, authority.issue("/CN=carol/CN=alice")).get(MANIFEST) == 401
    assert Client(tarn).get("/v2/public/app/manifests/1") == 200


def test_other_authorities_certificates_are_refused(start, tmp_path):
    tarn = start()
    stranger = Authority(tmp_path, "stranger")
    pair = stranger.issue("/CN=alice")
    # Some clients send only what the server asks for, and then have no certificate.
    assert Client(tarn, pair).get(MANIFEST) in (None, 401)
    said = run(["curl", "--silent", "--show-error", "--cacert", tarn.own_certificate, "--cert",
                pair[0], "--key", pair[1], f"https://localhost:{tarn.port}{MANIFEST}"], check=False)
    assert said.returncode != 0 and "manifest" not in said.stdout


def test_a_password_is_as_good_as_a_certificate(start, authority):
    tarn = start({"users": ["bob"], "repositories": ["team/*"]}, htpasswd=True)
    alice = Client(tarn, authority.issue("/CN=alice"))
    assert Client(tarn).get(MANIFEST, BOB) == 200
    assert Client(tarn).get(MANIFEST) == 401
    assert alice.get(MANIFEST) == 403
    assert alice.get(MANIFEST, {"Authorization": "Basic Og=="}) == 403
    # What the request says goes before the certificate.
    assert alice.get(MANIFEST, BOB) == 200
    assert alice.get(MANIFEST, {"Authorization": basic("bob", "wrong")}) == 401


def test_other_authorities_are_taken_without_a_restart(start, authority, tmp_path):
    tarn = start()
    second = Authority(tmp_path, "second")
    old, new = authority.issue("/CN=alice"), second.issue("/CN=alice")
    client = Client(tarn, old)
    assert client.get(MANIFEST) == 200
    authority.certificate.write_text(second.certificate.read_text())
    wait_until(lambda: Client(tarn, new).get(MANIFEST) == 200, "the new authority", 10)
    # The old session cannot be resumed either: it was begun under the other authority.
    assert client.get(MANIFEST) in (None, 401)
