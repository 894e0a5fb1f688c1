"""Replicas of a tarn on 127.0.0.2 and further addresses, and one that a test scripts."""

import hashlib
import re
import signal
import socket
import subprocess
import threading
import time

from kit.client import fetch
from kit.content import OCTETS
from kit.processes import bound, free_port, wait_until
from kit.replica_signature import new_secret, signed, write_secrets
from kit.scripted_server import ScriptedServer
from kit.tarn import Tarn

SECRET = new_secret()
NAME = "tarn-replicas.test"
IN_NAMESPACE = """#!/bin/sh
exec unshare {user} --mount --propagation private sh -c '
    mount --bind {hosts} /etc/hosts && exec "$@"' sh {program} "$@"
"""


def write_secret(folder):
    """The file of the secret that all replicas of these tests have."""
    return write_secrets(folder / "replicas.secret", SECRET)


def addresses(count):
    """ADDRESS:PORT of so many members, each on an address of its own."""
    hosts = [f"127.0.0.{number}" for number in range(2, 2 + count)]
    return [f"{host}:{free_port(host)}" for host in hosts]


def ranking(members, key):
    """The members by rendezvous hashing, the owner first."""
    return sorted(members, reverse=True,
                  key=lambda member: hashlib.sha256(f"{member}\0{key}".encode()).digest())


# ---- members by a name

class NoNamespace(Exception):
    """No mount namespace can be made here."""


def _user_option():
    """What lets a mount namespace be made here: nothing, or a namespace of users."""
    for option in ("", "-r"):
        done = subprocess.run(["unshare", *filter(None, [option]), "--mount", "true"],
                              capture_output=True, check=False)
        if done.returncode == 0:
            return option
    raise NoNamespace("no mount namespace can be made here")


def own_hosts(program, folder, hosts):
    """The path of a program that runs `program` with a hosts file of its own."""
    wrapper = folder / "tarn-in-namespace"
    wrapper.write_text(IN_NAMESPACE.format(user=_user_option(), hosts=hosts, program=program))
    wrapper.chmod(0o755)
    return str(wrapper)


def point_to(hosts, *members):
    """Makes NAME mean these addresses; in place, because the file is bound over /etc/hosts."""
    hosts.write_text("127.0.0.1 localhost\n" + "".join(f"{each} {NAME}\n" for each in members))


class Replica(Tarn):
    """A tarn that is a member of a list, on an address of its own."""

    def __init__(self, member, *arguments, **options):
        self.member = member
        super().__init__(*arguments, **options)

    @property
    def address(self):
        return self.member

    @property
    def url(self):
        return f"{'https' if self.settings.get('tls') else 'http'}://{self.address}"

    def ask(self, path, ask, method="GET", headers=None, **more):
        """Asks as another replica does."""
        fields = {**signed(SECRET, path, ask, method, **more), **(headers or {})}
        return fetch(self.url + path, fields, method=method)

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def flights(self):
        """digest -> flight"""
        return {flight["digest"]: flight
                for flight in self.get("/tarn/v1/flights").json()["flights"]}

    def wait_place(self, digest, place, seconds=30):
        wait_until(lambda: self.flights().get(digest, {}).get("place") == place,
                   f"the flight of {digest[:20]} at {self.member} to be at {place}", seconds)

    def asks(self, direction="out", **labels):
        """How many questions between replicas it has counted."""
        wanted = [f'{name}="{value}"' for name, value in {"direction": direction,
                                                          **labels}.items()]
        return sum(value for name, value in self.metrics().items()
                   if name.startswith("tarn_replica_asks_total{")
                   and all(label in name for label in wanted))


class Cluster:
    """Several replicas with one upstream, by their addresses."""

    def __init__(self, make, members):
        self.make, self.members = make, members
        self.replicas = {}

    def start(self, member, peers=None, **settings):
        """Starts the member; `peers`: the list that it believes in."""
        self.replicas[member] = self.make(member, peers or self.members, **settings)
        return self.replicas[member]

    def __getitem__(self, place):
        return self.replicas[self.members[place]]

    def __iter__(self):
        return iter(self.replicas.values())

    def by_rank(self, key):
        """The replicas, the owner of the key first."""
        return [self.replicas[member] for member in ranking(self.members, key)]


class ScriptedReplica(ScriptedServer):
    """
    A member that holds `content` (path -> bytes) and answers as the test says: by faults as every
    scripted server, and by `answers`: a list of (pattern of the path, ask or None, function).
    The function gets the request and returns (status, fields, body); None: it does not match.
    """

    main = "replica"

    def __init__(self, member):
        host, _, port = member.rpartition(":")
        self.member, self.content, self.answers, self.problems = member, {}, [], []
        super().__init__(host, port=int(port))

    def answer(self, path, function, ask=None):
        self.answers.append((re.compile(path), ask, function))

    def hold(self, repository, digest, content):
        """It holds the blob, and answers to every ask."""
        self.content[f"/v2/{repository}/blobs/{digest}"] = content

    def _find(self, request, _body):
        ask = request.headers.get("tarn-ask")
        if request.path == "/livez":
            return 200, {"Content-Type": "text/plain"}, b"ok\n"
        for name in ("authorization", "cookie"):
            if name in request.headers:
                self.problems.append(f"{request.target}: {name}")
        for pattern, wanted, function in self.answers:
            if pattern.search(request.target) and wanted in (None, ask):
                found = function(request)
                if found:
                    return found
        content = self.content.get(request.path)
        if content is not None:
            return 200, {"Content-Type": OCTETS, "Tarn-Answer": "held"}, content
        if ask == "arriving":
            return refusal(404, "no", "BLOB_UNKNOWN", "not arriving here")
        return refusal(404, None, "NAME_UNKNOWN", "no such name")

    def asked_for(self, path, ask=None):
        """The asks of requests that match, in their order."""
        return [request.headers.get("tarn-ask") for request in self.asked(path)
                if ask in (None, request.headers.get("tarn-ask"))]


def refusal(status, answer, code, message, **fields):
    """An answer with an error body; `answer`: Tarn-Answer, or None."""
    body = f'{{"errors":[{{"code":"{code}","message":"{message}"}}]}}'.encode()
    return status, {"Content-Type": "application/json",
                    **({"Tarn-Answer": answer} if answer else {}), **fields}, body


class Cable:
    """A relay between two addresses that a test cuts: connections end, and new ones are refused, or
    (`silently`) nothing passes."""

    def __init__(self, listen, to):
        self.to, self.open, self.silent = to, True, False
        self.sockets, self.lock = set(), threading.Lock()
        host, _, port = listen.rpartition(":")
        self.listener = bound(host, int(port))
        self.listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            host, _, port = self.to.rpartition(":")
            with self.lock:
                if not self.open:
                    near.close()
                    continue
                try:
                    far = socket.create_connection((host, int(port)), timeout=5)
                    far.settimeout(None)
                except OSError:
                    near.close()
                    continue
                self.sockets |= {near, far}
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._copy, args=(one, other), daemon=True).start()

    def _copy(self, source, sink):
        try:
            while data := source.recv(65536):
                while self.silent:
                    time.sleep(0.02)
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def cut(self):
        with self.lock:
            self.open = False
            for end in self.sockets:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
            self.sockets.clear()

    def mend(self):
        with self.lock:
            self.open = True

    def stop(self):
        self.silent = False
        self.cut()
        self.listener.close()
