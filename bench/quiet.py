"""Decides whether the machine was quiet enough for a figure to count.

On a busy machine the servers that are compared do not get the same share of the processors, and a
ratio can be wrong by half. Two signs tell: processor time that neither the bench nor its servers
used, and rounds of the reference server that differ from each other.
"""
import os
import statistics
import time
from typing import NamedTuple

SAMPLE_SECONDS = 2  # how long the machine is watched before a figure
MOST_OF_OTHERS = 0.1  # share of all processors' time
MOST_SPREAD = 1.25  # of the reference server's rounds: see spread()

DESCRIPTION = f"""\
The goals of figures that measure time are judged on a quiet machine only. A figure is `undecided`,
with the reason, if
  - others than the bench and its servers used more than {MOST_OF_OTHERS:.0%} of all processors' time
    in the {SAMPLE_SECONDS} seconds before the figure or during it (/proc/stat; a hypervisor counts too),
  - the reference server's own rounds differ: their upper quartile is more than {MOST_SPREAD} times
    their lower quartile, or
  - a server that should log each request did not.
"""


class Times(NamedTuple):
    """Processor time in seconds: of the whole machine, and of the bench with its servers."""
    all: float  # idle time too
    user: float
    system: float
    stolen: float  # by the hypervisor, for other machines
    own_user: float
    own_system: float


def machine_times(stat):
    """The first four of Times from the text of /proc/stat. Time in interrupts is left out, because
    most of it is the network's work for our own servers."""
    ticks = os.sysconf("SC_CLK_TCK")
    fields = [int(field) / ticks for field in stat.split("\n", 1)[0].split()[1:9]]
    user, nice, system, _, _, _, _, stolen = fields
    return sum(fields), user + nice, system, stolen


def others_share(before, after):
    """The share of all processors' time between two Times that others used."""
    passed = Times(*(late - early for early, late in zip(before, after)))
    if passed.all <= 0:
        return 0.0
    # Many kernels count the network's time in interrupts as the own processes' system time too. It
    # hides as much system time of others, but no user time, and compilers mostly use that.
    others = max(0.0, passed.user - passed.own_user) + max(0.0, passed.system - passed.own_system)
    return (others + passed.stolen) / passed.all


def quartiles(values):
    """The lower and the upper quartile."""
    if len(values) < 2:
        return values[0], values[0]
    lower, _, upper = statistics.quantiles(values, n=4, method="inclusive")
    return lower, upper


def spread(values):
    """How much rounds differ: the upper quartile divided by the lower. A single odd round among
    five or more does not count."""
    lower, upper = quartiles(values)
    return upper / lower if lower > 0 else float("inf")


def doubt(others_before, others_during, reference="", rounds=()):
    """Says why a figure does not count; "" if the machine was quiet. The shares are those of
    others_share(); `rounds` are the values of the server `reference`."""
    busy = [f"{share:.0%} {when} it"
            for share, when in ((others_before, "before"), (others_during, "during"))
            if share > MOST_OF_OTHERS]
    reasons = [f"others used the processors ({', '.join(busy)})"] if busy else []
    if rounds and spread(rounds) > MOST_SPREAD:
        reasons.append(f"{reference}'s rounds differ by {spread(rounds):.2f} x")
    return "; ".join(reasons)


def both(first, second):
    """Two reasons, either of which may be ""."""
    return "; ".join(filter(None, (first, second)))


class Watch:
    """Watches the machine before a figure and during it. `own_times` returns the user and the
    system time of the bench and its servers so far."""

    def __init__(self, own_times):
        self.own_times = own_times
        before = self._now()
        time.sleep(SAMPLE_SECONDS)
        self.begin = self._now()
        self.others_before = others_share(before, self.begin)

    def _now(self):
        with open("/proc/stat", encoding="ascii") as stat:
            return Times(*machine_times(stat.read()), *self.own_times())

    def doubt(self, reference="", rounds=()):
        return doubt(self.others_before, others_share(self.begin, self._now()), reference, rounds)
