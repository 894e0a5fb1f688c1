"""What docs/push.md says of statuses, tried with every sibling: statuses, references, sizes, mounts."""

import http.client
import json

import pytest

from kit.client import fetch
from kit.content import KIB, MIB, OCI_MANIFEST, digest_of, manifest, noise
from kit.scripted_server import several
from kit.tokens import basic
from kit.writable_registry import WritableRegistry, refusal

ALICE = {"Authorization": basic("alice", "secret")}
BOB = {"Authorization": basic("bob", "secret")}
NAME = "push.test/org/app"
UPLOADS = f"/v2/{NAME}/blobs/uploads/"
BLOB = noise(100 * KIB)
DIGEST = digest_of(BLOB)


@pytest.fixture
def registry():
    for make in several(WritableRegistry):
        one = make()
        one.repository("org/app").add_blob(b"{}")
        yield one


@pytest.fixture
def tarn(start_tarn, users, registry):
    both = {"url": registry.url, "push": True, "push_patience": "1s"}
    return start_tarn([{"host": "push.test", "delete": True, **both}, {"host": "keep.test", **both}],
                      clients={"htpasswd": str(users), "rules": [
                          {"users": ["alice"], "push": True, "repositories": ["org/**"]},
                          {"users": ["bob"], "repositories": ["org/**"]},
                          {"users": ["bob"], "push": True, "repositories": ["org/bobs/*"]}]},
                      max_blob="1MiB")


def ask(tarn, method, path, body=None, headers=None, who=ALICE):
    return fetch(tarn.url + path, {**who, **(headers or {})}, method=method, body=body)


def put(tarn, reference, document=None, headers=None, **more):
    return ask(tarn, "PUT", f"/v2/{NAME}/manifests/{reference}", document or manifest(b"{}", []),
               {"Content-Type": OCI_MANIFEST, **(headers or {})}, **more)


def nothing_is_left(tarn, registry):
    assert registry.sessions == {} and list((tarn.root / "uploads").glob("*")) == []


# ---- statuses of upstream


@pytest.mark.parametrize("status", [400, 404, 405, 409, 410, 411, 412, 413, 415, 422, 451])
def test_upstreams_refusals_pass(tarn, registry, status):
    for phase, code in (("MANIFEST", "ANY_CODE"), ("DELETE", "ANY_CODE"), ("PUT", "ANY_CODE"),
                        ("POST", "ANY_CODE")):
        registry.heal()
        registry.sessions.clear()
        if phase == "MANIFEST":
            registry.fail(phase, times=None, **refusal(status, code))
            reply = put(tarn, "1")
        elif phase == "DELETE":
            registry.fail(phase, times=None, **refusal(status, code))
            reply = ask(tarn, "DELETE", f"/v2/{NAME}/manifests/1")
        else:
            registry.fail(phase, times=None, **refusal(status, code))
            reply = ask(tarn, "POST", f"{UPLOADS}?digest={DIGEST}", BLOB)
        assert (reply.status, reply.code) == (status, code), (phase, reply)
        assert "scripted" in reply.message


@pytest.mark.parametrize("status", [401, 403])
def test_upstreams_denials_are_403_and_say_which_credential(tarn, registry, status):
    for phase in ("MANIFEST", "DELETE", "POST", "PUT", "PATCH"):
        registry.heal()
        registry.fail(phase, times=None, **refusal(status, "DENIED"))
        if phase == "MANIFEST":
            reply = put(tarn, "1")
        elif phase == "DELETE":
            reply = ask(tarn, "DELETE", f"/v2/{NAME}/manifests/1")
        else:
            reply = ask(tarn, "POST", f"{UPLOADS}?digest={DIGEST}", BLOB)
        assert (reply.status, reply.code) == (403, "DENIED"), (phase, reply)
        assert not reply["WWW-Authenticate"] and "credential" in reply.message


@pytest.mark.slow
@pytest.mark.parametrize("fault,status", [(refusal(500), 502), (refusal(503), 502),
                                          (refusal(504), 504), (refusal(429), 429),
                                          ({"drop": True}, 502), ({"lost": True}, 502)])
def test_upstreams_failures_are_told_and_the_session_stays(tarn, registry, fault, status):
    place = ask(tarn, "POST", UPLOADS)["Location"]
    registry.fail("PATCH", times=None, **fault)
    registry.fail("GET", times=None, **fault)
    reply = ask(tarn, "PATCH", place, BLOB)
    assert reply.status in (status, 502, 504) and reply.status != 500, reply
    if status == 429:
        assert reply.status == 429 and int(reply["Retry-After"]) >= 1
    registry.heal()
    stands = ask(tarn, "GET", place)
    assert (stands.status, stands["Range"]) == (204, f"0-{len(BLOB) - 1}")
    assert ask(tarn, "PUT", f"{stands['Location']}&digest={DIGEST}").status == 201


# ---- references and documents


