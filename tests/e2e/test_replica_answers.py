"""What a tarn answers to other replicas, and to those who only say that they are replicas."""

import contextlib
import http.client
import itertools
import select
import time

import pytest

from kit.client import fetch
from kit.content import digest_of, noise
from kit.htpasswd import write_htpasswd
from kit.processes import free_port, wait_until
from kit.replica_signature import key_id, new_secret, signed, write_secrets
from kit.tokens import basic

BLOB = noise(300_000)
DIGEST = digest_of(BLOB)
BLOB_PATH = f"/v2/fake.test/org/app/blobs/{DIGEST}"
TAG_PATH = "/v2/fake.test/org/app/manifests/1"


@pytest.fixture
def secret():
    return new_secret()


@pytest.fixture
def secret_file(tmp_path, secret):
    return write_secrets(tmp_path / "replicas", secret)


@pytest.fixture
def start(start_tarn, upstream, secret_file):
    """Starts a tarn that is the only member of its replicas."""
    upstream.image("org/app", [BLOB], tag="1")

    def run(members=(), **settings):
        port = free_port()
        entry = {"host": "fake.test", "url": upstream.url, "default": True, "tag_ttl": "1h",
                 **settings.pop("upstream", {})}
        return start_tarn([entry], listen=[f"127.0.0.1:{port}"],
                          replicas={"peers": [f"127.0.0.1:{port}", *members],
                                    "secret_file": str(secret_file),
                                    **settings.pop("replicas", {})}, **settings)
    return run


@pytest.fixture
def tarn(start):
    return start()


def ask(tarn, secret, path, what="fetch", method="GET", more=None, **wrong):
    headers = {**signed(secret, path, what, method, **wrong), **(more or {})}
    return fetch(tarn.url + path, headers, method=method)


def wait_for_asks(tarn, question, answer, count):
    """A request is counted after its response."""
    name = f'tarn_replica_asks_total{{direction="in",ask="{question}",answer="{answer}"}}'
    wait_until(lambda: tarn.metrics().get(name) == count, f"{count} of {name}")


# ---- answers


def test_a_blob_that_is_held_is_said_to_be(tarn, secret):
    assert tarn.blob("fake.test/org/app", DIGEST).body == BLOB
    wait_until(lambda: tarn.blob("fake.test/org/app", DIGEST).cache_status == "tarn; hit", "a hit")
    for what in ("arriving", "fetch", "fetch; bucket=absent"):
        reply = ask(tarn, secret, BLOB_PATH, what)
        assert (reply.status, reply["Tarn-Answer"], len(reply.body)) == (200, "held", len(BLOB))
        assert digest_of(reply.body) == DIGEST
    wait_for_asks(tarn, "arriving", "held", 1)
    wait_for_asks(tarn, "fetch", "held", 2)
    wait_until(lambda: tarn.metrics()['tarn_replica_bytes_total{direction="out"}']
               == 3 * len(BLOB), "bytes that were sent")


def test_a_blob_is_fetched_for_a_replica(tarn, secret, upstream):
    reply = ask(tarn, secret, BLOB_PATH)
    assert (reply.status, reply["Tarn-Answer"]) == (200, "arriving")
    assert digest_of(reply.body) == DIGEST
    assert len(upstream.asked(r"/blobs/", method="GET")) == 1


def test_what_is_not_arriving_is_not_fetched(tarn, secret, upstream):
    for method, path in (("HEAD", BLOB_PATH), ("GET", TAG_PATH), ("HEAD", TAG_PATH),
                         ("GET", "/v2/fake.test/org/app/tags/list")):
        reply = ask(tarn, secret, path, "arriving", method)
        assert (reply.status, reply["Tarn-Answer"]) == (404, "no"), path
    assert upstream.asked() == []
    wait_for_asks(tarn, "arriving", "no", 4)


def test_a_range_is_answered_with_206(tarn, secret):
    reply = ask(tarn, secret, BLOB_PATH, more={"Range": "bytes=1000-1999"})
    assert (reply.status, reply.body) == (206, BLOB[1000:2000])
    assert reply["Tarn-Answer"] in ("arriving", "held")
    tarn.blob("fake.test/org/app", DIGEST)
    reply = ask(tarn, secret, BLOB_PATH, more={"Range": f"bytes={len(BLOB)}-"})
    assert (reply.status, reply["Content-Range"]) == (416, f"bytes */{len(BLOB)}")
    assert reply["Tarn-Answer"]


