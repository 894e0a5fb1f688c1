"""What follows a request from its client to the log: X-Request-Id, traceparent, the access log."""

import http.client
import json
import re
import subprocess

import pytest

from kit.client import at_once, fetch, raw
from kit.content import KIB, digest_of, noise
from kit.processes import wait_until
from kit.tarn import serve_that_fails
from kit.tokens import basic

LAYER = noise(100 * KIB)
DIGEST = digest_of(LAYER)
MADE = re.compile("[0-9a-f]{32}")
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.fixture
def image(upstream):
    return upstream.image("org/app", [LAYER], tag="1")


@pytest.fixture
def logging(start_tarn, upstream, image):
    """A tarn whose log is JSON."""
    return start_tarn([{"host": "fake.test", "url": upstream.url, "default": True, "tag_ttl": "0"}],
                      log={"level": "debug", "format": "json"})


def lines(tarn):
    return [json.loads(line) for line in tarn.log().splitlines()]


def line_of(tarn, request_id):
    """The line of the access log for this request."""
    return wait_until(lambda: next((line for line in lines(tarn)
                                    if line.get("request_id") == request_id), None),
                      f"the line of {request_id}")


# ---- X-Request-Id

PATHS = ["/livez", "/metrics", "/", "/v2/", "/nothing", "/v2/org/app/manifests/1",
         "/v2/org/app/manifests/missing", f"/v2/org/app/blobs/{DIGEST}", "/v2/org/app/tags/list",
         "/v2/_catalog", "/v2/UPPER/manifests/1", "/%zz"]


@pytest.mark.parametrize("path", PATHS[:-1])  # a head that cannot be read has no id
def test_every_response_has_the_clients_id(logging, path):
    for number, method in enumerate(("GET", "HEAD", "GET", "PUT")):
        request_id = f"client-{number}"
        assert logging.get(path, {"X-Request-Id": request_id},
                           method=method)["X-Request-Id"] == request_id
        line_of(logging, request_id)


@pytest.mark.parametrize("path", PATHS)
def test_a_request_without_id_gets_one_of_its_own(logging, path):
    made = [logging.get(path)["X-Request-Id"] for _ in range(3)]
    assert len(set(made)) == 3 and all(MADE.fullmatch(one) for one in made)
    for one in made:
        line_of(logging, one)


@pytest.mark.parametrize("asked", ["a", "x" * 128, "8f2c-1", "a b;c=1,{}()[]!#$%&*+./:=?@^_|~"])
def test_what_is_echoed(logging, asked):
    assert logging.get("/v2/", {"X-Request-Id": asked})["X-Request-Id"] == asked
    line_of(logging, asked)


@pytest.mark.parametrize("asked", ["", "x" * 129, 'a"b', "a'b", "a\\b", "a<b", "a>b", "a\tb",
                                   "\xe9", "\x9b31m", "caf\xc3\xa9"])
def test_what_is_replaced(logging, asked):
    got = logging.get("/v2/org/app/manifests/missing", {"X-Request-Id": asked})
    assert MADE.fullmatch(got["X-Request-Id"])
    line_of(logging, got["X-Request-Id"])


def test_two_ids_are_none(logging):
    reply = raw(logging.port, b"GET /v2/ HTTP/1.1\r\nHost: a\r\nX-Request-Id: one\r\n"
                b"x-request-id: two\r\nConnection: close\r\n\r\n").decode()
    assert MADE.fullmatch(re.search("X-Request-Id: (.*)\r\n", reply)[1])


def test_the_requests_of_one_connection_have_ids_of_their_own(tarn):
    connection = http.client.HTTPConnection(tarn.address, timeout=20)
    seen = set()
    for asked in ("one", None, "two", None):
        connection.request("GET", "/v2/", headers={"X-Request-Id": asked} if asked else {})
        response = connection.getresponse()
        response.read()
        got = response.getheader("X-Request-Id")
        assert got == asked or (asked is None and MADE.fullmatch(got))
        seen.add(got)
    assert len(seen) == 4


@pytest.mark.parametrize("request_line", [b"GET /v2/ HTTP/1.1\r\nHost: a\r\nBad Field: 1",
                                          b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a",
                                          b"\x16\x03\x01\x02\x00\x01\x00\x01",
                                          b"GET /v2/ HTTP/1.1\r\nHost: a\r\nExpect: x"])
def test_what_the_server_refuses_has_an_id_in_head_body_and_log(logging, request_line):
    reply = raw(logging.port, request_line + b"\r\n\r\n").decode("latin-1")
    head, _, body = reply.partition("\r\n\r\n")
    made = re.search("^X-Request-Id: (.*)$", head.replace("\r", ""), re.MULTILINE)[1]
    assert MADE.fullmatch(made)
    error = json.loads(body)["errors"][0]
    assert error["detail"] == {"request_id": made} and made in error["message"]
    line_of(logging, made)


