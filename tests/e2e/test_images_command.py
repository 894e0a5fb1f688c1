"""tarn images: what a repository holds, by the REST API of Artifact Registry."""

import base64
import json
import os
import pty
import re
import subprocess

import pytest

from google_emulator import CLOUD_PLATFORM
from kit.artifact_registry import Answer, google_error, html, rate_limited, service_disabled, \
    unavailable
from kit.content import OCI_INDEX, OCI_MANIFEST
from kit.images_command import Images
from kit.processes import free_port

HOST = "us-docker.pkg.dev"
APP = f"{HOST}/project/repo/app"
KEYS = ["repository", "digest", "tags", "uploaded", "created", "size", "media_type", "platforms",
        "artifact_type"]
OVERRIDE = "CLOUDSDK_API_ENDPOINT_OVERRIDES_ARTIFACTREGISTRY"


@pytest.fixture
def images(program, google, artifact_registry, tmp_path):
    one = Images(program, tmp_path / "images", GCE_METADATA_HOST=google.host,
                 **{OVERRIDE: artifact_registry.url + "/"})
    one.secrets = google.all_secrets
    one.configure({"host": HOST, "credentials": "google"})
    return one


@pytest.fixture
def repository(artifact_registry):
    return artifact_registry.repository()


# ---- what is printed


def test_an_image_is_a_digest_with_all_its_tags_and_all_keys(images, repository):
    digest = repository.add("app", ["latest", "1.25"], artifactType="application/x+type")
    done = images.json(APP)
    [line] = done.lines
    assert list(line) == KEYS
    assert line == {"repository": APP, "digest": digest, "tags": ["1.25", "latest"],
                    "uploaded": "2023-03-27T13:02:39.123456Z", "created": "2023-03-27T13:02:39Z",
                    "size": 71000000, "media_type": OCI_MANIFEST, "platforms": None,
                    "artifact_type": "application/x+type"}
    assert done.ends == [{"repository": APP, "listed": True, "error": None}]
    assert done.err == ""


def test_what_the_api_does_not_tell_is_null(images, repository):
    digest = repository.add("app", ["bare"], imageSizeBytes=None, uploadTime=None, mediaType=None,
                            buildTime=None, updateTime=None)
    repository.add("app", ["odd"], imageSizeBytes="0", uploadTime="yesterday", mediaType="",
                   buildTime="1970-01-01T00:00:00Z", artifactType=7, imageManifests=[{}])
    lines = {line["tags"][0]: line for line in images.json(APP).lines}
    assert lines["bare"] == dict.fromkeys(KEYS) | {"repository": APP, "digest": digest,
                                                   "tags": ["bare"]}
    assert [key for key in KEYS if lines["odd"][key] is not None] == ["repository", "digest", "tags"]


@pytest.mark.parametrize("sent, told", [
    ("2023-03-27T13:02:39Z", "2023-03-27T13:02:39Z"),
    ("2023-03-27T13:02:39.5Z", "2023-03-27T13:02:39.500Z"),
    ("2023-03-27T13:02:39.123456789Z", "2023-03-27T13:02:39.123456Z"),
    ("2023-03-27T15:02:39+02:00", "2023-03-27T13:02:39Z")])
def test_times_with_and_without_a_fraction(images, repository, sent, told):
    repository.add("app", ["a"], uploadTime=sent)
    assert images.json(APP).lines[0]["uploaded"] == told


def test_sizes_are_strings_or_numbers_of_64_bits(images, repository):
    repository.add("app", ["a"], imageSizeBytes="9007199254740993")
    repository.add("app", ["b"], imageSizeBytes=4096)
    repository.add("app", ["c"], imageSizeBytes="99999999999999999999")
    lines = images.json(APP, "--sort", "size").lines
    assert [line["size"] for line in lines] == [9007199254740993, 4096, None]


