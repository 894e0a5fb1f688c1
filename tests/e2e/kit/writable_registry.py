"""A scripted registry that takes pushes as well: sessions, mounts, manifests, deleting."""

import hashlib
import json
import re
import secrets
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from kit.content import digest_of
from kit.scripted_registry import ScriptedRegistry
from kit.scripted_server import Gone

PIECE = 64 << 10


@dataclass
class Session:
    """One upload."""

    repository: str
    content: bytearray = field(default_factory=bytearray)
    patches: int = 0


class WritableRegistry(ScriptedRegistry):
    """Counts what was written: `received` is the bytes of all uploads, in whatever session."""

    def __init__(self, **options):
        super().__init__(**options)
        self.sessions = {}
        self.deleted_sessions = 0
        self.received = 0
        self.writes = []               # ("blob", digest), ("manifest", reference), ("delete", …)
        self.mounts = True
        self.readers_only = False      # 403 to every write
        self.immutable = False         # 400 to a tag that is moved
        self.tag_deletion = True
        self.tells_subject = True      # OCI-Subject, when there is a referrers API
        self.one_patch = False         # a session takes one PATCH, and its state is not told

    def reset_writes(self):
        with self.lock:
            self.writes.clear()
            self.received = 0

    # ---- bodies

    def _receive(self, connection, stream, request, fault):
        """Reads the body; of a PATCH the session gets the bytes as they come."""
        session = self.sessions.get(request.path.rpartition("/")[2])
        takes = request.method == "PATCH" and session is not None and fault.status is None
        if takes and not (self.one_patch and session.patches):
            session.patches += 1
        body = bytearray()
        for piece in self._pieces(stream, request):
            if fault.upload_reset_after is not None and \
                    len(body) + len(piece) > fault.upload_reset_after:
                piece = piece[:fault.upload_reset_after - len(body)]
            body += piece
            if takes:
                session.content += piece
                with self.lock:
                    self.received += len(piece)
            if fault.upload_hold_after is not None and len(body) >= fault.upload_hold_after:
                fault.gate.wait(60)
            if len(body) == fault.upload_reset_after:
                self._reset(connection)
                raise Gone
        return bytes(body)

    @staticmethod
    def _pieces(stream, request):
        if "chunked" in request.headers.get("transfer-encoding", ""):
            while length := int(stream.readline(), 16):
                yield stream.read(length)
                stream.readline()
            stream.readline()
            return
        left = int(request.headers.get("content-length", 0))
        while left:
            piece = stream.read(min(left, PIECE))
            if not piece:
                raise Gone
            left -= len(piece)
            yield piece

    # ---- writes

    def _find(self, request, body):
        if not request.path.startswith("/v2/") or request.path == "/v2/":
            return super()._find(request, body)
        match = re.fullmatch(r"/v2/(.+?)/(blobs/uploads|blobs|manifests)/([^/]*)", request.path)
        if not match:
            return super()._find(request, body)
        name, kind, last = match.groups()
        is_upload = kind == "blobs/uploads"
        if not is_upload and request.method in ("GET", "HEAD"):
            return super()._find(request, body)
        refusal = self._refusal(request, name)
        if refusal:
            return refusal
        if self.readers_only:
            return self._error(403, "DENIED", "permission to upload is missing")
        if is_upload:
            return self._upload(request, name, last, body)
        if request.method == "PUT" and kind == "manifests":
            return self._put_manifest(request, name, last, body)
        if request.method == "DELETE" and kind == "manifests":
            return self._delete(name, last)
        return self._error(405, "UNSUPPORTED", "the operation is unsupported")

    def _upload(self, request, name, last, body):
        query = parse_qs(request.query)
        if request.method == "POST":
            return self._begin(name, query)
        session = self.sessions.get(last)
        if session is None or session.repository != name:
            return self._error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
        if request.method == "DELETE":
            del self.sessions[last]
            self.deleted_sessions += 1
            return 204, {}, None
        if request.method == "GET":
            if self.one_patch:
                return self._error(405, "UNSUPPORTED", "the operation is unsupported")
            return 204, self._state(name, last, session), None
        if request.method == "PATCH":
            if self.one_patch and session.patches > 1:
                return self._error(404, "BLOB_UPLOAD_UNKNOWN", "one PATCH only")
            return 202, self._state(name, last, session), None
        return self._finish(name, last, session, query, body)

    def _begin(self, name, query):
        digest, source = query.get("mount", [""])[0], query.get("from", [""])[0]
        known = self.repositories.get(source)
        if digest and self.mounts and known and digest in known.blobs:
            self.repository(name).blobs[digest] = known.blobs[digest]
            self.writes.append(("mount", digest))
            return 201, {"Location": f"/v2/{name}/blobs/{digest}",
                         "Docker-Content-Digest": digest}, None
        identity = secrets.token_hex(8)
        self.sessions[identity] = Session(name)
        return 202, self._state(name, identity, self.sessions[identity]), None

    @staticmethod
    def _state(name, identity, session):
        return {"Location": f"/v2/{name}/blobs/uploads/{identity}?state=opaque",
                "Range": f"0-{max(0, len(session.content) - 1)}", "Docker-Upload-UUID": identity}

    def _finish(self, name, identity, session, query, body):
        content, digest = bytes(session.content) + body, query.get("digest", [""])[0]
        del self.sessions[identity]
        algorithm = digest.partition(":")[0]
        if algorithm not in hashlib.algorithms_available or digest_of(content, algorithm) != digest:
            return self._error(400, "DIGEST_INVALID", "provided digest did not match")
        self.repository(name).blobs[digest] = content
        self.writes.append(("blob", digest))
        return 201, {"Location": f"/v2/{name}/blobs/{digest}",
                     "Docker-Content-Digest": digest}, None

    def _put_manifest(self, request, name, reference, body):
        repository = self.repository(name)
        digest = digest_of(body)
        document = json.loads(body)
        for named in [document.get("config"), *document.get("layers", [])]:
            if named and named["digest"] not in repository.blobs:
                return self._error(404, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry")
        for named in document.get("manifests") or []:
            if not reference.startswith("sha256-") and named["digest"] not in repository.manifests:
                return self._error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        headers = {"Docker-Content-Digest": digest, "Location": f"/v2/{name}/manifests/{digest}"}
        is_tag = ":" not in reference
        if is_tag and self.immutable and repository.tags.get(reference, digest) != digest:
            return self._error(400, "TAG_INVALID", "The repository has enabled tag immutability; "
                                                   "this immutable tag is already assigned")
        if not is_tag and reference != digest:
            return self._error(400, "DIGEST_INVALID", "provided digest did not match")
        repository.add_manifest(body, request.headers["content-type"], reference if is_tag else None)
        self.writes.append(("manifest", reference))
        subject = document.get("subject")
        if subject and self.referrers_api:
            repository.referrers.setdefault(subject["digest"], []).append({
                "mediaType": request.headers["content-type"], "digest": digest, "size": len(body),
                "artifactType": document.get("artifactType")})
            if self.tells_subject:
                headers["OCI-Subject"] = subject["digest"]
        return 201, headers, None

    def _delete(self, name, reference):
        repository = self.repository(name)
        if ":" not in reference and not self.tag_deletion:
            return self._error(400, "DIGEST_INVALID", "provided digest did not match")
        if reference in repository.tags:
            del repository.tags[reference]
        elif reference in repository.manifests:
            del repository.manifests[reference]
            repository.tags = {tag: digest for tag, digest in repository.tags.items()
                               if digest != reference}
        else:
            return self._error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        self.writes.append(("delete", reference))
        return 202, {}, None
