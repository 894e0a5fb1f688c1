"""Promise 10: who guesses passwords takes nothing from the others."""

import base64
import json
import socket
import threading
import time

import pytest

from kit.client import read_to_end
from kit.content import KIB, digest_of, noise
from kit.htpasswd import HASH
from kit.processes import wait_until

GREEDY, OTHER = "127.0.0.2", "127.0.0.3"

LAYER = noise(4 * KIB)
DIGEST = digest_of(LAYER)


@pytest.fixture
def start(start_tarn, upstream, tmp_path):
    """A tarn for reader:secret. Its hash takes some 30 ms."""
    def start_it(hash_of_secret=None, **settings):
        upstream.image("org/app", [LAYER], tag="1")
        users = tmp_path / "htpasswd"
        users.write_text("reader:" + (hash_of_secret or DEAR) + "\n")
        return start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}],
                          clients={"htpasswd": str(users)}, **settings)
    return start_it


# Both of "secret".
CHEAP = HASH
DEAR = "$2b$09$afZFdHnsI8TtC6W31syeou1WURTZphLfb7ES0azxaHJxCFd5PwxWO"


class Response:
    def __init__(self, got, seconds):
        head, _, self.body = got.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        self.status = int(lines[0].split()[1])
        self.fields = dict(line.split(": ", 1) for line in lines[1:])
        self.seconds = seconds


def login(tarn, address, user, password, target="/v2/"):
    """One request with a login, from another client address."""
    word = base64.b64encode(f"{user}:{password}".encode()).decode()
    began = time.monotonic()
    with socket.socket() as client:
        client.settimeout(40)
        client.bind((address, 0))
        client.connect(("127.0.0.1", tarn.port))
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: tarn\r\nAuthorization: Basic {word}\r\n"
                       "Connection: close\r\n\r\n".encode())
        return Response(read_to_end(client), time.monotonic() - began)


def check_refused(response):
    assert response.status == 429
    assert json.loads(response.body)["errors"][0]["code"] == "TOOMANYREQUESTS"
    assert 1 <= int(response.fields["Retry-After"]) <= 60


def test_an_address_with_too_many_wrong_passwords_is_locked_out_and_no_other(start):
    tarn = start(CHEAP)
    assert login(tarn, GREEDY, "reader", "secret").status == 200
    for number in range(10):
        user = "reader" if number % 2 else "nobody"
        assert login(tarn, GREEDY, user, f"wrong-{number}").status == 401
    check_refused(login(tarn, GREEDY, "reader", "wrong"))
    check_refused(login(tarn, GREEDY, "reader", "secret"))  # else one could go on guessing
    assert login(tarn, OTHER, "reader", "secret").status == 200
    assert login(tarn, OTHER, "reader", "secret", f"/v2/org/app/blobs/{DIGEST}").body == LAYER
    assert login(tarn, OTHER, "reader", "wrong").status == 401
    for target in ("/livez", "/readyz", "/metrics"):
        assert login(tarn, GREEDY, "reader", "wrong", target).status == 200
    assert tarn.metrics()['tarn_refused_total{reason="login_failures"}'] == 2
    assert tarn.metrics()["tarn_failed_logins_total"] == 11
    tarn.logged(rf"login failed.* user=nobody client={GREEDY}:\d+")
    tarn.logged(rf"login failed.* user=reader client={OTHER}:\d+")
    tarn.logged(rf"locked out.* client={GREEDY}:\d+")
    assert "wrong-" not in tarn.log() and "secret" not in tarn.log()


def test_the_lock_ends(start):
    tarn = start(CHEAP, limits={"logins": {"failures": 3, "within": "2s"}})
    for _ in range(3):
        assert login(tarn, GREEDY, "reader", "wrong").status == 401  # the same one counts again
    refused = login(tarn, GREEDY, "reader", "secret")
    check_refused(refused)
    assert int(refused.fields["Retry-After"]) <= 2
    wait_until(lambda: login(tarn, GREEDY, "reader", "secret").status == 200, "the lock's end", 10)


def processor_seconds(tarn):
    with open(f"/proc/{tarn.process.pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


@pytest.mark.slow
@pytest.mark.serial
@pytest.mark.parametrize("failures", [10, 1000000])
def test_wrong_passwords_of_one_address_do_not_delay_the_logins_of_another(start, failures):
    """Also before the address is locked out, or when it never is."""
    tarn = start(limits={"logins": {"failures": failures}})
    hash_seconds = login(tarn, "127.0.0.4", "reader", "wrong").seconds
    attackers, words = [], [base64.b64encode(f"reader:wrong-{number}".encode()).decode()
                            for number in range(2048)]
    try:
        for word in words:
            client = socket.socket()
            attackers.append(client)
            client.bind((GREEDY, 0))
            client.connect(("127.0.0.1", tarn.port))
            client.sendall(b"GET /v2/ HTTP/1.1\r\nHost: tarn\r\n"
                           b"Authorization: Basic " + word.encode() + b"\r\n\r\n")
        answer = login(tarn, OTHER, "reader", "secret")
        assert answer.status == 200
        assert answer.seconds < 1 + 10 * hash_seconds
        for client in attackers[100:110]:
            client.settimeout(20)
            assert client.recv(1 << 16).split()[1] == b"429"
    finally:
        for client in attackers:
            client.close()
    # Once the attackers have left, nothing more is computed for them.
    wait_until(lambda: tarn.metrics()["tarn_workers_busy"] == 0, "the attackers' end")
    before = processor_seconds(tarn)
    time.sleep(1)
    assert processor_seconds(tarn) - before < 0.5


def test_many_clients_with_one_right_password_all_get_in(start):
    """A fleet logs in at the same moment: one hash serves all of them."""
    tarn = start(limits={"logins": {"waiting": 1}})
    results = []

    def log_in(number):
        results.append(login(tarn, f"127.0.1.{number + 1}", "reader", "secret").status)

    threads = [threading.Thread(target=log_in, args=(number,)) for number in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
    assert results == [200] * 60


def test_the_same_wrong_password_is_hashed_once(start):
    tarn = start(limits={"logins": {"failures": 1000}})
    begun = processor_seconds(tarn)
    for number in range(20):
        assert login(tarn, GREEDY, "reader", f"wrong-{number}").status == 401
    different = processor_seconds(tarn)
    for _ in range(20):
        assert login(tarn, GREEDY, "reader", "wrong").status == 401
    assert processor_seconds(tarn) - different < (different - begun) / 2
