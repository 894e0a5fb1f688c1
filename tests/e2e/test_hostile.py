"""
All bad neighbours at once: ordinary clients do not notice. `script/soak --hostile` runs thousands
of their clients, and judges times and memory, too.
"""

import pytest

from kit.hostile.scene import Scene
from kit.hostile.verdict import Verdict
from kit.processes import wait_until

SCALE = 0.02
TIMEOUTS = {"connect_timeout": "1s", "stall_timeout": "1s", "first_byte_timeout": "2s"}
ENOUGH_SECONDS = 240      # for every attack, on a machine that also builds
END_SECONDS = 60


@pytest.mark.slow
def test_ordinary_clients_do_not_notice_any_bad_neighbour(program, tmp_path):
    scene = Scene(program, tmp_path / "scene", SCALE, settings={"grace": "2s"},
                  upstream_settings=TIMEOUTS, stands_still=1.0, pace=0.2)
    try:
        scene.fill()
        scene.begin()
        wait_until(lambda: not scene.waiting() and all(client.pulled for client in scene.cold),
                   "every client of every attack, and a pull of every ordinary one",
                   ENOUGH_SECONDS)
        seen = scene.end(END_SECONDS)
    finally:
        scene.abandon()
    verdict = Verdict(scene, seen, False, END_SECONDS)
    assert not verdict.violations, "\n".join(verdict.violations)
