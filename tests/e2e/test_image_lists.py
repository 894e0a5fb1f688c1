"""GET /tarn/v1/images/HOST/NAME: what a repository holds, through tarn."""

import base64
import html
import json
import re
import signal
import socket
import threading
from urllib.parse import quote

import pytest

from kit.artifact_registry import Answer, google_error
from kit.client import at_once
from kit.content import OCI_MANIFEST, digest_of
from kit.processes import wait_until
from kit.tokens import basic
from kit.yaml_text import yaml_text

HOST = "us-docker.pkg.dev"
APP = f"{HOST}/project/repo/app"
KEYS = ["repository", "digest", "tags", "uploaded", "created", "size", "media_type", "platforms",
        "artifact_type"]
MEMBERS = ["repository", "source", "listed_at", "stale", "listed", "images", "next"]


def path_of(name, **query):
    parameters = "&".join(f"{key}={quote(str(value), safe='')}" for key, value in query.items())
    return f"/tarn/v1/images/{name}" + (f"?{parameters}" if parameters else "")


class Lists:
    """A tarn in front of the stand-in for Artifact Registry."""

    def __init__(self, start_tarn, google, api):
        self.start, self.google, self.api = start_tarn, google, api
        self.tarn = None

    def serve(self, upstream=None, **settings):
        self.tarn = self.start(
            [{"host": HOST, "credentials": "google", **(upstream or {})}],
            environment={"GCE_METADATA_HOST": self.google.host,
                         "CLOUDSDK_API_ENDPOINT_OVERRIDES_ARTIFACTREGISTRY": self.api.url + "/"},
            **settings)
        return self

    def get(self, name=APP, headers=None, method="GET", **query):
        return self.tarn.get(path_of(name, **query), headers, method=method)

    def images(self, name=APP, **query):
        reply = self.get(name, **query)
        assert reply.status == 200, reply
        return reply.json()["images"]

    def tags(self, name=APP, **query):
        return [image["tags"] for image in self.images(name, **query)]


@pytest.fixture
def lists(start_tarn, google, artifact_registry):
    return Lists(start_tarn, google, artifact_registry)


@pytest.fixture
def repository(artifact_registry):
    return artifact_registry.repository()


# ---- the answer


def test_an_answer_has_the_images_and_says_where_they_are_from(lists, repository):
    digest = repository.add("app", ["latest", "1.25"])
    reply = lists.serve().get()
    assert reply.status == 200
    assert reply["Content-Type"] == "application/json"
    assert reply["Cache-Control"] == "private"
    answer = reply.json()
    assert list(answer) == MEMBERS
    assert (answer["repository"], answer["source"], answer["stale"], answer["listed"],
            answer["next"]) == (APP, "artifact-registry", False, True, None)
    [image] = answer["images"]
    assert list(image) == KEYS
    assert (image["repository"], image["digest"], image["tags"]) == (APP, digest,
                                                                     ["1.25", "latest"])
    assert answer["listed_at"].endswith("Z")


def test_the_newest_upload_is_first_and_those_without_a_time_are_last(lists, repository):
    repository.add("app", ["b"], uploadTime=None)
    repository.add("app", ["old"], uploadTime="2023-01-01T00:00:00Z")
    repository.add("app", ["c"], uploadTime=None)
    repository.add("app", ["new"], uploadTime="2024-01-01T00:00:00.5Z")
    repository.add("app", ["as-new"], uploadTime="2024-01-01T00:00:00.500Z")
    assert lists.serve().tags() == [["new"], ["as-new"], ["old"], ["c"], ["b"]]


def test_untagged_images_come_with_all_only(lists, repository):
    index, children = repository.add_index("app", ["1"])
    lists.serve()
    assert [image["digest"] for image in lists.images()] == [index]
    assert {image["digest"] for image in lists.images(all="true")} == {index, *children}
    assert len(lists.images(all="false")) == 1
    assert lists.api.count() == 1