def test_the_table_and_the_references(images, repository):
    digest = repository.add("app", ["v1", "latest"])
    index, _ = repository.add_index("app", ["multi"], uploadTime="2022-01-02T03:04:05Z")
    done = images.run(APP)
    head, first, second = done.out.splitlines()
    assert head.split() == ["TAGS", "DIGEST", "SIZE", "UPLOADED", "PLATFORMS"]
    assert first.split() == ["latest,v1", digest[7:19], "67.7", "MiB", "2023-03-27T13:02:39Z", "-"]
    assert second.split()[-1] == "linux/amd64,linux/arm64/v8"
    quiet = images.run("-q", APP)
    assert quiet.out == f"{APP}@{digest}\n{APP}@{index}\n"
    assert images.run("--quiet", APP).out == quiet.out


def test_the_table_is_as_wide_as_the_terminal_and_whole_when_piped(images, repository):
    tags = [f"a-long-tag-number-{number:03}" for number in range(40)]
    repository.add("app", tags)
    assert ",".join(tags) in images.run(APP).out
    master, slave = pty.openpty()
    subprocess.run(["stty", "cols", "100"], stdin=slave, check=True)
    done = subprocess.run(images.command(APP), stdout=slave, stderr=subprocess.PIPE,
                          env=images.environment, timeout=60, check=False)
    os.close(slave)
    shown = os.read(master, 65536).decode()
    os.close(master)
    assert done.returncode == 0, done.stderr
    assert max(len(line) for line in shown.splitlines()) <= 100, shown
    assert "a-long-tag-number-000" in shown and "…" in shown and "67.7 MiB" in shown


def test_an_empty_repository_prints_nothing(images, repository):
    assert repository.entries == []
    assert images.run(APP).out == ""
    assert images.run("-q", APP).out == ""
    assert images.json(APP).out == f'{{"repository":"{APP}","listed":true,"error":null}}\n'


# ---- which images, in which order


def test_untagged_images_and_children_of_an_index_are_listed_with_all_only(images, repository):
    index, children = repository.add_index("app", ["multi"])
    untagged = repository.add("app")
    assert images.run("-q", APP).out == f"{APP}@{index}\n"
    listed = images.json(APP, "--all").lines
    assert {line["digest"] for line in listed} == {index, untagged, *children}
    [line] = [line for line in listed if line["digest"] == index]
    assert line["platforms"] == ["linux/amd64", "linux/arm64/v8"]
    assert line["media_type"] == OCI_INDEX


def test_a_child_that_has_a_tag_is_listed(images, repository):
    _, children = repository.add_index("app", ["multi"])
    repository.add("app", ["multi-amd64"], digest=children[0])
    assert sorted(images.json(APP).tags) == [["multi"], ["multi-amd64"]]


def test_one_image_of_several_entries_has_the_tags_of_all(images, repository):
    digest = repository.add("app", ["a"])
    repository.add("app", ["b", "a"], digest=digest)
    assert images.json(APP).tags == [["a", "b"]]


def test_other_names_of_the_repository_are_left_out(images, artifact_registry, repository):
    for name in ("other", "app2", "ap", "team/app", "app/base"):
        repository.add(name, [f"of-{name.replace('/', '-')}"])
    repository.add("app", ["mine"])
    for how in ("applied", "ignored", "refused"):
        artifact_registry.filter = how
        assert images.json(APP).tags == [["mine"]]
    assert images.json(f"{HOST}/project/repo/team/app").tags == [["of-team-app"]]
    assert images.json(f"{HOST}/project/repo/app/base").tags == [["of-app-base"]]


