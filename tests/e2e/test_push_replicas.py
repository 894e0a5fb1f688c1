"""Pushes through several replicas: one upload whose requests come anywhere, and what all see afterwards."""

import contextlib
import http.client
import socket

import pytest

from kit.client import at_once, fetch
from kit.content import (KIB, MIB, OCI_INDEX, OCI_MANIFEST, descriptor, digest_of, index, manifest,
                         noise)
from kit.processes import wait_until
from kit.replicas import SECRET, addresses
from kit.replica_signature import new_secret, signed, write_secrets
from kit.scripted_server import several
from kit.tokens import basic
from kit.writable_registry import WritableRegistry, refusal

ALICE = {"Authorization": basic("alice", "secret")}
NAME = "fake.test/org/app"
NEW = new_secret()
UPLOADS = f"/v2/{NAME}/blobs/uploads/"
CONTENT = noise(600 * KIB)
DIGEST = digest_of(CONTENT)


@pytest.fixture
def make_registry():
    yield from several(WritableRegistry)


@pytest.fixture
def start(make_replica, users):
    """start(registry, members, …): replicas through which alice may push to the registry."""
    def start(registry, members, **more):
        upstream = {"url": registry.url, "push": True, "delete": True, "push_patience": "6s",
                    **more.pop("upstream", {})}
        return [make_replica(member, members, [upstream], clients={"htpasswd": str(users)}, **more)
                for member in members]
    return start


@pytest.fixture
def registry(make_registry):
    return make_registry()


@pytest.fixture
def three(start, registry):
    return start(registry, addresses(3))


def blobs(registry):
    return registry.repository("org/app").blobs


def ask(tarn, method, path, body=None, headers=None, who=ALICE, **more):
    return fetch(tarn.url + path, {**who, **(headers or {})}, method=method, body=body, **more)


def begin(tarn, path=UPLOADS):
    begun = ask(tarn, "POST", path)
    assert begun.status == 202, begun
    return begun["Location"]


def send(tarn, place, piece, headers=None):
    sent = ask(tarn, "PATCH", place, piece, headers)
    assert sent.status == 202, sent
    return sent["Location"]


def finish(tarn, place, content=CONTENT, last=None):
    done = ask(tarn, "PUT", f"{place}&digest={digest_of(content)}", last)
    assert done.status == 201, done
    assert done["Docker-Content-Digest"] == digest_of(content)
    assert done["Location"].endswith(f"/blobs/{digest_of(content)}")
    return done


def holders(tarns):
    return [tarn for tarn in tarns if list((tarn.root / "uploads").glob("*"))]


def test_the_requests_of_one_upload_come_to_any_replica(three, registry):
    place = begin(three[0])
    assert three[0].member not in place
    place = send(three[1], place, CONTENT[:100000])
    assert place.startswith(UPLOADS)
    status = ask(three[2], "GET", place)
    assert (status.status, status["Range"]) == (204, "0-99999")
    assert status["Docker-Upload-UUID"] and status["Location"].startswith(UPLOADS)
    place = send(three[2], status["Location"], CONTENT[100000:300000],
                 {"Content-Range": "100000-299999"})
    assert holders(three) == [three[0]]
    finish(three[1], place, last=CONTENT[300000:])
    assert blobs(registry)[DIGEST] == CONTENT
    assert registry.received == len(CONTENT), "each byte went to upstream once"
    assert holders(three) == []
    got = ask(three[0], "GET", f"/v2/{NAME}/blobs/{DIGEST}")
    assert got.body == CONTENT and "hit" in got.cache_status
    assert three[1].asks("out", ask="upload", answer="held") == 2
    assert three[0].asks("in", ask="upload", answer="held") == 4


def test_chunks_and_expectations_go_through_another_replica(three, registry):
    place = begin(three[0])
    connection = http.client.HTTPConnection(*three[1].member.split(":"), timeout=20)
    connection.request("PATCH", place, iter([CONTENT[:1000], CONTENT[1000:70000], CONTENT[70000:]]),
                       headers=ALICE, encode_chunked=True)
    sent = connection.getresponse()
    assert sent.status == 202 and sent.headers["Range"] == f"0-{len(CONTENT) - 1}"
    sent.read()
    connection.request("PUT", f"{sent.headers['Location']}&digest={DIGEST}", headers=ALICE)
    assert connection.getresponse().status == 201
    connection.close()
    assert blobs(registry)[DIGEST] == CONTENT
    place, other = begin(three[0]), noise(2000, 7)
    host, _, port = three[2].member.partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as client:
        client.sendall((f"PATCH {place} HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n"
                        f"Authorization: {ALICE['Authorization']}\r\n"
                        "Expect: 100-continue\r\n\r\n").encode())
        assert client.recv(1000).startswith(b"HTTP/1.1 100 ")
        client.sendall(other)
        assert client.recv(4000).startswith(b"HTTP/1.1 202 ")


