"""A name server that never answers makes nobody wait but those who ask for its names."""

import socket
import threading

from kit import pod
from kit.content import MIB, digest_of, noise
from kit.processes import wait_until

LAYER = noise(1 * MIB)
DIGEST, OTHER = digest_of(LAYER), digest_of(b"other")
SECONDS = {"connect_timeout": "2s", "first_byte_timeout": "4s", "stall_timeout": "2s"}
SOON = 20  # on a slow machine; the resolver itself gives up after minutes


def start(start_tarn, upstream, **settings):
    upstream.image("org/app", [LAYER], tag="1")
    for number in range(10):
        upstream.image(f"org/cold{number}", [noise(70000 + number)], tag="1")
    return start_tarn([
        {"host": "fake.test", "url": upstream.url, "default": True},
        {"host": "nowhere.test", "url": "http://registry.nowhere.example", **SECONDS, **settings}])


TARGETS = ["manifests/1", f"manifests/{OTHER}", "tags/list", f"referrers/{OTHER}",
           f"blobs/{OTHER}"]


def test_a_name_that_is_not_answered_is_a_failure_in_time(start_tarn, upstream, request):
    if not pod.is_here(request):
        return
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((pod.NAME_SERVER, 53))
        tarn = start(start_tarn, upstream)
        replies = {}

        def ask(target):
            replies[target] = tarn.get(f"/v2/nowhere.test/org/app/{target}", timeout=120)

        threads = [threading.Thread(target=ask, args=(target,)) for target in TARGETS]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for target, reply in replies.items():
            assert reply.status in (502, 503, 504), (target, reply)
            assert "nowhere.test" in reply.message
            assert reply.seconds < SOON, target


def test_nobody_else_waits_for_it(start_tarn, upstream, request):
    if not pod.is_here(request):
        return
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((pod.NAME_SERVER, 53))
        tarn = start(start_tarn, upstream, connect_timeout="100s", first_byte_timeout="100s")
        waiting = []
        for number in range(40):
            target = f"/v2/nowhere.test/org/{number}/{TARGETS[number % len(TARGETS)]}"
            client = socket.create_connection(("127.0.0.1", tarn.port), 60)
            client.sendall(f"GET {target} HTTP/1.1\r\nHost: tarn\r\n\r\n".encode())
            waiting.append(client)
        wait_until(lambda: tarn.metrics()["tarn_requests_waiting"] >= 40, "all to wait", 60)
        assert tarn.manifest("org/app", "1").status == 200
        assert tarn.blob("org/app", DIGEST).body == LAYER
        for number in range(10):
            reply = tarn.manifest(f"org/cold{number}", "1")
            assert reply.status == 200 and reply.seconds < SOON
        for client in waiting:
            client.close()
        wait_until(lambda: tarn.metrics()["tarn_workers_busy"] == 0, "all to be let go", SOON)
        tarn.stop()  # in time, and without a report of a sanitizer
        tarn.start()