@pytest.mark.parametrize("tag", ["-x", ".x", "a" * 129, "%C3%A9", "a%20b", "a+b", "a~b"])
def test_tags_that_are_none(tarn, registry, tag):
    for method in ("PUT", "DELETE"):
        reply = ask(tarn, method, f"/v2/{NAME}/manifests/{tag}",
                    manifest(b"{}", []) if method == "PUT" else None, {"Content-Type": OCI_MANIFEST})
        assert (reply.status, reply.code) == (400, "TAG_INVALID"), (method, reply)
    assert registry.writes == []


@pytest.mark.parametrize("digest", ["sha256:", "sha256:12", "sha256:" + "A" * 64, "sha512:" + "a" * 64,
                                    "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:" + "g" * 64,
                                    DIGEST + "0", ":" + DIGEST])
def test_digests_that_are_none(tarn, registry, digest):
    for method, path, body in (("PUT", f"/v2/{NAME}/manifests/{digest}", manifest(b"{}", [])),
                               ("DELETE", f"/v2/{NAME}/manifests/{digest}", None),
                               ("DELETE", f"/v2/{NAME}/blobs/{digest}", None),
                               ("POST", f"{UPLOADS}?digest={digest}", BLOB)):
        reply = ask(tarn, method, path, body, {"Content-Type": OCI_MANIFEST})
        assert (reply.status, reply.code) == (400, "DIGEST_INVALID"), (method, path, reply)
    assert registry.writes == []
    sent = ask(tarn, "PATCH", ask(tarn, "POST", UPLOADS)["Location"], BLOB)
    reply = ask(tarn, "PUT", f"{sent['Location']}&digest={digest}")
    assert (reply.status, reply.code) == (400, "DIGEST_INVALID")
    nothing_is_left(tarn, registry)
    assert not registry.asked(method="PUT")


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_both_algorithms_of_digests(tarn, registry, algorithm):
    digest = digest_of(BLOB, algorithm)
    assert ask(tarn, "POST", f"{UPLOADS}?digest={digest}", BLOB).status == 201
    got = ask(tarn, "GET", f"/v2/{NAME}/blobs/{digest}")
    assert got.body == BLOB and "hit" in got.cache_status
    wrong = digest_of(b"other", algorithm)
    reply = ask(tarn, "POST", f"{UPLOADS}?digest={wrong}", BLOB)
    assert (reply.status, reply.code) == (400, "DIGEST_INVALID")
    nothing_is_left(tarn, registry)


@pytest.mark.parametrize("body", [b"null", b"1", b'"x"', b"[{}]", b"{} {}", b"{", b"\xff", b"{}x"])
def test_manifests_that_are_no_object(tarn, registry, body):
    for reference in ("1", digest_of(body)):
        reply = put(tarn, reference, body)
        assert (reply.status, reply.code) == (400, "MANIFEST_INVALID"), reply
    assert registry.writes == [] and not registry.asked("/manifests/", method="PUT")


def padded(size):
    document = json.loads(manifest(b"{}", []))
    document["annotations"] = {"x": ""}
    document["annotations"]["x"] = "y" * (size - len(json.dumps(document)))
    return json.dumps(document).encode()


@pytest.mark.parametrize("chunked", [False, True])
def test_the_largest_manifest_and_one_byte_more(tarn, registry, chunked):
    for size, status in ((4194304, 201), (4194305, 413)):
        document = padded(size)
        assert len(document) == size
        connection = http.client.HTTPConnection("127.0.0.1", tarn.port, timeout=40)
        connection.request("PUT", f"/v2/{NAME}/manifests/1",
                           iter([document[:100], document[100:]]) if chunked else document,
                           {**ALICE, "Content-Type": OCI_MANIFEST}, encode_chunked=chunked)
        reply = connection.getresponse()
        body = reply.read()
        assert reply.status == status, body[:300]
        if status == 413:
            assert json.loads(body)["errors"][0]["code"] == "SIZE_INVALID"


@pytest.mark.parametrize("way", ["PATCH", "chunked PATCH", "two pieces", "PUT", "POST", "chunked POST"])
def test_a_blob_above_max_blob(tarn, registry, way):
    for size, status in ((MIB, 201), (MIB + 1, 413)):
        content = noise(size)
        path = f"{UPLOADS}?digest={digest_of(content)}"
        pieces = [content]
        if "POST" not in way:
            path = ask(tarn, "POST", UPLOADS)["Location"]
        if way == "two pieces":
            path = ask(tarn, "PATCH", path, content[:1000])["Location"]
            pieces = [content[1000:]]
        if way == "PUT":
            path += f"&digest={digest_of(content)}"
        connection = http.client.HTTPConnection("127.0.0.1", tarn.port, timeout=40)
        chunked = way.startswith("chunked")
        connection.request(way.split()[-1] if "pieces" not in way else "PATCH", path,
                           iter(pieces) if chunked else pieces[0], ALICE, encode_chunked=chunked)
        reply = connection.getresponse()
        body = reply.read()
        if status == 201 and reply.status == 202:
            reply = ask(tarn, "PUT", f"{reply.headers['Location']}&digest={digest_of(content)}")
        assert reply.status == status, body[:300]
        if status == 413:
            assert json.loads(body)["errors"][0]["code"] == "SIZE_INVALID"
        nothing_is_left(tarn, registry)


