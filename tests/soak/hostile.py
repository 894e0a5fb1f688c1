"""Runs all bad neighbours beside ordinary clients; `script/soak --hostile` starts it."""

import pathlib
import shutil
import sys
import time

from kit.hostile.scene import ATTACKS, Scene
from kit.hostile.verdict import Verdict
from kit.content import OCI_MANIFEST
from servers import Nginx

GRACE = 30         # tarn's default
MORE_SECONDS = 1   # that SIGTERM may take


def control(directory):
    """An nginx that serves a small file and that nobody attacks."""
    content = directory / "content"
    (content / "manifests").mkdir(parents=True)
    (content / "manifests" / "1").write_bytes(b"x" * 700)
    return Nginx(str(directory), str(content), is_logging=False)


def run_hostile(program, directory, minutes, only=()):
    """Returns the exit code, after printing the result. `only` names some of the attacks."""
    directory = pathlib.Path(directory)
    nginx = control(directory)
    nginx.start()
    try:
        scene = Scene(program, directory / "scene", settings={"grace": f"{GRACE}s"},
                      control=(nginx.port, "/v2/org/app/manifests/1"),
                      attacks=[attack for attack in ATTACKS if not only or attack.name() in only])
        try:
            scene.fill()
            scene.begin()
            until, told = time.monotonic() + 60 * minutes, time.monotonic()
            while time.monotonic() < until:
                time.sleep(min(1, max(0, until - time.monotonic())))
                if time.monotonic() - told >= 60:
                    told = time.monotonic()
                    print(line(scene), flush=True)
            seen = scene.end(GRACE + MORE_SECONDS)
        finally:
            scene.abandon()
    finally:
        nginx.stop()
    verdict = Verdict(scene, seen, True, GRACE + MORE_SECONDS)
    print(f"\n{minutes:g} minutes, {len(scene.attacks)} attacks\n\n{verdict.markdown()}\n")
    late = scene.waiting()
    if late:
        print(f"too short for every client of: {', '.join(late)}\n")
    if verdict.violations:
        print("\n".join(f"VIOLATED {line}" for line in verdict.violations), file=sys.stderr)
        print(f"logs: {directory}", file=sys.stderr)
        return 1
    shutil.rmtree(directory)
    print("no promise was broken")
    return 0


def line(scene):
    """What is going on, for people who watch."""
    samples = [watch.samples[-1] for watch in scene.watches.values() if watch.samples]
    words = [f"{sample['resident'] >> 20} MiB, {sample['descriptors']} descriptors, "
             f"{sample['threads']} threads" for sample in samples]
    return (f"{(time.monotonic() - scene.began) / 60:.0f} min: "
            f"{sum(client.pulled for client in scene.cold)} cold images; {'; '.join(words)}")
