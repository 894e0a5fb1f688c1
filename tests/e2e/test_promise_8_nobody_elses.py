"""Promise 8: a credential goes where it belongs, and tarn reaches only what is configured."""

import pytest

from kit import pod
from kit.client import raw
from kit.content import KIB, MIB, digest_of, manifest, noise
from kit.tokens import TokenService, basic

LAYER = noise(300 * KIB)
DIGEST = digest_of(LAYER)
USER, PASSWORD = "robot", "s3cret-of-the-robot"


@pytest.fixture
def password_file(tmp_path):
    path = tmp_path / "password"
    path.write_text(PASSWORD + "\n")
    path.chmod(0o600)
    return str(path)


@pytest.fixture
def with_credentials(start_tarn, upstream, password_file):
    """A tarn that holds credentials for fake.test."""
    def start(**more):
        return start_tarn([{"host": "fake.test", "url": upstream.url, "default": True,
                            "tag_ttl": "0", "credentials": {
                                "username": USER, "password_file": password_file}, **more}])
    return start


def carries_authorization(requests):
    return [request for request in requests if "authorization" in request.headers]


@pytest.mark.parametrize("how", ["basic", "bearer"])
@pytest.mark.parametrize("redirect", ["relative", "same host", "elsewhere"])
def test_no_credential_follows_a_redirect(with_credentials, upstream, how, redirect):
    big = noise(20 * MIB)
    upstream.image("org/app", [LAYER, big])
    if how == "basic":
        upstream.basic = (USER, PASSWORD)
    else:
        upstream.tokens = TokenService(anonymous=False, users={USER: PASSWORD})
    upstream.redirect = redirect
    tarn = with_credentials()
    for content in (LAYER, big):
        assert tarn.blob("org/app", digest_of(content)).body == content
    assert carries_authorization(upstream.asked("/v2/"))
    downloads = upstream.asked("/downloads/")
    assert downloads
    assert carries_authorization(downloads) == []
    for request in downloads:
        assert PASSWORD not in str(request.headers)
        assert "cookie" not in request.headers


def test_a_redirect_of_a_manifest_takes_no_credential_along(with_credentials, upstream,
                                                            make_upstream):
    other = make_upstream(host="127.0.0.3")
    content = manifest(b"{}", [])
    other.repository("org/app").add_manifest(content, tag="1")
    upstream.basic = (USER, PASSWORD)
    upstream.fault("/manifests/", method=None, status=307, headers={
        "Location": f"{other.url}/v2/org/app/manifests/1"})
    with_credentials().manifest("org/app", "1")
    assert carries_authorization(other.asked()) == []


@pytest.mark.parametrize("realm", ["http://127.0.0.3:{port}/token",
                                   "http://127.0.0.1:{port}/token",
                                   "http://127.0.0.1.evil.test:{port}/token",
                                   "http://user@127.0.0.3:{port}/token",
                                   "http://127.0.0.1:{own}@127.0.0.3:{port}/token",
                                   "https://127.0.0.1:{own}/token",
                                   "file:///etc/passwd",
                                   "gopher://127.0.0.3:{port}/token"])
def test_a_realm_elsewhere_is_not_followed(with_credentials, upstream, make_upstream, realm):
    thief = make_upstream(host="127.0.0.3" if "127.0.0.3" in realm else "127.0.0.1")
    thief.tokens = TokenService()
    upstream.image("org/app", [LAYER], tag="1")
    upstream.tokens = TokenService(anonymous=False, users={USER: PASSWORD})
    upstream.realm = realm.format(port=thief.port, own=upstream.port)
    tarn = with_credentials()
    reply = tarn.manifest("org/app", "1")
    assert reply.status in (403, 502), reply
    assert "fake.test" in reply.message
    assert thief.connections == 0
    assert PASSWORD not in tarn.log()


def test_a_realm_elsewhere_is_followed_when_it_is_listed(with_credentials, upstream,
                                                         make_upstream):
    service = make_upstream(host="127.0.0.3")
    service.tokens = upstream.tokens = TokenService(anonymous=False, users={USER: PASSWORD})
    upstream.realm = f"{service.url}/token"
    upstream.image("org/app", [LAYER], tag="1")
    tarn = with_credentials(token_hosts=[f"127.0.0.3:{service.port}"])
    assert tarn.manifest("org/app", "1").status == 200
    assert service.asked("^/token")[0].headers["authorization"] == basic(USER, PASSWORD)


