"""The page at /: what it says, to whom, and what it costs. tests/optional/page looks at it in a browser."""

import html
import json
import re
from urllib.parse import quote

import pytest

from kit.content import (KIB, MIB, OCI_INDEX, OCI_MANIFEST, descriptor, digest_of, index, manifest,
                         noise)
from kit.processes import wait_until

LAYER = noise(100 * KIB)
DIGEST = digest_of(LAYER)


@pytest.fixture
def image(upstream):
    return upstream.image("org/app", [LAYER], tag="1")


def words_of(source):
    source = re.sub(r"</?(a|wbr|span|strong|small|time|code)\b[^>]*>", "", source)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", source)).split())


def text_of(page):
    """The words that a visitor reads."""
    return words_of(re.sub(r"(?s)<head\b.*?</head>", " ", page.body.decode()))


def section(page, name):
    """The words below a heading of the page."""
    match = re.search(rf'(?s)<section aria-labelledby="{name}-heading">(.*?)</section>',
                      page.body.decode())
    assert match, f"no section {name}"
    return words_of(match.group(1))


def pull(tarn, repository, tag, *blobs):
    assert tarn.manifest(repository, tag).status == 200
    for digest in blobs:
        assert tarn.blob(repository, digest).status == 200
        tarn.wait_cached(repository, digest)
    tarn.settle()


def shows(tarn, *words, path="/", where=text_of):
    """Waits until the page has all these words: images are read from the store every few seconds."""
    def page_with_words():
        page = tarn.get(path)
        return page.status == 200 and all(word in where(page) for word in words) and page
    return wait_until(page_with_words, f"{path} shows {words}", 20)


# ---- the frame

def test_the_page_says_what_this_is_and_how_to_use_it(tarn, upstream, image):
    page = tarn.get("/")
    assert page.status == 200
    assert page["Content-Type"] == "text/html; charset=utf-8"
    text = text_of(page)
    for words in (f"docker pull 127.0.0.1:{tarn.port}/", "podman pull", "Serving", "fake.test"):
        assert words in text


def test_the_page_names_the_host_that_the_visitor_used(tarn):
    for host in (f"127.0.0.1:{tarn.port}", "localhost:5000", f"localhost:{tarn.port}"):
        text = text_of(tarn.get("/", {"Host": host}))
        assert f"docker pull {host}/" in text
        assert "\x01" not in text


def test_the_page_loads_nothing_from_elsewhere_and_runs_nothing_inline(tarn):
    page = tarn.get("/")
    policy = dict(part.strip().split(" ", 1) for part in page["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    for directive in ("script-src", "style-src", "connect-src", "img-src"):
        assert policy[directive] == "'self'"
    assert page["X-Content-Type-Options"] == "nosniff"
    assert page["Referrer-Policy"] == "no-referrer"
    assert page["Cache-Control"] == "no-store"
    body = page.body.decode()
    assert not re.search(r"\son[a-z]+=|\sstyle=|<style|javascript:", body)
    assert not re.search(r"<script(?![^>]*\ssrc=)", body)
    links = re.findall(r'(?:src|href|action)="([^"]*)"', body)
    assert links and not [link for link in links if "//" in link]


def test_the_files_of_the_page_may_be_kept_until_they_change(tarn):
    body = tarn.get("/").body.decode()
    for path, media_type in (("tarn/page.css", "text/css"), ("tarn/page.js", "text/javascript"),
                             ("tarn/page.svg", "image/svg+xml")):
        named = re.search(rf'"({re.escape(path)}\?[0-9a-f]+)"', body).group(1)
        reply = tarn.get("/" + named)
        assert reply.status == 200 and reply["Content-Type"].startswith(media_type)
        assert "immutable" in reply["Cache-Control"] and len(reply.body) > 100
        assert reply["X-Content-Type-Options"] == "nosniff"
        again = tarn.get("/" + path, {"If-None-Match": reply["ETag"]})
        assert (again.status, again.body) == (304, b"")
        assert "immutable" not in (tarn.get(f"/{path}?0")["Cache-Control"] or "")
        assert tarn.get("/" + path, method="HEAD")["Content-Length"] == str(len(reply.body))
    assert tarn.get("/tarn/page.html").status == 404


def test_the_page_is_behind_the_login(start_tarn, upstream, tmp_path):
    password_file = tmp_path / "htpasswd"
    password_file.write_text(
        "alice:$2y$05$abcdefghijklmnopqrstuuVvDyg8pc7Bb9b9oTqgmFhEh5yzOtBFW\n")
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}],
                      clients={"htpasswd": str(password_file)})
    for path in ("/", "/?search=", "/?image=fake.test/a:1", "/tarn/v1/flights"):
        reply = tarn.get(path)
        assert reply.status == 401 and reply["WWW-Authenticate"]
        assert b"fake.test" not in reply.body


