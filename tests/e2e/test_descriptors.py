"""A hard limit of open files below `max_connections`: everybody still gets what is cached."""

import contextlib
import socket

import pytest

from kit.content import KIB, digest_of, noise
from kit.processes import wait_until

LAYERS = [noise(100 * KIB, seed) for seed in range(4)]


@pytest.mark.parametrize("limit", [160, 1024])
def test_blobs_are_served_when_all_connections_are_taken(start_tarn, program, upstream, limit,
                                                         tmp_path):
    upstream.image("org/app", LAYERS, tag="1")
    # The limit is that of a shell, which then becomes tarn.
    shell = tmp_path / "tarn"
    shell.write_text(f'#!/bin/sh\nulimit -n {limit} && exec {program} "$@"\n')
    shell.chmod(0o755)
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}],
                      program=str(shell))
    line = tarn.logged(".*max_connections is lowered.*").group()
    most = int(line.split(" max_connections=")[1].split()[0])
    assert limit / 5 < most < limit / 2
    assert f"open_files={limit}" in line
    for layer in LAYERS[:2]:
        assert tarn.blob("org/app", digest_of(layer)).body == layer
        tarn.wait_cached("org/app", digest_of(layer))
    with contextlib.ExitStack() as clients:
        for _ in range(limit + 100):
            clients.enter_context(socket.create_connection(("127.0.0.1", tarn.port)))
        wait_until(lambda: tarn.metrics()["tarn_client_connections"] == most, "all to be taken")
        for layer in LAYERS:
            reply = tarn.blob("org/app", digest_of(layer))
            assert (reply.status, reply.body) == (200, layer)
    assert "cannot accept" not in tarn.log()


def test_enough_descriptors_lower_nothing(start_tarn):
    tarn = start_tarn(max_connections=100)
    assert tarn.get("/v2/").status == 200
    assert "max_connections is lowered" not in tarn.log()