def test_head_of_a_blob_never_fetches_it(tarn, secret, upstream):
    reply = ask(tarn, secret, BLOB_PATH, method="HEAD")
    assert (reply.status, reply["Content-Length"]) == (200, str(len(BLOB)))
    assert reply["Tarn-Answer"] == "held"
    assert upstream.asked(r"/blobs/", method="GET") == []


@pytest.mark.parametrize("path", [TAG_PATH, "/v2/fake.test/org/app/tags/list"])
def test_a_document_tells_how_old_it_is(tarn, secret, path):
    reply = ask(tarn, secret, path)
    assert (reply.status, reply["Tarn-Answer"]) == (200, "held")
    assert (reply["Age"], reply["Cache-Control"]) == ("0", "max-age=3600")
    time.sleep(2.2)  # the age is a time
    later = ask(tarn, secret, path)
    assert 2 <= int(later["Age"]) <= 20
    assert later["Cache-Control"] == "max-age=3600"
    assert later.body == reply.body


def test_what_upstream_is_to_confirm_tells_how_long_ago_it_did(start, secret, upstream):
    tarn = start(upstream={"link_ttl": "1h"})
    manifest = f"/v2/fake.test/org/app/manifests/{upstream.repository('org/app').tags['1']}"
    assert tarn.get(manifest).status == 200
    assert tarn.blob("fake.test/org/app", DIGEST).body == BLOB
    tarn.wait_cached("fake.test/org/app", DIGEST)
    time.sleep(2.2)  # the age is a time
    for method, path in (("GET", manifest), ("GET", BLOB_PATH), ("HEAD", BLOB_PATH)):
        reply = ask(tarn, secret, path, method=method)
        assert (reply.status, reply["Cache-Control"]) == (200, "max-age=3600"), path
        assert 1 <= int(reply["Age"]) <= 20, path
    assert tarn.blob("fake.test/org/app", DIGEST)["Age"] is None


def test_referrers_are_answered(tarn, secret, upstream):
    digest = upstream.repository("org/app").tags["1"]
    reply = ask(tarn, secret, f"/v2/fake.test/org/app/referrers/{digest}")
    assert (reply.status, reply["Tarn-Answer"]) == (200, "held")
    assert reply.json()["manifests"] == []


def test_a_stale_document_is_marked_so(start, secret, upstream):
    tarn = start(upstream={"tag_ttl": "1s"})
    assert ask(tarn, secret, TAG_PATH)["Cache-Control"] == "max-age=1"
    upstream.fault("/v2/", status=500, method=None)
    time.sleep(2.2)  # tag_ttl
    reply = ask(tarn, secret, TAG_PATH)
    assert (reply.status, reply["Tarn-Answer"]) == (200, "held")
    assert "detail=upstream-failed" in reply.cache_status


@pytest.mark.parametrize("status, told", [(404, 404), (403, 403), (429, 429), (500, 502)])
@pytest.mark.parametrize("path", [BLOB_PATH, TAG_PATH])
def test_what_upstream_says_is_marked_as_its_word(start, secret, upstream, status, told, path):
    tarn = start()
    upstream.fault("/v2/", status=status, method=None)
    reply = ask(tarn, secret, path)
    assert (reply.status, reply["Tarn-Answer"]) == (told, "upstream")
    wait_for_asks(tarn, "fetch", "upstream", 1)


# ---- who is a replica


def test_without_a_signature_the_question_means_nothing(tarn, upstream):
    for what in ("arriving", "fetch", "forget", "nonsense"):
        reply = tarn.get(TAG_PATH, {"Tarn-Ask": what})
        assert (reply.status, reply["Tarn-Answer"], reply["Age"]) == (200, None, None)
    assert tarn.metrics().get("tarn_requests_total"
                              '{upstream="fake.test",type="manifest",outcome="miss"}') == 1


