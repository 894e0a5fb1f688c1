"""A scripted registry that takes pushes as well: sessions, mounts, manifests, deleting."""

import hashlib
import json
import re
import secrets
import socket
import time
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from kit.content import digest_of
from kit.processes import wait_until
from kit.scripted_registry import ScriptedRegistry
from kit.scripted_server import Gone

PIECE = 64 << 10

# What a push asks for, as the path and the method of its requests.
PHASES = {"POST": ("/blobs/uploads/", "POST"), "PATCH": ("/blobs/uploads/", "PATCH"),
          "GET": ("/blobs/uploads/", "GET"), "PUT": ("/blobs/uploads/", "PUT"),
          "CANCEL": ("/blobs/uploads/", "DELETE"), "HEAD": ("/blobs/", "HEAD"),
          "MANIFEST": ("/manifests/", "PUT"), "DELETE": ("/manifests/", "DELETE")}


def refusal(status, code="UNKNOWN", **headers):
    """The members of a Fault that refuses a request without having read its body."""
    if status == 429:
        headers.setdefault("Retry-After", "1")
    return {"status": status, "early": True, "headers": {"Content-Type": "application/json",
                                                         "Connection": "close", **headers},
            "body": json.dumps({"errors": [{"code": code, "message": "scripted"}]}).encode()}


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
        self.one_patch = None          # the status of a session's second PATCH; None: it is taken
        self.tells_state = True        # GET of a session
        self.no_chunked = False        # 411 to an upload without a length
        self.no_range = False          # 400 to Content-Range
        self.needs_range = False       # 400 to a PATCH without it
        self.uploads_elsewhere = False  # sessions are at the other host, which gets no credential

    def reset_writes(self):
        with self.lock:
            self.writes.clear()
            self.received = 0

    def take_one_patch(self):
        """As Artifact Registry: a session is not known any more after its PATCH."""
        self.one_patch, self.tells_state = 404, False

    def fail(self, phase, times=1, **members):
        """Gives a fault to the next requests of a phase of a push; returns the Fault."""
        path, method = PHASES[phase]
        return self.fault(path, method=method, times=times, **members)

    def await_no_sessions(self):
        """A client that fails need not wait for the answer to its last DELETE."""
        wait_until(lambda: not self.sessions, "the upload sessions to be deleted")

    # ---- bodies

    def _receive(self, connection, stream, request, fault):
        """Reads the body; of a PATCH the session gets the bytes as they come."""
        if fault.early:
            self._refuse_unread(connection, request, fault)
        session = self.sessions.get(request.path.rpartition("/")[2])
        patched = request.method == "PATCH" and session is not None and fault.status is None
        request.refusal = self._refuse_patch(request, session) if patched else None
        takes = patched and not request.refusal
        if takes:
            session.patches += 1
        counts = takes or (request.method in ("POST", "PUT") and fault.status is None
                           and "/blobs/uploads/" in request.path)
        body, kept, started = bytearray(), 0, time.monotonic()
        for piece in self._pieces(stream, request):
            if fault.upload_reset_after is not None and \
                    len(body) + len(piece) > fault.upload_reset_after:
                piece = piece[:fault.upload_reset_after - len(body)]
            body += piece
            if counts:
                with self.lock:
                    self.received += len(piece)
            if takes:
                session.content += piece
                kept += len(piece)
            self._pace(fault, started, len(body))
            if fault.upload_hold_after is not None and len(body) >= fault.upload_hold_after:
                fault.gate.wait(60)
            if len(body) == fault.upload_reset_after:
                self._reset(connection)
                raise Gone
        if takes and fault.takes_half:
            del session.content[len(session.content) - kept // 2:]
        return bytes(body)

    def _pace(self, fault, started, length):
        rate = fault.upload_bytes_per_second
        if rate:
            self.stopping.wait(max(0.0, started + length / rate - time.monotonic()))

    def _refuse_patch(self, request, session):
        """The response to a PATCH that this registry does not take; None: it does."""
        ranged = request.headers.get("content-range")
        if self.no_chunked and "transfer-encoding" in request.headers:
            return self._error(411, "SIZE_INVALID", "the length is missing")
        if self.one_patch and session.patches:
            return self._error(self.one_patch, "BLOB_UPLOAD_UNKNOWN", "one PATCH only")
        if (self.no_range and ranged) or (self.needs_range and not ranged):
            return self._error(400, "BLOB_UPLOAD_INVALID", "Content-Range")
        if ranged and int(ranged.partition("-")[0]) != len(session.content):
            return self._error(416, "BLOB_UPLOAD_INVALID", "the session stands elsewhere")
        return None

    def _refuse_unread(self, connection, request, fault):
        """Sends the response while the body comes, and reads what was on its way: an RST would
        overtake the response."""
        self._send(connection, request, fault.status, dict(fault.headers), fault.body, fault)
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(10)
        while connection.recv(PIECE):
            pass
        raise Gone

    @staticmethod
    def _pieces(stream, request):
        if "chunked" in request.headers.get("transfer-encoding", ""):
            while length := int(stream.readline(), 16):
                while length:
                    piece = stream.read1(min(length, PIECE))
                    if not piece:
                        raise Gone
                    length -= len(piece)
                    yield piece
                stream.readline()
            stream.readline()
            return
        left = int(request.headers.get("content-length", 0))
        while left:
            piece = stream.read1(min(left, PIECE))
            if not piece:
                raise Gone
            left -= len(piece)
            yield piece

    # ---- responses

    def _answer(self, connection, request, body, fault):
        if fault.lost:
            self._find(request, body)
            self._reset(connection)
            raise Gone
        return super()._answer(connection, request, body, fault)

    def _send(self, connection, request, status, headers, content, fault):
        if fault.no_location:
            headers.pop("Location", None)
        return super()._send(connection, request, status, headers, content, fault)

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
        if request.listener == "elsewhere":
            if not is_upload or "authorization" in request.headers:
                return self._error(400, "UNSUPPORTED", "an upload without a credential is wanted")
            return self._upload(request, name, last, body)
        refused = self._refusal(request, name)
        if refused:
            return refused
        if self.readers_only:
            return self._error(403, "DENIED", "permission to upload is missing")
        if is_upload:
            return self._upload(request, name, last, body)
        if request.method == "PUT" and kind == "manifests":
            return self._put_manifest(request, name, last, body)
        if request.method == "DELETE":
            return (self._delete if kind == "manifests" else self._delete_blob)(name, last)
        return self._error(405, "UNSUPPORTED", "the operation is unsupported")

    def _upload(self, request, name, last, body):
        query = parse_qs(request.query)
        if request.method == "POST":
            return self._begin(name, query, body)
        session = self.sessions.get(last)
        if session is None or session.repository != name:
            return self._error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
        if request.method == "DELETE":
            del self.sessions[last]
            self.deleted_sessions += 1
            return 204, {}, None
        if request.method == "GET":
            if not self.tells_state:
                return self._error(405, "UNSUPPORTED", "the operation is unsupported")
            return 204, self._state(name, last, session), None
        if request.method == "PATCH":
            return request.refusal or (202, self._state(name, last, session), None)
        return self._finish(name, last, session, query, body)

    def _begin(self, name, query, body):
        mounted, source = query.get("mount", [""])[0], query.get("from", [""])[0]
        known = self.repositories.get(source)
        if mounted and self.mounts and known and mounted in known.blobs:
            self.repository(name).blobs[mounted] = known.blobs[mounted]
            self.writes.append(("mount", mounted))
            return 201, {"Location": f"/v2/{name}/blobs/{mounted}",
                         "Docker-Content-Digest": mounted}, None
        if "digest" in query:
            return self._store(name, query["digest"][0], body)
        identity = secrets.token_hex(8)
        self.sessions[identity] = Session(name)
        return 202, self._state(name, identity, self.sessions[identity]), None

    def _state(self, name, identity, session):
        start = self.elsewhere_url if self.uploads_elsewhere else ""
        return {"Location": f"{start}/v2/{name}/blobs/uploads/{identity}?state=opaque",
                "Range": f"0-{max(0, len(session.content) - 1)}", "Docker-Upload-UUID": identity}

    def _finish(self, name, identity, session, query, body):
        del self.sessions[identity]
        return self._store(name, query.get("digest", [""])[0], bytes(session.content) + body)

    def _store(self, name, digest, content):
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

    def _delete_blob(self, name, digest):
        if self.repository(name).blobs.pop(digest, None) is None:
            return self._error(404, "BLOB_UNKNOWN", "blob unknown to registry")
        self.writes.append(("delete", digest))
        return 202, {}, None
