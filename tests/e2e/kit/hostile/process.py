"""
The processes of attacks and of the clients that measure.

They are forked from a server that has imported everything, so that fifty of them start in a second.
Each speaks through a pipe and ends when the other end of its pipe is closed.
"""

import asyncio
import contextlib
import multiprocessing
import os
import resource
import threading

from kit.hostile.hot_client import HotClient
from kit.processes import wait_until

START_SECONDS = 60    # on a busy machine
END_SECONDS = 60

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["kit.hostile.scene"])


class AttackProcess:
    """An attack, from its start to its report. A thread takes what the process says."""

    def __init__(self, kind, number, scale, directory):
        self.kind, self.name = kind, kind.name()
        self.log_path = directory / f"{self.name}.log"
        self.pipe, other = CONTEXT.Pipe()
        self.process = CONTEXT.Process(target=run_attack, daemon=True, args=(
            kind, number, scale, other, str(self.log_path)))
        self.process.start()
        other.close()
        self.said, self.answers, self.findings = {}, {}, {}
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self.thread.start()

    def _listen(self):
        try:
            while True:
                name, value = self.pipe.recv()
                self.said[name] = value
        except (EOFError, OSError):
            pass

    @property
    def has_acted(self):
        """Whether each of its clients has acted once."""
        return "acted" in self.said

    @property
    def knows_of_the_end(self):
        """Whether it has heard that tarn ends, or does not listen any more."""
        return "knows of the end" in self.said or not self.process.is_alive()

    def port(self):
        """That of its upstream, when it has started; None when it has no upstream."""
        wait_until(lambda: "port" in self.said or not self.process.is_alive(),
                   f"the attack {self.name} to start", START_SECONDS)
        assert "port" in self.said, f"the attack {self.name} did not start:\n{self.log()}"
        return self.said["port"]

    def log(self):
        return self.log_path.read_text(errors="replace")[-3000:]

    def say(self, message):
        """First a Target, at which it begins; then "tarn ends"; then "end"."""
        with contextlib.suppress(OSError):  # it has ended
            self.pipe.send(message)

    def end(self):
        """Takes its report: `answers` and `findings`."""
        had_ended = not self.process.is_alive()
        self.say("end")
        self.process.join(END_SECONDS)
        self.kill()
        self.thread.join(10)
        self.answers, self.findings = self.said.get(
            "report", ({}, {f"no report:\n{self.log()}": 1}))
        if had_ended:
            self.findings["the attack ended by itself"] = 1

    def kill(self):
        self.process.kill()
        self.process.join()
        self.thread.join(10)
        self.pipe.close()


def run_attack(kind, number, scale, pipe, log_path):
    """The process of an attack."""
    with open(log_path, "ab") as log:
        os.dup2(log.fileno(), 2)
    allow_descriptors()
    # A real neighbour has its own processors. These take what tarn and its ordinary clients leave.
    # The policy is the thread's: set first, it holds for the threads of the attack's registry, too.
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    attack = kind(number, scale)
    pipe.send(("port", attack.registry.port if attack.registry else None))
    attack.target = pipe.recv()
    attack.misbehave()
    asyncio.run(attack.run(pipe))
    pipe.send(("report", (dict(attack.answers), attack.findings)))
    os._exit(0)  # threads of its registry may still wait


class HotProcess:
    """The clients that measure, each with its question, in one process."""

    def __init__(self, questions):
        self.pipe, other = CONTEXT.Pipe()
        self.process = CONTEXT.Process(target=run_hot_clients, args=(questions, other), daemon=True)
        self.process.start()
        other.close()

    def end(self):
        """What each measured."""
        self.pipe.send("end")
        assert self.pipe.poll(END_SECONDS), "the clients that measure do not end"
        return self.pipe.recv()

    def kill(self):
        self.process.kill()
        self.process.join()
        self.pipe.close()


def run_hot_clients(questions, pipe):
    stopping = threading.Event()
    clients = [HotClient(question, stopping) for question in questions]
    pipe.poll(None)
    stopping.set()
    pipe.send([client.end() for client in clients])


def allow_descriptors():
    """As many as the system lets this process have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