def test_the_order_and_the_limit(images, repository):
    repository.add("app", ["b", "z"], uploadTime="2024-01-01T00:00:00.000002Z", imageSizeBytes="3")
    repository.add("app", ["c"], uploadTime="2024-01-01T00:00:00.000003Z", imageSizeBytes="1")
    repository.add("app", ["a"], uploadTime="2024-01-01T00:00:00.000002Z", imageSizeBytes="2")
    repository.add("app", ["y"], uploadTime=None, imageSizeBytes=None)
    assert images.json(APP).tags == [["c"], ["b", "z"], ["a"], ["y"]]
    assert images.json(APP, "--sort=uploaded").tags == [["c"], ["b", "z"], ["a"], ["y"]]
    assert images.json(APP, "--sort", "tag").tags == [["b", "z"], ["y"], ["c"], ["a"]]
    assert images.json(APP, "--sort", "size").tags == [["b", "z"], ["a"], ["c"], ["y"]]
    assert images.json(APP, "--limit", "2").tags == [["c"], ["b", "z"]]


def test_globs_keep_images_with_all_their_tags(images, repository):
    repository.add("app", ["w_1", "latest"])
    repository.add("app", ["d_1"])
    repository.add("app", ["r1"])
    assert images.json(APP, "--tags", "w_*").tags == [["latest", "w_1"]]
    assert sorted(images.json(APP, "--tags", "w_*", "--tags", "r?").tags) == \
        [["latest", "w_1"], ["r1"]]
    assert images.json(APP, "--tags", "w_*,d_*,x").tags == [["latest", "w_1"], ["d_1"]]
    assert images.run(APP, "--tags", "x").out == ""


def test_only_what_was_uploaded_recently(images, repository):
    repository.add("app", ["old"])
    repository.add("app", ["new"], uploadTime="2999-01-01T00:00:00Z")
    repository.add("app", ["when"], uploadTime=None)
    done = images.json(APP, "--newer-than", "30d")
    assert done.tags == [["new"]]
    assert "1 image is left out" in done.err


def test_one_image_by_its_tag_or_its_digest(images, repository):
    digest = repository.add("app", ["a", "b"])
    untagged = repository.add("app")
    repository.add("app", ["ab"])
    assert images.run("-q", f"{APP}:b").out == f"{APP}@{digest}\n"
    assert images.run("-q", f"{APP}@{untagged}").out == f"{APP}@{untagged}\n"
    done = images.json(f"{APP}:c", status=1)
    assert done.lines == [] and done.ends[0]["listed"] is False
    assert "has no image with the tag c" in done.err


def test_a_whole_repository_with_all_its_names(images, artifact_registry, repository):
    repository.add("app", ["a"])
    repository.add("team/app", ["b"])
    repository.add("team/base")
    lines = images.json(f"{HOST}/project/repo").lines
    assert {line["repository"]: line["tags"] for line in lines} == {
        APP: ["a"], f"{HOST}/project/repo/team/app": ["b"]}
    assert all("filter" not in asked.query for asked in artifact_registry.asked)
    head = images.run(f"{HOST}/project/repo").out.splitlines()[0]
    assert head.split()[:2] == ["REPOSITORY", "TAGS"]


def test_several_repositories_of_which_one_fails(images, artifact_registry, repository):
    repository.add("app", ["a"])
    artifact_registry.repository(repository="second").add("x", ["b"])
    missing = f"{HOST}/project/none/app"
    second = f"{HOST}/project/second/x"
    done = images.json("--source", "artifact-registry", APP, missing, second, status=1)
    assert done.tags == [["a"], ["b"]]
    assert [(end["repository"], end["listed"]) for end in done.ends] == \
        [(APP, True), (missing, False), (second, True)]
    assert f"upstream {HOST}" in done.err and "404" in done.err and "NOT_FOUND" in done.err
    assert done.ends[1]["error"] in done.err
    table = images.run("--source", "artifact-registry", APP, missing, second, status=1).out
    assert [line.split()[0] for line in table.splitlines()] == ["REPOSITORY", APP, second]


# ---- names


