"""Prints what was measured: a paragraph about the run and a table, in Markdown, and JSON."""
import os
import textwrap
import time

COLUMNS = ["tarn", "nginx", "docker-registry", "curl", "s3transfer", "SHA-256 alone", "straight",
           "skopeo", "crane", "tar and pigz"]


def number(value):
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}".rstrip("0").rstrip(".")


def compared(ratio):
    """The ratio's cell, as "1.31 x nginx (1.27 to 1.36)"."""
    if not ratio:
        return ""
    spread = ""
    if ratio.lower != ratio.upper:
        spread = f" ({number(ratio.lower)} to {number(ratio.upper)})"
    return f"{number(ratio.value)} x {ratio.over}{spread}"


def met(row):
    """The last cell of a row."""
    if row.met == "undecided":
        return f"undecided: {row.doubt}"
    if row.met:
        return {"yes": "yes", "no": "**no**"}[row.met]
    return f"(in doubt: {row.doubt})" if row.doubt else ""


def table(rows):
    names = [name for name in COLUMNS if any(name in row.values for row in rows)]
    lines = ["| figure | unit | " + " | ".join(names) + " | ratio | goal | met |",
             "|---|---|" + "---:|" * len(names) + "---|---|---|"]
    for row in rows:
        cells = [number(row.values[name]) if name in row.values else "" for name in names]
        goal = f"{row.goal[0]} {number(row.goal[1])}" if row.goal else ""
        name = f"{row.name} ({row.note})" if row.note else row.name
        lines.append("| " + " | ".join([name, row.unit, *cells, compared(row.ratio), goal,
                                        met(row)]) + " |")
    return "\n".join(lines)


class Run:
    """When and where the figures were measured."""

    def __init__(self, command, processor, system):
        self.command, self.processor, self.system = command, processor, system
        self.when = time.gmtime()
        self.load = os.getloadavg()[0]
        self.versions = ""

    def paragraph(self, rows):
        undecided = sum(row.met == "undecided" for row in rows)
        text = (f"Measured on {time.strftime('%Y-%m-%d', self.when)} by `{self.command}`: "
                f"{self.processor}, {self.system}; {self.versions}. The load average was "
                f"{self.load:.2f} at the start, and {undecided or 'none'} of the goals "
                f"{'is' if undecided < 2 else 'are'} undecided.")
        return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)

    def as_json(self, rows):
        return {
            "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", self.when),
            "command": self.command,
            "machine": {"processor": self.processor, "system": self.system, "load": self.load},
            "versions": self.versions,
            "rows": [{"figure": row.name, "unit": row.unit, "values": row.values,
                      "ratio": row.ratio and row.ratio._asdict(),
                      "goal": row.goal and " ".join(map(str, row.goal)), "met": row.met or None,
                      "doubt": row.doubt or None, "note": row.note} for row in rows],
        }
