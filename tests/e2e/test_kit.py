"""The scripted registry does what a test tells it to, as the other tests need it."""


import pytest

from kit.client import fetch
from kit.content import KIB, MIB, digest_of, noise
from kit.processes import run, wait_until
from kit.tokens import TokenService, basic

BLOB = noise(MIB)
DIGEST = digest_of(BLOB)
PATH = f"/v2/org/app/blobs/{DIGEST}"


@pytest.fixture
def fake(upstream):
    upstream.image("org/app", [BLOB])
    return upstream


def test_it_serves_whole_blobs_and_ranges(fake):
    assert fetch(fake.url + PATH).body == BLOB
    part = fetch(fake.url + PATH, {"Range": "bytes=10-19"})
    assert (part.status, part.body) == (206, BLOB[10:20])
    assert part["Content-Range"] == f"bytes 10-19/{MIB}"
    assert fetch(fake.url + PATH, {"Range": f"bytes={MIB}-"}).status == 416
    assert fake.blob_bytes() == MIB + 10
    assert [request.method for request in fake.asked("/blobs/")] == ["GET"] * 3


@pytest.mark.parametrize("how", ["cut_after", "reset_after"])
def test_it_cuts_where_it_is_told(fake, how):
    fake.fault("/blobs/", **{how: 1000}, times=1)
    reply = fetch(fake.url + PATH)
    assert (reply.complete, reply.body) == (False, BLOB[:1000])
    assert fetch(fake.url + PATH).complete


def test_it_sends_wrong_bytes(fake):
    fake.fault("/blobs/", flip=5, when=lambda request: request.range)
    assert fetch(fake.url + PATH).body == BLOB
    assert fetch(fake.url + PATH, {"Range": "bytes=5-5"}).body != BLOB[5:6]


@pytest.mark.serial
def test_it_throttles_and_holds(fake):
    fake.fault("/blobs/", bytes_per_second=2 * MIB, times=1)
    assert 0.4 < fetch(fake.url + PATH).seconds < 1.5
    held = fake.fault("/blobs/", hold_after=KIB)
    with pytest.raises(OSError):
        raise_unless_complete(fetch(fake.url + PATH, timeout=0.3))
    held.gate.set()


def raise_unless_complete(reply):
    if not reply.complete:
        raise OSError


def test_it_refuses_and_listens_again(fake):
    fake.refuse()
    with pytest.raises(ConnectionRefusedError):
        fetch(fake.url + "/v2/")
    fake.listen_again()
    assert fetch(fake.url + "/v2/").status == 200


@pytest.mark.parametrize("shape", ["chunked", "until_close"])
def test_it_leaves_out_the_length(fake, shape):
    fake.fault("/blobs/", **{shape: True})
    reply = fetch(fake.url + PATH)
    assert (reply["Content-Length"], reply.body) == (None, BLOB)


@pytest.mark.parametrize("redirect", ["relative", "same host", "elsewhere"])
def test_it_redirects(fake, redirect):
    fake.redirect, fake.redirect_uses = redirect, 1
    found = fetch(fake.url + PATH)
    assert found.status == 302
    place = found["Location"]
    assert len(place) > 1400
    if place.startswith("/"):
        place = fake.url + place
    assert fetch(place).body == BLOB
    assert fetch(place).status == 403


def test_it_wants_tokens(fake):
    fake.tokens = TokenService(anonymous=False, users={"u": "p"}, lifetime=1)
    refused = fetch(fake.url + PATH)
    assert refused.status == 401
    assert f'realm="{fake.url}/token"' in refused["WWW-Authenticate"]
    realm = f"{fake.url}/token?service=fake&scope=repository:org/app:pull"
    assert fetch(realm).status == 401
    token = fetch(realm, {"Authorization": basic("u", "p")}).json()["token"]
    right = {"Authorization": f"Bearer {token}"}
    assert fetch(fake.url + PATH, right).status == 200
    assert fetch(fake.url + "/v2/org/other/tags/list", right).status == 401
    wait_until(lambda: fetch(fake.url + PATH, right).status == 401, "the token's end")


def test_it_is_registry_enough_for_skopeo(fake, tmp_path):
    fake.redirect, fake.tokens = "elsewhere", TokenService()
    run(["skopeo", "copy", "--quiet", "--src-tls-verify=false",
         f"docker://127.0.0.1:{fake.port}/org/app:latest", f"dir:{tmp_path}/copy"])
    assert (tmp_path / "copy" / DIGEST.partition(":")[2]).read_bytes() == BLOB
