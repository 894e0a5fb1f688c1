"""Judges what a scene has seen: each violated promise in words, and the result as Markdown."""

import hashlib

from kit.hostile.scene import CONTROL, MAX_SIZE, MOST_BYTES
from kit.rounds import FLAT
from kit.tarn import is_sanitized

MORE_BYTES = 1.005        # that the good upstream may send, of what its clients got
FLAT_SECONDS = 240        # of a run that can tell whether figures are flat
SERIES = 100              # of metrics, for each upstream in the configuration
SMALLEST_FILE = 4096      # of what a file takes on disk


def percentile(values, share):
    """The value that so many of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def milliseconds(seconds):
    return f"{seconds * 1000:.1f} ms"


class Verdict:
    """
    `violations` has a line for each broken promise. With `is_timed`, answers have to come in time
    and figures have to be flat; without, only what clients get is judged.
    """

    def __init__(self, scene, seen, is_timed, patience):
        self.scene, self.seen, self.is_timed, self.patience = scene, seen, is_timed, patience
        self.violations, self.rows = [], []
        self._judge_hot()
        self._judge_cold()
        for name in scene.tarns:
            self._judge_end(name)
            self._judge_disk(name)
            if is_timed:
                self._judge_flat(name)
        self._judge_disk_in_time()
        for attack in scene.attacks:
            self.violations += [f"{attack.name}: {finding}, {times} times"
                                for finding, times in attack.findings.items()]

    def _row(self, what, bound, found):
        self.rows.append((what, bound, found))

    # ---- the ordinary clients

    def _judge_hot(self):
        """Questions of one name are judged together."""
        found = {}
        for question, measured in zip(self.scene.questions_asked, self.seen["hot"]):
            found.setdefault(question.name, []).append((question, measured))
        for name, pairs in found.items():
            seconds = [one for _, measured in pairs for one in measured.seconds]
            failures = sum(measured.failures for _, measured in pairs)
            for question, measured in pairs:
                self.violations += [f"{question.method} {question.path} ({name}): {finding}, "
                                    f"{times} times of {len(measured['seconds'])}"
                                    for finding, times in measured.findings.items()]
                if not measured.seconds:
                    self.violations.append(f"{name}: {question.path} was never asked")
            if seconds:
                self._judge_seconds(name, pairs[0][0].limit, seconds, failures)

    def _judge_seconds(self, name, limit, seconds, failures):
        p99 = percentile(seconds, 0.99)
        is_control = name == CONTROL
        self._row(name, "the machine's own" if is_control else
                  f"no failure, p99 <= {milliseconds(limit)}",
                  f"{failures} failures in {len(seconds):,}, p50 "
                  f"{milliseconds(percentile(seconds, 0.5))}, p99 {milliseconds(p99)}, most "
                  f"{milliseconds(max(seconds))}")
        if self.is_timed and p99 > limit and not is_control:
            self.violations.append(f"{name}: p99 {milliseconds(p99)}, wanted {milliseconds(limit)}")

    def _judge_cold(self):
        clients = self.scene.cold
        for client in clients:
            self.violations += client.findings
        sent, pulled = (sum(getattr(client, name) for client in clients)
                        for name in ("bytes_sent", "bytes_pulled"))
        seconds = [one for client in clients for one in client.seconds]
        images = sum(client.pulled for client in clients)
        failures = sum(client.failures for client in clients)
        if not pulled:
            self.violations.append("no cold image was pulled")
            return
        self._row("cold manifests and blobs", "no failure",
                  f"{failures} failures in {images:,} images, {len(seconds):,} answers: p50 "
                  f"{milliseconds(percentile(seconds, 0.5))}, p99 "
                  f"{milliseconds(percentile(seconds, 0.99))}, most {milliseconds(max(seconds))}")
        self._row("bytes that the good upstream sent", "1.00 x", f"{sent / pulled:.4f} x of "
                  f"{pulled / (1 << 20):,.0f} MiB")
        if sent > pulled * MORE_BYTES:
            self.violations.append(f"the good upstream sent {sent} bytes for {pulled}")

    # ---- the tarns

    def _judge_end(self, name):
        code, seconds = self.seen["ends"][name]
        if self.is_timed:
            self._row(f"SIGTERM in mid-attack, {name}", f"within {self.patience:g} s",
                      f"{seconds:.2f} s")
        if code is None:
            self.violations.append(f"{name}: SIGTERM did not end it within {seconds:g} s")
        elif code:
            self.violations.append(f"{name}: it ended with {code} on SIGTERM")
        directory = self.scene.directory / name
        for report in directory.glob("sanitizer*"):
            self.violations.append(f"{name}: a sanitizer reported:\n"
                                   f"{report.read_text(errors='replace')[:4000]}")

    def _judge_disk(self, name):
        """Every blob that has its name has its bytes."""
        for path in (self.scene.tarns[name].root / "blobs").rglob("*"):
            if path.is_file() and path.parent.parent.name in hashlib.algorithms_available:
                found = hashlib.new(path.parent.parent.name, path.read_bytes()).hexdigest()
                if found != path.name:
                    self.violations.append(f"{name}: {path} has other bytes")

    def _judge_flat(self, name):
        watch = self.scene.watches[name]
        if watch.failure or not watch.samples:
            self.violations.append(f"{name}: {len(watch.samples)} samples, {watch.failure}")
            return
        is_judged = watch.samples[-1]["at"] >= FLAT_SECONDS and \
            not is_sanitized(self.scene.program)
        for what, more in FLAT.items():
            first, second = watch.halves(what)
            unit, text = (20, " MiB") if what == "resident" else (0, "")
            self._row(f"{what}, {name}", "flat" if is_judged else "(too short to judge)",
                      f"{int(first) >> unit}{text} and "
                      f"{int(second) >> unit}{text} in the halves, most "
                      f"{watch.most(what) >> unit}{text}")
            # The attacks are not equally strong in both halves: what they hold differs by some percent.
            if is_judged and second > first + max(more, first / 10):
                self.violations.append(f"{name}: {what} grew from {first:g} in the first half to "
                                       f"{second:g} in the second")

    def _judge_disk_in_time(self):
        watch = self.scene.watches["open"]
        if not watch.samples:
            self.violations.append(f"the disk was never measured: {watch.failure}")
            return
        size, inodes = watch.most("bytes"), watch.most("inodes")
        most_inodes = MOST_BYTES // SMALLEST_FILE
        self._row("root by `du`", f"<= {MOST_BYTES / (1 << 20):.0f} MiB (`max_size` "
                  f"{MAX_SIZE >> 20} MiB, one blob, 1 %)", f"{size / (1 << 20):.1f} MiB at most")
        self._row("inodes below the root", f"<= {most_inodes:,}", f"{inodes:,} at most")
        if size > MOST_BYTES:
            self.violations.append(f"the root takes {size:,} bytes on disk, {MOST_BYTES:,} allowed")
        if inodes > most_inodes:
            self.violations.append(f"the root takes {inodes:,} inodes, {most_inodes:,} allowed")
        series = len(self.seen["metrics"])
        most_series = SERIES * len(self.scene.tarns["open"].settings["upstreams"])
        self._row("series of metrics", f"<= {most_series:,}", f"{series:,}")
        if series > most_series:
            self.violations.append(f"{series:,} series of metrics, {most_series:,} allowed")
        told = "the disk is failing" in self.scene.tarns["open"].log()
        if told or self.seen["metrics"].get("tarn_store_degraded"):
            self.violations.append("tarn says that its disk fails")

    # ---- for people

    def markdown(self):
        """The lines of docs/design/reliability.md."""
        lines = ["| | wanted | found |", "|---|---|---|"]
        lines += [f"| {what} | {bound} | {found} |" for what, bound, found in self.rows]
        lines += ["", "| attack | what it does | answered by | what it got |", "|---|---|---|---|"]
        for attack in self.scene.attacks:
            answers = ", ".join(f"{what} {times:,}" for what, times in sorted(
                attack.answers.items()))
            lines.append(f"| {attack.name} | {attack.kind.does()} | {attack.kind.bulkhead} | "
                         f"{answers} |")
        return "\n".join(lines)