# ---- what it says

def test_upstreams_with_their_last_error_and_what_to_do(start_tarn, upstream, image):
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True},
                       {"host": "down.test", "url": "http://127.0.0.1:9"}])
    upstream.fault("/v2/org/private/", method=None, status=403)
    assert tarn.manifest("org/private", "1").status == 403
    assert tarn.manifest("down.test/x", "1").status == 502
    upstreams = section(tarn.get("/"), "upstreams")
    private, down = upstreams.split("fake.test", 1)[1].split("down.test", 1)
    assert "upstream fake.test" in private and "credentials" in private
    assert "no connection" in down and "Check that the registry runs" in down
    errors = section(tarn.get("/"), "errors")
    assert "403" in errors and "502" in errors and "org/private" in errors


def test_what_is_just_not_there_is_no_error(tarn, upstream, image):
    for path in ("org/app/manifests/none", "org/none/manifests/1", "org/app/manifests/%zz",
                 "other.test/a/manifests/1", f"org/app/blobs/sha256:{'0' * 64}"):
        assert tarn.get(f"/v2/{path}").status in (400, 404)
    assert "None since" in section(tarn.get("/"), "errors")


def test_equal_errors_take_one_place(tarn, upstream):
    upstream.fault("/v2/", method=None, status=500)
    for _ in range(5):
        tarn.manifest("org/app", "1")
    errors = wait_until(lambda: (found := section(tarn.get("/"), "errors")) and "5 times" in found
                        and found, "five times", 5)
    assert errors.count("502") == 1


def test_an_upstream_cannot_write_into_the_page(tarn, upstream):
    evil = "<script>alert(1)</script><img src=x onerror='alert(1)'>\x01\x1b"
    body = json.dumps({"errors": [{"code": "DENIED", "message": evil}]}).encode()
    upstream.fault("/v2/org/app", method=None, status=403, body=body,
                   headers={"Content-Type": "application/json"})
    assert tarn.manifest("org/app", "1").status == 403
    page = tarn.get("/")
    assert "alert(1)" in text_of(page)
    assert b"<script>alert" not in page.body and b"<img" not in page.body


def test_a_client_cannot_write_into_the_page(tarn, upstream):
    tarn.get("/v2/x/manifests/1?ns=<script>alert(1)</script>")
    for host in ("<script>alert(1)</script>", "127.0.0.1:<script>alert(1)</script>"):
        page = tarn.get("/", {"Host": host})
        assert page.status == 400 and page["Content-Type"] == "application/json"
    evil = quote('"><script>alert(1)</script>')
    for query in ("search", "image"):
        page = tarn.get(f"/?{query}={evil}")
        assert b"<script>alert" not in page.body
        assert b"&lt;script&gt;" in page.body or b"No such image" in page.body


def test_the_page_shows_a_transfer_and_how_far_it_is(tarn, upstream):
    big = noise(8 * MIB)
    upstream.image("org/app", [big], tag="1")
    held = upstream.fault("/blobs/", hold_after=MIB)
    with tarn.download(f"/v2/org/app/blobs/{digest_of(big)}") as download:
        download.read(100)
        page = shows(tarn, "org/app", where=lambda page: section(page, "flights"))
        assert digest_of(big)[:19] in section(page, "flights")
        assert "of 8.0 MiB" in section(page, "flights")
        assert re.search(r'<progress max="8388608" value="\d+" aria-label="[^"]*org/app">',
                         page.body.decode())
        held.gate.set()
    tarn.wait_cached("org/app", digest_of(big))
    wait_until(lambda: "Nothing" in section(tarn.get("/"), "flights"), "the flight to end")


def test_hits_and_bytes_are_counted_and_shown(tarn, upstream, image):
    pull(tarn, "org/app", "1", DIGEST)
    for _ in range(9):
        tarn.blob("org/app", DIGEST)
    page = shows(tarn, "requests in the last hour", where=lambda page: section(page, "time"))
    wait_until(lambda: re.search(r"[1-3]\d requests in the last hour", section(tarn.get("/"), "time")),
               "all requests are counted", 10)
    assert page.body.count(b"<svg role=\"img\" aria-label=") >= 9


