"""Clients that log in by a token: `clients.token`."""

import json
import time

import pytest

from kit.client import fetch
from kit.content import KIB, digest_of, noise
from kit.htpasswd import write_htpasswd
from kit.issuer import Issuer, url_text
from kit.processes import wait_until
from kit.tokens import basic

LAYER = noise(4 * KIB)
DIGEST = digest_of(LAYER)
MANIFEST = "/v2/org/app/manifests/1"


@pytest.fixture
def issuer(tmp_path):
    return Issuer(tmp_path)


@pytest.fixture
def start(start_tarn, upstream, issuer, tmp_path):
    def start_it(*rules, htpasswd=False):
        for repository in ("org/app", "org/other", "library/alpine"):
            upstream.image(repository, [LAYER], tag="1")
        clients = {"token": issuer.settings}
        if rules:
            clients["rules"] = list(rules)
        if htpasswd:
            clients["htpasswd"] = str(tmp_path / "htpasswd")
            write_htpasswd(tmp_path / "htpasswd", "bob")
        return start_tarn([{"host": "fake.test", "url": upstream.url, "default": True},
                           {"host": "second.test", "url": upstream.url}], clients=clients)
    return start_it


def challenge(scope=None, error=None):
    value = 'Bearer realm="https://auth.test/token",service="tarn.test"'
    value += f',scope="{scope}"' if scope else ""
    return value + (f',error="{error}"' if error else "")


@pytest.mark.parametrize("kind", ["RS256", "ES256"])
def test_a_token_opens_what_it_grants(start, issuer, upstream, kind):
    tarn = start()
    who = issuer.bearer("org/app", kind=kind)
    for path in ("manifests/1", f"blobs/{DIGEST}", "tags/list", f"referrers/{DIGEST}"):
        for _ in range(2):
            assert tarn.get(f"/v2/org/app/{path}", headers=who).status == 200
            assert fetch(f"{tarn.url}/v2/org/app/{path}", who, method="HEAD").status == 200
    assert tarn.get("/v2/", headers=who).status == 200
    asked = len(upstream.asked())
    refused = tarn.get("/v2/org/other/manifests/1", headers=who)
    assert (refused.status, refused.code) == (401, "UNAUTHORIZED")
    assert refused["WWW-Authenticate"] == challenge("repository:org/other:pull",
                                                    "insufficient_scope")
    assert len(upstream.asked()) == asked
    tarn.logged(r"user=alice .*reference=1 .*status=200")


def test_a_client_without_a_token_learns_where_to_get_one(start):
    tarn = start()
    assert tarn.get("/v2/")["WWW-Authenticate"] == challenge()
    for path, scope in [(MANIFEST, "repository:org/app:pull"),
                        (f"/v2/org/app/blobs/{DIGEST}", "repository:org/app:pull"),
                        ("/v2/org/app/tags/list", "repository:org/app:pull"),
                        ("/v2/_catalog", "registry:catalog:*"),
                        ("/v2/fake.test/org/app/manifests/1", "repository:fake.test/org/app:pull"),
                        (f"{MANIFEST}?ns=second.test", "repository:second.test/org/app:pull"),
                        ("/second.test" + MANIFEST, "repository:second.test/org/app:pull"),
                        ("/v2/o%22rg/app/manifests/1", None)]:
        for who in ({}, {"Authorization": "Basic Og=="}):
            asked = tarn.get(path, headers=who)
            assert asked.status == 401, path
            assert asked["WWW-Authenticate"] == challenge(scope), path
    for path in ("/livez", "/readyz", "/metrics"):
        assert tarn.get(path).status == 200


def test_a_token_for_a_name_opens_no_other_registry(start, issuer):
    """The token service does not see ?ns=, so such a name has to be granted with its host."""
    tarn = start()
    who = issuer.bearer("org/app")
    for path in (f"{MANIFEST}?ns=second.test", "/second.test" + MANIFEST,
                 "/v2/second.test/org/app/manifests/1"):
        assert tarn.get(path, headers=who).status == 401
        whole = issuer.bearer("second.test/org/app")
        assert tarn.get(path, headers=whole).status == 200
    assert tarn.get(MANIFEST, headers=issuer.bearer("fake.test/org/app")).status == 200
    assert tarn.get(f"{MANIFEST}?ns=fake.test", headers=who).status == 401


