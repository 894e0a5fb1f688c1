"""Every promise at once, while everything goes wrong at random. `script/soak` runs for longer."""

import pytest

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
