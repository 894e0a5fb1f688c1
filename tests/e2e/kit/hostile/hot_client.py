"""
Ordinary clients of what is cached: each asks its question at an even pace and measures how long the
answer takes.

They run in a process of their own (process.py). One asks a control, a server that nobody attacks,
so that the delays of this process and of the machine can be told from tarn's.
"""

import hashlib
import http.client
import ssl
import threading
import time
from dataclasses import dataclass, field

SOURCE = "127.0.0.8"
PATIENCE = 30        # seconds without an answer that count as none
FRESH = 10           # one in so many requests opens a new connection
FINDINGS = 5         # of one question, at most


@dataclass
class Question:
    """A request, and the answer that is right."""

    name: str
    port: int
    path: str
    headers: dict = field(default_factory=dict)
    method: str = "GET"
    status: int = 200
    sha256: str = ""          # of the body, unless ""
    hit: bool = False         # whether Cache-Status has to be a hit
    tls: bool = False
    period: float = 0.05      # seconds between two requests
    limit: float = 0.05       # seconds that 99 % of the answers may take


@dataclass
class Measured:
    """What became of one question."""

    seconds: list = field(default_factory=list)   # of each answer
    findings: dict = field(default_factory=dict)  # what was wrong -> times
    failures: int = 0


class HotClient:
    """The thread that asks one question."""

    def __init__(self, question, stopping):
        self.question, self.stopping, self.measured = question, stopping, Measured()
        self.connection = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        due, turn = time.monotonic(), 0
        while not self.stopping.wait(max(0, due - time.monotonic())):
            if turn % FRESH == 0:
                self._close()
            # A request that is late because the one before it took long has waited, too: a client
            # that begins to measure only then would hide the worst moments.
            self._ask(due if turn and due < time.monotonic() - self.question.period
                      else time.monotonic())
            due += self.question.period
            turn += 1
        self._close()

    def end(self):
        """What it measured, after `stopping` was set."""
        self.thread.join(PATIENCE + 5)
        return self.measured

    def _close(self):
        if self.connection:
            self.connection.close()
        self.connection = None

    def _connect(self):
        question = self.question
        kind, more = http.client.HTTPConnection, {}
        if question.tls:
            kind = http.client.HTTPSConnection
            more = {"context": ssl._create_unverified_context()}
        return kind("127.0.0.1", question.port, timeout=PATIENCE, source_address=(SOURCE, 0),
                    **more)

    def _ask(self, started):
        question, measured = self.question, self.measured
        try:
            self.connection = self.connection or self._connect()
            self.connection.request(question.method, question.path, headers=question.headers)
            answer = self.connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._close()
            wrong = f"{type(error).__name__}: {error}"
        else:
            wrong = self._what_is_wrong(answer, body)
        measured.seconds.append(time.monotonic() - started)
        if wrong:
            measured.failures += 1
            if wrong in measured.findings or len(measured.findings) < FINDINGS:
                measured.findings[wrong] = measured.findings.get(wrong, 0) + 1

    def _what_is_wrong(self, answer, body):
        question = self.question
        if answer.status != question.status:
            return f"{answer.status} {answer.reason}: {body[:300].decode(errors='replace').strip()}"
        if question.sha256 and hashlib.sha256(body).hexdigest() != question.sha256:
            return f"wrong bytes: {body[:100]}"
        if question.hit and "hit" not in (answer.headers["Cache-Status"] or ""):
            return f"not from the cache: {answer.headers['Cache-Status']}"
        return None