def test_a_token_service_that_redirects_gets_nothing_more(with_credentials, upstream,
                                                          make_upstream):
    thief = make_upstream(host="127.0.0.3")
    upstream.image("org/app", [LAYER], tag="1")
    upstream.tokens = TokenService(anonymous=False, users={USER: PASSWORD})
    upstream.fault("^/token", status=307, headers={"Location": f"{thief.url}/token"})
    assert with_credentials().manifest("org/app", "1").status in (403, 502)
    assert carries_authorization(thief.asked()) == []


def test_a_next_page_elsewhere_is_not_followed(with_credentials, upstream, make_upstream):
    thief = make_upstream(host="127.0.0.3")
    upstream.basic = (USER, PASSWORD)
    upstream.fault("/tags/list", status=200, headers={
        "Content-Type": "application/json",
        "Link": f'<{thief.url}/v2/org/app/tags/list?last=a>; rel="next"'},
        body=b'{"name":"org/app","tags":["a"]}')
    with_credentials().get("/v2/org/app/tags/list")
    assert thief.connections == 0


def test_each_upstream_gets_its_own_credential_alone(start_tarn, make_upstream, password_file):
    first, second = make_upstream(), make_upstream(host="127.0.0.3")
    for one in (first, second):
        one.image("org/app", [LAYER], tag="1")
    first.basic = (USER, PASSWORD)
    tarn = start_tarn([
        {"host": "first.test", "url": first.url, "credentials": {
            "username": USER, "password_file": password_file}},
        {"host": "second.test", "url": second.url}])
    assert tarn.manifest("first.test/org/app", "1").status == 200
    assert tarn.manifest("second.test/org/app", "1").status == 200
    assert carries_authorization(second.asked()) == []


def test_a_clients_own_credentials_go_no_further(tarn, upstream):
    upstream.image("org/app", [LAYER], tag="1")
    mine = {"Authorization": basic("client", "its-own"), "Cookie": "a=b",
            "X-Forwarded-For": "1.2.3.4", "Proxy-Authorization": "Basic eDp5"}
    assert tarn.get("/v2/org/app/manifests/1", mine).status == 200
    assert tarn.get(f"/v2/org/app/blobs/{DIGEST}", mine).status == 200
    for request in upstream.asked():
        for name in ("authorization", "cookie", "x-forwarded-for", "proxy-authorization"):
            assert name not in request.headers


# ---- no open proxy


@pytest.fixture
def stranger(make_upstream):
    """A registry that runs but is not configured."""
    stranger = make_upstream(host="127.0.0.4")
    stranger.image("org/app", [LAYER], tag="1")
    return stranger


def hosts_of(stranger):
    return [f"127.0.0.4:{stranger.port}", f"localhost:{stranger.port}", "169.254.169.254",
            "metadata.google.internal", "[::1]:80", "127.1", "0x7f.1", "evil.test"]


def test_an_unknown_ns_is_refused_without_a_connection(tarn, upstream, stranger):
    for host in hosts_of(stranger):
        reply = tarn.get(f"/v2/org/app/manifests/1?ns={host}", timeout=3)
        assert reply.status in (400, 404), (host, reply)
        assert reply.code == "NAME_UNKNOWN" or reply.status == 400
    assert (stranger.connections, upstream.connections) == (0, 0)


def test_an_unknown_host_in_the_path_is_refused_without_a_connection(tarn, upstream, stranger):
    """A domain, unlike an address, may be a part of a name at the default upstream."""
    domains = ["metadata.google.internal", "evil.test"]
    for host in [host for host in hosts_of(stranger) if host not in domains]:
        reply = tarn.get(f"/v2/{host}/org/app/manifests/1", timeout=3)
        assert reply.status in (400, 404), (host, reply)
    assert (stranger.connections, upstream.connections) == (0, 0)
    for host in domains:
        assert tarn.get(f"/v2/{host}/org/app/manifests/1", timeout=5).status == 404
        assert upstream.asked(f"^/v2/{host}/org/app/manifests/1")
    assert stranger.connections == 0


def test_the_tarns_own_address_is_no_upstream(tarn, upstream):
    reply = tarn.get(f"/v2/127.0.0.1:{tarn.port}/org/app/manifests/1")
    assert reply.status == 404
    assert upstream.connections == 0