@pytest.mark.parametrize("path", ["/v2/org/app/blobs/uploads/?ns=fake.test",
                                  "/v2/org/app/blobs/uploads/", "/fake.test/v2/org/app/blobs/uploads/"])
def test_the_address_keeps_the_clients_way_of_naming(three, path):
    begun = begin(three[0], path)
    answer = ask(three[1], "GET", begun)
    start, _, query = path.partition("?")
    assert answer["Location"].startswith(start) and query in answer["Location"]
    assert ask(three[2], "DELETE", answer["Location"]).status == 204
    for one in three:
        gone = ask(one, "GET", begun)
        assert (gone.status, gone.code) == (404, "BLOB_UPLOAD_UNKNOWN")


def test_refusals_come_through_another_replica(start, registry):
    one, other = start(registry, addresses(2), max_blob="1MiB")
    place = send(one, begin(one), CONTENT[:1000])
    for wrong in ("0-999", "999-1998", "1001-2000", "x", "5-2"):
        reply = ask(other, "PATCH", place, CONTENT[1000:2000], {"Content-Range": wrong})
        assert (reply.status, reply.code) == (416, "BLOB_UPLOAD_INVALID"), wrong
        assert reply["Range"] == "0-999" and reply["Location"].startswith(UPLOADS)
    reply = ask(other, "PATCH", place, CONTENT[1000:2000], {"Content-Range": "1000-2500"})
    assert (reply.status, reply.code) == (400, "SIZE_INVALID")
    reply = ask(other, "PATCH", place, noise(MIB + 1))
    assert (reply.status, reply.code) == (413, "SIZE_INVALID")
    reply = ask(other, "PUT", f"{place}&digest={digest_of(b'other')}")
    assert (reply.status, reply.code) == (400, "DIGEST_INVALID")
    assert registry.sessions == {} and holders([one, other]) == []
    reply = ask(other, "PUT", f"{begin(one)}&digest=sha256:12")
    assert (reply.status, reply.code) == (400, "DIGEST_INVALID")
    reply = ask(other, "PATCH", begin(one), CONTENT, who={})
    assert reply.status == 401


def test_upstreams_failures_come_through_another_replica(start, registry):
    one, other = start(registry, addresses(2), upstream={"push_patience": "1s"})
    place = begin(one)
    registry.fail("PATCH", times=None, **refusal(429))
    reply = ask(other, "PATCH", place, CONTENT)
    assert reply.status == 429 and reply["Retry-After"]
    registry.heal()
    status = ask(other, "GET", place)
    assert (status.status, status["Range"]) == (204, f"0-{len(CONTENT) - 1}")
    finish(other, status["Location"])
    assert blobs(registry)[DIGEST] == CONTENT


def test_what_was_sent_through_another_replica_before_a_cut_stays(three, registry):
    place = begin(three[0])
    host, _, port = three[1].member.partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as client:
        client.sendall(f"PATCH {place} HTTP/1.1\r\nHost: x\r\nAuthorization: "
                       f"{ALICE['Authorization']}\r\nContent-Length: {len(CONTENT)}\r\n\r\n".encode()
                       + CONTENT[:100000])
        client.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            client.recv(1000)
    status = ask(three[2], "GET", place)
    assert status["Range"] == "0-99999"
    finish(three[2], status["Location"], last=CONTENT[100000:])
    assert blobs(registry)[DIGEST] == CONTENT


# ---- the holder is gone


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_another_replica_goes_on_where_upstream_stands(three, registry, how):
    place = send(three[0], begin(three[0]), CONTENT[:200000])
    if how == "killed":
        three[0].kill()
    else:
        three[0].freeze()
    try:
        status = ask(three[1], "GET", place, timeout=30)
        assert (status.status, status["Range"]) == (204, "0-199999")
        place = send(three[2], status["Location"], CONTENT[200000:400000],
                     {"Content-Range": "200000-399999"})
        finish(three[1], place, last=CONTENT[400000:])
    finally:
        if how == "frozen":
            three[0].thaw()
    assert blobs(registry)[DIGEST] == CONTENT and registry.received == len(CONTENT)
    got = ask(three[2], "GET", f"/v2/{NAME}/blobs/{DIGEST}")
    assert got.body == CONTENT