@pytest.mark.parametrize("path, status", [
    ("/v2/org/app/manifests/missing", 404), ("/v2/UPPER/manifests/1", 400), ("/nothing", 404),
    ("/v2/org/app/manifests/1?ns=unknown.test", 404), ("/v2/org/app/blobs/sha256:1", 400),
    ("/v2/org/app/tags/list?n=x", 400)])
def test_error_bodies_hold_the_id(tarn, image, path, status):
    reply = tarn.get(path, {"X-Request-Id": "find-me"})
    assert reply.status == status
    error, = reply.json()["errors"]
    assert set(error) == {"code", "message", "detail"}
    assert error["detail"] == {"request_id": "find-me"}
    assert error["message"].endswith("(request find-me)")


def test_a_failing_upstream_is_found_by_the_id_that_the_client_shows(logging, upstream):
    upstream.fault("/v2/", method=None, status=500)
    reply = logging.manifest("org/app", "2")
    assert reply.status == 502
    line = line_of(logging, reply.json()["errors"][0]["detail"]["request_id"])
    assert line["status"] == 502 and "fake.test" in line["error"]


def test_skopeo_shows_the_id(logging, upstream):
    upstream.fault("/v2/org/app/manifests/2", method=None, status=403, body=json.dumps(
        {"errors": [{"code": "DENIED", "message": "the licence has run out"}]}).encode())
    done = subprocess.run(["skopeo", "inspect", "--raw", "--tls-verify=false",
                           f"docker://{logging.address}/org/app:2"],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    shown = re.search(r"\(request ([0-9a-f]{32})\)", done.stderr)
    assert shown, done.stderr
    line_of(logging, shown[1])


# ---- the access log

FIELDS = ("request_id client user method upstream repository reference digest status bytes seconds "
          "cache").split()


def log_of(tarn, path, **headers):
    request_id = f"id-{len(tarn.log())}-{abs(hash(path))}"
    fetch(tarn.url + path, {"X-Request-Id": request_id, **headers})
    return line_of(tarn, request_id)


def test_the_line_of_a_request_has_every_field(logging, image):
    first = log_of(logging, "/v2/org/app/manifests/1")
    assert list(first) == ["time", "level", "message", *FIELDS]
    assert (first["level"], first["message"], first["method"]) == ("info", "manifest", "GET")
    assert (first["upstream"], first["repository"]) == ("fake.test", "org/app")
    assert (first["reference"], first["digest"], first["user"]) == ("1", image, "")
    assert (first["status"], first["cache"]) == (200, "miss")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first["time"])
    assert log_of(logging, "/v2/org/app/manifests/1")["cache"] == "revalidated"
    assert log_of(logging, f"/v2/org/app/manifests/{image}")["cache"] == "hit"
    blob = log_of(logging, f"/v2/org/app/blobs/{DIGEST}")
    assert set(FIELDS) <= set(blob)
    assert (blob["reference"], blob["digest"], blob["bytes"]) == (DIGEST, DIGEST, len(LAYER))


def test_stale_joined_and_failed_requests_say_so(logging, upstream, image):
    log_of(logging, "/v2/org/app/manifests/1")
    held = upstream.fault("/blobs/", hold_after=1000)
    at_once(*[lambda number=number: fetch(f"{logging.url}/v2/org/app/blobs/{DIGEST}",
                                          {"X-Request-Id": f"both-{number}"})
              for number in range(2)],
            lambda: (wait_until(lambda: logging.get("/tarn/v1/flights").json()["flights"][:1] and
                                logging.get("/tarn/v1/flights").json()["flights"][0]["readers"] == 2,
                                "two readers"), held.gate.set()))
    assert sorted(line_of(logging, f"both-{number}")["cache"] for number in range(2)) == [
        "joined", "miss"]
    upstream.heal()
    upstream.fault("/v2/", method=None, status=500)
    assert log_of(logging, "/v2/org/app/manifests/1")["cache"] == "stale"
    failed = log_of(logging, "/v2/org/app/manifests/2")
    assert (failed["status"], failed["cache"], failed["digest"]) == (502, "miss", "")