@pytest.mark.parametrize("name, settings", [
    ("us-docker.pkg.dev/project/repo/app", {}),
    ("docker.us.rep.pkg.dev/project/repo/app", {}),
    ("us-central1-docker.pkg.dev/project/repo/app", {"location": "us-central1"}),
    ("docker.europe-west4.rep.pkg.dev/project/repo/app", {"location": "europe-west4"}),
    ("us-docker.pkg.dev/example.com/project/repo/app", {"project": "example.com:project"}),
    ("us-docker.pkg.dev/project/repo/team/sub/app", {}),
    ("gcr.io/project/app", {"repository": "gcr.io", "host": "gcr.io"}),
    ("us.gcr.io/project/team/app", {"repository": "us.gcr.io", "host": "us.gcr.io"}),
    ("eu.gcr.io/project/app", {"repository": "eu.gcr.io", "location": "europe",
                               "host": "eu.gcr.io"}),
    ("asia.gcr.io/example.com/project/app", {"repository": "asia.gcr.io", "location": "asia",
                                             "project": "example.com:project",
                                             "host": "asia.gcr.io"}),
    ("gcr.io/project/app", {"repository": "gcr.io"}),  # named by Artifact Registry's own host
])
def test_the_names_of_artifact_registry(images, artifact_registry, name, settings):
    host = name.partition("/")[0]
    images.configure({"host": host, "credentials": "google", "default": True})
    repository = artifact_registry.repository(**settings)
    path = name.split("/")[1:]
    image = "/".join(path[path.index("project") + (1 if "gcr.io" in host else 2):])
    digest = repository.add(image, ["a"])
    assert images.run("-q", name).out == f"{name}@{digest}\n"
    if "." not in path[0]:  # a first part with a dot would be a host
        assert images.run("-q", "/".join(path)).out == f"{name}@{digest}\n"
    assert {one.query.get("filter") for one in artifact_registry.asked} == {
        f'name="{repository.parent}/dockerImages/{image.replace("/", "%2F")}@*"'}
    whole = name.removesuffix(f"/{image}")
    assert images.run("-q", whole).out == f"{name}@{digest}\n"


def test_an_upstream_by_another_name_whose_url_is_an_artifact_registry(images, repository):
    images.configure({"host": "images.example", "url": f"https://{HOST}/v2/project/repo",
                      "credentials": "google"})
    digest = repository.add("app", ["a"])
    assert images.run("-q", "images.example/app").out == f"images.example/app@{digest}\n"


def test_only_configured_upstreams_within_their_repositories(images, artifact_registry, repository):
    repository.add("app", ["a"])
    repository.add("other", ["b"])
    images.configure({"host": HOST, "credentials": "google",
                      "repositories": ["project/repo/app", "second/**"]})
    assert "`repositories:`" in images.run(f"{HOST}/project/repo/other", status=1).err
    assert "`repositories:`" in images.run(f"{HOST}/project/third", status=1).err
    assert "no upstream is configured for ghcr.io" in images.run("ghcr.io/a/b", status=1).err
    assert artifact_registry.count() == 0
    assert images.json(f"{HOST}/project/repo").tags == [["a"]]


@pytest.mark.parametrize("arguments", [
    [], [APP + ":-x"], [APP + "@sha256:12"], [f"{HOST}/Upper/repo/app"], [f"{HOST}/a//b"],
    [APP, "--sort", "digest"], [APP, "--source", "gcloud"], [APP, "--limit", "0"],
    [APP, "--limit", "1GiB"], [APP, "--limit", "-1"], [APP, "--newer-than", "soon"],
    [APP, "--json", "-q"], [APP, "-x"], [APP, "-qq"], [APP, "--no-digests", "-q"],
    [APP, "--no-digests", "--sizes"], [APP, "--jobs", "1000"], [f"{HOST}/project/repo:tag"]])
def test_bad_usage(images, artifact_registry, arguments):
    done = images.run(*arguments, status=2)
    assert done.out == ""
    assert done.err.startswith("tarn images: ") and "tarn images --help" in done.err
    assert artifact_registry.count() == 0


# ---- requests