# ---- images

def test_images_are_listed_by_pulls_time_and_size(tarn, upstream, image):
    upstream.image("org/large", [noise(3 * MIB, 5)], tag="v2")
    pull(tarn, "org/app", "1", DIGEST)
    tarn.manifest("org/app", "1")
    pull(tarn, "org/large", "v2", digest_of(noise(3 * MIB, 5)))
    page = shows(tarn, "fake.test/org/large:v2", "fake.test/org/app:1",
                 where=lambda page: section(page, "images"))
    images = section(page, "images").replace(" ", "")
    pulled, rest = images.split("Mostpulled")[1].split("Latest")
    latest, largest = rest.split("Largest")
    assert pulled.index("org/app") < pulled.index("org/large")
    assert largest.index("org/large") < largest.index("org/app")
    assert "org/app" in latest
    assert "2images" in images


def test_storage_says_how_much_each_upstream_has(start_tarn, upstream, image):
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}],
                      max_size="10MiB")
    pull(tarn, "org/app", "1", DIGEST)
    page = shows(tarn, "of at most 10.0 MiB", "fake.test: 100.",
                 where=lambda page: section(page, "storage"))
    assert 'class="share-0"' in page.body.decode()


@pytest.mark.parametrize("search, found", [
    ("app", ["app"]), ("APP", ["app"]), ("fake.test", ["app", "other"]), ("other:v2", ["other"]),
    ("v2", ["other"]), ("org app", ["app"]), ("nothing", []), ("", ["app", "other"]),
    (DIGEST[7:20], []), ("a" * 150, [])])
def test_search_finds_by_name_tag_and_digest(tarn, upstream, image, search, found):
    upstream.image("org/other", [noise(KIB, 9)], tag="v2")
    pull(tarn, "org/app", "1", DIGEST)
    pull(tarn, "org/other", "v2")
    shows(tarn, "org/app:1", "org/other:v2", path="/?search=")
    page = tarn.get(f"/?search={quote(search)}")
    assert page.status == 200
    for name in ("app", "other"):
        assert (f"?image=fake.test/org/{name}@" in page.body.decode()) == (name in found), search


def test_search_by_the_digest_of_an_image(tarn, upstream, image):
    pull(tarn, "org/app", "1")
    page = shows(tarn, "org/app:1", path=f"/?search={image[7:19]}")
    assert "1 image." in text_of(page)


@pytest.mark.parametrize("order", ["name", "size", "pulls", "used", "", "x<y"])
def test_the_order_of_a_list(tarn, upstream, image, order):
    pull(tarn, "org/app", "1")
    shows(tarn, "org/app:1", path=f"/?search=app&order={quote(order)}")


def test_an_image_has_a_page_with_its_layers(tarn, upstream, image):
    big = noise(200 * KIB, 4)
    upstream.image("org/app", [LAYER, big], tag="2")
    pull(tarn, "org/app", "2", DIGEST)
    pull(tarn, "org/app", "1")
    page = tarn.get("/?image=fake.test/org/app:2")
    text = text_of(page)
    assert page.status == 200
    for words in (f"docker pull 127.0.0.1:{tarn.port}/fake.test/org/app:2",
                  "tarn warm fake.test/org/app:2", "tarn rm fake.test/org/app:2", "in part",
                  DIGEST[:19], digest_of(big)[:19], "200.0 KiB", "not cached"):
        assert words in text
    rows = re.findall(r"(?s)<tr data-key=.*?</tr>", page.body.decode())
    stored = [">cached<" in row for row in rows]
    assert len(rows) == 3 and [DIGEST[:19] in row for row in rows].index(True) == stored.index(True)
    assert "Other tags of the repository" in text
    by_digest = tarn.get(f"/?image=fake.test/org/app@{image}")
    assert by_digest.status == 200 and image in text_of(by_digest)


def test_an_index_has_a_page_with_its_platforms(tarn, upstream):
    repository = upstream.repository("org/many")
    children = []
    for architecture in ("amd64", "arm64"):
        config = json.dumps({"os": "linux", "architecture": architecture}).encode()
        layer = noise(KIB, len(architecture) + ord(architecture[1]))
        repository.add_blob(config)
        repository.add_blob(layer)
        child = manifest(config, [layer])
        repository.add_manifest(child)
        children.append(descriptor(child, OCI_MANIFEST,
                                   platform={"os": "linux", "architecture": architecture}))
    repository.add_manifest(index(children), OCI_INDEX, tag="1")
    pull(tarn, "org/many", "1")
    pull(tarn, "org/many", children[0]["digest"])
    page = tarn.get("/?image=fake.test/org/many:1")
    text = text_of(page)
    assert "linux/amd64" in text and "linux/arm64" in text
    assert "Its layers are known once it is pulled" in text
    child = tarn.get(f"/?image=fake.test/org/many@{children[0]['digest']}")
    assert child.status == 200
    assert page.body.count(b"<details>") == 2


