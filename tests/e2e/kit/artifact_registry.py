"""
The REST API of Artifact Registry that lists a repository's images, on loopback. It refuses what
Google refuses, with Google's envelope of errors, and does what a test tells it to: odd pages, odd
entries, failures, and answers that are no answers. Tokens are those of the emulator of Google's
other services (google_emulator.py).
"""

import json
import re
import secrets
import socket
import struct
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from kit.content import OCI_INDEX, OCI_MANIFEST, digest_of

SCOPES = {"https://www.googleapis.com/auth/cloud-platform",
          "https://www.googleapis.com/auth/cloud-platform.read-only"}
MOST_ON_A_PAGE = 1000
STATUSES = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED",
            404: "NOT_FOUND", 408: "DEADLINE_EXCEEDED", 409: "ABORTED", 429: "RESOURCE_EXHAUSTED",
            500: "INTERNAL", 501: "UNIMPLEMENTED", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}
HTML = b"<!DOCTYPE html><html><title>Sign in</title><p>A proxy wants to know who you are.</html>"


@dataclass
class Answer:
    """What is sent in place of the right answer."""

    status: int = 200
    body: bytes = b""
    headers: dict = field(default_factory=dict)
    cut: int = None              # the connection is reset after so many bytes of the body
    reset: bool = False          # the connection is reset before any byte


def google_error(status, message, reason=None, headers=None, metadata=None, name=None):
    """An error in Google's envelope; `reason` is that of ErrorInfo."""
    error = {"code": status, "message": message, "status": name or STATUSES[status]}
    if reason:
        error["details"] = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason,
                             "domain": "artifactregistry.googleapis.com",
                             "metadata": metadata or {}}]
    return Answer(status, json.dumps({"error": error}, indent=2).encode(),
                  {"Content-Type": "application/json; charset=UTF-8", **(headers or {})})


def html(status=200, content=HTML):
    """What a proxy in front sends."""
    return Answer(status, content, {"Content-Type": "text/html; charset=UTF-8"})


def service_disabled(project="123"):
    return google_error(
        403, f"Artifact Registry API has not been used in project {project} before or it is "
        "disabled. Enable it by visiting https://console.developers.google.com/apis/api/"
        f"artifactregistry.googleapis.com/overview?project={project} then retry.",
        "SERVICE_DISABLED", metadata={"service": "artifactregistry.googleapis.com",
                                      "consumer": f"projects/{project}"})


def rate_limited(retry_after=None):
    return google_error(
        429, "Quota exceeded for quota metric 'Requests' and limit 'Requests per minute' of service "
        "'artifactregistry.googleapis.com' for consumer 'project_number:123'.",
        "RATE_LIMIT_EXCEEDED",
        {} if retry_after is None else {"Retry-After": str(retry_after)})


def unavailable():
    return google_error(503, "Authentication server unavailable.")


@dataclass
class Asked:
    """One request as it arrived, and the status of its answer."""

    target: str
    path: str
    query: dict
    headers: dict
    status: int = 0
    page: int = None             # which page of its list, from 0


@dataclass
class Contents:
    """The entries of one repository, as the API sends them."""

    parent: str                  # projects/P/locations/L/repositories/R
    registry: str                # HOST/P/R, with which each uri begins
    entries: list = field(default_factory=list)

    def add(self, image, tags=(), digest=None, **members):
        """
        Adds an image and returns its digest. `members` are further members of the JSON; a member
        that is None is left out, as the API leaves out what is empty.
        """
        digest = digest or digest_of(f"{self.parent} {image} {len(self.entries)}".encode())
        entry = {"name": f"{self.parent}/dockerImages/{quote(image, safe='')}@{digest}",
                 "uri": f"{self.registry}/{image}@{digest}", "tags": list(tags) or None,
                 "imageSizeBytes": "71000000", "uploadTime": "2023-03-27T13:02:39.123456Z",
                 "mediaType": OCI_MANIFEST, "buildTime": "2023-03-27T13:02:39Z",
                 "updateTime": "2023-03-27T13:02:40Z", **members}
        self.entries.append({key: value for key, value in entry.items() if value is not None})
        return digest

    def add_index(self, image, tags=(), platforms=("linux/amd64", "linux/arm64/v8"), **members):
        """Adds an index and its children, which have no tags; returns its digest and theirs."""
        children = []
        for platform in platforms:
            system, architecture, *variant = platform.split("/")
            children.append({"architecture": architecture, "os": system, "osVersion": "",
                             "osFeatures": [], "variant": "".join(variant),
                             "mediaType": OCI_MANIFEST, "digest": self.add(image)})
        index = self.add(image, tags, mediaType=OCI_INDEX, imageManifests=children, **members)
        return index, [child["digest"] for child in children]

    def add_many(self, image, count, tags_of_each=3):
        """Adds so many images; the later ones are the newer ones."""
        for number in range(count):
            minutes, seconds = divmod(number, 60)
            hours, minutes = divmod(minutes, 60)
            self.add(image, [f"v{number}.{tag}" for tag in range(tags_of_each)],
                     uploadTime=f"2024-01-{1 + hours // 24:02}T{hours % 24:02}:{minutes:02}:"
                                f"{seconds:02}Z")