def test_tags_keeps_images_of_which_a_tag_matches(lists, repository):
    repository.add("app", ["w_2024_01", "latest"])
    repository.add("app", ["d_2024_01_01"])
    lists.serve()
    assert lists.tags(tags="w_*") == [["latest", "w_2024_01"]]
    assert len(lists.tags(tags="*_2024_*")) == 2
    assert lists.tags(tags="none*") == []


def test_pages_of_a_list_have_every_image_once(lists, repository):
    repository.add_many("app", 25, tags_of_each=1)
    repository.add("app", ["undated"], uploadTime=None)
    repository.add("app/other", ["x"])
    lists.serve()
    whole = lists.images()
    assert len(whole) == 26
    pages, last = [], {}
    while True:
        answer = lists.get(n=7, **last).json()
        pages.append(answer["images"])
        if not answer["next"]:
            break
        last = {"last": answer["next"]}
    assert [len(page) for page in pages] == [7, 7, 7, 5]
    assert sum(pages, []) == whole
    assert lists.images(n=26) == whole
    assert lists.get(n=26).json()["next"] is None
    assert lists.api.count() == 1


def test_next_holds_although_the_list_changes_between_two_answers(lists, repository):
    repository.add_many("app", 6, tags_of_each=1)
    lists.serve(images_ttl="0")
    first = lists.get(n=3).json()
    repository.entries.pop(3)  # the last of the first answer
    repository.add("app", ["newest"], uploadTime="2030-01-01T00:00:00Z")
    second = lists.images(n=3, last=first["next"])
    assert [image["tags"] for image in second] == [["v2.0"], ["v1.0"], ["v0.0"]]


@pytest.mark.slow
def test_an_answer_has_ten_thousand_images_at_most(lists, repository):
    repository.add_many("app", 10_001, tags_of_each=1)
    lists.serve()
    answer = lists.get(n=20_000).json()
    assert len(answer["images"]) == 10_000
    rest = lists.get(last=answer["next"]).json()
    assert len(rest["images"]) == 1
    assert rest["next"] is None


@pytest.mark.parametrize("query", [
    {"n": "0"}, {"n": "-1"}, {"n": "many"}, {"all": "perhaps"}, {"source": "guess"},
    {"last": "!"}, {"last": "YQ"}, {"last": base64.urlsafe_b64encode(b"1 - a b").decode()},
    {"last": "A" * 3000}, {"tags": "a" * 300},
])
def test_a_wrong_parameter_is_told_without_asking_upstream(lists, repository, query):
    repository.add("app", ["1"])
    refused = lists.serve().get(**query)
    assert refused.status == 400
    assert next(iter(query)) in refused.message
    assert lists.api.count() == 0


@pytest.mark.parametrize("name, status", [
    ("elsewhere.test/a/b", 404), (f"{HOST}/UPPER/x/y", 400), ("", 400), (f"{HOST}/", 400),
    (f"{HOST}/project/repo/app:1", 400), ("%00", 400), ("a" * 2000, 400),
])
def test_a_name_that_means_no_repository_is_refused(lists, name, status):
    assert lists.serve().get(name).status in (status, 404 if status == 400 else status)
    assert lists.api.count() == 0


def test_only_repositories_of_the_upstream_are_listed(lists, repository):
    repository.add("app", ["1"])
    repository.add("secret", ["2"])
    lists.serve({"repositories": ["project/repo/app"]})
    assert lists.get().status == 200
    refused = lists.get(f"{HOST}/project/repo/secret")
    assert (refused.status, refused.code) == (403, "DENIED")


def test_a_whole_repository_of_artifact_registry(lists, repository):
    repository.add("app", ["1"])
    repository.add("app/web", ["2"])
    lists.serve()
    found = lists.images(f"{HOST}/project/repo")
    assert {image["repository"] for image in found} == {APP, f"{APP}/web"}


# ---- HTTP


