"""
A stand-in for kube-apiserver that is strict about what it is asked, and fails as a test says.

It keeps nodes, pods, leases and configmaps with their resourceVersions and the events between them,
so that lists in pages, watches, bookmarks and 410 are as those of the real one. It speaks TLS, knows
its users by token or by certificate, and lets each do only what RBAC would. Every request is
recorded.
"""

import base64
import gzip
import itertools
import json
import socket
import ssl
import struct
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from kit.driver import Driven
from kit.processes import run, wait_until

GZIP_FROM = 128 << 10    # the real server compresses larger bodies only
VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
KINDS = {"nodes": ("v1", "Node", False), "pods": ("v1", "Pod", True),
         "configmaps": ("v1", "ConfigMap", True),
         "jobs": ("batch/v1", "Job", True),
         "leases": ("coordination.k8s.io/v1", "Lease", True),
         "selfsubjectaccessreviews": ("authorization.k8s.io/v1", "SelfSubjectAccessReview", False),
         "selfsubjectreviews": ("authentication.k8s.io/v1", "SelfSubjectReview", False)}
REVIEWS = ("selfsubjectaccessreviews", "selfsubjectreviews")
QUERY = {"list": {"limit", "continue", "fieldSelector", "labelSelector", "resourceVersion"},
         "watch": {"watch", "resourceVersion", "allowWatchBookmarks", "timeoutSeconds",
                   "fieldSelector", "labelSelector"}}
ALL_RIGHTS = frozenset((verb, resource) for resource in KINDS
                       for verb in ("get", "list", "watch", "create", "update", "patch", "delete"))


@dataclass
class Request:
    """One request as it arrived, and its status."""

    verb: str
    resource: str
    target: str
    query: dict
    headers: dict
    user: str
    body: object = None
    status: int = 0
    silenced: bool = False       # a fault of the test left it without a response
    at: float = field(default_factory=time.monotonic)


@dataclass
class Fault:
    """What happens to the next `times` requests of this verb and resource."""

    verb: str
    resource: str
    status: int = 0              # a refusal with this status
    reason: str = ""
    headers: dict = field(default_factory=dict)
    lines: tuple = None          # of a watch, sent in place of events; then it stays open
    body: bytes = None           # sent as it is, with status 200
    cut: bool = False            # the connection is reset
    silent: bool = False         # no response; until the server stops
    page: int = None             # of a list: only this page, counted from 0
    times: int = 1


class Gate:
    """
    Holds request `number` (from 1) of this verb and resource: before it is performed, or `after`
    that, before its response. What becomes of it is said by go_on(), or by drop(): then it has no
    effect (if it was not performed), and no response.
    """

    def __init__(self, verb, resource, number=1, after=False):
        self.verb, self.resource, self.after = verb, resource, after
        self.left = number
        self.reached, self.decided = threading.Event(), threading.Event()
        self.dropped = False

    def takes(self, request, after):
        """Whether it is this request; with the lock of the stand-in held."""
        if (request.verb, request.resource, after) != (self.verb, self.resource, self.after):
            return False
        self.left -= 1
        return self.left == 0

    def wait(self, seconds=60):
        assert self.reached.wait(seconds), f"no request to {self.verb} {self.resource} came"

    def go_on(self):
        self.decided.set()

    def drop(self):
        self.dropped = True
        self.decided.set()


class Dropped(Exception):
    """The connection ends without a response."""


class Refusal(Exception):
    def __init__(self, code, reason, message, headers=None, meta=None):
        super().__init__(message)
        self.code, self.headers = code, headers or {}
        self.status = {"kind": "Status", "apiVersion": "v1", "metadata": meta or {},
                       "status": "Failure", "message": message, "reason": reason, "code": code}


def encode_continue(version, after):
    return base64.urlsafe_b64encode(json.dumps([version, after]).encode()).decode().rstrip("=")