def test_another_replica_takes_the_next_piece_without_being_asked_first(three, registry):
    place = send(three[0], begin(three[0]), CONTENT[:200000])
    three[0].kill()
    place = send(three[1], place, CONTENT[200000:])
    finish(three[1], place)
    assert blobs(registry)[DIGEST] == CONTENT


def test_an_upload_without_a_byte_goes_on_at_another_replica(three, registry):
    place = begin(three[0])
    three[0].kill()
    status = ask(three[1], "GET", place)
    assert (status.status, status["Range"]) == (204, "0-0")
    finish(three[2], send(three[1], place, CONTENT))
    assert blobs(registry)[DIGEST] == CONTENT


def test_a_piece_that_does_not_follow_what_upstream_has_is_416(three, registry):
    place = send(three[0], begin(three[0]), CONTENT[:200000])
    three[0].kill()
    session, = registry.sessions.values()
    del session.content[150000:]
    for method, target, body in (("PATCH", place, CONTENT[200000:]),
                                 ("PUT", f"{place}&digest={DIGEST}", None)):
        reply = ask(three[1], method, target, body)
        assert (reply.status, reply.code) == (416, "BLOB_UPLOAD_INVALID"), reply
        assert reply["Range"] == "0-149999"
    finish(three[1], reply["Location"], last=CONTENT[150000:])
    assert blobs(registry)[DIGEST] == CONTENT


def test_without_a_second_piece_the_client_begins_anew(start, make_registry):
    registry = make_registry()
    registry.one_patch = 400
    tarns = start(registry, addresses(2))
    finish(tarns[0], send(tarns[0], send(tarns[0], begin(tarns[0]), CONTENT[:1000]),
                          CONTENT[1000:]))  # so it is learnt
    finish(tarns[1], send(tarns[1], send(tarns[1], begin(tarns[1]), b"a"), b"b"), b"ab")
    place = send(tarns[0], begin(tarns[0]), CONTENT[:200000])
    tarns[0].kill()
    for method in ("GET", "PATCH", "PUT"):
        reply = ask(tarns[1], method, place, CONTENT[200000:] if method == "PATCH" else None)
        assert (reply.status, reply.code) == (404, "BLOB_UPLOAD_UNKNOWN"), method


def test_upstream_has_lost_the_upload_as_well(three, registry):
    place = send(three[0], begin(three[0]), CONTENT[:200000])
    three[0].kill()
    registry.sessions.clear()
    reply = ask(three[1], "GET", place)
    assert (reply.status, reply.code) == (404, "BLOB_UPLOAD_UNKNOWN")


def test_upstream_loses_what_only_the_other_replica_had(three, registry):
    place = send(three[0], begin(three[0]), CONTENT[:200000])
    three[0].kill()
    place = ask(three[1], "GET", place)["Location"]
    registry.sessions.clear()
    reply = ask(three[1], "PATCH", place, CONTENT[200000:])
    assert (reply.status, reply.code) == (404, "BLOB_UPLOAD_UNKNOWN"), reply
    assert holders(three[1:]) == []


def test_a_holder_that_comes_back_has_the_upload(three, registry):
    place = send(three[0], begin(three[0]), CONTENT[:200000])
    three[0].restart()
    status = ask(three[1], "GET", place)
    assert (status.status, status["Range"]) == (204, "0-199999")
    finish(three[1], status["Location"], last=CONTENT[200000:])
    assert blobs(registry)[DIGEST] == CONTENT


def test_the_holder_leaves_while_it_takes_a_piece(three, registry):
    """The client is told to ask where the upload stands, and does so."""
    place = send(three[0], begin(three[0]), CONTENT[:100000])
    host, _, port = three[1].member.partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as client:
        client.sendall(f"PATCH {place} HTTP/1.1\r\nHost: x\r\nAuthorization: "
                       f"{ALICE['Authorization']}\r\nContent-Length: 500000\r\n\r\n".encode()
                       + CONTENT[100000:200000])
        wait_until(lambda: registry.received > 150000, "the piece to come to upstream")
        three[0].kill()
        answer = client.recv(4000)
    assert answer.startswith(b"HTTP/1.1 503 ") and b"Retry-After" in answer
    status = ask(three[2], "GET", place)
    assert status.status in (204, 404)
    if status.status == 204:
        at = int(status["Range"][2:]) + 1
        finish(three[2], status["Location"], last=CONTENT[at:])
        assert blobs(registry)[DIGEST] == CONTENT