def test_the_requests_are_as_the_api_wants_them(images, artifact_registry, google, repository):
    repository.add_many("app", 2500)
    done = images.json(APP)
    assert len(done.lines) == 2500
    assert artifact_registry.pages() == [0, 1, 2]
    assert all(one.query["pageSize"] == "1000" for one in artifact_registry.asked)
    assert all("x-goog-user-project" not in one.headers for one in artifact_registry.asked)
    assert google.count("metadata") <= 1


def test_pages_that_are_empty_or_short_or_out_of_order(images, artifact_registry, repository):
    repository.add_many("app", 250, 1)
    artifact_registry.page_limit = 100
    artifact_registry.empty_pages = {0, 2}
    artifact_registry.shuffle = lambda entries: entries[::2] + entries[1::2]
    done = images.json(APP)
    assert [line["tags"] for line in done.lines] == [[f"v{n}.0"] for n in reversed(range(250))]


def test_a_refused_filter_is_remembered_for_the_process(images, artifact_registry, repository):
    repository.add("app", ["a"])
    repository.add("other", ["b"])
    artifact_registry.filter = "refused"
    assert images.json(APP, f"{HOST}/project/repo/other").tags == [["a"], ["b"]]
    assert ["filter" in one.query for one in artifact_registry.asked] == [True, False, False]


def test_400_that_is_not_about_the_filter_is_final(images, artifact_registry, repository):
    repository.add("app", ["a"])
    artifact_registry.always = google_error(400, "Invalid resource name", "RESOURCE_PROJECT_INVALID")
    done = images.run(APP, status=1)
    assert artifact_registry.count() == 2
    assert "400 INVALID_ARGUMENT: Invalid resource name (RESOURCE_PROJECT_INVALID)" in done.err


def test_the_quota_project_is_named(images, artifact_registry, google, repository):
    repository.add("app", ["a"])
    file = images.folder / "key.json"
    file.write_text(json.dumps(google.service_account(quota_project_id="quota-project")))
    file.chmod(0o600)
    images.environment["GOOGLE_APPLICATION_CREDENTIALS"] = str(file)
    assert images.json(APP).tags == [["a"]]
    assert artifact_registry.asked[-1].headers["x-goog-user-project"] == "quota-project"


def test_docker_s_login_with_an_access_token_is_used(images, google, repository):
    digest = repository.add("app", ["a"])
    password = images.folder / "password"
    password.write_text(google.give_access("person@example.com", [CLOUD_PLATFORM]))
    images.configure({"host": HOST, "credentials": {"username": "oauth2accesstoken",
                                                    "password_file": str(password)}})
    assert images.run("-q", APP).out == f"{APP}@{digest}\n"


@pytest.mark.parametrize("user", ["_json_key", "_json_key_base64"])
def test_docker_s_login_with_a_key_is_exchanged_for_a_token(images, google, artifact_registry,
                                                            repository, user):
    digest = repository.add("app", ["a"])
    key = json.dumps(google.service_account(quota_project_id="quota-project"))
    password = images.folder / "password"
    password.write_text(key if user == "_json_key" else base64.b64encode(key.encode()).decode())
    images.configure({"host": HOST, "credentials": {"username": user,
                                                    "password_file": str(password)}})
    assert images.run("-q", APP).out == f"{APP}@{digest}\n"
    assert artifact_registry.asked[-1].headers["x-goog-user-project"] == "quota-project"
    assert google.count("oauth") == 1
    password.write_text("{}")
    if user == "_json_key":
        assert "no service account's key" in images.run(APP, status=1).err
        assert artifact_registry.count() == 1


def test_without_a_google_token_the_api_is_not_asked(images, artifact_registry, repository):
    repository.add("app", ["a"])
    images.configure({"host": HOST, "credentials": "anonymous"})
    done = images.run(APP, "--source", "artifact-registry", status=1)
    assert "Google access token" in done.err and "credentials: google" in done.err
    assert "Google access token" in images.run(f"{HOST}/project/repo", status=1).err
    assert artifact_registry.count() == 0