def test_head_and_etag(lists, repository):
    repository.add("app", ["1"])
    lists.serve()
    whole = lists.get()
    head = lists.get(method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head["Content-Length"] == str(len(whole.body))
    assert head["ETag"] == whole["ETag"]
    same = lists.get(headers={"If-None-Match": whole["ETag"]})
    assert (same.status, same.body, same["ETag"]) == (304, b"", whole["ETag"])
    assert same["Cache-Control"] == "private"
    assert lists.get(headers={"If-None-Match": '"sha256:0"'}).status == 200
    assert lists.get(method="POST").status == 405
    assert lists.api.count() == 1


def test_cache_status_says_how_a_list_was_found(lists, repository):
    repository.add("app", ["1"])
    lists.serve()
    assert lists.get().cache_status == "tarn; fwd=miss"
    assert lists.get().cache_status == "tarn; hit"
    assert lists.tarn.metrics()[
        'tarn_images_lists_total{source="artifact-registry",outcome="complete"}'] == 1
    lists.tarn.logged(r"images.*repository=project/repo/app.*cache=hit")


# ---- kept lists


def test_a_list_is_kept_for_images_ttl(lists, repository):
    repository.add("app", ["1"])
    lists.serve(images_ttl="1h")
    assert lists.tags() == [["1"]]
    repository.add("app", ["2"])
    assert lists.tags() == [["1"]]
    assert lists.api.count() == 1


def test_without_images_ttl_each_request_asks(lists, repository):
    repository.add("app", ["1"])
    lists.serve(images_ttl="0")
    lists.tags()
    repository.add("app", ["2"])
    assert len(lists.tags()) == 2
    assert lists.api.count() == 2


def test_images_ttl_can_change_while_tarn_runs(lists, repository):
    repository.add("app", ["1"])
    tarn = lists.serve(images_ttl="1h").tarn
    lists.tags(f"{APP}")
    tarn.settings["images_ttl"] = "0"
    reload(tarn)
    lists.tags(source="artifact-registry")
    lists.tags(source="artifact-registry")
    assert lists.api.count() == 3


def reload(tarn):
    tarn.config_path.write_text(yaml_text(tarn.settings))
    tarn.process.child.send_signal(signal.SIGHUP)
    tarn.logged("the configuration was reloaded")


def test_however_many_ask_upstream_gets_one_question(lists, repository):
    repository.add_many("app", 2500, tags_of_each=1)
    lists.serve()
    lists.api.gate = threading.Event()
    clients = [lambda: lists.get() for _ in range(30)]
    opener = threading.Thread(target=open_gate, args=(lists,), daemon=True)
    opener.start()
    replies = at_once(*clients)
    assert {reply.status for reply in replies} == {200}
    assert len({digest_of(reply.body) for reply in replies}) == 1
    assert lists.api.pages() == [0, 1, 2]


def open_gate(lists):
    """Opens it when all clients wait, as far as that can be seen."""
    wait_until(lambda: lists.api.count() >= 1, "the first request")
    wait_until(lambda: lists.tarn.metrics()["tarn_workers_busy"] >= 30, "the clients")
    lists.api.gate.set()


@pytest.mark.parametrize("answer", [
    google_error(503, "later"), google_error(403, "no", "IAM_PERMISSION_DENIED"),
    Answer(body=b"<html>"), Answer(reset=True),
], ids=["503", "403", "html", "reset"])
def test_while_upstream_fails_the_last_list_is_served(lists, repository, answer):
    repository.add("app", ["1"])
    lists.serve(images_ttl="0")
    before = lists.get(source="artifact-registry").json()
    lists.api.always = answer
    stale = lists.get(source="artifact-registry")
    assert stale.status == 200
    assert stale.cache_status == "tarn; fwd=stale; detail=upstream-failed"
    assert stale.json() == {**before, "stale": True}
    lists.api.always = None  # the question may wait before it tries again
    wait_until(lambda: not lists.get(source="artifact-registry").json()["stale"], "a new list", 100)


def test_a_repository_that_is_gone_has_no_list_any_more(lists, repository):
    repository.add("app", ["1"])
    lists.serve(images_ttl="0")
    query = {"source": "artifact-registry"}
    assert lists.get(**query).status == 200
    lists.api.contents.clear()
    assert lists.get(**query).status == 404
    lists.api.always = google_error(503, "later")
    assert lists.get(**query).status in (502, 503)


@pytest.mark.slow
def test_while_upstream_is_silent_the_last_list_is_served(lists, repository):
    repository.add("app", ["1"])
    lists.serve(images_ttl="0")
    lists.tags()
    lists.api.gate = threading.Event()
    stale = lists.get()
    assert (stale.status, stale.json()["stale"]) == (200, True)
    repository.add("app", ["2"])
    lists.api.gate.set()  # the question that was left goes on, and its answer is kept
    wait_until(lambda: len(lists.tags()) == 2, "the new list")


@pytest.mark.parametrize("answer, status", [
    (google_error(404, "no such repository"), 404),
    (google_error(403, "no", "IAM_PERMISSION_DENIED"), 403),
    (google_error(401, "no", "ACCESS_TOKEN_EXPIRED"), 403),
    (google_error(500, "broken"), 502),
    (Answer(body=b"<html>"), 502),
    (Answer(body=b'{"dockerImages": [{}]}'), 502),
    (Answer(reset=True), 502),
], ids=["404", "403", "401", "500", "html", "no-uri", "reset"])
def test_the_statuses_of_failures_without_a_list(lists, repository, answer, status):
    repository.add("app", ["1"])
    lists.serve()
    lists.api.always = answer
    failed = lists.get(source="artifact-registry")
    assert failed.status == status, failed
    assert HOST in failed.message


def test_an_upstream_that_is_not_artifact_registry_cannot_be_asked_as_one(start_tarn, upstream):
    upstream.image("org/app", [b"layer"])
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url}])
    assert tarn.get(path_of("fake.test/org/app", source="artifact-registry")).status == 400


