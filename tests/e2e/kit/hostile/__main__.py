"""
The process of one attack.

    python3 -m kit.hostile MODULE.CLASS NUMBER SCALE

Each line of the standard output is JSON. The first tells the upstream's port. Then the attack waits
for a line of JSON, a Target, on the standard input, and begins. It prints a line when each of its
clients has acted once. When the standard input ends, it prints its Report and ends too.
"""

import asyncio
import importlib
import json
import os
import resource
import sys
from dataclasses import asdict

from kit.hostile.attack import Target, say

NICE = 19  # so that the clients that are measured lose no processor time to attacks


def main():
    module, _, name = sys.argv[1].rpartition(".")
    os.nice(NICE)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    attack = getattr(importlib.import_module(module), name)(int(sys.argv[2]), float(sys.argv[3]))
    say({"port": attack.registry.port if attack.registry else None})
    begin = sys.stdin.readline()
    if begin:
        attack.target = Target(**json.loads(begin))
        attack.misbehave()
        asyncio.run(attack.run())
    attack.report.answers = dict(attack.counts)
    say(asdict(attack.report))
    sys.stdout.flush()
    os._exit(0)  # threads of the registry may still wait


main()