def forged(issuer):
    head, claims, signature = issuer.token("org/app").split(".")
    other = json.dumps({"iss": "auth.test", "aud": "tarn.test", "exp": int(time.time()) + 300,
                        "access": [{"type": "repository", "name": "org/app",
                                    "actions": ["pull"]}]}).encode()
    none = url_text(b'{"alg":"none","typ":"JWT"}')
    return {"other claims": f"{head}.{url_text(other)}.{signature}",
            "alg none": f"{none}.{claims}.", "alg none, signed": f"{none}.{claims}.{signature}",
            "cut": f"{head}.{claims}", "empty": ""}


def test_wrong_tokens_are_refused(start, issuer):
    tarn = start()
    now = int(time.time())
    wrong = {**forged(issuer),
             "expired": issuer.token("org/app", exp=now - 3600),
             "too early": issuer.token("org/app", nbf=now + 3600),
             "another service": issuer.token("org/app", aud="other.test"),
             "another issuer": issuer.token("org/app", iss="other.test"),
             "huge": issuer.token("org/app", more="x" * 9400)}
    for what, token in wrong.items():
        refused = tarn.get(MANIFEST, headers={"Authorization": f"Bearer {token}"})
        assert refused.status == 401, what
        assert refused["WWW-Authenticate"] == challenge("repository:org/app:pull",
                                                        "invalid_token"), what
        assert token not in tarn.log() or not token
    assert tarn.get(MANIFEST, headers=issuer.bearer("org/app", aud=["x", "tarn.test"])).status == 200
    tarn.logged("a token was refused.*why=.*expired")


def test_a_key_that_is_gone_opens_nothing(start, issuer):
    tarn = start()
    who = issuer.bearer("org/app")
    assert tarn.get(MANIFEST, headers=who).status == 200
    keys = issuer.keys()
    issuer.write(keys[1:])
    wait_until(lambda: tarn.get(MANIFEST, headers=who).status == 401, "the key's end", 5)
    assert tarn.get(MANIFEST, headers=issuer.bearer("org/app", kind="ES256")).status == 200
    issuer.write(keys)
    wait_until(lambda: tarn.get(MANIFEST, headers=who).status == 200, "the key's return", 5)
    issuer.jwks.unlink()
    wait_until(lambda: tarn.get(MANIFEST, headers=who).status == 401, "that nobody gets in", 5)


def test_a_tokens_user_is_held_by_the_rules(start, issuer, upstream):
    tarn = start({"users": ["alice"], "repositories": ["org/app"]},
                 {"anonymous": True, "repositories": ["library/*"]})
    both = ("org/app", "org/other", "library/alpine")
    asked = len(upstream.asked())
    refused = tarn.get("/v2/org/other/manifests/1", headers=issuer.bearer(*both))
    assert (refused.status, refused.code) == (403, "DENIED")
    assert tarn.get(MANIFEST, headers=issuer.bearer(*both, sub="bob")).status == 403
    # Nobody's token: an anonymous one, as a token service gives it to whoever asks.
    assert tarn.get(MANIFEST, headers=issuer.bearer(*both, sub="")).status == 401
    assert len(upstream.asked()) == asked
    assert tarn.get("/v2/library/alpine/manifests/1",
                    headers=issuer.bearer(*both, sub="")).status == 200
    assert tarn.get("/v2/library/alpine/manifests/1").status == 200
    assert tarn.get(MANIFEST, headers=issuer.bearer(*both)).status == 200


def test_the_catalog_wants_a_token_for_the_catalog(start, issuer):
    tarn = start()
    assert tarn.get(MANIFEST, headers=issuer.bearer("org/app")).status == 200
    refused = tarn.get("/v2/_catalog", headers=issuer.bearer("org/app"))
    assert refused.status == 401
    assert refused["WWW-Authenticate"] == challenge("registry:catalog:*", "insufficient_scope")
    who = issuer.bearer(access=[{"type": "registry", "name": "catalog", "actions": ["*"]}])
    wait_until(lambda: tarn.get("/v2/_catalog", headers=who).json()["repositories"] ==
               ["fake.test/org/app"], "the repository in the catalog")


def test_a_password_is_as_good_as_a_token(start, issuer):
    tarn = start(htpasswd=True)
    bob = {"Authorization": basic("bob", "secret")}
    assert tarn.get(MANIFEST, headers=bob).status == 200
    assert tarn.get("/", headers=bob).status == 200
    # A browser knows passwords only; other clients are told of tokens.
    assert tarn.get("/")["WWW-Authenticate"] == 'Basic realm="tarn"'
    assert tarn.get("/v2/")["WWW-Authenticate"] == challenge()
    assert tarn.get(MANIFEST, headers=issuer.bearer("org/app")).status == 200