# ---- clients


def test_a_question_ends_when_all_its_clients_have_gone(lists, repository):
    repository.add_many("app", 4000, tags_of_each=1)
    lists.serve()
    lists.api.gate = threading.Event()
    clients = []
    for _ in range(3):
        clients.append(threading.Thread(target=leave, args=(lists,), daemon=True))
        clients[-1].start()
    for client in clients:
        client.join()
    lists.tarn.logged("the client has left")
    wait_until(lambda: lists.tarn.metrics()["tarn_workers_busy"] == 0, "the workers to be free")
    lists.api.gate.set()
    lists.tarn.logged("the client has left")
    assert lists.api.pages() in ([], [0])
    assert len(lists.images()) == 4000


def leave(lists):
    """Asks, and goes away without the answer."""
    with socket.create_connection(("127.0.0.1", lists.tarn.port)) as connection:
        connection.sendall(f"GET {path_of(APP)} HTTP/1.1\r\nHost: tarn\r\n\r\n".encode())
        wait_until(lambda: lists.api.count() >= 1, "the question")


def test_the_end_of_tarn_does_not_wait_for_upstream(lists, repository):
    repository.add("app", ["1"])
    lists.serve(grace="100ms")
    lists.api.gate = threading.Event()
    client = threading.Thread(target=lambda: lists.get(), daemon=True)
    client.start()
    wait_until(lambda: lists.api.count() >= 1, "the question")
    lists.tarn.stop()
    lists.tarn.start()


def test_logins_and_rules_are_those_of_a_pull(lists, repository, users):
    repository.add("app", ["1"])
    repository.add("secret", ["2"])
    lists.serve(clients={"htpasswd": str(users), "rules": [
        {"users": ["alice"], "upstream": HOST, "repositories": ["project/repo/app"]},
        {"users": ["bob"], "upstream": HOST, "repositories": ["project/repo/*"]}]})
    alice, bob = ({"Authorization": basic(name, "secret")} for name in ("alice", "bob"))
    secret, whole = f"{HOST}/project/repo/secret", f"{HOST}/project/repo"
    assert lists.get().status == 401
    assert lists.get(whole).status == 401
    assert lists.api.count() == 0
    assert lists.get(headers=alice).status == 200
    assert lists.get(secret, headers=alice).status == 403
    assert lists.get(secret, headers=bob).status == 200

    def names(headers):
        return {image["repository"] for image in lists.get(whole, headers=headers).json()["images"]}

    assert names(alice) == {APP}
    assert names(bob) == {APP, secret}