def test_the_user_is_logged_and_cannot_forge_a_line(start_tarn, upstream, image, tmp_path):
    users = tmp_path / "users"
    users.write_text(subprocess.run(["htpasswd", "-nbB", "-C", "4", "alice", "secret"],
                                    capture_output=True, text=True, check=True).stdout)
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}],
                      clients={"htpasswd": str(users)}, log={"level": "info", "format": "json"})
    assert log_of(tarn, "/v2/org/app/manifests/1", Authorization=basic("alice", "secret"))[
        "user"] == "alice"
    assert log_of(tarn, "/v2/org/app/manifests/1", Authorization=basic("alice", "secret"))[
        "user"] == "alice"
    hostile = "x\nforged=1\x1b[31m\u009b31m" + "y" * 500
    refused = log_of(tarn, "/v2/org/app/manifests/1", Authorization=basic(hostile, "no"))
    assert (refused["status"], refused["user"]) == (401, "")
    wait_until(lambda: "\\u009b" in tarn.log(), "the failed login")
    text = tarn.log()
    assert "\x1b" not in text and "\x9b" not in text and "secret" not in text
    assert not [line for line in lines(tarn) if "forged" in line]
    assert len([line for line in lines(tarn) if "forged" in line.get("user", "")]) == 1
    assert max(map(len, text.splitlines())) < 2000


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize("bad", [b"%1b[31m", b"%9b31m", b"%c2%9b31m", b"%ff%fe", b"%0a", b"%22%5c",
                                 b"\xc2\x9b31m", b"\xff", b"a" * 3000])
