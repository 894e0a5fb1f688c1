"""
A registry that a test scripts: it responds rightly, slowly, wrongly or not at all, as it is told.

It keeps repositories in memory, records every request and counts every byte of every body that it
sends. Each connection has a thread that works on the plain socket, so that a test decides about
single bytes, resets and silences.
"""

import json
import re
import secrets
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from kit.content import OCI_INDEX, OCI_MANIFEST, OCTETS, digest_of, manifest
from kit.processes import free_port
from kit.scripted_server import ScriptedServer
from kit.tokens import basic


@dataclass
class Repository:
    """The content of one repository."""

    name: str
    blobs: dict = field(default_factory=dict)      # digest -> bytes
    manifests: dict = field(default_factory=dict)  # digest -> (bytes, media type)
    tags: dict = field(default_factory=dict)       # tag -> digest
    referrers: dict = field(default_factory=dict)  # digest -> list of descriptors

    def add_blob(self, content, algorithm="sha256"):
        digest = digest_of(content, algorithm)
        self.blobs[digest] = content
        return digest

    def add_manifest(self, content, media_type=OCI_MANIFEST, tag=None, algorithm="sha256"):
        digest = digest_of(content, algorithm)
        self.manifests[digest] = (content, media_type)
        if tag:
            self.tags[tag] = digest
        return digest


class ScriptedRegistry(ScriptedServer):
    """The registry on `host:port`, and a second host to which blobs may be redirected."""

    main = "registry"

    def __init__(self, host="127.0.0.1", elsewhere="127.0.0.2", tls=None):
        super().__init__(host, tls)
        self.repositories = {}
        self.basic = None               # (username, password): Basic authentication
        self.tokens = None              # a TokenService: Bearer authentication
        self.realm = None               # the URL of the token service; default: our own /token
        self.challenge = None           # the whole WWW-Authenticate, in place of ours
        self.redirect = None            # None, "relative", "elsewhere" or "same host"
        self.redirect_uses = None       # a target works so often, then it is 403
        self.referrers_api = True
        self.page_size = None           # of tags/list, when the client names none
        self.targets = {}               # opaque part -> [repository, digest, uses]
        self.elsewhere = elsewhere
        self.elsewhere_port = self._listen("elsewhere", elsewhere, free_port(elsewhere))

    # ---- for tests

    @property
    def elsewhere_url(self):
        return f"http://{self.elsewhere}:{self.elsewhere_port}"

    def repository(self, name):
        return self.repositories.setdefault(name, Repository(name))

    def image(self, name, layers, tag="latest", config=b"{}", media_type=OCI_MANIFEST):
        """Adds an image of these layers; returns its manifest's digest."""
        repository = self.repository(name)
        for blob in [config, *layers]:
            repository.add_blob(blob)
        return repository.add_manifest(manifest(config, layers, media_type), media_type, tag)

    def blob_bytes(self):
        """Bytes of blobs that were sent, directly or after a redirect."""
        return sum(request.sent for request in self.asked(r"/blobs/|/downloads/")
                   if request.status in (200, 206))

    # ---- the registry

    def _find(self, request, body):
        """(status, headers, content) of a response without faults and ranges."""
        if request.path == "/token" and self.tokens:
            return self.tokens.answer(request, body)
        if "/downloads/" in request.path:
            return self._download(request)
        if request.listener != "registry" or not request.path.startswith("/v2/"):
            return 404, {}, b"no such page"
        match = re.fullmatch(r"/v2/(.+?)/(blobs|manifests|tags|referrers)/([^/]+)", request.path)
        repository_name = match.group(1) if match else None
        refusal = self._refusal(request, repository_name)
        if refusal:
            return refusal
        if request.path == "/v2/":
            return 200, {"Docker-Distribution-Api-Version": "registry/2.0"}, b"{}"
        repository = self.repositories.get(repository_name)
        if repository is None:
            return self._error(404, "NAME_UNKNOWN", "repository name not known to registry")
        kind, reference = match.group(2), match.group(3)
        if kind == "blobs":
            return self._blob(request, repository, reference)
        if kind == "manifests":
            return self._manifest(repository, reference)
        if kind == "tags":
            return self._tags(request, repository)
        return self._referrers(request, repository, reference)

    def _refusal(self, request, repository):
        authorization = request.headers.get("authorization")
        if self.basic and authorization != basic(*self.basic):
            challenge = self.challenge or 'Basic realm="fake"'
        elif self.tokens and not self.tokens.opens(authorization, repository):
            realm = self.realm or f"{self.url}/token"
            challenge = self.challenge or f'Bearer realm="{realm}",service="fake"' + (
                f',scope="repository:{repository}:pull"' if repository else "")
        else:
            return None
        status, headers, content = self._error(401, "UNAUTHORIZED", "authentication required")
        return status, {**headers, "WWW-Authenticate": challenge}, content

    @staticmethod
    def _error(status, code, message):
        return status, {"Content-Type": "application/json"}, json.dumps(
            {"errors": [{"code": code, "message": message, "detail": {}}]}).encode()

    def _blob(self, request, repository, digest):
        content = repository.blobs.get(digest)
        if content is None:
            return self._error(404, "BLOB_UNKNOWN", "blob unknown to registry")
        if self.redirect:
            opaque = secrets.token_hex(700)
            with self.lock:
                self.targets[opaque] = [repository, digest, 0]
            start = {"relative": "", "same host": self.url,
                     "elsewhere": self.elsewhere_url}[self.redirect]
            return 302, {"Location": f"{start}/artifacts-downloads/namespaces/project/"
                                     f"repositories/repo/downloads/{opaque}"}, b"<a>Found</a>"
        return 200, {"Content-Type": OCTETS, "Docker-Content-Digest": digest,
                     "ETag": f'"{digest}"'}, content

    def _download(self, request):
        with self.lock:
            target = self.targets.get(request.path.rpartition("/")[2])
            if target is None or (self.redirect_uses is not None
                                  and target[2] >= self.redirect_uses):
                return 403, {"Content-Type": "application/xml"}, b"<Error>expired</Error>"
            target[2] += 1
            repository, digest, _ = target
        return 200, {"Content-Type": OCTETS, "ETag": f'"{digest}"'}, repository.blobs[digest]

    def _manifest(self, repository, reference):
        digest = repository.tags.get(reference, reference)
        if digest not in repository.manifests:
            return self._error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        content, media_type = repository.manifests[digest]
        return 200, {"Content-Type": media_type, "Docker-Content-Digest": digest,
                     "ETag": f'"{digest}"'}, content

    def _tags(self, request, repository):
        query = parse_qs(request.query)
        names = sorted(repository.tags)
        last = query.get("last", [""])[0]
        names = [name for name in names if name > last]
        size = int(query.get("n", [self.page_size or len(names)])[0])
        if self.page_size:
            size = min(size, self.page_size)
        headers = {"Content-Type": "application/json"}
        if size < len(names):
            headers["Link"] = (f'</v2/{repository.name}/tags/list?n={size}'
                               f'&last={names[size - 1]}>; rel="next"')
        return 200, headers, json.dumps({"name": repository.name, "tags": names[:size]}).encode()

    def _referrers(self, request, repository, digest):
        if not self.referrers_api:
            return 404, {}, b"404 page not found"
        entries = repository.referrers.get(digest, [])
        return 200, {"Content-Type": OCI_INDEX}, json.dumps(
            {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