# ---- who may


def test_an_address_is_good_only_under_the_same_secret(three, start, start_tarn, registry, users,
                                                      tmp_path):
    place = begin(three[0])
    other = tmp_path / "other.secret"
    other.write_text(new_secret() + "\n")
    other.chmod(0o600)
    alone = start_tarn([{"host": "fake.test", "url": registry.url, "push": True}],
                       clients={"htpasswd": str(users)})
    stranger, = start(registry, addresses(1), replicas={"secret_file": str(other)})
    for one in (alone, stranger):
        reply = ask(one, "GET", place)
        assert (reply.status, reply.code) == (404, "BLOB_UPLOAD_UNKNOWN")


def test_the_secret_is_exchanged_while_an_upload_is_under_way(three, registry, tmp_path):
    place = send(three[0], begin(three[0]), CONTENT[:1000])
    file = tmp_path / "replicas.secret"
    for lines in ((SECRET, NEW), (NEW, SECRET)):
        write_secrets(file, *lines)
        for one in three:
            number = 1 if lines[0] == SECRET else 2
            wait_until(lambda one=one: one.log().count("secrets were read again") == number,
                       "the new secrets")
        at = int(ask(three[1], "GET", place)["Range"][2:]) + 1
        place = send(three[2], place, CONTENT[at:at + 1000])
    finish(three[1], place, last=CONTENT[3000:])
    assert blobs(registry)[DIGEST] == CONTENT


def test_only_a_signed_request_needs_no_login(three):
    place = begin(three[0])
    reply = ask(three[0], "PATCH", place, b"x", {"Tarn-Ask": "upload"}, who={})
    assert reply.status == 401
    wrong = signed(new_secret(), place, "upload", "PATCH")
    assert ask(three[0], "PATCH", place, b"x", wrong, who={}).status == 401
    for question, method, target in (("fetch", "PATCH", place), ("upload", "POST", UPLOADS),
                                     ("upload", "PUT", f"/v2/{NAME}/manifests/1"),
                                     ("renew", "PATCH", place), ("forget", "PATCH", place),
                                     ("upload", "POST", "/tarn/v1/renew?name=fake.test/a")):
        fields = signed(SECRET, target, question, method)
        reply = ask(three[0], method, target, b"x" if method != "POST" else None, fields, who={})
        assert reply.status in (401, 405), (question, method, target)
    right = signed(SECRET, place, "upload", "PATCH")
    assert ask(three[0], "PATCH", place, b"x", right, who={}).status == 202


def test_orders_that_are_none_are_refused(three):
    digest = digest_of(b"x")
    for query in ("", "name=fake.test/org/app", "name=fake.test/org/app&what=blob-written&subject=",
                  "name=fake.test/org/app&what=blob-written&subject=&reference=tag",
                  "name=fake.test/org/app&what=burn&subject=&reference=tag",
                  f"name=fake.test/org/app&what=manifest-written&subject=x&reference={digest}"):
        target = f"/tarn/v1/renew?{query}"
        reply = ask(three[0], "POST", target, headers=signed(SECRET, target, "renew", "POST"))
        assert reply.status == 400, query
    target = f"/tarn/v1/renew?name=else.test/app&what=blob-written&subject=&reference={digest}"
    reply = ask(three[0], "POST", target, headers=signed(SECRET, target, "renew", "POST"))
    assert (reply.status, reply["Tarn-Answer"]) == (200, "no")
    assert ask(three[0], "POST", target).status == 401


# ---- what all see after a write


@pytest.fixture
def unique(request):
    return "replicas/" + request.node.name.replace("_", "-").lower()[5:60].strip("-")


@pytest.fixture
def slow_tags(start, origin, unique):
    """Replicas that believe a tag for an hour, and what is missing for as long."""
    return start(origin, addresses(3), upstream={"tag_ttl": "1h"}, negative_ttl="1h")


def see(tarn, name, reference):
    reply = ask(tarn, "GET", f"/v2/fake.test/{name}/manifests/{reference}")
    return reply.body if reply.status == 200 else reply.status


def tags(tarn, name):
    reply = ask(tarn, "GET", f"/v2/fake.test/{name}/tags/list")
    return sorted(reply.json()["tags"] or []) if reply.status == 200 else reply.status


def referrers(tarn, name, digest):
    reply = ask(tarn, "GET", f"/v2/fake.test/{name}/referrers/{digest}")
    return [one["digest"] for one in reply.json()["manifests"]] if reply.status == 200 else reply.status