BAD = {
    "another secret": lambda secret: (new_secret(), {}),
    "another secret under the right name": lambda secret: (new_secret(), {"keyid": key_id(secret)}),
    "an unknown name": lambda secret: (secret, {"keyid": "00000000"}),
    "expired": lambda secret: (secret, {"created": int(time.time()) - 70}),
    "from the future": lambda secret: (secret, {"created": int(time.time()) + 70}),
    "another algorithm": lambda secret: (secret, {"alg": "hmac-sha512"}),
    "a field less": lambda secret: (secret, {"covered": ("@method", "@path", "tarn-ask")}),
    "a field more": lambda secret: (secret, {"covered": ("@method", "@path", "@query", "tarn-ask",
                                                         "host")}),
    "another order": lambda secret: (secret, {"covered": ("@path", "@method", "@query",
                                                          "tarn-ask")}),
    "another label": lambda secret: (secret, {"label": "sig1"}),
    "no parameters": lambda secret: (secret, {
        "parameters": '("@method" "@path" "@query" "tarn-ask")'}),
    "another parameter": lambda secret: (secret, {
        "parameters": '("@method" "@path" "@query" "tarn-ask")'
                      f';created={int(time.time())};keyid="{key_id(secret)}";alg="hmac-sha256"'
                      ';nonce="x"'}),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_signature_is_401(tarn, secret, upstream, what):
    other, wrong = BAD[what](secret)
    reply = ask(tarn, other, BLOB_PATH, **wrong)
    assert (reply.status, reply.code, reply["Tarn-Answer"]) == (401, "UNAUTHORIZED", None)
    assert upstream.asked() == []
    wait_for_asks(tarn, "fetch", "refused", 1)


@pytest.mark.parametrize("missing", ["Signature", "Signature-Input", "Tarn-Ask"])
def test_a_missing_half_is_401(tarn, secret, missing):
    headers = signed(secret, BLOB_PATH)
    del headers[missing]
    assert tarn.get(BLOB_PATH, headers).status == 401


@pytest.mark.parametrize("method, path, ask_field", [
    ("GET", BLOB_PATH, "arriving"), ("GET", BLOB_PATH, "fetch; bucket=absent"),
    ("GET", TAG_PATH, "fetch"), ("GET", BLOB_PATH + "?ns=fake.test", "fetch"),
    ("HEAD", BLOB_PATH, "fetch")])
def test_a_signature_is_for_one_question_only(tarn, secret, method, path, ask_field):
    headers = {**signed(secret, BLOB_PATH), "Tarn-Ask": ask_field}
    assert fetch(tarn.url + path, headers, method=method).status == 401


def test_a_signature_is_good_for_a_minute(tarn, secret):
    for created in (int(time.time()) - 50, int(time.time()) + 50):
        assert ask(tarn, secret, BLOB_PATH, created=created).status == 200
    headers = signed(secret, BLOB_PATH)
    assert [tarn.get(BLOB_PATH, headers).status for _ in range(2)] == [200, 200]


@pytest.mark.parametrize("value", ["nonsense", "Fetch", "fetch;bucket=absent", "fetch, arriving",
                                   "forget", ""])
def test_another_question_is_401_although_it_is_signed(tarn, secret, value):
    assert ask(tarn, secret, BLOB_PATH, value).status == 401


def test_a_bad_signature_is_401_also_beside_a_good_login(start, secret, tmp_path):
    tarn = start(clients={"htpasswd": str(write_htpasswd(tmp_path / "users", "alice"))})
    login = {"Authorization": basic("alice", "secret")}
    assert tarn.get(TAG_PATH).status == 401
    assert tarn.get(TAG_PATH, login).status == 200
    assert tarn.get(TAG_PATH, signed(secret, TAG_PATH)).status == 200
    assert tarn.get(TAG_PATH, {**signed(new_secret(), TAG_PATH), **login}).status == 401
    assert tarn.get(TAG_PATH, {**signed(secret, TAG_PATH), **login}).status == 200


# ---- what a replica may ask


def readable(connection):
    return bool(select.select([connection], [], [], 0)[0])


@pytest.mark.parametrize("method, path", [
    ("PUT", TAG_PATH), ("DELETE", TAG_PATH), ("DELETE", BLOB_PATH), ("PATCH", BLOB_PATH),
    ("POST", "/v2/fake.test/org/app/blobs/uploads/"), ("POST", BLOB_PATH)])
def test_a_signed_write_is_405(tarn, secret, upstream, method, path):
    reply = ask(tarn, secret, path, method=method)
    assert (reply.status, reply["Allow"]) == (405, "GET, HEAD")
    assert upstream.asked() == []


def test_an_upstream_that_is_not_configured_is_404(tarn, secret, upstream):
    for what in ("arriving", "fetch"):
        reply = ask(tarn, secret, f"/v2/other.test/org/app/blobs/{DIGEST}", what)
        assert (reply.status, reply["Tarn-Answer"]) == (404, None)
    assert upstream.asked() == []


def test_a_repository_that_is_not_allowed_is_403(start, secret, upstream):
    tarn = start(upstream={"repositories": ["allowed/**"]})
    reply = ask(tarn, secret, BLOB_PATH)
    assert (reply.status, reply["Tarn-Answer"]) == (403, None)
    assert upstream.asked() == []


def test_rules_of_clients_bind_replicas_only_where_nobody_may_read(start, secret, tmp_path):
    tarn = start(clients={"htpasswd": str(write_htpasswd(tmp_path / "users", "alice")),
                          "rules": [{"users": ["alice"], "repositories": ["org/**"]}]})
    assert ask(tarn, secret, TAG_PATH).status == 200
    assert tarn.get(TAG_PATH).status == 401
    assert ask(tarn, secret, "/v2/fake.test/secret/app/manifests/1").status == 403


@pytest.mark.parametrize("path", ["/", "/tarn/v1/flights", "/tarn/v1/replicas", "/v2/_catalog",
                                  "/tarn/v1/images/fake.test/org/app"])
def test_a_signature_opens_no_page(start, secret, tmp_path, path):
    tarn = start(clients={"htpasswd": str(write_htpasswd(tmp_path / "users", "alice"))})
    assert ask(tarn, secret, path).status == 403


def test_replicas_do_not_count_for_limits_of_one_client(start, secret, upstream):
    """While one address has its share of connections, replicas at that address are served."""
    patient = {"first_byte_timeout": "10m", "stall_timeout": "10m"}
    tarn = start(max_connections=8, limits={"per_client": {"connections": "25%"}}, upstream=patient)
    upstream.fault(r"/manifests/silent", method=None, black_hole=True)
    with contextlib.ExitStack() as stack:
        for number in itertools.count():
            client = stack.enter_context(contextlib.closing(
                http.client.HTTPConnection("127.0.0.1", tarn.port, timeout=60)))
            client.request("GET", f"/v2/fake.test/org/app/manifests/silent{number}")
            wait_until(lambda: readable(client.sock) or upstream.asked(f"silent{number}$"),
                       "a client that waits or is refused")
            if readable(client.sock):
                assert client.getresponse().status == 429
                break
        assert [ask(tarn, secret, TAG_PATH).status for _ in range(8)] == [200] * 8
        assert ask(tarn, new_secret(), TAG_PATH).status == 401
        assert tarn.get(BLOB_PATH).status == 429


def test_requests_of_replicas_are_counted_apart(tarn, secret):
    assert ask(tarn, secret, TAG_PATH).status == 200
    assert ask(tarn, secret, BLOB_PATH).status == 200
    figures = tarn.metrics()
    wait_for_asks(tarn, "fetch", "held", 1)
    assert figures['registry_proxy_requests_total{type="blob"}'] == 0
    assert figures['registry_proxy_requests_total{type="manifest"}'] == 0


# ---- forgetting


def forget(tarn, secret, name, **wrong):
    return ask(tarn, secret, f"/tarn/v1/forget?name={name}", wrong.pop("what", "forget"),
               wrong.pop("method", "POST"), **wrong)


def test_an_image_is_forgotten(tarn, secret, upstream):
    assert ask(tarn, secret, TAG_PATH).status == 200
    upstream.forget_requests()
    assert tarn.get(TAG_PATH).status == 200
    assert upstream.asked("/manifests/") == []
    assert forget(tarn, secret, "fake.test/org/app:1").status == 200
    assert tarn.get(TAG_PATH).status == 200
    assert len(upstream.asked("/manifests/")) == 1
    assert forget(tarn, secret, "fake.test/never/seen").status == 200


@pytest.mark.parametrize("wrong, status", [
    ({"what": "fetch"}, 401), ({"method": "GET"}, 401), ({"method": "GET", "what": "fetch"}, 401),
    ({"created": 1}, 401), ({"covered": ("@method", "@path", "tarn-ask")}, 401)])
def test_forgetting_needs_its_own_signature(tarn, secret, wrong, status):
    assert forget(tarn, secret, "fake.test/org/app", **wrong).status == status


def test_the_order_to_forget_needs_a_signature(tarn, secret):
    assert tarn.get("/tarn/v1/forget?name=fake.test/org/app").status == 401
    assert fetch(f"{tarn.url}/tarn/v1/forget?name=fake.test/org/app", method="POST").status == 401
    for name in ("", "nonsense"):
        assert forget(tarn, secret, name).status == 400
    assert ask(tarn, secret, "/tarn/v1/forget", "forget", "POST").status == 400
    other = signed(secret, "/tarn/v1/forget?name=fake.test/org/app", "forget", "POST")
    assert fetch(f"{tarn.url}/tarn/v1/forget?name=fake.test/org/other", other,
                 method="POST").status == 401


def test_without_replicas_nobody_can_ask(start_tarn, upstream):
    upstream.image("org/app", [BLOB], tag="1")
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}])
    secret = new_secret()
    assert ask(tarn, secret, TAG_PATH).status == 200
    assert ask(tarn, secret, TAG_PATH)["Tarn-Answer"] is None
    assert forget(tarn, secret, "fake.test/org/app").status == 404
    assert tarn.get("/tarn/v1/replicas").json() == {"self": None, "source": None, "members": []}
    assert "replicas-heading" not in tarn.get("/").body.decode()


