"""What tarn answers to pushes, status by status, and upload sessions that are cut and continued."""

import http.client
import os
import re
import shutil
import socket

import pytest

from kit.client import fetch
from kit.content import KIB, MIB, OCI_MANIFEST, digest_of, manifest, noise
from kit.tokens import basic

pytestmark = pytest.mark.xdist_group("origin")

ALICE = {"Authorization": basic("alice", "secret")}
BOB = {"Authorization": basic("bob", "secret")}
BLOB = noise(300 * KIB)
NAME = "origin.test/sessions/app"
UPLOADS = f"/v2/{NAME}/blobs/uploads/"


@pytest.fixture
def settings(origin, users):
    return {"upstreams": [
        {"host": "origin.test", "url": origin.url, "push": True, "delete": True,
         "push_patience": "3s"},
        {"host": "kept.test", "url": origin.url, "push": True},
        {"host": "read.test", "url": origin.url}],
        "clients": {"htpasswd": str(users), "rules": [
            {"users": ["alice"], "push": True}, {"users": ["bob"]}]}, "max_blob": "1MiB"}


@pytest.fixture
def tarn(start_tarn, settings):
    settings = dict(settings)
    return start_tarn(settings.pop("upstreams"), **settings)


def ask(tarn, method, path, body=None, headers=None, who=ALICE):
    return fetch(tarn.url + path, {**who, **(headers or {})}, method=method, body=body)


def begin(tarn, name=NAME):
    begun = ask(tarn, "POST", f"/v2/{name}/blobs/uploads/")
    assert begun.status == 202, begun
    assert begun["Range"] == "0-0" and begun["Docker-Upload-UUID"]
    return begun["Location"]


def uploads(tarn):
    return [path.name for path in (tarn.root / "uploads").glob("*")]


def test_who_may_write(tarn, origin):
    mark = len(origin.log())
    for method, path in (("POST", UPLOADS), ("PUT", f"/v2/{NAME}/manifests/1"),
                         ("DELETE", f"/v2/{NAME}/manifests/1"),
                         ("DELETE", f"/v2/{NAME}/blobs/{digest_of(BLOB)}")):
        reply = ask(tarn, method, path, who={})
        assert (reply.status, reply.code) == (401, "UNAUTHORIZED") and reply["WWW-Authenticate"]
        reply = ask(tarn, method, path, who=BOB)
        assert (reply.status, reply.code) == (403, "DENIED")
    assert origin.log()[mark:].count("/v2/sessions") == 0


def test_what_is_off_is_405(tarn):
    for method, path in (("POST", "/v2/read.test/a/blobs/uploads/"),
                         ("PUT", "/v2/read.test/a/manifests/1"),
                         ("DELETE", "/v2/kept.test/a/manifests/1"),
                         ("DELETE", f"/v2/kept.test/a/blobs/{digest_of(BLOB)}")):
        reply = ask(tarn, method, path)
        assert (reply.status, reply.code) == (405, "UNSUPPORTED") and reply["Allow"]


def test_wrong_digests_leave_nothing(tarn):
    for query in ("", "&digest=", "&digest=sha256:12", f"&digest={digest_of(b'other')}"):
        place = begin(tarn)
        sent = ask(tarn, "PATCH", place, BLOB)
        assert sent.status == 202, sent
        reply = ask(tarn, "PUT", sent["Location"] + query)
        assert (reply.status, reply.code) == (400, "DIGEST_INVALID")
        assert uploads(tarn) == []
        gone = ask(tarn, "GET", sent["Location"])
        assert (gone.status, gone.code) == (404, "BLOB_UPLOAD_UNKNOWN")