# ---- mounts


@pytest.mark.parametrize("source,status", [("org/app", 201), (NAME, 201), ("org/none", 202),
                                           ("secret/app", 202), ("push.test/secret/app", 202),
                                           ("keep.test/org/app", 202), ("..", 202), ("", 202),
                                           (None, 202)])
def test_mounts(tarn, registry, source, status):
    for name in ("org/app", "secret/app"):
        registry.repository(name).add_blob(BLOB)
    query = f"?mount={DIGEST}" + ("" if source is None else f"&from={source}")
    reply = ask(tarn, "POST", f"/v2/push.test/org/other/blobs/uploads/{query}")
    assert reply.status == status, reply
    if status == 201:
        assert reply["Docker-Content-Digest"] == DIGEST
        assert reply["Location"] == f"/v2/push.test/org/other/blobs/{DIGEST}"
        assert ask(tarn, "GET", f"/v2/push.test/org/other/blobs/{DIGEST}").body == BLOB
    else:
        done = ask(tarn, "PUT", f"{reply['Location']}&digest={DIGEST}", BLOB)
        assert done.status == 201, done


@pytest.mark.parametrize("fault", [refusal(400), refusal(403), refusal(404), refusal(405),
                                   refusal(500), {"drop": True}])
def test_a_refused_mount_is_an_ordinary_session(tarn, registry, fault):
    registry.repository("org/app").add_blob(BLOB)
    registry.fail("POST", **fault)
    reply = ask(tarn, "POST", f"/v2/push.test/org/other/blobs/uploads/?mount={DIGEST}&from=org/app")
    assert reply.status == 202, reply
    assert ask(tarn, "PUT", f"{reply['Location']}&digest={DIGEST}", BLOB).status == 201


# ---- who may


def test_rights_go_by_repository(tarn, registry):
    mine = "/v2/push.test/org/bobs/app/blobs/uploads/"
    assert ask(tarn, "POST", mine, who=BOB).status == 202
    mark = len(registry.requests)
    for method, path in (("POST", UPLOADS), ("PUT", f"/v2/{NAME}/manifests/1"),
                         ("DELETE", f"/v2/{NAME}/manifests/1"), ("PATCH", UPLOADS + "0" * 32),
                         ("GET", UPLOADS + "0" * 32), ("POST", "/v2/push.test/else/app/blobs/uploads/")):
        reply = ask(tarn, method, path, who=BOB)
        assert (reply.status, reply.code) == (403, "DENIED"), (method, path)
        reply = ask(tarn, method, path, who={})
        assert (reply.status, reply.code) == (401, "UNAUTHORIZED") and reply["WWW-Authenticate"]
    assert len(registry.requests) == mark
    place = ask(tarn, "POST", UPLOADS)["Location"]
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        assert ask(tarn, method, place, who=BOB).status == 403, method
    assert ask(tarn, "DELETE", place).status == 204


def test_ending_a_session_needs_no_right_to_delete(tarn, registry):
    place = ask(tarn, "POST", "/v2/keep.test/org/app/blobs/uploads/")["Location"]
    assert ask(tarn, "DELETE", place).status == 204
    nothing_is_left(tarn, registry)
    for path in ("manifests/1", f"manifests/{DIGEST}", f"blobs/{DIGEST}"):
        reply = ask(tarn, "DELETE", f"/v2/keep.test/org/app/{path}")
        assert (reply.status, reply.code) == (405, "UNSUPPORTED") and reply["Allow"]


# ---- deleting


def test_deleting(tarn, registry):
    assert ask(tarn, "POST", f"{UPLOADS}?digest={DIGEST}", BLOB).status == 201
    document = manifest(b"{}", [BLOB])
    for tag in ("1", "2"):
        assert put(tarn, tag, document).status == 201
    assert ask(tarn, "DELETE", f"/v2/{NAME}/manifests/1").status == 202
    assert ask(tarn, "GET", f"/v2/{NAME}/manifests/1").status == 404
    assert ask(tarn, "GET", f"/v2/{NAME}/manifests/2").body == document
    assert ask(tarn, "DELETE", f"/v2/{NAME}/manifests/{digest_of(document)}").status == 202
    for reference in ("2", digest_of(document)):
        for method in ("GET", "HEAD"):
            assert ask(tarn, method, f"/v2/{NAME}/manifests/{reference}").status == 404
    assert ask(tarn, "DELETE", f"/v2/{NAME}/blobs/{DIGEST}").status == 202
    for who in (ALICE, BOB):
        for method in ("GET", "HEAD"):
            assert ask(tarn, method, f"/v2/{NAME}/blobs/{DIGEST}", who=who).status == 404
    for path, code in (("manifests/1", "MANIFEST_UNKNOWN"),
                       (f"manifests/{digest_of(document)}", "MANIFEST_UNKNOWN"),
                       (f"blobs/{DIGEST}", "BLOB_UNKNOWN")):
        reply = ask(tarn, "DELETE", f"/v2/{NAME}/{path}")
        assert (reply.status, reply.code) == (404, code)
