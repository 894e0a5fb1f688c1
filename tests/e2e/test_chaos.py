"""Every promise at once, while everything goes wrong at random. `script/soak` runs for longer."""

import pytest

from kit.replica_rounds import KINDS, run_replica_rounds
from kit.replicas import NoNamespace
from kit.rounds import CYCLE, run_rounds


@pytest.mark.parametrize("seed", [1])
def test_nobody_gets_a_wrong_byte_whatever_happens(program, origin, tmp_path, seed):
    chaos = run_rounds(program, origin, tmp_path / "tarn", seed, CYCLE)
    assert {"cut", "reset", "stall", "throttle", "delay", "flip", "refuse"} \
        <= set(chaos.proxy.befallen), "the seed is no good: some fault never happened"
    assert chaos.answers.get(200, 0) > 10 and chaos.answers.get(206, 0) > 10, chaos.answers
    assert chaos.counts["kill -9"] + chaos.counts["SIGTERM"] > 0
    assert chaos.counts["tarn verify"] > 0
    assert chaos.disk is None or chaos.counts["times the disk was full"] > 0


@pytest.mark.thorough
@pytest.mark.parametrize("uses_bucket", [False, True], ids=["alone", "bucket"])
def test_no_replica_depends_on_another(program, tmp_path, uses_bucket):
    try:
        chaos = run_replica_rounds(program, tmp_path / "replicas", 1, uses_bucket=uses_bucket,
                                   rounds=len(KINDS) * (1 + uses_bucket))
    except NoNamespace as reason:
        pytest.skip(str(reason))
    assert chaos.counts["requests"] > 100
    for name in ("kill -9", "SIGSTOP", "SIGTERM", "cut off", "joins", "lists that differ"):
        assert chaos.counts[name] > 0, name