def test_a_whole_url_as_target_reaches_nothing_else(tarn, stranger):
    answer = raw(tarn.port, f"GET {stranger.url}/v2/org/app/manifests/1 HTTP/1.1\r\n"
                            f"Host: 127.0.0.4:{stranger.port}\r\nConnection: close\r\n\r\n"
                            .encode())
    assert b" 200 " not in answer.split(b"\r\n")[0]
    answer = raw(tarn.port, f"CONNECT 127.0.0.4:{stranger.port} HTTP/1.1\r\n"
                            f"Host: 127.0.0.4:{stranger.port}\r\nConnection: close\r\n\r\n"
                            .encode())
    assert not answer.startswith(b"HTTP/1.1 2")
    assert stranger.connections == 0


@pytest.mark.parametrize("repository", ["allowed/app", "allowed/deep/er/app", "exact/app"])
def test_what_is_on_the_allow_list_is_served(start_tarn, upstream, repository):
    upstream.image(repository, [LAYER], tag="1")
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True,
                        "repositories": ["allowed/**", "exact/app"]}])
    assert tarn.manifest(repository, "1").status == 200


@pytest.mark.parametrize("repository", ["other/app", "allowedx/app", "exact/app/more",
                                        "exact/apps", "not/allowed/app"])
def test_what_is_not_on_the_allow_list_is_denied_without_a_connection(start_tarn, upstream,
                                                                      repository):
    upstream.image(repository, [LAYER], tag="1")
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True,
                        "repositories": ["allowed/**", "exact/app"]}])
    for path in ("manifests/1", f"blobs/{DIGEST}", "tags/list", f"referrers/{DIGEST}"):
        reply = tarn.get(f"/v2/{repository}/{path}")
        assert (reply.status, reply.code) == (403, "DENIED")
    assert upstream.connections == 0


# ---- links: one repository's content is not read through another


def test_a_cached_blob_is_not_read_through_a_repository_without_it(tarn, upstream):
    upstream.image("org/private", [LAYER], tag="1")
    upstream.image("org/other", [b"another"], tag="1")
    tarn.blob("org/private", DIGEST)
    tarn.wait_cached("org/private", DIGEST)
    for method in ("GET", "HEAD"):
        assert tarn.blob("org/other", DIGEST, method=method).status == 404
        assert tarn.blob("org/nowhere", DIGEST, method=method).status == 404
    part = tarn.blob("org/other", DIGEST, {"Range": "bytes=0-9"})
    assert part.status == 404


def test_a_blob_under_way_is_not_read_through_a_repository_without_it(tarn, upstream):
    big = noise(8 * MIB)
    upstream.image("org/private", [big], tag="1")
    upstream.image("org/other", [b"another"], tag="1")
    held = upstream.fault("org/private/blobs", hold_after=MIB)
    with tarn.download(f"/v2/org/private/blobs/{digest_of(big)}") as download:
        download.read(KIB)
        assert tarn.blob("org/other", digest_of(big)).status == 404
        held.gate.set()


def test_the_first_read_through_another_repository_costs_one_head(tarn, upstream):
    upstream.image("org/app", [LAYER], tag="1")
    upstream.image("org/other", [LAYER], tag="1")
    tarn.blob("org/app", DIGEST)
    tarn.wait_cached("org/app", DIGEST)
    upstream.forget_requests()
    for _ in range(3):
        assert tarn.blob("org/other", DIGEST).body == LAYER
    assert [request.method for request in upstream.asked()] == ["HEAD"]
    tarn.restart()
    assert tarn.blob("org/other", DIGEST).body == LAYER
    assert len(upstream.asked()) == 1


def test_a_cached_manifest_is_not_read_through_another_repository(tarn, upstream):
    digest = upstream.image("org/private", [LAYER], tag="1")
    upstream.image("org/other", [b"another"], tag="1")
    assert tarn.manifest("org/private", digest).status == 200
    assert tarn.manifest("org/other", digest).status == 404


def test_a_cached_blob_is_not_read_through_another_upstream(start_tarn, make_upstream):
    first, second = make_upstream(), make_upstream(host="127.0.0.3")
    first.image("org/app", [LAYER], tag="1")
    second.image("org/app", [b"another"], tag="1")
    tarn = start_tarn([{"host": "first.test", "url": first.url},
                       {"host": "second.test", "url": second.url}])
    tarn.blob("first.test/org/app", DIGEST)
    tarn.wait_cached("first.test/org/app", DIGEST)
    assert tarn.blob("second.test/org/app", DIGEST).status == 404


