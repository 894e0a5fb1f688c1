"""Every promise at once, where all goes wrong at random. `script/soak` goes on for longer."""

import pytest

from kit.rounds import run_rounds

ROUNDS = 4  # one of each kind: with and without wrong bytes, with and without kill -9


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nobody_gets_a_wrong_byte_whatever_happens(program, origin, tmp_path, seed):
    chaos = run_rounds(program, origin, tmp_path / "tarn", seed, ROUNDS)
    assert {"cut", "reset", "stall", "throttle", "delay", "flip", "refuse"} \
        <= set(chaos.proxy.befallen), "the seed is no good: some fault never happened"
    assert chaos.answers.get(200, 0) > 10 and chaos.answers.get(206, 0) > 10, chaos.answers
