"""A row of the table, and the measurement of several servers in turn.

A row has one quantity in one unit for each server, and may have a ratio with a goal. The servers
are measured in turn, round after round. The table has the medians of the rounds, and the median of
the rounds' ratios, so that other work on the machine affects all servers alike.
"""
import statistics
from typing import NamedTuple

from quiet import quartiles


class Ratio(NamedTuple):
    """How tarn compares with another: the median of the rounds' ratios, and their quartiles."""
    over: str
    value: float
    lower: float
    upper: float


class Row:
    def __init__(self, name, unit, values, ratio=None, goal=None, note="", doubt=""):
        self.name, self.unit, self.values = name, unit, values
        self.ratio = ratio  # None: there is no ratio
        self.goal = goal    # (">=" or "<=", number), for the ratio, or for tarn's value without one
        self.note = note
        self.doubt = doubt  # why the figure does not count: see quiet.doubt()

    @property
    def met(self):
        """"yes", "no" or "undecided"; "" without a goal."""
        if self.goal is None or "tarn" not in self.values:
            return ""
        if self.doubt:
            return "undecided"
        value = self.ratio.value if self.ratio else self.values["tarn"]
        is_met = value >= self.goal[1] if self.goal[0] == ">=" else value <= self.goal[1]
        return "yes" if is_met else "no"


def in_turn(rounds, measures):
    """Calls measures[name]() for all names in turn, round after round, and returns a dictionary of
    the results for each round. Every second round goes backwards, so that a machine that becomes
    slower or faster favours nobody."""
    found = []
    for index in range(rounds):
        names = list(measures) if index % 2 == 0 else list(measures)[::-1]
        found.append({name: measures[name]() for name in names})
    return found


class Comparison:
    """What the rounds of in_turn() say: `values` has the median of each name, and `ratio` compares
    tarn with `over`. `rounds` are those of `over`."""

    def __init__(self, found, over):
        self.over = over
        self.values = {name: statistics.median(one[name] for one in found) for name in found[0]}
        self.rounds = [one[over] for one in found]
        self.ratio = None
        if "tarn" in self.values and all(self.rounds):
            ratios = [one["tarn"] / one[over] for one in found]
            self.ratio = Ratio(over, statistics.median(ratios), *quartiles(ratios))
