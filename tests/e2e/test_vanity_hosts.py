"""
A host that only leads to another registry, as lscr.io leads to ghcr.io and Scarf's hosts lead to
Docker Hub: the other registry wants a token of its own, which is asked for anonymously.
"""

import pytest

from kit.content import KIB, digest_of, manifest, noise
from kit.tokens import TokenService, basic

LAYER = noise(300 * KIB)
DIGEST = digest_of(LAYER)
USER, PASSWORD = "robot", "s3cret-of-the-robot"


@pytest.fixture
def vanity(upstream):
    return upstream


@pytest.fixture
def real(make_upstream):
    """The registry that has the images, on another host."""
    real = make_upstream(host="127.0.0.3")
    real.tokens = TokenService()
    real.image("org/app", [LAYER], tag="1")
    return real


def lead(vanity, real, status=307, path="/v2/org/app", to="/v2/org/app"):
    """Makes the vanity host lead to the registry, with each request."""
    for kind in ("manifests/1", f"blobs/{DIGEST}", f"blobs/{digest_of(b'{}')}", "tags/list"):
        for method in ("GET", "HEAD"):
            vanity.fault(f"{path}/{kind}", method=method, status=status, headers={
                "Location": f"{real.url}{to}/{kind}"},
                when=lambda request: may_pass(vanity, request))


def may_pass(vanity, request):
    """Whether the vanity host's own login lets the request through."""
    sent = request.headers.get("authorization")
    if vanity.basic:
        return sent == basic(*vanity.basic)
    return not vanity.tokens or vanity.tokens.opens(sent, "org/app")


def secrets_seen(host):
    return [request for request in host.asked()
            if PASSWORD in str(request.headers) or "Basic" in request.headers.get(
                "authorization", "")]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_other_registry_is_asked_with_a_token_of_its_own(tarn, vanity, real, status):
    lead(vanity, real, status)
    reply = tarn.manifest("org/app", "1")
    assert reply.status == 200, reply
    assert tarn.blob("org/app", DIGEST).body == LAYER
    assert tarn.get("/v2/org/app/tags/list").json()["tags"] == ["1"]
    assert tarn.manifest("org/app", "1", method="HEAD").status == 200
    assert len(real.asked("^/token")) == 1
    assert "authorization" not in real.asked("^/token")[0].headers


def test_a_cold_head_is_answered_too(tarn, vanity, real):
    lead(vanity, real)
    assert tarn.manifest("org/app", "1", method="HEAD").status == 200
    assert tarn.blob("org/app", DIGEST, method="HEAD").status == 200


@pytest.mark.parametrize("how", ["basic", "bearer"])
def test_the_first_hosts_credential_is_seen_by_neither(start_tarn, vanity, real, tmp_path, how):
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    if how == "basic":
        vanity.basic = (USER, PASSWORD)
    else:
        vanity.tokens = TokenService(anonymous=False, users={USER: PASSWORD})
    real.redirect = "elsewhere"
    lead(vanity, real)
    tarn = start_tarn([{"host": "fake.test", "url": vanity.url, "default": True, "tag_ttl": "0",
                        "credentials": {"username": USER, "password_file": str(password)}}])
    assert tarn.manifest("org/app", "1").status == 200
    assert tarn.blob("org/app", DIGEST).body == LAYER
    assert secrets_seen(real) == []
    given = vanity.tokens.given if vanity.tokens else {}
    for request in real.asked():
        assert not any(token in str(request.headers) for token in given)
    for request in vanity.asked():
        assert not any(token in str(request.headers) for token in real.tokens.given)
    for request in real.asked("/downloads/"):
        assert "authorization" not in request.headers


def test_another_name_there_is_what_its_token_is_for(tarn, vanity, real):
    content = manifest(b"{}", [])
    real.repository("other/name").add_manifest(content, tag="1")
    real.tokens = TokenService()
    real.challenge = f'Bearer realm="{real.url}/token",service="fake"'  # without a scope
    lead(vanity, real, to="/v2/other/name")
    assert tarn.manifest("org/app", "1").body == content
    assert "repository:other/name:pull" in real.asked("^/token")[0].target.replace("%3A", ":")


def test_a_token_that_ended_is_replaced(tarn, vanity, real):
    lead(vanity, real)
    assert tarn.manifest("org/app", "1").status == 200
    real.tokens.forget()
    assert tarn.blob("org/app", DIGEST).body == LAYER
    assert len(real.asked("^/token")) == 2


def test_a_realm_that_is_not_the_other_registrys_is_not_asked(tarn, vanity, real, make_upstream):
    thief = make_upstream(host="127.0.0.4")
    thief.tokens = TokenService()
    real.realm = f"{thief.url}/token"
    lead(vanity, real)
    reply = tarn.manifest("org/app", "1")
    assert reply.status == 403 and "127.0.0.4" in reply.message
    assert thief.connections == 0


@pytest.mark.parametrize("challenge", ["Basic realm=x", "Negotiate", None])
def test_other_challenges_there_are_refusals(tarn, vanity, real, challenge):
    lead(vanity, real)
    real.fault("/manifests/1", method="GET", status=401,
               headers={"WWW-Authenticate": challenge} if challenge else {})
    assert tarn.manifest("org/app", "1").status == 403
    assert secrets_seen(real) == []


def test_a_registry_that_refuses_every_token_is_a_refusal(tarn, vanity, real):
    real.tokens = TokenService(public=("nothing",))
    lead(vanity, real)
    assert tarn.manifest("org/app", "1").status == 403
    assert len(real.asked("/manifests/")) <= 3
    assert len(real.asked("^/token")) <= 2


def test_loops_end(tarn, vanity, real):
    lead(vanity, real)
    for method in ("GET", "HEAD"):
        real.fault("/manifests/1", method=method, status=307, headers={
            "Location": f"{vanity.url}/v2/org/app/manifests/1"},
            when=lambda request: real.tokens.opens(request.headers.get("authorization"), "org/app"))
    assert tarn.manifest("org/app", "1").status == 502
    assert len(real.asked("/manifests/")) <= 30


def test_a_redirect_to_another_repository_of_the_same_host(start_tarn, upstream, tmp_path):
    """The host's own credential opens it: the token for the first name does not."""
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    upstream.tokens = TokenService(anonymous=False, users={USER: PASSWORD})
    content = manifest(b"{}", [])
    upstream.repository("new/name").add_manifest(content, tag="1")
    upstream.fault("/v2/org/app/manifests/1", status=307, headers={
        "Location": "/v2/new/name/manifests/1"},
        when=lambda request: upstream.tokens.opens(request.headers.get("authorization"), "org/app"))
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True,
                        "credentials": {"username": USER, "password_file": str(password)}}])
    assert tarn.manifest("org/app", "1").body == content
