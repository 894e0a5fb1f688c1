"""The scripted servers do what a test tells them to, as the other tests need it."""

from urllib.parse import urlencode

import pytest

from google_emulator import CLOUD_PLATFORM
from kit.artifact_registry import Answer, html, rate_limited, service_disabled, unavailable
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


# ---- the stand-in for Artifact Registry's REST API

LIST = "/v1/projects/project/locations/us/repositories/repo/dockerImages"
NAME = f"{LIST[len('/v1/'):]}"


def ask(api, token, path=LIST, **query):
    return fetch(f"{api.url}{path}?{urlencode(query)}", {"Authorization": f"Bearer {token}"})


def all_pages(api, token, **query):
    """The entries of every page, and the number of pages."""
    entries, pages = [], 0
    while True:
        page = ask(api, token, **query).json()
        entries += page.get("dockerImages", [])
        pages += 1
        if not page.get("nextPageToken"):
            return entries, pages
        query["pageToken"] = page["nextPageToken"]


@pytest.fixture
def token(google):
    return google.give_access("person@example.com", [CLOUD_PLATFORM])


def reason_of(reply):
    error = reply.json()["error"]
    assert error["code"] == reply.status
    return error.get("details", [{}])[0].get("reason", error["status"])


def test_artifact_registry_wants_a_token_with_the_right_scope(artifact_registry, google, token):
    artifact_registry.repository().add("app", ["1"])
    url = f"{artifact_registry.url}{LIST}?pageSize=1000"
    assert reason_of(fetch(url)) == "CREDENTIALS_MISSING"
    assert reason_of(fetch(url, {"Authorization": "Bearer other"})) == "ACCESS_TOKEN_EXPIRED"
    assert reason_of(fetch(url, {"Authorization": basic("oauth2accesstoken", token)})) == \
        "ACCESS_TOKEN_EXPIRED"
    storage = google.give_access("x", ["https://www.googleapis.com/auth/devstorage.read_write"])
    assert reason_of(ask(artifact_registry, storage, pageSize=1000)) == \
        "ACCESS_TOKEN_SCOPE_INSUFFICIENT"
    assert len(ask(artifact_registry, token, pageSize=1000).json()["dockerImages"]) == 1
    artifact_registry.readers = {"another@example.com"}
    assert reason_of(ask(artifact_registry, token, pageSize=1000)) == "IAM_PERMISSION_DENIED"


@pytest.mark.parametrize("path, query, reason", [
    (LIST, {"pageSize": 1001}, "INVALID_ARGUMENT"),
    (LIST, {"pageSize": -1}, "INVALID_ARGUMENT"),
    (LIST, {"pageSize": 10, "page_token": "x"}, "INVALID_ARGUMENT"),
    (LIST, {"pageSize": 10, "pageToken": "x"}, "INVALID_ARGUMENT"),
    (LIST, {"pageSize": 10, "filter": "app"}, "INVALID_ARGUMENT"),
    (LIST.replace("/us/", "/europe/"), {"pageSize": 10}, "NOT_FOUND"),
    (LIST.replace("project/", "Project/"), {"pageSize": 10}, "RESOURCE_PROJECT_INVALID"),
    (LIST.replace("/v1/", "/v1beta2/"), {"pageSize": 10}, None),
])
def test_artifact_registry_refuses(artifact_registry, token, path, query, reason):
    artifact_registry.repository().add("app", ["1"])
    refused = ask(artifact_registry, token, path, **query)
    assert refused.status in (400, 404)
    assert reason_of(refused) == (reason or "NOT_FOUND")


def test_artifact_registry_refuses_changed_parameters_between_pages(artifact_registry, token):
    contents = artifact_registry.repository()
    contents.add_many("app", 5)
    artifact_registry.repository(repository="other").add_many("app", 5)
    first = ask(artifact_registry, token, pageSize=2).json()["nextPageToken"]
    assert ask(artifact_registry, token, pageSize=3, pageToken=first).status == 400
    assert ask(artifact_registry, token, pageSize=2, pageToken=first, orderBy="name").status == 400
    assert ask(artifact_registry, token, LIST.replace("/repo/", "/other/"), pageSize=2,
               pageToken=first).status == 400
    entries, pages = all_pages(artifact_registry, token, pageSize=2)
    assert (entries, pages) == (contents.entries, 3)
    assert artifact_registry.pages() == [0, 0, 1, 2]


