"""A row of the table, and the measurement of several servers in turn.

A row has one quantity in one unit for each server, and may have a ratio with a goal. The servers
are measured in turn, round after round. The table has the medians of the rounds, and the median of
the rounds' ratios, so that other work on the machine affects all servers alike.
"""
import statistics


class Row:
    def __init__(self, name, unit, values, ratio=None, goal=None, note=""):
        self.name, self.unit, self.values = name, unit, values
        self.ratio = ratio  # (text, number), as ("x nginx", 1.2); None: there is no ratio
        self.goal = goal    # (">=" or "<=", number), for the ratio, or for tarn's value without one
        self.note = note

    @property
    def met(self):
        if self.goal is None or "tarn" not in self.values:
            return None
        value = self.ratio[1] if self.ratio else self.values["tarn"]
        return value >= self.goal[1] if self.goal[0] == ">=" else value <= self.goal[1]


def in_turn(rounds, servers, measure, over):
    """Calls measure(server) for all servers in turn, round after round. Returns the median of each
    server by its name, and the median of tarn's ratios to the server named `over`."""
    found = [{server.name: measure(server) for server in servers} for _ in range(rounds)]
    values = {server.name: statistics.median(one[server.name] for one in found)
              for server in servers}
    if "tarn" not in values or any(not one[over] for one in found):
        return values, None
    return values, (f"x {over}", statistics.median(one["tarn"] / one[over] for one in found))