@pytest.mark.parametrize("answer", [unavailable(), google_error(500, "a"), html(502),
                                    google_error(504, "a"), google_error(408, "a"),
                                    Answer(reset=True), Answer(200, b"{}" * 50, cut=10)])
def test_what_passes_is_tried_again(images, artifact_registry, repository, answer):
    repository.add("app", ["a"])
    artifact_registry.queue = [answer, answer]
    assert images.json(APP).tags == [["a"]]
    assert artifact_registry.count() == 3


def test_the_fourth_failure_is_the_last(images, artifact_registry, repository):
    repository.add("app", ["a"])
    artifact_registry.always = unavailable()
    done = images.json(APP, status=1)
    assert artifact_registry.count() == 4
    assert "503 UNAVAILABLE: Authentication server unavailable." in done.err
    assert done.lines == [] and done.ends[0]["listed"] is False


def test_a_later_page_is_tried_again_with_the_same_parameters(images, artifact_registry, repository):
    repository.add_many("app", 250, 1)
    artifact_registry.page_limit = 100
    artifact_registry.on_page = {1: [unavailable(), rate_limited(1)]}
    assert len(images.json(APP).lines) == 250
    assert artifact_registry.pages() == [0, 1, 2]


def test_429_is_waited_for_as_long_as_it_says(images, artifact_registry, repository):
    repository.add("app", ["a"])
    artifact_registry.queue = [rate_limited(1), rate_limited(1)]
    assert images.json(APP).tags == [["a"]]
    artifact_registry.forget()
    artifact_registry.queue = [rate_limited(3600)]
    done = images.run(APP, status=1)
    assert "429 RESOURCE_EXHAUSTED" in done.err and "RATE_LIMIT_EXCEEDED" in done.err
    assert artifact_registry.count() == 1


def test_an_api_that_cannot_be_reached(images):
    images.environment[OVERRIDE] = f"http://127.0.0.1:{free_port()}"
    done = images.run(APP, status=1)
    assert f"upstream {HOST}" in done.err and "Connection refused" in done.err
    assert "source docker" in done.err


@pytest.mark.parametrize("answer, words", [
    (google_error(401, "no", "ACCESS_TOKEN_EXPIRED"), "401 UNAUTHENTICATED: no"),
    (google_error(409, "no"), "409 ABORTED: no"),
    (Answer(301, b"", {"Location": "/v1/elsewhere"}), "301"),
    (Answer(302, b"", {"Location": "https://example.com/"}), "302"),
    (Answer(204), "204"),
    (google_error(505, "no", name="ODD\x1b[2J"), "505"),
    (html(418), "418")])
def test_every_other_status_is_final(images, artifact_registry, repository, answer, words):
    repository.add("app", ["a"])
    artifact_registry.always = answer
    done = images.run(APP, status=1)
    assert artifact_registry.count() == 1
    assert words in done.err and f"upstream {HOST}" in done.err and "\x1b" not in done.err
    assert done.out == ""


def test_a_refused_token_is_replaced_for_the_next_list(images, artifact_registry, google, repository):
    repository.add("app", ["a"])
    artifact_registry.queue = [google_error(401, "no", "ACCESS_TOKEN_EXPIRED")]
    done = images.json(APP, APP, status=1)
    assert done.tags == [["a"]] and [end["listed"] for end in done.ends] == [False, True]
    refused, taken = [one.headers["authorization"] for one in artifact_registry.asked]
    assert refused != taken


def test_a_disabled_api_is_told_with_the_line_that_enables_it(images, artifact_registry, repository):
    repository.add("app", ["a"])
    artifact_registry.always = service_disabled("123")
    done = images.run(APP, "--source", "artifact-registry", status=1)
    assert artifact_registry.count() == 1
    assert "gcloud services enable artifactregistry.googleapis.com --project=123" in done.err
    assert "403 PERMISSION_DENIED" in done.err and "SERVICE_DISABLED" in done.err