def decode_continue(text):
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api = None

    def setup(self):
        self.request.settimeout(120)
        if self.api.context:
            self.request = self.api.context.wrap_socket(self.request, server_side=True)
        super().setup()
        self.api.connections.append(self.request)

    def handle(self):
        try:
            super().handle()
        except (OSError, ssl.SSLError):
            pass

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        self.api.respond(self)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def reply(self, status, body, headers=None):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **(headers or {})}
        if len(data) > GZIP_FROM and "gzip" in self.headers.get("Accept-Encoding", ""):
            data = gzip.compress(data, 1)
            headers["Content-Encoding"] = "gzip"
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def reset(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        pass    # a handshake that the client broke off


class KubernetesApi:
    """`tokens` names the user of each token; `rights` what a user may do, for whom not all is."""

    def __init__(self, directory, tls=True, name="127.0.0.1"):
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.objects = {}                 # (resource, namespace, name) -> object
        self.events = []                  # (version, resource, type, object)
        self.versions = itertools.count(1000)
        self.version = 1000
        self.compacted = 0                # the newest version that is forgotten
        self.tokens, self.passwords, self.rights = {"secret-token": "tester"}, {}, {}
        self.knows_self_review = True
        self.requests, self.faults, self.connections, self.watches = [], [], [], []
        self.gates = []
        self.cut_off = {}                 # user -> (how, resources; None: all): see _cut()
        self.lingering = False            # deletions of running pods wait for finish_deletion()
        self.hooks = []                   # called with (verb, resource, object) after each change
        self.before = []                  # called with the verb before each request is performed
        self.stopped = threading.Event()
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.context = self._make_tls(name) if tls else None
        handler = type("Handler", (_Handler,), {"api": self})
        self.server = _Server(("127.0.0.1", 0), handler)
        self.port = self.server.server_address[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    # ---- life

    def _make_tls(self, name):
        """An authority, the server's certificate for `name`, and clients' certificates."""
        self.authority, self.authority_key = self.directory / "ca.crt", self.directory / "ca.key"
        run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-keyout", self.authority_key, "-out", self.authority, "-days", "2", "-subj",
             "/CN=kubernetes", "-addext", "basicConstraints=critical,CA:TRUE"])
        kind = "IP" if name[0].isdigit() else "DNS"
        certificate, key = self.issue("/CN=kube-apiserver", f"subjectAltName={kind}:{name}")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        context.load_verify_locations(self.authority)
        context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def issue(self, subject, extension="extendedKeyUsage=clientAuth"):
        """The files of a new certificate of the authority, and of its key."""
        stem = self.directory / subject.strip("/").replace("/", "-").replace("=", "-")
        request, certificate, key = (stem.with_suffix(s) for s in (".csr", ".crt", ".key"))
        extensions = stem.with_suffix(".ext")
        extensions.write_text(extension + "\n")
        run(["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-keyout", key, "-out", request, "-subj", subject])
        run(["openssl", "x509", "-req", "-in", request, "-CA", self.authority, "-CAkey",
             self.authority_key, "-CAcreateserial", "-days", "2", "-out", certificate,
             "-extfile", extensions])
        return certificate, key

    def stop(self):
        self.stopped.set()
        with self.lock:
            self.changed.notify_all()
        self.server.shutdown()
        self.server.server_close()
        self.cut_connections()

    def cut_connections(self):
        for connection in self.connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.connections.clear()

    # ---- objects

    def put(self, resource, name, namespace="", **content):
        """Adds or replaces an object, as some other client of the API would."""
        with self.lock:
            old = self.objects.get((resource, namespace, name))
            item = {"metadata": {"name": name}, **content}
            if old:
                item["metadata"] = {**old["metadata"], **content.get("metadata", {})}
            return self._store(resource, namespace, name, item)

    def _store(self, resource, namespace, name, item, kind=None):
        key = (resource, namespace, name)
        kind = kind or ("MODIFIED" if key in self.objects else "ADDED")
        self.version = next(self.versions)
        item.setdefault("metadata", {})["resourceVersion"] = str(self.version)
        item["metadata"].setdefault("uid", f"uid-{self.version}")
        if namespace:
            item["metadata"]["namespace"] = namespace
        item = json.loads(json.dumps(item))
        if kind == "DELETED":
            self.objects.pop(key, None)
        else:
            self.objects[key] = item
        self.events.append((self.version, resource, kind, item))
        self.changed.notify_all()
        return item

    def remove(self, resource, name, namespace=""):
        with self.lock:
            item = self.objects[(resource, namespace, name)]
            self._store(resource, namespace, name, item, "DELETED")

    finish_deletion = remove

    def compact(self):
        """Forgets the events until now, as etcd does every five minutes."""
        with self.lock:
            self.version = next(self.versions)
            self.compacted = self.version
            self.events.clear()

    def bookmark(self):
        """Sends a bookmark to every watch that wants them."""
        with self.lock:
            self.version = next(self.versions)
            self.events.append((self.version, None, "BOOKMARK", None))
            self.changed.notify_all()

    def cut_watches(self):
        """Ends every watch in the middle, by a reset."""
        with self.lock:
            watches, self.watches = self.watches, []
        for handler in watches:
            try:
                handler.reset()
            except OSError:
                pass

    def asked(self, verb, resource, **query):
        """The requests so far of this verb and resource."""
        with self.lock:
            return [one for one in self.requests if (one.verb, one.resource) == (verb, resource)
                    and all(one.query.get(key) == value for key, value in query.items())]

    def wait_asked(self, verb, resource, count=1, seconds=30, **query):
        return wait_until(
            lambda: len(self.asked(verb, resource, **query)) >= count
            and self.asked(verb, resource, **query),
            f"{count} requests to {verb} {resource} {query or ''}", seconds)

    # ---- one request

    def respond(self, handler):
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        request = None
        try:
            request = self._parse(handler, body)
            self._admit(handler, request)
            if not self._cut(handler, request) and not self._fail(handler, request):
                self._hold(request, False)
                self._perform(handler, request)
        except Dropped:
            handler.reset()
        except Refusal as refusal:
            if request:
                request.status = refusal.code
            handler.reply(refusal.code, refusal.status, refusal.headers)

    def _parse(self, handler, body):
        parts = urlsplit(handler.path)
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        query = dict(pairs)
        if len(query) != len(pairs):
            raise Refusal(400, "BadRequest", "a parameter comes twice")
        path = parts.path.strip("/").split("/")
        self.place = path
        group = path[1:2] if path[0] == "api" else path[1:3]
        rest = path[1 + len(group):]
        namespace = rest[1] if rest[:1] == ["namespaces"] else ""
        rest = rest[2:] if namespace else rest
        resource, name = rest[0] if rest else "", rest[1] if len(rest) > 1 else ""
        known = KINDS.get(resource)
        if not known or "/".join(group) != known[0] or path[0] != ("api" if known[0] == "v1"
                                                                   else "apis"):
            raise Refusal(404, "NotFound", "the server could not find the requested resource")
        verb = VERBS.get(handler.command) or ("watch" if query.get("watch") in ("1", "true")
                                              else "get" if name else "list")
        request = Request(verb, resource, handler.path, query,
                          {key.lower(): value for key, value in handler.headers.items()}, "")
        request.namespace, request.name = namespace, name
        if body:
            wanted = "application/merge-patch+json" if verb == "patch" else "application/json"
            if request.headers.get("content-type", "").split(";")[0] != wanted:
                raise Refusal(415, "UnsupportedMediaType", "the body of the request was in an "
                              "unknown format")
            request.body = json.loads(body)
        with self.lock:
            self.requests.append(request)
        unknown = set(query) - QUERY.get(verb, set())
        if unknown:
            raise Refusal(400, "BadRequest", f"unknown parameters: {sorted(unknown)}")
        return request

    def _admit(self, handler, request):
        """Authentication and RBAC."""
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        if scheme == "Bearer":
            request.user = self.tokens.get(value, "")
        elif scheme == "Basic":
            request.user = self.passwords.get(base64.b64decode(value).decode(), "")
        elif self.context and handler.request.getpeercert():
            names = dict(pair[0] for pair in handler.request.getpeercert()["subject"])
            request.user = names.get("commonName", "")
        if not request.user:
            raise Refusal(401, "Unauthorized", "Unauthorized")
        if request.resource not in REVIEWS and not self.may(request.user, request.verb,
                                                            request.resource):
            raise Refusal(403, "Forbidden",
                          f'{request.resource} is forbidden: User "{request.user}" cannot '
                          f'{request.verb} resource "{request.resource}"')

    def may(self, user, verb, resource):
        return (verb, resource) in self.rights.get(user, ALL_RIGHTS)

    def _is_cut(self, request):
        """How this user is cut off from this resource; None: not at all."""
        how, resources = self.cut_off.get(request.user, (None, None))
        return how if resources is None or request.resource in resources else None

    def _cut(self, handler, request):
        """Whether the user is cut off: "refuse" resets connections, "swallow" leaves requests
        without a response, "deny" is a 503."""
        how = self._is_cut(request)
        if how == "refuse":
            handler.reset()
        elif how == "swallow":
            request.silenced = True
            self.stopped.wait()
        elif how == "deny":
            raise Refusal(503, "ServiceUnavailable", "the test says so")
        return how is not None

    def _hold(self, request, after):
        """A gate of the test may hold the request."""
        with self.lock:
            gate = next((one for one in self.gates if one.takes(request, after)), None)
        if gate:
            gate.reached.set()
            while not gate.decided.wait(0.1) and not self.stopped.is_set():
                pass
            if gate.dropped:
                raise Dropped

    def hold(self, *arguments, **more):
        """A gate (see there) that is in place now."""
        with self.lock:
            self.gates.append(Gate(*arguments, **more))
            return self.gates[-1]

    def _fail(self, handler, request):
        """Whether a fault of the test took the request."""
        page = request.query.get("continue")
        with self.lock:
            fault = next((one for one in self.faults if one.times > 0 and
                          (one.verb, one.resource) == (request.verb, request.resource) and
                          (one.page is None or bool(one.page) == bool(page))), None)
            if fault:
                fault.times -= 1
        if not fault:
            return False
        request.status = fault.status or 200
        if fault.cut:
            handler.reset()
        elif fault.silent:
            request.silenced = True
            self.stopped.wait()
        elif fault.status:
            raise Refusal(fault.status, fault.reason, f"the test says {fault.status}",
                          fault.headers)
        elif fault.body is not None:
            handler.reply(200, fault.body, fault.headers)
        else:
            self._begin_watch(handler)
            for line in fault.lines:
                self._send_line(handler, line)
            self._stay(handler)
        return True

    def _perform(self, handler, request):
        request.status = 200
        for before in self.before:
            before(request.verb)
        if request.resource in REVIEWS:
            handler.reply(201, self._review(request))
        elif request.verb == "list":
            handler.reply(200, self._list(request))
        elif request.verb == "watch":
            self._watch(handler, request)
        else:
            status, answer = self._change(request)
            request.status = status
            self._hold(request, True)
            handler.reply(status, answer)

    # ---- reviews

    def _review(self, request):
        version, kind, _ = KINDS[request.resource]
        body = request.body or {}
        if request.verb != "create" or (body.get("kind"), body.get("apiVersion")) != (kind, version):
            raise Refusal(400, "BadRequest", f"expected a {kind} of {version}")
        if request.resource == "selfsubjectreviews":
            if not self.knows_self_review:
                raise Refusal(404, "NotFound", "the server could not find the requested resource")
            return {**body, "status": {"userInfo": {"username": request.user, "groups": []}}}
        wanted = body["spec"]["resourceAttributes"]
        group = KINDS[wanted["resource"]][0].rpartition("/")[0]
        allowed = group == wanted["group"] and self.may(request.user, wanted["verb"],
                                                        wanted["resource"])
        return {**body, "status": {"allowed": allowed}}

    # ---- lists

    def _chosen(self, request):
        return sorted((key, item) for key, item in self.objects.items()
                      if key[0] == request.resource
                      and request.namespace in ("", key[1]))

    def _list(self, request):
        version, kind, _ = KINDS[request.resource]
        limit = int(request.query.get("limit", 0))
        with self.lock:
            at, after = str(self.version), None
            if "continue" in request.query:
                if "resourceVersion" in request.query:
                    raise Refusal(400, "BadRequest", "specifying resource version is not allowed "
                                  "when using continue")
                at, after = decode_continue(request.query["continue"])
                if at and int(at) <= self.compacted:
                    raise Refusal(410, "Expired", "The provided continue parameter is too old",
                                  meta={"continue": encode_continue("", after)})
                at = at or str(self.version)
            items = [pair for pair in self._chosen(request)
                     if after is None or list(pair[0]) > after]
            page = items[:limit] if limit else items
            meta = {"resourceVersion": at}
            if len(page) < len(items):
                meta["continue"] = encode_continue(at, list(page[-1][0]))
                meta["remainingItemCount"] = len(items) - len(page)
            return {"kind": kind + "List", "apiVersion": version, "metadata": meta,
                    "items": [item for _, item in page]}

    # ---- watches

    def _begin_watch(self, handler):
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.flush()
        with self.lock:
            self.watches.append(handler)

    def _send_line(self, handler, line):
        data = (line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n"
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        handler.wfile.flush()

    def _end_watch(self, handler):
        handler.wfile.write(b"0\r\n\r\n")
        handler.wfile.flush()
        with self.lock:
            if handler in self.watches:
                self.watches.remove(handler)

    def _stay(self, handler):
        """Keeps the watch open until it is cut."""
        while not self.stopped.is_set() and handler in self.watches:
            self.stopped.wait(0.05)

    def _watch(self, handler, request):
        version, kind, _ = KINDS[request.resource]
        at = int(request.query.get("resourceVersion") or 0)
        bookmarks = request.query.get("allowWatchBookmarks") == "true"
        self._begin_watch(handler)
        if at < self.compacted:
            status = Refusal(410, "Expired", f"too old resource version: {at}").status
            self._send_line(handler, {"type": "ERROR", "object": status})
            self._end_watch(handler)
            return
        while not self.stopped.is_set() and handler in self.watches:
            if self._is_cut(request):
                if self._is_cut(request) == "swallow":
                    self._stay(handler)
                raise Dropped
            with self.lock:
                news = [event for event in self.events if event[0] > at]
                if not news:
                    self.changed.wait(0.5)
            for at, resource, what, item in news:
                if what == "BOOKMARK" and bookmarks:
                    self._send_line(handler, {"type": what, "object": {
                        "kind": kind, "apiVersion": version,
                        "metadata": {"resourceVersion": str(at), "creationTimestamp": None}}})
                elif resource == request.resource and request.namespace in (
                        "", item["metadata"].get("namespace", "")):
                    self._send_line(handler, {"type": what, "object": {
                        "kind": kind, "apiVersion": version, **item}})

    # ---- single objects

    def _change(self, request):
        version, kind, spaced = KINDS[request.resource]
        if spaced != bool(request.namespace):
            raise Refusal(404, "NotFound", "the server could not find the requested resource")
        body = request.body
        if request.verb in ("create", "update") and (
                not body or (body.get("kind"), body.get("apiVersion")) != (kind, version)):
            raise Refusal(400, "BadRequest", f"the body is no {kind} of {version}")
        with self.lock:
            answer = getattr(self, "_" + request.verb)(request, body)
        for hook in self.hooks:
            hook(request.verb, request.resource, answer[1])
        return answer

    def _find(self, request):
        item = self.objects.get((request.resource, request.namespace, request.name))
        if not item:
            raise Refusal(404, "NotFound", f'{request.resource} "{request.name}" not found')
        version, kind, _ = KINDS[request.resource]
        return {"kind": kind, "apiVersion": version, **item}

    def _get(self, request, _body):
        return 200, self._find(request)

    def _create(self, request, body):
        meta = body.get("metadata", {})
        name = meta.get("name") or f"{meta['generateName']}{next(self.versions):05x}"
        if (request.resource, request.namespace, name) in self.objects:
            raise Refusal(409, "AlreadyExists", f'{request.resource} "{name}" already exists')
        body["metadata"] = {**meta, "name": name}
        return 201, self._store(request.resource, request.namespace, name, body)

    def _update(self, request, body):
        old = self._find(request)
        wanted = body["metadata"].get("resourceVersion")
        if wanted and wanted != old["metadata"]["resourceVersion"]:
            raise Refusal(409, "Conflict", f'Operation cannot be fulfilled on {request.resource} '
                          f'"{request.name}": the object has been modified')
        body["metadata"]["uid"] = old["metadata"]["uid"]
        return 200, self._store(request.resource, request.namespace, request.name, body)

    def _patch(self, request, body):
        item = {key: value for key, value in self._find(request).items()
                if key not in ("kind", "apiVersion")}
        for key, value in body.items():
            item[key] = {**item.get(key, {}), **value} if isinstance(value, dict) else value
        return 200, self._store(request.resource, request.namespace, request.name, item)

    def _delete(self, request, _body):
        item = self._find(request)
        phase = item.get("status", {}).get("phase")
        if self.lingering and request.resource == "pods" and phase not in ("Succeeded", "Failed"):
            item["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
            return 200, self._store(request.resource, request.namespace, request.name, item)
        self._store(request.resource, request.namespace, request.name, item, "DELETED")
        return 200, item


class Kubeconfig:
    """Writes kubeconfig files for the stand-in."""

    def __init__(self, api):
        self.api = api

    def write(self, path, user=None, cluster=None, namespace="tarn"):
        content = {
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "here", "user": "me",
                                                      "namespace": namespace}}],
            "clusters": [{"name": "here", "cluster": {
                "server": self.api.url,
                **({"certificate-authority": str(self.api.authority)} if self.api.context else {}),
                **(cluster or {})}}],
            "users": [{"name": "me", "user": {"token": "secret-token"} if user is None else user}],
        }
        path.write_text(json.dumps(content))
        return path


class Follower(Driven):
    """A follow of the driver: what its sink was told, and what it says about itself."""

    def __init__(self, driver, config, resource, path, directory):
        self.objects = {}
        super().__init__(driver, config, directory, "follow", resource, path)

    def take(self, told):
        if "changed" in told:
            self.objects[told["changed"]] = told["name"]
        elif "gone" in told:
            del self.objects[told["gone"]]

    @property
    def lists(self):
        return sum("listed" in told for told in self.told)

    def wait_lists(self, count, seconds=30):
        self.wait(lambda one: one.lists >= count, f"{count} lists", seconds)

    def wait_names(self, names, seconds=30):
        self.wait(lambda one: sorted(one.objects.values()) == sorted(names), f"objects {names}",
                  seconds)

    def ask(self, word, key):
        with self.changed:
            before = len(self.told)
        self.child.stdin.write(word + "\n")
        self.child.stdin.flush()
        self.wait(lambda one: any(key in told for told in one.told[before:]), word)
        return next(told for told in self.told[before:] if key in told)

    def state(self):
        return self.ask("state", "state_listed")

    def metrics(self):
        return self.ask("metrics", "metrics")["metrics"]
