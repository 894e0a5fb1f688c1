"""Runs rounds of chaos, or bad neighbours, until the time is over; script/soak starts it."""

import argparse
import os
import pathlib
import random
import shutil
import sys
import tempfile
import time

from hostile import run_hostile
from kit.origin import Origin
from kit.replica_rounds import run_replica_rounds
from kit.rounds import FLAT, LIMIT, Wrong, run_rounds


class Progress:
    """Prints one line a minute."""

    def __init__(self):
        self.told = time.monotonic()

    def __call__(self, chaos, plan):
        if time.monotonic() - self.told >= 60:
            self.told = time.monotonic()
            print(chaos.line(plan), flush=True)


def run_replicas(program, chosen, seed):
    """Several replicas. Returns the exit code, after printing the result."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="tarn-soak-"))
    print(f"seed {seed}, {chosen.minutes:g} minutes, {chosen.replicas} replicas", flush=True)
    try:
        chaos = run_replica_rounds(program, directory, seed, chosen.replicas, chosen.bucket,
                                   minutes=chosen.minutes, tell=Progress())
    except Wrong as wrong:
        more = " --bucket" if chosen.bucket else ""
        print(f"{wrong}\nlogs and caches: {directory}\nagain: script/soak --replicas "
              f"{chosen.replicas}{more} --seed {seed} --minutes {chosen.minutes:g}",
              file=sys.stderr)
        return 1
    shutil.rmtree(directory)
    print(f"\n{chaos.table}\n\nevery byte was right; no request failed because another replica "
          "was gone")
    print_flatness(chaos)
    return 0


def print_flatness(chaos):
    if chaos.warm:
        print("flat since the second half had warmed up: at most "
              f"{FLAT['resident'] >> 20} MiB, {FLAT['descriptors']} descriptors and "
              f"{FLAT['threads']} threads more")
    else:
        print("too short to tell whether memory, descriptors and threads are flat")


def main():
    options = argparse.ArgumentParser(prog="script/soak", description=__doc__)
    options.add_argument("--minutes", type=float, default=10, help="how long (default: 10)")
    options.add_argument("--seed", type=int, help="repeats what this seed did (default: any)")
    options.add_argument("--hostile", action="store_true",
                         help="all bad neighbours at once beside ordinary clients instead")
    options.add_argument("--only", default="", help="with --hostile: some attacks, A,B,…")
    options.add_argument("--replicas", type=int, metavar="N", help="so many replicas instead")
    options.add_argument("--bucket", action="store_true",
                         help="with --replicas: they share a bucket, which is away at times")
    options.add_argument("--tarn", default=os.environ.get("TARN"), help="the program")
    chosen = options.parse_args()
    program = str(pathlib.Path(chosen.tarn).resolve())
    if chosen.hostile:
        return run_hostile(program, tempfile.mkdtemp(prefix="tarn-soak-"), chosen.minutes,
                           [name for name in chosen.only.split(",") if name])
    seed = random.SystemRandom().randrange(1 << 31) if chosen.seed is None else chosen.seed
    if chosen.replicas:
        return run_replicas(program, chosen, seed)
    directory = pathlib.Path(tempfile.mkdtemp(prefix="tarn-soak-"))
    origin = Origin(directory / "origin")
    print(f"seed {seed}, {chosen.minutes:g} minutes", flush=True)
    try:
        chaos = run_rounds(program, origin, directory / "tarn", seed,
                           minutes=chosen.minutes, tell=Progress())
    except Wrong as wrong:
        print(f"{wrong}\nlogs and cache: {directory}\n"
              f"again: script/soak --seed {seed} --minutes {chosen.minutes:g}", file=sys.stderr)
        return 1
    finally:
        origin.stop()
    shutil.rmtree(directory)
    print(f"\n{chaos.table}\n\nevery byte was right; within {LIMIT >> 20} MiB; what is cached is "
          "sound")
    print_flatness(chaos)
    return 0


if __name__ == "__main__":
    sys.exit(main())