@pytest.mark.parametrize("name", ["fake.test/org/none:1", "fake.test/org/app:2", "fake.test", "", "/", "%20",
                                  "fake.test/org/app", "fake.test/../x:1", "a@sha256:1", "x" * 900,
                                  "fake.test/org/app@sha256:" + "0" * 64, "fake.test/ORG:1"])
def test_no_such_image(tarn, upstream, image, name):
    pull(tarn, "org/app", "1")
    page = tarn.get(f"/?image={name}")
    assert page.status == 404 and "No such image" in text_of(page)


# ---- what is kept over a restart

def test_the_history_goes_on_after_a_restart(tarn, upstream, image):
    pull(tarn, "org/app", "1", DIGEST)
    tarn.manifest("org/app", "1")
    tarn.restart()
    assert re.search(r"[3-9] requests in the last hour", section(tarn.get("/"), "time"))
    images = section(shows(tarn, "org/app", where=lambda page: section(page, "images")), "images")
    pulled = images.replace(" ", "").split("Mostpulled")[1].split("Latest")[0]
    assert "org/app:12" in pulled, "the tag 1 and two pulls"


def hostile_histories():
    return {
        "empty": lambda old: b"",
        "cut": lambda old: old[:-1],
        "longer": lambda old: old + b"x",
        "one bit": lambda old: old[:500] + bytes([old[500] ^ 1]) + old[501:],
        "huge": lambda old: old * 50,
        "zeros": lambda old: bytes(len(old)),
        "text": lambda old: b"not a history\n",
    }


@pytest.mark.parametrize("kind", hostile_histories())
def test_a_history_that_is_not_whole_begins_anew(tarn, upstream, image, kind):
    pull(tarn, "org/app", "1")
    tarn.stop()
    history = tarn.root / "history"
    history.write_bytes(hostile_histories()[kind](history.read_bytes()))
    tarn.start()
    assert "0 requests in the last hour" in section(tarn.get("/"), "time")
    tarn.logged("history of the page begins anew")
    assert tarn.log().count("history of the page begins anew") == 1


def test_a_history_that_is_no_file_is_replaced_or_left(tarn, upstream, image):
    tarn.stop()
    history = tarn.root / "history"
    secret = tarn.directory / "secret"
    secret.write_text("outside")
    history.unlink()
    history.symlink_to(secret)
    tarn.start()
    assert tarn.get("/").status == 200
    tarn.restart()
    assert secret.read_text() == "outside" and not history.is_symlink()
    tarn.stop()
    history.unlink()
    history.mkdir()
    tarn.start()
    assert tarn.get("/").status == 200
    tarn.stop()
    tarn.logged("history of the page is not kept")
    tarn.start()


def test_the_history_has_one_size(tarn, upstream, image):
    pull(tarn, "org/app", "1")
    tarn.stop()
    size = (tarn.root / "history").stat().st_size
    tarn.start()
    pull(tarn, "org/app", "1", DIGEST)
    tarn.restart()
    assert (tarn.root / "history").stat().st_size == size < 128 * KIB


# ---- what it costs

def test_a_million_names_leave_the_page_small(tarn, upstream, image):
    for number in range(300):
        tarn.manifest(f"org/none-{number}", "1")
    upstream.fault("/v2/bad-", method=None, status=500)
    for number in range(100):
        tarn.manifest(f"bad-{number}/x", "1")
    page = tarn.get("/")
    assert len(page.body) < 200 * KIB
    assert section(page, "errors").count("502") <= 40


def test_the_page_is_answered_while_workers_wait(start_tarn, upstream):
    blob = upstream.repository("org/app").add_blob(noise(MIB, 7))
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}])
    tarn.get("/")
    held = upstream.fault("/blobs/", hold_after=1000)
    with tarn.download(f"/v2/org/app/blobs/{blob}") as download:
        download.read(100)
        for _ in range(20):
            assert tarn.get("/").status == 200
        held.gate.set()