def test_a_stranger_makes_no_request_upstream(lists, repository, users):
    repository.add("app", ["1"])
    lists.serve(clients={"htpasswd": str(users)})
    assert lists.get().status == 401
    assert lists.api.count() == 0


# ---- the Docker API


@pytest.fixture
def docker(start_tarn, upstream):
    upstream.image("org/app", [b"one"], "v1")
    upstream.image("org/app", [b"two"], "v2")
    upstream.repository("org/app").tags["latest"] = upstream.repository("org/app").tags["v2"]
    return start_tarn([{"host": "fake.test", "url": upstream.url}])


def test_tags_of_one_digest_are_one_image(docker, upstream):
    answer = docker.get(path_of("fake.test/org/app")).json()
    assert answer["source"] == "docker"
    assert [image["tags"] for image in answer["images"]] == [["latest", "v2"], ["v1"]]
    for image in answer["images"]:
        assert image["digest"] == upstream.repository("org/app").tags[image["tags"][0]]
        assert [key for key, value in image.items() if value is None] == [
            "uploaded", "created", "size", "media_type", "platforms", "artifact_type"]
    assert len(upstream.asked("/manifests/", "HEAD")) == 3
    assert not upstream.asked("/manifests/", "GET")


def test_a_digest_that_the_cache_knows_is_not_asked_for(docker, upstream):
    assert docker.manifest("fake.test/org/app", "v1", method="HEAD").status == 200
    upstream.forget_requests()
    assert docker.get(path_of("fake.test/org/app")).status == 200
    assert not upstream.asked("/manifests/v1")


def test_an_empty_repository_is_an_empty_list(docker, upstream):
    upstream.repository("org/empty")
    answer = docker.get(path_of("fake.test/org/empty")).json()
    assert (answer["images"], answer["listed"]) == ([], True)
    missing = docker.get(path_of("fake.test/org/missing"))
    assert (missing.status, missing.code) == (404, "NAME_UNKNOWN")


def test_a_rate_limit_gives_what_is_known_and_says_that_it_is_not_all(docker, upstream):
    for number in range(40):
        upstream.image("org/many", [b"%d" % number], f"t{number:02}")
    upstream.fault("/manifests/", status=429, headers={"Retry-After": "30"}, method="HEAD", skip=20)
    answer = docker.get(path_of("fake.test/org/many")).json()
    assert answer["listed"] is False
    assert len(answer["images"]) == 20
    assert len(upstream.asked("/manifests/", "HEAD")) <= 28


def test_a_rate_limit_on_the_tags_is_429(docker, upstream):
    upstream.fault("/tags/list", status=429, headers={"Retry-After": "7"})
    limited = docker.get(path_of("fake.test/org/app"))
    assert (limited.status, limited.code) == (429, "TOOMANYREQUESTS")


def test_a_list_that_broke_off_is_not_given(docker, upstream):
    upstream.page_size = 1
    upstream.fault("/tags/list", status=500, skip=1)
    assert docker.get(path_of("fake.test/org/app")).status == 502
    upstream.heal()
    assert len(docker.get(path_of("fake.test/org/app")).json()["images"]) == 2


def test_googles_addition_is_used_where_it_comes(docker, upstream):
    digest = upstream.repository("org/app").tags["v1"]
    upstream.fault("/tags/list", content=json.dumps({
        "name": "org/app", "child": [], "tags": ["v1", "v2"], "manifest": {digest: {
            "imageSizeBytes": "12345", "mediaType": OCI_MANIFEST, "tag": ["v1", "v2"],
            "timeCreatedMs": "0", "timeUploadedMs": "1618000000000"}}}).encode())
    [image] = docker.get(path_of("fake.test/org/app")).json()["images"]
    assert image == {"repository": "fake.test/org/app", "digest": digest, "tags": ["v1", "v2"],
                     "uploaded": "2021-04-09T20:26:40Z", "created": None, "size": 12345,
                     "media_type": OCI_MANIFEST, "platforms": None, "artifact_type": None}
    assert len(upstream.asked()) == 1