def test_artifact_registry_filters_by_name(artifact_registry, token):
    contents = artifact_registry.repository()
    contents.add("app", ["1"])
    contents.add("app/child", ["2"])
    contents.add("APP-2", ["3"])

    def found(pattern):
        entries, _ = all_pages(artifact_registry, token, pageSize=1000,
                               filter=f'name="{NAME}/{pattern}"')
        return [entry["tags"][0] for entry in entries]

    assert found("app@*") == ["1"]
    assert found("app%2Fchild@*") == ["2"]
    assert found("app*") == ["1", "2", "3"]
    artifact_registry.filter = "ignored"
    assert found("app@*") == ["1", "2", "3"]
    artifact_registry.filter = "refused"
    assert ask(artifact_registry, token, pageSize=1, filter=f'name="{NAME}/a@*"').status == 400


def test_artifact_registry_sends_entries_as_the_api_does(artifact_registry, token):
    contents = artifact_registry.repository(project="example.com:proj", location="europe-west1")
    contents.add("app/web", ["b", "a"], imageSizeBytes=None, uploadTime="2024-01-01T00:00:00Z")
    index, children = contents.add_index("app", ["1"])
    entries = ask(artifact_registry, token, LIST.replace("project/", "example.com:proj/", 1).replace(
        "/us/", "/europe-west1/"), pageSize=1000).json()["dockerImages"]
    assert entries[0]["uri"].startswith("europe-west1-docker.pkg.dev/example.com/proj/repo/app/web@")
    assert "/dockerImages/app%2Fweb@sha256:" in entries[0]["name"]
    assert "imageSizeBytes" not in entries[0]
    assert entries[1]["imageSizeBytes"] == "71000000"
    assert [entry["uri"].partition("@")[2] for entry in entries[1:]] == [*children, index]
    assert [child["digest"] for child in entries[3]["imageManifests"]] == children
    assert "tags" not in entries[1]


def test_artifact_registry_makes_odd_pages(artifact_registry, token):
    artifact_registry.repository().add_many("app", 4)
    artifact_registry.page_limit = 2
    artifact_registry.empty_pages = {1}
    entries, pages = all_pages(artifact_registry, token, pageSize=1000)
    assert (len(entries), pages) == (4, 3)
    artifact_registry.endless = True
    token_of = [ask(artifact_registry, token, pageSize=1000).json()["nextPageToken"]]
    for _ in range(5):
        token_of.append(ask(artifact_registry, token, pageSize=1000,
                            pageToken=token_of[-1]).json()["nextPageToken"])
    assert len(set(token_of)) == 6
    artifact_registry.repeat_token_on = 1
    assert ask(artifact_registry, token, pageSize=1000,
               pageToken=token_of[0]).json()["nextPageToken"] == token_of[0]
    artifact_registry.padding = 17 * MIB
    artifact_registry.chunked = True
    assert len(ask(artifact_registry, token, pageSize=1000).body) > 17 * MIB


def test_artifact_registry_fails_as_told(artifact_registry, token):
    artifact_registry.repository().add_many("app", 4)
    artifact_registry.page_limit = 2
    artifact_registry.queue = [unavailable(), unavailable(), rate_limited(), rate_limited(7), html(),
                               service_disabled(), Answer(reset=True),
                               Answer(body=b"[" * 5000, cut=1000)]
    replies = [ask(artifact_registry, token, pageSize=1000) for _ in range(9)]
    assert [reply.status for reply in replies] == [503, 503, 429, 429, 200, 403, 0, 200, 200]
    assert [reply["Retry-After"] for reply in replies[2:4]] == [None, "7"]
    assert replies[4]["Content-Type"].startswith("text/html")
    assert reason_of(replies[5]) == "SERVICE_DISABLED"
    assert [reply.complete for reply in replies[6:]] == [False, False, True]
    artifact_registry.on_page = {1: [unavailable()]}
    next_page = replies[8].json()["nextPageToken"]
    assert [ask(artifact_registry, token, pageSize=1000, pageToken=next_page).status
            for _ in range(2)] == [503, 200]