class Refusal(Exception):
    def __init__(self, answer):
        super().__init__(answer.status)
        self.answer = answer


def refuse(*arguments, **named):
    raise Refusal(google_error(*arguments, **named))


class ArtifactRegistry:
    """The API. Tests set its attributes."""

    def __init__(self, google, host="127.0.0.1"):
        self.google = google          # knows the access tokens
        self.lock = threading.Lock()
        self.asked = []               # every request
        self.problems = []            # mistakes of the client that no real server would mention
        self.contents = {}            # parent -> Contents
        self.readers = None           # who may list; None: everybody with a token
        self.page_limit = MOST_ON_A_PAGE  # a server may send fewer entries than a client asks for
        self.filter = "applied"       # or "ignored" or "refused" (400)
        self.shuffle = None           # called with the entries of a list; returns them as sent
        self.empty_pages = set()      # pages (from 0) that have a token and no entries
        self.repeat_token_on = None   # from this page on, each page names the token of the page
        self.endless = False          # each page names another one; behind the last they are empty
        self.padding = 0              # spaces in front of the JSON
        self.chunked = False          # no Content-Length
        self.gate = None              # a threading.Event for which each answer waits
        self.queue = []               # Answers for the next requests
        self.on_page = {}             # page -> list of Answers for its next requests
        self.always = None            # an Answer for each request
        self.tokens = {}              # page token -> (parent, query without token, offset, page)
        handler = type("ApiHandler", (Handler,), {"api": self})
        self.server = Server((host, 0), handler)
        self.url = f"http://{host}:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self):
        if self.gate:
            self.gate.set()
        self.server.shutdown()
        self.server.server_close()

    # ---- for tests

    def repository(self, project="project", location="us", repository="repo", host=None):
        """A repository, made when it is new; `host`: the registry's, when it is another one."""
        parent = f"projects/{project}/locations/{location}/repositories/{repository}"
        # The domain of a project's name is a part of the path of its own in the registry.
        path = f"{project.replace(':', '/')}/{repository}"
        if host and host.endswith("gcr.io"):
            path = project.replace(":", "/")
        host = host or f"{location}-docker.pkg.dev"
        return self.contents.setdefault(parent, Contents(parent, f"{host}/{path}"))

    def pages(self):
        """The pages that were asked for and sent, in order."""
        with self.lock:
            return [one.page for one in self.asked if one.status == 200]

    def count(self):
        with self.lock:
            return len(self.asked)

    def forget(self):
        with self.lock:
            self.asked.clear()

    # ---- a request

    def answer(self, asked):
        """The Answer to one request. Checks in Google's order: who, what, how."""
        who = self.authenticate(asked.headers)
        match = re.fullmatch(r"/v1/(projects/[^/]+/locations/[^/]+/repositories/[^/]+)/dockerImages",
                             asked.path)
        if not match:
            refuse(404, f"The requested URL {asked.path} was not found on this server.")
        parent = unquote(match.group(1))
        self.check_parent(parent)
        size, page_filter, token = self.check_query(asked.query)
        offset, asked.page = 0, 0
        if token:
            offset, asked.page = self.check_token(token, parent, asked.query)
        contents = self.contents.get(parent)
        if self.readers is not None and who not in self.readers:
            refuse(403, f"Permission 'artifactregistry.dockerimages.list' denied on resource "
                   f"'{parent}' (or it may not exist).", "IAM_PERMISSION_DENIED")
        if not contents:
            refuse(404, f"Repository '{parent}' was not found.")
        with self.lock:
            replaced = self.on_page.get(asked.page)
            if replaced:
                return replaced.pop(0)
        return self.page(contents, asked, size, page_filter, token, offset)

    def authenticate(self, headers):
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if not token:
            refuse(401, "Request is missing required authentication credential. Expected OAuth 2 "
                   "access token, login cookie or other valid authentication credential.",
                   "CREDENTIALS_MISSING")
        who, scopes = self.google.holder(token) if scheme == "Bearer" else (None, [])
        if not who:
            refuse(401, "Request had invalid authentication credentials. Expected OAuth 2 access "
                   "token, login cookie or other valid authentication credential.",
                   "ACCESS_TOKEN_EXPIRED")
        if not SCOPES & set(scopes):
            refuse(403, "Request had insufficient authentication scopes.",
                   "ACCESS_TOKEN_SCOPE_INSUFFICIENT")
        return who

    @staticmethod
    def check_parent(parent):
        names = parent.split("/")[1::2]
        rules = [r"([a-z0-9.-]+:)?[a-z][a-z0-9-]{1,60}[a-z0-9]", r"[a-z][a-z0-9-]*",
                 r"[a-z]([a-z0-9.-]*[a-z0-9])?"]
        if not all(re.fullmatch(rule, name) for rule, name in zip(rules, names)):
            refuse(400, f"Invalid resource name: \"{parent}\"", "RESOURCE_PROJECT_INVALID")

    def check_query(self, query):
        """(page size, regular expression of names or None, page token or None)"""
        for name in query:
            if name not in ("pageSize", "pageToken", "filter", "orderBy"):
                refuse(400, f"Invalid JSON payload received. Unknown name \"{name}\": Cannot bind "
                       "query parameter.")
        size = query.get("pageSize")
        if size is None:
            with self.lock:
                self.problems.append("a request without pageSize")
            size = "10"
        if not re.fullmatch(r"[0-9]+", size) or int(size) > MOST_ON_A_PAGE:
            refuse(400, f"page_size must be between 0 and {MOST_ON_A_PAGE}; got {size}")
        wanted = query.get("filter")
        if wanted is not None and self.filter == "refused":
            refuse(400, "Request contains an invalid argument: filter")
        match = re.fullmatch(r'name="(projects/[^"]+/dockerImages/[^"]+)"', wanted or "")
        if wanted is not None and not match:
            refuse(400, f"Invalid filter: {wanted}")
        pattern = None
        if match and self.filter == "applied":
            pattern = re.compile(".*".join(map(re.escape, match.group(1).split("*"))),
                                 re.IGNORECASE)
        return int(size), pattern, query.get("pageToken")

    def check_token(self, token, parent, query):
        with self.lock:
            known = self.tokens.get(token)
        rest = {key: value for key, value in query.items() if key != "pageToken"}
        if not known or known[0] != parent:
            refuse(400, "Invalid page token.")
        if known[1] != rest:
            refuse(400, "The page token was made for other parameters.")
        return known[2], known[3]

    def page(self, contents, asked, size, pattern, token, offset):
        entries = [entry for entry in contents.entries
                   if not pattern or pattern.fullmatch(entry.get("name", ""))]
        if self.shuffle:
            entries = self.shuffle(entries)
        end = offset
        if asked.page not in self.empty_pages:
            end = min(len(entries), offset + min(size or MOST_ON_A_PAGE, self.page_limit))
        body = {}
        if end > offset:
            body["dockerImages"] = entries[offset:end]
        if token and self.repeat_token_on is not None and asked.page >= self.repeat_token_on:
            body["nextPageToken"] = token
        elif end < len(entries) or self.endless or asked.page in self.empty_pages:
            body["nextPageToken"] = self.token(contents.parent, asked, end)
        return Answer(200, b" " * self.padding + json.dumps(body).encode(),
                      {"Content-Type": "application/json; charset=UTF-8"})

    def token(self, parent, asked, offset):
        """A token with characters that have a meaning in a URL, as real ones have."""
        token = secrets.token_urlsafe(40) + "+/=&%"
        rest = {key: value for key, value in asked.query.items() if key != "pageToken"}
        with self.lock:
            self.tokens[token] = (parent, rest, offset, asked.page + 1)
        return token


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request, client_address):
        """Does not print an error when a client leaves during an answer."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    api = None

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        api, parts = self.api, urlsplit(self.path)
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        asked = Asked(self.path, parts.path, dict(pairs),
                      {name.lower(): value for name, value in self.headers.items()})
        with api.lock:
            api.asked.append(asked)
            if len(pairs) != len(asked.query):
                api.problems.append(f"a parameter twice in {self.path}")
            if "cookie" in asked.headers:
                api.problems.append("a cookie")
            answer = api.always or (api.queue.pop(0) if api.queue else None)
        if api.gate:
            api.gate.wait()
        if not answer:
            try:
                answer = api.answer(asked)
            except Refusal as refusal:
                answer = refusal.answer
        asked.status = answer.status
        self.send(answer)

    def send(self, answer):
        if answer.reset:
            return self.reset()
        body = answer.body if answer.cut is None else answer.body[:answer.cut]
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if self.api.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.write(body)
        if answer.cut is not None:
            return self.reset()
        if self.api.chunked:
            self.wfile.write(b"0\r\n\r\n")
        return None

    def write(self, body):
        for at in range(0, len(body), 1 << 16):
            piece = body[at:at + (1 << 16)]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if self.api.chunked else piece)

    def reset(self):
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()