def test_ranges_must_follow(tarn, origin):
    place = begin(tarn)
    first = ask(tarn, "PATCH", place, BLOB[:1000], {"Content-Range": "0-999"})
    assert first.status == 202 and first["Range"] == "0-999"
    for wrong in ("0-999", "999-1998", "1001-2000", "x", "1000", "5-2"):
        reply = ask(tarn, "PATCH", first["Location"], BLOB[1000:2000], {"Content-Range": wrong})
        assert reply.status in (400, 416), wrong
        if reply.status == 416:
            assert reply.code == "BLOB_UPLOAD_INVALID" and reply["Range"] == "0-999"
            assert reply["Location"]
    reply = ask(tarn, "PATCH", first["Location"], BLOB[1000:2000], {"Content-Range": "1000-2500"})
    assert (reply.status, reply.code) == (400, "SIZE_INVALID")
    again = ask(tarn, "GET", first["Location"])
    assert again.status == 204 and again["Range"] == "0-999"
    done = ask(tarn, "PUT", f"{again['Location']}&digest={digest_of(BLOB)}", BLOB[1000:],
               {"Content-Range": f"1000-{len(BLOB) - 1}"})
    assert done.status == 201, done
    assert fetch(f"{origin.url}/v2/sessions/app/blobs/{digest_of(BLOB)}").body == BLOB


def test_a_session_is_its_own_repositorys(tarn):
    place = begin(tarn)
    assert "sessions/app" in place and "127.0.0.1" not in place
    path, _, query = place.partition("?")
    start, _, name = path.rpartition("/")
    wrong = [path, f"{path}?{query[:-1]}", f"{start}/{'0' * len(name)}?{query}",
             place.replace("sessions/app", "sessions/other"), f"{path}?{query}A"]
    for at in range(7, len(query), 37):
        other = "A" if query[at] != "A" else "B"
        wrong.append(f"{path}?{query[:at]}{other}{query[at + 1:]}")
    for one in wrong:
        reply = ask(tarn, "GET", one)
        assert (reply.status, reply.code) == (404, "BLOB_UPLOAD_UNKNOWN"), one
    assert ask(tarn, "DELETE", place).status == 204
    assert ask(tarn, "GET", place).status == 404
    assert uploads(tarn) == []


def test_a_push_goes_on_after_a_restart(tarn, origin):
    content = noise(500 * KIB)
    sent = ask(tarn, "PATCH", begin(tarn), content[:200000])
    assert sent.status == 202
    assert (tarn.root / "uploads.key").stat().st_mode & 0o777 == 0o600
    tarn.restart()
    status = ask(tarn, "GET", sent["Location"])
    assert status.status == 204 and status["Range"] == "0-199999"
    more = ask(tarn, "PATCH", status["Location"], content[200000:400000])
    assert more.status == 202, more
    done = ask(tarn, "PUT", f"{more['Location']}&digest={digest_of(content)}", content[400000:])
    assert done.status == 201, done
    assert fetch(f"{origin.url}/v2/sessions/app/blobs/{digest_of(content)}").body == content


@pytest.mark.parametrize("lost", ["the folder", "the end of the file"])
def test_a_session_whose_file_is_gone_goes_on_where_upstream_stands(tarn, origin, lost):
    content = noise(500 * KIB, lost)
    sent = ask(tarn, "PATCH", begin(tarn), content[:200000])
    fresh = begin(tarn)
    tarn.stop()
    if lost == "the folder":
        shutil.rmtree(tarn.root / "uploads")
    else:
        for file in (tarn.root / "uploads").glob("*"):
            os.truncate(file, min(file.stat().st_size, 1000))
    tarn.start()
    status = ask(tarn, "GET", sent["Location"])
    assert (status.status, status["Range"]) == (204, "0-199999")
    more = ask(tarn, "PATCH", status["Location"], content[200000:400000])
    assert (more.status, more["Range"]) == (202, "0-399999")
    tarn.restart()  # the new file begins in the middle
    status = ask(tarn, "GET", more["Location"])
    assert (status.status, status["Range"]) == (204, "0-399999")
    done = ask(tarn, "PUT", f"{status['Location']}&digest={digest_of(content)}", content[400000:])
    assert done.status == 201, done
    assert fetch(f"{origin.url}/v2/sessions/app/blobs/{digest_of(content)}").body == content
    got = ask(tarn, "GET", f"/v2/{NAME}/blobs/{digest_of(content)}")
    assert got.body == content
    status = ask(tarn, "GET", fresh)
    assert (status.status, status["Range"]) == (204, "0-0")
    done = ask(tarn, "PUT", f"{status['Location']}&digest={digest_of(BLOB)}", BLOB)
    assert done.status == 201, done
    assert uploads(tarn) == []