def put(tarn, name, reference, document, media_type=OCI_MANIFEST):
    reply = ask(tarn, "PUT", f"/v2/fake.test/{name}/manifests/{reference}", document,
                {"Content-Type": media_type})
    assert reply.status == 201, reply


def upload(tarn, name, *blobs):
    for blob in blobs:
        done = ask(tarn, "POST", f"/v2/fake.test/{name}/blobs/uploads/?digest={digest_of(blob)}",
                   blob)
        assert done.status == 201, done


@pytest.mark.xdist_group("origin")
def test_all_replicas_see_a_push_at_once(slow_tags, unique):
    layer = noise(50 * KIB, unique)
    one = manifest(b"{}", [layer])
    blob = f"/v2/fake.test/{unique}/blobs/{digest_of(layer)}"
    for tarn in slow_tags:
        assert (see(tarn, unique, "1"), tags(tarn, unique)) == (404, 404)
        assert see(tarn, unique, digest_of(one)) == 404
        assert ask(tarn, "GET", blob).status == 404
    upload(slow_tags[0], unique, b"{}", layer)
    for tarn in slow_tags:
        assert ask(tarn, "GET", blob).body == layer
    put(slow_tags[1], unique, "1", one)
    for tarn in slow_tags:
        assert see(tarn, unique, "1") == one and tags(tarn, unique) == ["1"]
        assert see(tarn, unique, digest_of(one)) == one
    for number, pushing in enumerate(slow_tags):
        document = manifest(b"{}", [layer], annotations={"number": str(number)})
        put(pushing, unique, "1", document)
        put(pushing, unique, f"new{number}", document)
        for tarn in slow_tags:
            assert see(tarn, unique, "1") == document
            assert f"new{number}" in tags(tarn, unique)
    gone = ask(slow_tags[2], "DELETE", f"/v2/fake.test/{unique}/manifests/{digest_of(document)}")
    assert gone.status == 202
    for tarn in slow_tags:
        for reference in ("1", "new2", digest_of(document)):
            assert see(tarn, unique, reference) == 404, reference
        assert tags(tarn, unique) == ["new0", "new1"]


@pytest.mark.xdist_group("origin")
def test_all_replicas_see_referrers_at_once(slow_tags, unique):
    """The origin has no referrers API, so its clients write the fallback tag."""
    subject = manifest(b"{}", [])
    upload(slow_tags[0], unique, b"{}")
    put(slow_tags[0], unique, "1", subject)
    tag = digest_of(subject).replace(":", "-")
    entries, signatures = [], []
    for number, pushing in enumerate(slow_tags):
        for tarn in slow_tags:
            assert referrers(tarn, unique, digest_of(subject)) == signatures
        signature = manifest(b"{}", [], annotations={"number": str(number)}, subject=descriptor(subject, OCI_MANIFEST))
        put(pushing, unique, digest_of(signature), signature)
        entries.append(descriptor(signature, OCI_MANIFEST))
        signatures.append(digest_of(signature))
        put(pushing, unique, tag, index(entries), OCI_INDEX)
        for tarn in slow_tags:
            assert referrers(tarn, unique, digest_of(subject)) == signatures


@pytest.mark.xdist_group("origin")
def test_a_replica_that_is_gone_holds_up_no_push(slow_tags, unique):
    slow_tags[2].kill()
    document = manifest(b"{}", [])
    upload(slow_tags[0], unique, b"{}")
    put(slow_tags[0], unique, "1", document)
    assert [see(tarn, unique, "1") for tarn in slow_tags[:2]] == [document] * 2
    assert "was not told of a write" in slow_tags[0].log()


@pytest.mark.xdist_group("origin")
def test_pulls_beside_pushes_never_see_what_was_before(slow_tags, unique):
    """Readers ask all the time; once a push is answered, none of them sees the one before."""
    upload(slow_tags[0], unique, b"{}")
    documents = [manifest(b"{}", [], annotations={"number": str(number)}) for number in range(12)]
    pushed = [-1]

    def push():
        for number, document in enumerate(documents):
            put(slow_tags[number % 3], unique, "1", document)
            pushed[0] = number

    def read(tarn):
        while pushed[0] < len(documents) - 1:
            least = pushed[0]
            seen = see(tarn, unique, "1")
            if least >= 0:
                assert documents.index(seen) >= least

    at_once(push, *[lambda tarn=tarn: read(tarn) for tarn in slow_tags for _ in range(2)])