# ---- the view for people


def rows_of(page):
    """The cells of each row of the table, as words."""
    rows = re.findall(r"(?s)<tr><th scope=\"row\">(.*?)</tr>", page.body.decode())
    return [[" ".join(html.unescape(re.sub(r"<[^>]*>", "", cell)).split())
             for cell in re.split(r"<td[^>]*>", row)] for row in rows]


def test_the_page_links_to_a_view_of_a_repository(lists, repository):
    repository.add_index("app", ["latest", "w_2024_01"], imageSizeBytes=str(3 << 20),
                         uploadTime="2030-01-01T00:00:00Z")
    repository.add("app", ["old"], uploadTime=None, imageSizeBytes=None)
    tarn = lists.serve().tarn
    assert 'href="./?images="' in tarn.get("/").body.decode()
    empty = tarn.get("/?images=")
    assert empty.status == 200 and 'name="images"' in empty.body.decode()
    assert lists.api.count() == 0
    page = tarn.get(f"/?images={APP}")
    assert page.status == 200
    assert "script-src 'self'" in page["Content-Security-Policy"]
    new, old = rows_of(page)
    assert (new[0], new[2], new[4]) == ("latest, w_2024_01", "3.0 MiB", "linux/amd64, linux/arm64/v8")
    assert (old[0], old[2], old[3]) == ("old", "", "")
    assert lists.api.count() == 1


def test_the_view_is_sorted_and_filtered(lists, repository):
    repository.add("app", ["a"], imageSizeBytes="3", uploadTime="2024-01-01T00:00:00Z")
    repository.add("app", ["b"], imageSizeBytes="1", uploadTime="2024-01-03T00:00:00Z")
    repository.add("app", ["ab"], imageSizeBytes="2", uploadTime="2024-01-02T00:00:00Z")
    tarn = lists.serve().tarn

    def tags(query):
        return [row[0] for row in rows_of(tarn.get(f"/?images={APP}{query}"))]

    assert tags("") == ["b", "ab", "a"]
    assert tags("&order=tag") == ["b", "ab", "a"]
    assert tags("&order=size") == ["a", "ab", "b"]
    assert tags("&filter=b") == ["b", "ab"]
    assert tags("&filter=a*") == ["ab", "a"]
    assert tags("&filter=none") == []
    assert 'aria-sort="descending"' in tarn.get(f"/?images={APP}&order=size").body.decode()


def test_the_view_says_what_went_wrong_and_writes_nothing_of_others(lists, repository):
    repository.add("app", ["1"])
    tarn = lists.serve().tarn
    assert tarn.get("/?images=elsewhere.test/a").status == 404
    odd = tarn.get("/?images=%3Cscript%3E%22&filter=%22%3E%3Cb%3E")
    assert odd.status in (400, 404)
    assert "<script>\"" not in odd.body.decode() and "<b>" not in odd.body.decode()
    lists.api.always = google_error(403, "<i>no</i>", "IAM_PERMISSION_DENIED")
    failed = tarn.get(f"/?images={HOST}/project/repo")
    assert failed.status == 403
    assert "<i>" not in failed.body.decode() and "no" in failed.body.decode()


def test_the_view_is_behind_login_and_rules(lists, repository, users):
    repository.add("app", ["1"])
    repository.add("secret", ["2"])
    tarn = lists.serve(clients={"htpasswd": str(users), "rules": [
        {"users": ["alice"], "upstream": HOST, "repositories": ["project/repo/app"]}]}).tarn
    alice = {"Authorization": basic("alice", "secret")}
    assert tarn.get(f"/?images={APP}").status == 401
    assert tarn.get(f"/?images={HOST}/project/repo/secret", alice).status == 404
    assert lists.api.count() == 0
    whole = tarn.get(f"/?images={HOST}/project/repo", alice)
    assert [row[0] for row in rows_of(whole)] == [f"{APP}1"]