# ---- secrets


@pytest.mark.slow
def test_secrets_change_without_a_restart(tarn, secret, secret_file):
    second = new_secret()
    assert ask(tarn, second, TAG_PATH).status == 401
    write_secrets(secret_file, secret, second)
    wait_until(lambda: ask(tarn, second, TAG_PATH).status == 200, "the second secret", 12)
    assert ask(tarn, secret, TAG_PATH).status == 200
    write_secrets(secret_file, second)
    wait_until(lambda: ask(tarn, secret, TAG_PATH).status == 401, "the end of the first", 12)
    assert ask(tarn, second, TAG_PATH).status == 200


@pytest.mark.slow
def test_secrets_that_others_may_read_are_warned_of(start, secret, secret_file):
    secret_file.chmod(0o644)
    tarn = start()
    tarn.logged(rf"secret_file {secret_file} can be read by others")
    write_secrets(secret_file, secret)
    tarn.logged(r"the replicas' secrets were read again")
    write_secrets(secret_file, secret, mode=0o644)
    wait_until(lambda: tarn.log().count("can be read by others") == 2, "a second warning")


# ---- what is shown


def test_the_members_are_listed(start, secret):
    tarn = start(members=["127.0.0.9:1", "[fd00::1]:5000"])
    listed = tarn.get("/tarn/v1/replicas").json()
    own = f"127.0.0.1:{tarn.port}"
    assert (listed["self"], listed["source"]) == (own, "peers")
    assert [(member["address"], member["state"]) for member in listed["members"]] == [
        (own, "self"), ("127.0.0.9:1", "live"), ("[fd00::1]:5000", "live")]
    assert 0.98 <= sum(member["share"] for member in listed["members"]) <= 1.02
    figures = tarn.metrics()
    assert figures['tarn_replicas{state="self"}'] == 1
    assert figures['tarn_replicas{state="live"}'] == 2
    assert figures['tarn_replicas{state="down"}'] == 0
    assert figures["tarn_replica_list_changes_total"] == 1
    page = tarn.get("/").body.decode()
    assert 'id="replicas-heading"' in page
    assert all(f'<th scope="row">{member}<td>' in page for member in (own, "127.0.0.9:1", "[fd00::1]:5000"))
    tarn.logged(rf"replicas changed members=3 added={own},127.0.0.9:1,\[fd00::1\]:5000 removed=-")


def test_a_guest_is_no_member(start):
    tarn = start(replicas={"self": "127.0.0.7"})
    listed = tarn.get("/tarn/v1/replicas").json()
    assert listed["self"] is None
    assert [member["state"] for member in listed["members"]] == ["live"]