def test_names_of_clients_are_escaped_and_bounded(start_tarn, upstream, bad, log_format):
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}],
                      log={"level": "info", "format": log_format})
    for path in (b"/v2/org/%s/manifests/1", b"/v2/org/app/manifests/%s", b"/v2/org/app/blobs/%s",
                 b"/%s", b"/v2/org/app/manifests/1?ns=%s"):
        raw(tarn.port, b"GET " + path % bad + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    tarn.stop()
    for line in tarn.log().split("\n")[:-1]:
        assert not re.search("[\x00-\x1f\x7f-\x9f]", line), line
        assert len(line) < 2000
        if log_format == "json":
            assert {"time", "level", "message"} <= set(json.loads(line))


def test_no_query_and_no_credential_reaches_the_log(logging, upstream, image):
    upstream.fault("/blobs/", status=307,
                   headers={"Location": f"{upstream.elsewhere_url}/gone?X-Amz-Signature=s3cr3t"})
    log_of(logging, f"/v2/org/app/blobs/{DIGEST}?token=s3cr3t&ns=fake.test",
           Authorization=basic("bob", "s3cr3t"), Cookie="s3cr3t")
    log_of(logging, "/nothing?password=s3cr3t", Authorization="Bearer s3cr3t")
    assert "s3cr3t" not in logging.log()


# ---- traceparent

def test_the_trace_goes_upstream_and_into_the_log(logging, upstream, image):
    upstream.forget_requests()
    for path in ("/v2/org/app/manifests/1", f"/v2/org/app/blobs/{DIGEST}",
                 "/v2/org/app/tags/list"):
        assert log_of(logging, path, traceparent=PARENT)["trace_id"] == TRACE
    asked = upstream.asked("/v2/org/app/")
    assert len(asked) >= 3
    assert {request.headers.get("traceparent") for request in asked} == {PARENT}
    upstream.forget_requests()
    assert "trace_id" not in log_of(logging, "/v2/org/app/manifests/1")
    assert [request.headers.get("traceparent") for request in upstream.asked("/manifests/")] == [None]


def test_the_state_of_a_trace_goes_with_it(logging, upstream):
    def passed_on(fields):
        upstream.forget_requests()
        raw(logging.port, "GET /v2/org/app/manifests/1 HTTP/1.1\r\nHost: a\r\n"
            f"{fields}Connection: close\r\n\r\n".encode())
        return upstream.asked("/manifests/")[0].headers.get("tracestate")

    right = f"traceparent: {PARENT}\r\n"
    assert passed_on(right + "tracestate: rojo=1,congo=t61\r\n") == "rojo=1,congo=t61"
    assert passed_on(right + "tracestate: a=1\r\nTraceState: b=2\r\n") == "a=1,b=2"
    assert passed_on(right) is None
    assert passed_on(right + "tracestate: A=1\r\n") is None
    assert passed_on(right + "tracestate: a=1\r\ntracestate: nothing\r\n") is None
    assert passed_on("tracestate: a=1\r\n") is None
    assert passed_on(f"traceparent: {PARENT[:-1]}\r\ntracestate: a=1\r\n") is None


def test_a_later_version_is_read_as_far_as_it_is_known(logging, upstream):
    upstream.forget_requests()
    line = log_of(logging, "/v2/org/app/manifests/1", traceparent="cc" + PARENT[2:] + "-more")
    assert line["trace_id"] == TRACE
    assert upstream.asked("/manifests/")[0].headers.get("traceparent") == PARENT


@pytest.mark.parametrize("bad", [
    "", "x", PARENT[:-1], PARENT + "0", PARENT + "-", PARENT.upper(), "ff" + PARENT[2:],
    "0g" + PARENT[2:], PARENT.replace(TRACE, "0" * 32),
    PARENT.replace("00f067aa0ba902b7", "0" * 16), PARENT.replace("-", "_"), PARENT[:-2] + "0x",
    "01" + PARENT[2:] + "x", f"00-{TRACE[:-1]}-00f067aa0ba902b7-011"])
def test_a_bad_trace_is_ignored(logging, upstream, bad):
    upstream.forget_requests()
    line = log_of(logging, "/v2/org/app/manifests/1", traceparent=bad)
    assert line["status"] == 200 and "trace_id" not in line
    assert upstream.asked("/manifests/")[0].headers.get("traceparent") is None


def test_two_traces_are_none(logging, upstream):
    upstream.forget_requests()
    raw(logging.port, f"GET /v2/org/app/manifests/1 HTTP/1.1\r\nHost: a\r\ntraceparent: {PARENT}\r\n"
        f"traceparent: {PARENT}\r\nConnection: close\r\n\r\n".encode())
    assert upstream.asked("/manifests/")[0].headers.get("traceparent") is None


def test_one_transfer_for_many_carries_the_trace_of_the_first(logging, upstream):
    upstream.forget_requests()
    held = upstream.fault("/blobs/", hold_after=1000)
    first = f"00-{'1' * 32}-{'2' * 16}-01"

    def ask(parent):
        return fetch(f"{logging.url}/v2/org/app/blobs/{DIGEST}", {"traceparent": parent})

    at_once(lambda: ask(first),
            lambda: (wait_until(lambda: upstream.asked("/blobs/"), "the transfer"), ask(PARENT)),
            lambda: (wait_until(lambda: any(
                flight["readers"] == 2 for flight in
                logging.get("/tarn/v1/flights").json()["flights"]), "two readers"),
                held.gate.set()))
    assert {request.headers.get("traceparent") for request in upstream.asked("/blobs/", "GET")} == {
        first}


def test_the_trace_does_not_follow_a_redirect(logging, upstream):
    upstream.redirect = "elsewhere"
    upstream.forget_requests()
    assert log_of(logging, f"/v2/org/app/blobs/{DIGEST}", traceparent=PARENT)["status"] == 200
    for path, parent in (("/blobs/", PARENT), ("/downloads/", None)):
        asked = upstream.asked(path, "GET")
        assert asked and {request.headers.get("traceparent") for request in asked} == {parent}


# ---- JSON from the first line on

def said(done):
    return [json.loads(line) for line in done.stderr.splitlines()]


@pytest.mark.parametrize("how", ["flag", "variable"])
def test_errors_at_start_are_json_too(program, tmp_path, how):
    config = tmp_path / "tarn.yaml"
    config.write_text("max_sise: 1\n\"forged\\nkey\": 2\n")
    done = serve_that_fails(program, "--config", str(config),
                            *(["--log-format", "json"] if how == "flag" else []), home=tmp_path,
                            environment={"TARN_LOG_FORMAT": "json"} if how == "variable" else None)
    found = said(done)
    assert found
    for line in found:
        assert {"time", "level", "message", "error"} <= set(line) and line["level"] == "error"
    assert any("max_sise" in line["error"] and str(config) in line["error"] for line in found)


@pytest.mark.parametrize("how", ["flag", "file"])
def test_what_fails_after_the_configuration_is_json_too(program, tmp_path, how):
    busy, config = tmp_path / "file", tmp_path / "tarn.yaml"
    busy.write_text("")
    config.write_text("log: {format: json}\n" if how == "file" else "")
    done = serve_that_fails(program, "--config", str(config), "--listen", "127.0.0.1:0", "--root",
                            str(busy), *(["--log-format", "json"] if how == "flag" else []),
                            home=tmp_path)
    assert [line["level"] for line in said(done)] == ["error"]
    assert str(busy) in said(done)[0]["error"]


def test_a_file_that_is_not_accepted_decides_nothing(program, tmp_path):
    config = tmp_path / "tarn.yaml"
    config.write_text("log: {format: json}\nmax_sise: 1\n")
    done = serve_that_fails(program, "--config", str(config), home=tmp_path)
    assert done.stderr.startswith(f"{config}:2:")


def test_every_line_of_a_run_is_json(logging):
    logging.get("/v2/")
    logging.stop()
    assert all({"time", "level", "message"} <= set(line) for line in lines(logging))