def test_a_token_of_too_narrow_a_scope(images, google, artifact_registry, repository):
    repository.add("app", ["a"])
    images.configure({"host": HOST, "credentials": {"google": {
        "metadata": google.host,
        "scopes": ["https://www.googleapis.com/auth/devstorage.read_only"]}}})
    done = images.run(APP, "--source", "artifact-registry", status=1)
    assert "the token lacks the scope cloud-platform" in done.err


def test_an_error_that_repeats_the_token_does_not_show_it(images, artifact_registry, repository):
    repository.add("app", ["a"])

    def answer(asked):
        return google_error(409, f"bad token {asked.headers['authorization']} and more")
    artifact_registry.answer = answer
    done = images.run(APP, status=1)
    assert "bad token Bearer ***" in done.err and "and more" in done.err


# ---- falling back


@pytest.mark.parametrize("status", [403, 404, 501])
def test_auto_falls_back_to_the_docker_api(images, artifact_registry, upstream, status):
    upstream.image("project/repo/app", [b"layer"], tag="a")
    images.configure({"host": HOST, "url": upstream.url, "credentials": "google"})
    artifact_registry.always = google_error(status, "not here")
    done = images.json(APP)
    assert done.tags == [["a"]]
    assert len(done.err.splitlines()) == 1 and str(status) in done.err and "not here" in done.err
    assert artifact_registry.count() == 1
    done = images.run(APP, "--source", "artifact-registry", status=1)
    assert done.out == "" and str(status) in done.err
    done = images.run(f"{HOST}/project/repo", status=1)
    assert done.out == "" and str(status) in done.err
    upstream.forget_requests()
    artifact_registry.forget()
    assert images.json(APP, "--source", "docker").tags == [["a"]]
    assert artifact_registry.count() == 0


@pytest.mark.parametrize("status", [401, 409, 429, 500, 503])
def test_auto_does_not_fall_back_on_other_statuses(images, artifact_registry, upstream, status):
    upstream.image("project/repo/app", [b"layer"], tag="a")
    images.configure({"host": HOST, "url": upstream.url, "credentials": "google"})
    artifact_registry.always = google_error(status, "not here", headers={"Retry-After": "90"})
    assert images.run(APP, status=1).out == ""
    assert upstream.asked() == []


def test_auto_asks_the_docker_api_without_a_google_token(images, artifact_registry, upstream):
    upstream.image("project/repo/app", [b"layer"], tag="a")
    images.configure({"host": HOST, "url": upstream.url, "credentials": "anonymous"})
    done = images.json(APP)
    assert done.tags == [["a"]] and done.err == ""
    assert artifact_registry.count() == 0


# ---- hostile answers


def page(*entries, **members):
    return Answer(200, json.dumps({"dockerImages": entries, **members}).encode(),
                  {"Content-Type": "application/json"})


def entry(uri, **members):
    return {"uri": uri, "tags": ["evil"], **members}


DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize("answer, words", [
    (html(), "not JSON"),
    (Answer(200, b""), "not JSON"),
    (Answer(200, b"[]"), "no JSON object"),
    (Answer(200, b'"a"'), "not JSON"),
    (Answer(200, b'{"dockerImages": {}}'), "dockerImages is no array"),
    (Answer(200, b'{"error": {"code": 403}}'), "it holds an error"),
    (Answer(200, b'{"dockerImages": [' + b"[" * 100), "nested"),
    (page({"name": "x", "tags": ["a"]}), "has no uri"),
    (page("text"), "no object"),
    (page(entry(7)), "has no uri"),
    (page(entry(f"{APP}")), "names no image with a digest"),
    (page(entry(f"{APP}:latest")), "names no image with a digest"),
    (page(entry(f"{APP}@sha256:12")), "names no image with a digest"),
    (page(entry(f"evil.example/project/repo/app@{DIGEST}")), "names no image"),
    (page(entry(f"{HOST}/project/repo/APP\x1b[2J@{DIGEST}")), "names no image"),
    (page(entry(f"{HOST}/project/repo@{DIGEST}")), "names no image"),
    (page(entry(f"{HOST}/project/second/app@{DIGEST}")), "of another repository"),
    (page(entry(f"{HOST}/second/repo/app@{DIGEST}")), "of another repository"),
    (page(entry(f"eu-docker.pkg.dev/project/repo/app@{DIGEST}")), "of another repository"),
    (page(entry(f"{APP}@{DIGEST}", tags="a")), "no array"),
    (page(entry(f"{APP}@{DIGEST}", tags=[1])), "no string"),
    (page(entry(f"{APP}@{DIGEST}", tags=["\x1b[2J"])), "none by the grammar"),
    (page(entry(f"{APP}@{DIGEST}", tags=["a b"])), "none by the grammar"),
    (page(nextPageToken=7), "nextPageToken"),
    (page(nextPageToken="x" * 20000), "nextPageToken"),
    (Answer(200, b" " * ((16 << 20) + 1)), "longer than 16 MiB")],
    ids=lambda value: value if isinstance(value, str) else "")
@pytest.mark.parametrize("second", [False, True], ids=["first", "second"])
def test_an_answer_that_is_no_list_is_an_error_and_nothing_is_printed(images, artifact_registry,
                                                                       repository, answer, words,
                                                                       second):
    repository.add("app", ["a"])
    repository.add("app", ["b"])
    artifact_registry.page_limit = 1
    if second:
        artifact_registry.on_page = {1: [answer]}
    else:
        artifact_registry.always = answer
    done = images.json(APP, status=1)
    assert words in done.err and "\x1b" not in done.err + done.out
    assert done.lines == [] and done.ends[0]["listed"] is False
    assert artifact_registry.count() == (2 if second else 1)


def test_a_page_of_nearly_16_mib_is_read(images, artifact_registry, repository):
    repository.add("app", ["a"])
    artifact_registry.padding = (16 << 20) - 4096
    assert images.json(APP).tags == [["a"]]


def test_pages_without_lengths(images, artifact_registry, repository):
    repository.add_many("app", 30)
    artifact_registry.chunked = True
    assert len(images.json(APP).lines) == 30


def test_a_token_that_repeats_is_an_error(images, artifact_registry, repository):
    repository.add_many("app", 50, 1)
    artifact_registry.page_limit = 10
    artifact_registry.repeat_token_on = 2
    done = images.json(APP, status=1)
    assert done.lines == [] and "repeats" in done.err
    assert artifact_registry.count() == 3


@pytest.mark.slow
def test_a_chain_of_pages_without_an_end_is_an_error(images, artifact_registry, repository):
    repository.add("app", ["a"])
    artifact_registry.endless = True
    done = images.json(APP, status=1)
    assert done.lines == [] and "more than 1000 pages" in done.err
    assert artifact_registry.count() == 1000


# ---- where the token goes


def test_the_endpoint_must_be_https_or_this_machine(images, artifact_registry, google, repository):
    repository.add("app", ["a"])
    for endpoint in ("http://example.com/", "ftp://127.0.0.1/", "https://user:pw@example.com/",
                     "https://example.com/?a=b", "127.0.0.1"):
        images.environment[OVERRIDE] = endpoint
        done = images.run(APP, status=1)
        assert OVERRIDE in done.err and "pw@" not in done.err
    images.environment[OVERRIDE] = artifact_registry.url.replace("127.0.0.1", "localhost")
    assert images.json(APP).tags == [["a"]]
    assert re.fullmatch(r"Bearer ya29\..*", artifact_registry.asked[-1].headers["authorization"])


def test_no_redirect_is_followed(images, artifact_registry, google, repository):
    repository.add("app", ["a"])
    artifact_registry.always = Answer(307, b"", {"Location": google.url + "/steal"})
    assert "307" in images.run(APP, status=1).err
    assert google.count("steal") == 0 and artifact_registry.count() == 1
