"""tarn images: what a repository holds, by the Docker API."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl

import pytest

from kit.client import fetch
from kit.content import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, digest_of, manifest
from kit.images_command import Images

HOST = "registry.example"
APP = f"{HOST}/org/app"
UNTOLD = {"uploaded": None, "created": None, "size": None, "media_type": None, "platforms": None,
          "artifact_type": None}


@pytest.fixture
def images(program, upstream, tmp_path):
    one = Images(program, tmp_path / "images")
    one.configure({"host": HOST, "url": upstream.url, "default": True})
    return one


@pytest.fixture
def app(upstream):
    """Two images of which one has two tags; their digests."""
    first = upstream.image("org/app", [b"one"], tag="1.0")
    second = upstream.image("org/app", [b"two"], tag="2.0")
    repository = upstream.repository("org/app")
    repository.tags["latest"] = repository.tags["2.0"]
    return first, second


def test_tags_with_one_digest_are_one_image(images, app):
    first, second = app
    done = images.json(APP)
    assert done.lines == [
        {"repository": APP, "digest": second, "tags": ["2.0", "latest"], **UNTOLD},
        {"repository": APP, "digest": first, "tags": ["1.0"], **UNTOLD}]
    assert done.ends == [{"repository": APP, "listed": True, "error": None}]
    assert images.run("-q", "org/app").out == f"{APP}@{second}\n{APP}@{first}\n"
    assert images.run("-q", f"{APP}:latest").out == f"{APP}@{second}\n"
    assert images.run("-q", f"{APP}@{first}").out == f"{APP}@{first}\n"


def test_one_head_a_tag_with_all_four_media_types(images, app, upstream):
    images.json(APP)
    heads = upstream.asked("/manifests/", "HEAD")
    assert sorted(one.path.rpartition("/")[2] for one in heads) == ["1.0", "2.0", "latest"]
    for one in heads:
        for word in (OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, "manifest.list.v2+json"):
            assert word in one.headers["accept"]
    assert upstream.asked("/manifests/", "GET") == []


def test_the_table_shows_what_is_not_told_as_a_dash(images, app):
    _, second = app
    head, row, *_ = images.run(APP).out.splitlines()
    assert head.split() == ["TAGS", "DIGEST", "SIZE", "UPLOADED", "PLATFORMS"]
    assert row.split() == ["2.0,latest", second[7:19], "-", "-", "-"]


def test_no_digests_asks_for_names_alone(images, app, upstream):
    done = images.json(APP, "--no-digests")
    assert done.tags == [["latest"], ["2.0"], ["1.0"]]
    assert {line["digest"] for line in done.lines} == {None}
    assert upstream.asked("/manifests/") == []
    assert images.run(APP, "--no-digests").out.splitlines()[1].split()[:2] == ["latest", "-"]


def test_names_of_many_tags_cost_a_request_a_page(images, upstream):
    repository = upstream.repository("org/app")
    for number in range(5000):
        repository.add_manifest(b'{"schemaVersion":2}', tag=f"v{number:04}")
    upstream.page_size = 100
    done = images.json(APP, "--no-digests", "--sort", "tag")
    assert done.tags == [[f"v{number:04}"] for number in reversed(range(5000))]
    assert len(upstream.asked()) == 50


def test_sizes_asks_for_each_image_once(images, app, upstream):
    first, second = app
    lines = {line["digest"]: line for line in images.json(APP, "--sizes").lines}
    assert sorted(one.path.rpartition("/")[2] for one in upstream.asked("/manifests/", "GET")) == \
        sorted([first, second])
    assert lines[first]["media_type"] == OCI_MANIFEST
    assert lines[first]["size"] == len(b"{}") + len(b"one")


@pytest.mark.parametrize("jobs, most", [((), 8), (("--jobs", "3"), 3)])
def test_so_many_requests_at_once_and_no_more(images, upstream, jobs, most):
    repository = upstream.repository("org/app")
    for number in range(40):
        repository.add_manifest(b'{"schemaVersion":2}', tag=f"v{number}")
    upstream.fault("/manifests/", method="HEAD", delay=0.05)
    images.json(APP, *jobs)
    assert 1 < upstream.most_at_once("/manifests/") <= most


def test_429_stops_the_rest_and_what_is_known_is_printed(images, upstream):
    repository = upstream.repository("org/app")
    for number in range(40):
        repository.add_manifest(b'{"schemaVersion":2,"n":%d}' % number, tag=f"v{number:02}")
    upstream.fault("/manifests/", method="HEAD", skip=10, status=429)
    done = images.json(APP, "--jobs", "1", status=1)
    assert len(done.lines) == 10
    [end] = done.ends
    assert end["listed"] is False and "429" in end["error"] and end["error"] in done.err
    assert len(upstream.asked("/manifests/", "HEAD")) == 11
    assert f"upstream {HOST}" in done.err


def test_any_other_list_that_broke_off_is_not_printed(images, upstream):
    repository = upstream.repository("org/app")
    for number in range(40):
        repository.add_manifest(b'{"schemaVersion":2,"n":%d}' % number, tag=f"v{number:02}")
    upstream.fault("/manifests/", method="HEAD", skip=10, status=403)
    upstream.fault("/manifests/", method="GET", status=403)
    done = images.json(APP, "--jobs", "1", status=1)
    assert done.lines == [] and done.ends[0]["listed"] is False
    assert "403" in done.err


def test_an_empty_repository_and_one_that_does_not_exist(images, upstream):
    upstream.repository("org/empty")
    assert images.run(f"{HOST}/org/empty").out == ""
    done = images.run(f"{HOST}/org/none", status=1)
    assert done.out == "" and f"upstream {HOST}" in done.err and "404" in done.err


def test_one_repository_fails_and_the_others_are_printed(images, app, upstream):
    upstream.image("org/other", [b"x"], tag="o")
    done = images.json(APP, f"{HOST}/org/none", f"{HOST}/org/other", status=1)
    assert done.tags == [["2.0", "latest"], ["1.0"], ["o"]]
    assert [end["listed"] for end in done.ends] == [True, False, True]


def test_artifact_registry_cannot_be_asked_about_another_registry(images, app, upstream):
    done = images.run(APP, "--source", "artifact-registry", status=1)
    assert "no host of Artifact Registry" in done.err and f"upstream {HOST}" in done.err
    assert upstream.asked() == []


def test_docker_hub_s_library_is_added(images, upstream):
    images.configure({"host": "docker.io", "url": upstream.url, "default": True})
    digest = upstream.image("library/busybox", [b"x"], tag="1")
    for name in ("busybox", "docker.io/busybox", "index.docker.io/library/busybox"):
        assert images.run("-q", name).out == f"docker.io/library/busybox@{digest}\n"


def test_newer_than_says_that_no_time_is_told(images, app):
    done = images.run(APP, "--newer-than", "1d")
    assert done.out == "" and "2 images are left out" in done.err


def test_googles_extension_tells_everything_at_once(images, upstream):
    digest, untagged = digest_of(b"a"), digest_of(b"b")
    upstream.repository("org/app")
    upstream.fault("/tags/list", status=200, headers={"Content-Type": "application/json"},
                   body=json.dumps({"name": "org/app", "tags": ["1", "2"], "child": [],
                                    "manifest": {
                                        digest: {"imageSizeBytes": "12345", "layerId": "",
                                                 "mediaType": OCI_MANIFEST, "tag": ["2", "1"],
                                                 "timeCreatedMs": "0",
                                                 "timeUploadedMs": "1618000000000"},
                                        untagged: {"tag": [], "timeUploadedMs": "1618000000001"},
                                    }}).encode())
    assert images.json(APP).lines == [
        {"repository": APP, "digest": digest, "tags": ["1", "2"], **UNTOLD,
         "uploaded": "2021-04-09T20:26:40Z", "size": 12345, "media_type": OCI_MANIFEST}]
    assert [line["digest"] for line in images.json(APP, "--all").lines] == [untagged, digest]
    assert upstream.asked("/manifests/") == []


class Pages(BaseHTTPRequestHandler):
    """In front of a registry that sends all tags at once: sends them in pages of 100."""

    protocol_version = "HTTP/1.1"
    registry = None
    asked = None     # the queries of the pages, in order

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        path, _, query = self.path.partition("?")
        accept = {"Accept": self.headers.get("Accept", "*/*")}
        reply = fetch(f"{self.registry}{path}", accept, method=self.command)
        body, headers = reply.body, {name: reply[name] for name in (
            "Content-Type", "Docker-Content-Digest", "Docker-Distribution-Api-Version")
            if reply[name]}
        if path.endswith("/tags/list"):
            self.asked.append(query)
            last = dict(parse_qsl(query)).get("last", "")
            tags = sorted(tag for tag in json.loads(body)["tags"] if tag > last)
            if len(tags) > 100:
                headers["Link"] = f'<{path}?n=100&last={tags[99]}>; rel="next"'
            body = json.dumps({"name": "many/tags", "tags": tags[:100]}).encode()
        self.send_response(reply.status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)) if body else reply["Content-Length"])
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET


@pytest.fixture
def paged(origin):
    handler = type("PagesOfOrigin", (Pages,), {"registry": origin.url, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", handler.asked
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_a_real_registry_with_1200_tags_in_pages_of_100(images, origin, paged):
    url, asked = paged
    contents = [manifest(b"{}", [layer], OCI_MANIFEST) for layer in (b"even", b"odd")]
    for blob in (b"{}", b"even", b"odd"):
        origin.push_blob("many/tags", blob)
    tags = [f"v{number:04}" for number in range(1200)]
    with ThreadPoolExecutor(8) as pool:
        digests = list(pool.map(lambda number: origin.push_manifest(
            "many/tags", contents[number % 2], OCI_MANIFEST, tags[number]), range(1200)))
    images.configure({"host": HOST, "url": url})
    names = images.json(f"{HOST}/many/tags", "--no-digests").tags
    assert names == [[tag] for tag in reversed(tags)]
    assert len(asked) == 12
    odd, even = images.json(f"{HOST}/many/tags").lines
    assert (odd["digest"], odd["tags"]) == (digests[1], tags[1::2])
    assert (even["digest"], even["tags"]) == (digests[0], tags[::2])
    images.configure({"host": HOST, "url": origin.url})  # all tags at once
    assert images.json(f"{HOST}/many/tags", "--no-digests").tags == names