def test_a_wrong_digest_is_refused_also_when_the_beginning_is_gone(tarn):
    sent = ask(tarn, "PATCH", begin(tarn), BLOB[:200000])
    tarn.stop()
    shutil.rmtree(tarn.root / "uploads")
    tarn.start()
    reply = ask(tarn, "PUT", f"{sent['Location']}&digest={digest_of(b'other')}", BLOB[200000:])
    assert (reply.status, reply.code) == (400, "DIGEST_INVALID")
    assert uploads(tarn) == []
    assert ask(tarn, "GET", sent["Location"]).status == 404


def test_what_has_ended_is_not_known_any_more(tarn):
    place = begin(tarn)
    assert ask(tarn, "DELETE", place).status == 204
    sent = ask(tarn, "PATCH", begin(tarn), BLOB)
    done = ask(tarn, "PUT", f"{sent['Location']}&digest={digest_of(BLOB)}")
    assert done.status == 201
    for gone in (place, sent["Location"]):
        for method in ("GET", "PATCH", "PUT", "DELETE"):
            reply = ask(tarn, method, gone, b"x" if method == "PATCH" else None)
            assert (reply.status, reply.code) == (404, "BLOB_UPLOAD_UNKNOWN"), method


def test_what_a_client_sent_before_its_cut_stays(tarn, origin):
    content = noise(600 * KIB)
    place = begin(tarn)
    for coding in ("Content-Length: 614400\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n40000\r\n"):
        with socket.create_connection(("127.0.0.1", tarn.port)) as client:
            before = int(ask(tarn, "GET", place)["Range"][2:])
            piece = content[before + 1 if before else 0:][:100000]
            head = (f"PATCH {place} HTTP/1.1\r\nHost: x\r\nAuthorization: {ALICE['Authorization']}"
                    f"\r\n{coding}").encode()
            client.sendall(head + piece)
            client.shutdown(socket.SHUT_WR)
            client.recv(1000)
    status = ask(tarn, "GET", place)
    assert status["Range"] == "0-199999"
    done = ask(tarn, "PUT", f"{status['Location']}&digest={digest_of(content)}", content[200000:])
    assert done.status == 201, done
    assert fetch(f"{origin.url}/v2/sessions/app/blobs/{digest_of(content)}").body == content


def test_chunks_and_expectations(tarn):
    place = begin(tarn)
    connection = http.client.HTTPConnection("127.0.0.1", tarn.port, timeout=20)
    connection.request("PATCH", place, iter([BLOB[:1000], BLOB[1000:70000], BLOB[70000:]]),
                       headers=ALICE, encode_chunked=True)
    sent = connection.getresponse()
    assert sent.status == 202 and sent.headers["Range"] == f"0-{len(BLOB) - 1}"
    sent.read()
    connection.request("PUT", f"{sent.headers['Location']}&digest={digest_of(BLOB)}", headers=ALICE)
    done = connection.getresponse()
    assert done.status == 201
    connection.close()
    with socket.create_connection(("127.0.0.1", tarn.port)) as client:
        client.sendall((f"POST {UPLOADS}?digest={digest_of(b'hello')} HTTP/1.1\r\nHost: x\r\n"
                        f"Authorization: {ALICE['Authorization']}\r\nContent-Length: 5\r\n"
                        "Expect: 100-continue\r\n\r\n").encode())
        assert client.recv(1000).startswith(b"HTTP/1.1 100 ")
        client.sendall(b"hello")
        assert client.recv(1000).startswith(b"HTTP/1.1 201 ")