def test_a_blob_that_upstream_denies_is_not_read_from_the_cache_by_another_name(tarn, upstream):
    upstream.image("org/app", [LAYER], tag="1")
    upstream.image("org/secret", [LAYER], tag="1")
    tarn.blob("org/app", DIGEST)
    tarn.wait_cached("org/app", DIGEST)
    upstream.fault("org/secret", method=None, status=403)
    assert tarn.blob("org/secret", DIGEST).status == 403


# ---- redirects from the Internet into a private network

PUBLIC, PRIVATE = pod.PUBLIC_ADDRESSES, pod.PRIVATE_ADDRESSES


def through_a_redirect(start_tarn, make_upstream, own, elsewhere, what, **settings):
    """The response to a blob, or to a manifest, that is somewhere else; and that other host."""
    upstream = make_upstream(host=own, elsewhere=elsewhere)
    digest = upstream.image("org/app", [LAYER], tag="1")
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True, **settings}])
    if what == "blob":
        upstream.redirect = "elsewhere"
        reply = tarn.blob("org/app", DIGEST)
    else:
        other = make_upstream(host=elsewhere)
        other.image("org/app", [LAYER], tag="1")
        for method in ("GET", "HEAD"):
            upstream.fault("/manifests/", method=method, status=307, headers={
                "Location": f"{other.url}/v2/org/app/manifests/{digest}"})
        reply, upstream = tarn.manifest("org/app", "1"), other
    return reply, [one for one in upstream.asked() if "downloads" in one.path or what != "blob"]


@pytest.mark.parametrize("what", ["blob", "manifest"])
@pytest.mark.parametrize("elsewhere", [*PRIVATE, pod.METADATA_ADDRESS, pod.OTHER_METADATA_ADDRESS,
                                       "127.0.0.9"])
def test_a_public_upstream_leads_to_public_addresses_only(start_tarn, make_upstream, request, what,
                                                          elsewhere):
    if not pod.is_here(request):
        return
    reply, asked = through_a_redirect(start_tarn, make_upstream, PUBLIC[0], elsewhere, what)
    assert reply.status == 403 and elsewhere in reply.message
    assert asked == []
    assert "redirect_hosts" in reply.message or "metadata" in reply.message


@pytest.mark.parametrize("what", ["blob", "manifest"])
@pytest.mark.parametrize("elsewhere", [*PRIVATE, "127.0.0.9"])
def test_redirect_hosts_lists_the_exceptions(start_tarn, make_upstream, request, what, elsewhere):
    if not pod.is_here(request):
        return
    reply, asked = through_a_redirect(start_tarn, make_upstream, PUBLIC[0], elsewhere, what,
                                      redirect_hosts=["other.example", elsewhere])
    assert reply.status == 200 and asked
    assert not any("authorization" in one.headers for one in asked)


@pytest.mark.parametrize("listed", ["other.example", PUBLIC[1], f"{PRIVATE[0]}:1"])
def test_redirect_hosts_allows_no_other_host_and_no_other_port(start_tarn, make_upstream, request,
                                                               listed):
    if not pod.is_here(request):
        return
    reply, asked = through_a_redirect(start_tarn, make_upstream, PUBLIC[0], PRIVATE[0], "blob",
                                      redirect_hosts=[listed])
    assert reply.status == 403 and asked == []


@pytest.mark.parametrize("what", ["blob", "manifest"])
@pytest.mark.parametrize("own, elsewhere", [PUBLIC, PRIVATE, (PRIVATE[0], PUBLIC[0]),
                                            ("127.0.0.1", PRIVATE[0])])
def test_other_redirects_are_followed(start_tarn, make_upstream, request, own, elsewhere, what):
    if not pod.is_here(request):
        return
    reply, asked = through_a_redirect(start_tarn, make_upstream, own, elsewhere, what)
    assert reply.status == 200 and asked


@pytest.mark.parametrize("elsewhere", [pod.METADATA_ADDRESS, pod.OTHER_METADATA_ADDRESS])
def test_no_upstream_leads_to_a_metadata_server(start_tarn, make_upstream, request, elsewhere):
    if not pod.is_here(request):
        return
    for own in (PRIVATE[0], "127.0.0.1"):
        reply, asked = through_a_redirect(start_tarn, make_upstream, own, elsewhere, "blob")
        assert reply.status == 403 and asked == []
