"""Starts programs on loopback, and ends them by their process id."""

import collections
import os
import signal
import socket
import subprocess
import time

# The sockets that hold the latest ports; more than any test needs.
held_ports = collections.deque(maxlen=256)


def free_port(host="127.0.0.1"):
    """
    A port for a server that sets SO_REUSEADDR. No other process gets the port before 256 more were
    handed out, because a socket is bound to it that never listens. So the kernel gives it neither
    to another server nor to an outgoing connection while the server does not run.
    """
    held_ports.append(bound(host, 0))
    return held_ports[-1].getsockname()[1]


def bound(host, port):
    """A TCP socket bound to this address; port 0 takes any."""
    name = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    name.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    name.bind((host, port))
    return name


def wait_until(condition, what, seconds=30.0, pause=0.02):
    """Returns the first true value of `condition()`; after `seconds` without one, fails with
    `what`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(pause)


def accepts(port, host="127.0.0.1"):
    """Whether a server listens on this port."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


class Program:
    """One child process whose output goes to a file; its standard error may go elsewhere."""

    def __init__(self, arguments, log_path, environment=None, directory=None, stderr=None):
        self.arguments = [str(argument) for argument in arguments]
        self.log_path = log_path
        self.log_file = open(log_path, "ab")
        self.child = subprocess.Popen(
            self.arguments, stdin=subprocess.DEVNULL, stdout=self.log_file,
            stderr=subprocess.STDOUT if stderr is None else stderr, env=environment, cwd=directory)

    @property
    def pid(self):
        return self.child.pid

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def runs(self):
        return self.child.poll() is None

    def wait_ready(self, condition, seconds=60.0):
        """Waits for `condition()`; fails with the log when the program ends before that."""
        deadline = time.monotonic() + seconds
        while not condition():
            if not self.runs():
                raise AssertionError(
                    f"{self.arguments[0]} ended with {self.child.returncode}:\n{self.log()}")
            assert time.monotonic() < deadline, \
                f"{self.arguments[0]} not ready in {seconds} s:\n{self.log()}"
            time.sleep(0.02)

    def send_signal(self, number):
        """Nothing happens when the program has ended, because another may have its number."""
        self.child.send_signal(number)

    def stop(self, seconds=20.0):
        """Sends SIGTERM, and SIGKILL if that does not end it; returns the exit code."""
        if self.runs():
            self.send_signal(signal.SIGTERM)
            try:
                self.child.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()
        self.log_file.close()
        return self.child.returncode

    def kill(self):
        """Sends SIGKILL, as good as a crash."""
        if self.runs():
            self.send_signal(signal.SIGKILL)
        self.child.wait(20)
        self.log_file.close()


def run(arguments, environment=None, seconds=120, check=True, directory=None):
    """Runs a command to its end; a failure shows everything that it printed."""
    arguments = [str(argument) for argument in arguments]
    done = subprocess.run(
        arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=environment, timeout=seconds, text=True, errors="replace", check=False,
        cwd=directory)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(arguments)}: exit {done.returncode}\n"
                             f"{done.stdout}\n{done.stderr}")
    return done