def test_sizes(tarn):
    large = noise(1 * MIB + 1)
    reply = ask(tarn, "POST", f"{UPLOADS}?digest={digest_of(large)}", large)
    assert (reply.status, reply.code) == (413, "SIZE_INVALID")
    place = begin(tarn)
    reply = ask(tarn, "PATCH", place, large)
    assert (reply.status, reply.code) == (413, "SIZE_INVALID")
    assert uploads(tarn) == []
    with socket.create_connection(("127.0.0.1", tarn.port)) as client:
        client.sendall((f"PUT /v2/{NAME}/manifests/1 HTTP/1.1\r\nHost: x\r\n"
                        f"Authorization: {ALICE['Authorization']}\r\nContent-Length: 4194305\r\n"
                        "Expect: 100-continue\r\n\r\n").encode())
        assert client.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_manifests_that_are_none(tarn):
    for body in (b"", b"[]", b"hello", b"{"):
        reply = ask(tarn, "PUT", f"/v2/{NAME}/manifests/1", body, {"Content-Type": OCI_MANIFEST})
        assert (reply.status, reply.code) == (400, "MANIFEST_INVALID"), body
    reply = ask(tarn, "PUT", f"/v2/{NAME}/manifests/-x", b"{}", {"Content-Type": OCI_MANIFEST})
    assert (reply.status, reply.code) == (400, "TAG_INVALID")
    reply = ask(tarn, "PUT", f"/v2/{NAME}/manifests/{digest_of(b'x')}", b"{}",
                {"Content-Type": OCI_MANIFEST})
    assert (reply.status, reply.code) == (400, "DIGEST_INVALID")
    missing = manifest(b"{}", [b"not there"])
    reply = ask(tarn, "PUT", f"/v2/{NAME}/manifests/1", missing, {"Content-Type": OCI_MANIFEST})
    assert reply.status in (400, 404) and re.fullmatch("[A-Z_]+", reply.code)


def test_mounts_tags_and_deleting_are_seen_at_once(tarn):
    for blob in (b"{}", BLOB):
        done = ask(tarn, "POST", f"{UPLOADS}?digest={digest_of(blob)}", blob)
        assert done.status == 201, done
    other = "origin.test/sessions/other"
    for source in ("sessions/app", NAME):
        query = f"?mount={digest_of(BLOB)}&from={source}"
        mounted = ask(tarn, "POST", f"/v2/{other}/blobs/uploads/{query}")
        assert mounted.status == 201, mounted
    refused = ask(tarn, "POST", f"/v2/{other}/blobs/uploads/?mount={digest_of(b'no')}&from={NAME}")
    assert refused.status == 202
    assert ask(tarn, "GET", f"/v2/{NAME}/manifests/new").status == 404
    for layers in ([BLOB], []):
        document = manifest(b"{}", layers)
        put = ask(tarn, "PUT", f"/v2/{NAME}/manifests/new", document,
                  {"Content-Type": OCI_MANIFEST})
        assert put.status == 201, put
        got = ask(tarn, "GET", f"/v2/{NAME}/manifests/new")
        assert got.body == document and "hit" in got.cache_status
        assert "new" in ask(tarn, "GET", f"/v2/{NAME}/tags/list").json()["tags"]
    deleted = ask(tarn, "DELETE", f"/v2/{NAME}/manifests/{digest_of(document)}")
    assert deleted.status == 202, deleted
    assert ask(tarn, "GET", f"/v2/{NAME}/manifests/new").status == 404
    deleted = ask(tarn, "DELETE", f"/v2/{NAME}/manifests/{digest_of(document)}")
    assert (deleted.status, deleted.code) == (404, "MANIFEST_UNKNOWN")


def test_a_pushers_head_asks_upstream(tarn, origin):
    done = ask(tarn, "POST", f"{UPLOADS}?digest={digest_of(BLOB)}", BLOB)
    assert done.status == 201
    mark = len(origin.log())
    path = f"/v2/{NAME}/blobs/{digest_of(BLOB)}"
    assert ask(tarn, "HEAD", path, who=BOB).status == 200
    assert "HEAD" not in origin.log()[mark:]
    assert ask(tarn, "HEAD", path).status == 200
    assert ask(tarn, "HEAD", f"/v2/{NAME}/blobs/{digest_of(b'nothing')}").status == 404
    assert origin.log()[mark:].count("HEAD /v2/sessions/app/blobs/") >= 2


def test_an_upstream_that_is_gone_is_told(start_tarn, users, unused_tcp_port=1):
    tarn = start_tarn([{"host": "origin.test", "url": f"http://127.0.0.1:{unused_tcp_port}",
                        "push": True, "push_patience": "1s"}],
                      clients={"htpasswd": str(users)})
    reply = ask(tarn, "POST", UPLOADS)
    assert (reply.status, reply.code) == (502, "UNAVAILABLE")
    assert uploads(tarn) == []
