"""
An object store that a test scripts, with the XML API of S3 or of Google Cloud Storage.

It is as strict as the services: it verifies signatures and tokens, payload hashes, checksums, part
sizes and the order of parts, and it refuses every header that is sent twice. It is strongly
consistent, keeps its objects in memory, and records every request. Faults make it fail as a test
wants. test_object_store.py checks it with boto3 and docker-registry as clients.
"""

import base64
import bisect
import hashlib
import itertools
import re
import secrets
import time
from dataclasses import dataclass, field, replace
from urllib.parse import unquote
from xml.etree import ElementTree

from kit import object_documents as documents
from kit.faults import Fault, Rule
from kit.object_signature import Identity, Refusal, check_bearer, check_signature, parse_query
from kit.scripted_server import Gone, Request, ScriptedServer

KEY_ID, SECRET = "AKIDEMULATOR00000001", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEMULATORKEY"
PART_MINIMUM = 5 << 20
SINGLE_PUT_MOST = 5 << 30
RECEIVE_PIECE = 1 << 20
STATUS_OF = {
    "AccessDenied": 403, "AuthorizationHeaderMalformed": 400, "ConditionalRequestConflict": 409,
    "EntityTooSmall": 400, "ExpiredToken": 400, "InternalError": 500, "InvalidAccessKeyId": 403,
    "InvalidPart": 400, "InvalidToken": 400, "NoSuchBucket": 404, "NoSuchKey": 404,
    "NoSuchUpload": 404, "NotImplemented": 501, "OperationAborted": 409, "PreconditionFailed": 412,
    "RequestTimeTooSkewed": 403, "RequestTimeout": 400, "ServiceUnavailable": 503,
    "SignatureDoesNotMatch": 403, "SlowDown": 503, "TooManyRequests": 429}
# Which permission an operation needs. A test takes one away: store.forbidden.add("delete").
PERMISSIONS = {
    "get": "read", "head": "read", "list": "list", "list_uploads": "list", "head_bucket": "list",
    "location": "list", "list_parts": "parts", "put": "write", "create": "write", "part": "write",
    "complete": "write", "copy": "write", "part_copy": "write", "abort": "abort",
    "delete": "delete", "delete_many": "delete"}


@dataclass
class StoreRequest(Request):
    """One request to the store."""

    fields: list = field(default_factory=list)  # (name, value) in the order of arrival
    raw_path: str = ""
    bucket: str = ""
    key: str = ""
    operation: str = ""
    parameters: dict = field(default_factory=dict)
    received: int = 0        # bytes of the body
    identity: str = ""       # the key id, or the access token
    region: str = ""
    code: str = ""           # of the error that was sent


@dataclass
class Object:
    content: bytes
    etag: str
    modified: float
    headers: dict = field(default_factory=dict)
    generation: int = 1


@dataclass
class Upload:
    """A multipart upload that has not ended."""

    key: str
    started: float
    headers: dict
    parts: dict = field(default_factory=dict)  # number -> Object


class ObjectStore(ScriptedServer):
    """One bucket. `dialect` is "s3" or "gcs"."""

    main = "store"
    piece = 1 << 20

    def __init__(self, dialect="s3", bucket="cache", region="us-east-1", host="127.0.0.1", tls=None,
                 port=None):
        super().__init__(host, tls, port)
        self.dialect, self.bucket, self.region = dialect, bucket, region
        self.objects = {}             # key -> Object
        self.uploads = {}             # upload id -> Upload
        self.identities = {KEY_ID: Identity(SECRET)}
        self.bearer = {}              # access token -> its end by the store's clock
        self.google = None            # a Google (google_emulator), whose access tokens are valid, too
        self.public = False           # requests without authorization are allowed
        self.forbidden = set()        # of PERMISSIONS
        self.page_size = 1000         # the most keys of one page of a list
        self.clock_offset = 0         # seconds that the store's clock is ahead of ours
        self.conditionals = "yes"     # create-once: "yes", "501" or "ignored"
        self.etags = "right"          # "right": MD5 of a single PUT; "random"
        self.wrong_region = "malformed"  # "malformed" (400), "moved" (301), "temporary" (307),
                                         # "ignored"
        self.moved_to = None          # Location of a 301 or 307, in place of the right one
        self.token_status = 400       # of ExpiredToken and InvalidToken
        self.part_minimum = PART_MINIMUM
        self.blanks = 2               # blanks that a completion sends while it works
        self.blank_pause = 0.0        # seconds between them
        self.blanks_first = False     # they come before the XML declaration, not after it
        self.problems = []            # what a client must never send
        self.sorted_keys = []
        self.generations = itertools.count(1)

    # ---- for tests

    @property
    def scheme(self):
        return {"s3": "s3", "gcs": "gs"}[self.dialect]

    def settings(self, prefix="tarn", **more):
        """The `bucket` section for a tarn; `environment` holds the key."""
        given = {"url": f"{self.scheme}://{self.bucket}" + (f"/{prefix}" if prefix else ""),
                 "endpoint": self.url}
        if self.dialect == "s3":
            given["region"] = self.region
        return {**given, **more}

    @property
    def environment(self):
        """The variables that hold the key, for tarn and for other clients."""
        key_id, identity = next(iter(self.identities.items()))
        given = {"AWS_ACCESS_KEY_ID": key_id, "AWS_SECRET_ACCESS_KEY": identity.secret}
        if identity.session_token:
            given["AWS_SESSION_TOKEN"] = identity.session_token
        return given

    def now(self):
        return time.time() + self.clock_offset

    def put(self, key, content, age=0.0, **headers):
        """Puts an object, as old as `age` seconds."""
        with self.lock:
            self._set(key, Object(content, self._etag(content), self.now() - age, headers,
                                  next(self.generations)))

    def get(self, key):
        """The bytes of an object, or None."""
        with self.lock:
            one = self.objects.get(key)
        return None if one is None else bytes(one.content)

    def remove(self, key):
        with self.lock:
            self._unset(key)

    def keys(self, prefix=""):
        with self.lock:
            return [key for key in self.sorted_keys if key.startswith(prefix)]

    def make_older(self, seconds, prefix=""):
        """Sets back when these objects and uploads were made."""
        with self.lock:
            for one in [self.objects[key] for key in self.keys(prefix)]:
                one.modified -= seconds
            for upload in self.uploads.values():
                if upload.key.startswith(prefix):
                    upload.started -= seconds

    def fault(self, operation=".*", key="", fault=None, skip=0, times=None, when=None,
              code=None, **members):  # pylint: disable=arguments-renamed
        """
        Gives a fault to the requests whose operation matches wholly and whose key holds a match;
        returns the Fault. `code` is the code of an error, with its usual status.
        """
        if code:
            members.setdefault("status", STATUS_OF[code])
            members["body"] = documents.error(code, f"this is {code}")
            members["headers"] = {"Content-Type": "application/xml", **members.get("headers", {})}
        operations, keys = re.compile(operation), re.compile(key)

        def matches(request):
            return bool(operations.fullmatch(request.operation) and keys.search(request.key)
                        and (when is None or when(request)))

        return self._add(Rule(re.compile(""), fault or Fault(**members), None, skip, times, matches))

    def requests_of(self, operation=".*", key="", status=None):
        """The requests whose operation matches wholly and whose key holds a match, in order."""
        with self.lock:
            return [request for request in self.requests
                    if re.fullmatch(operation, request.operation) and re.search(key, request.key)
                    and status in (None, request.status)]

    def count(self, operation=".*", key="", status=None):
        return len(self.requests_of(operation, key, status))

    def sent_bytes(self, key=""):
        """Bytes of objects that were sent."""
        return sum(request.sent for request in self.requests_of("get", key)
                   if request.status in (200, 206))

    def received_bytes(self, key=""):
        """Bytes of objects that arrived."""
        return sum(request.received for request in self.requests_of("put|part", key))

    def mistake(self, status, code, message):
        """A refusal of what a right client never sends; the fixture fails the test for it."""
        self.problems.append(message)
        return Refusal(status, code, message)

    # ---- one request

    def _request(self, listener, method, target, fields):
        raw_path, _, query = target.partition("?")
        request = StoreRequest(listener, method, target, dict(fields), unquote(raw_path), query,
                               started=time.monotonic(), fields=fields, raw_path=raw_path)
        host = request.headers.get("host", "").rpartition(":")[0] or request.headers.get("host", "")
        if host.endswith("]") or host == self.host or not host.startswith(f"{self.bucket}."):
            request.bucket, _, request.key = request.path.removeprefix("/").partition("/")
        else:
            request.bucket, request.key = self.bucket, request.path.removeprefix("/")
        request.parameters = dict(parse_query(query))
        request.operation = operation_of(request)
        return request

    def _receive(self, connection, stream, request, fault):
        if "chunked" in request.headers.get("transfer-encoding", ""):
            raise self._refuse_unread(connection, request, self.mistake(
                411, "MissingContentLength", "a chunked upload has no Content-Length"))
        length = int(request.headers.get("content-length", 0))
        if length > SINGLE_PUT_MOST:
            raise self._refuse_unread(connection, request, Refusal(
                400, "EntityTooLarge", "your proposed upload exceeds the maximum"))
        if fault.early:
            self._send(connection, request, fault.status, dict(fault.headers), fault.body, fault)
            raise Gone
        if request.headers.get("expect", "").lower() == "100-continue":
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        view = memoryview(bytearray(length))
        stops = {fault.upload_reset_after, fault.upload_hold_after} - {None}
        started, held = time.monotonic(), False
        while request.received < length or request.received in stops:
            if request.received == fault.upload_reset_after:
                self._reset(connection)
                raise Gone
            if request.received == fault.upload_hold_after and not held:
                held = True
                fault.gate.wait()
            stops.discard(request.received)
            if request.received == length:
                break
            end = min([request.received + RECEIVE_PIECE, length]
                      + [stop for stop in stops if stop > request.received])
            got = stream.readinto1(view[request.received:end])
            if not got:
                raise Gone
            request.received += got
            if fault.upload_bytes_per_second:
                due = started + request.received / fault.upload_bytes_per_second
                self.stopping.wait(max(0.0, due - time.monotonic()))
        return view.obj

    def _refuse_unread(self, connection, request, refusal):
        status, headers, content = self._refusal(request, refusal)
        self._send(connection, request, status, headers, content, Fault())
        return Gone()

    def _find(self, request, body):
        try:
            self._check(request, body)
            return getattr(self, f"_do_{request.operation}")(request, body)
        except Refusal as refusal:
            return self._refusal(request, refusal)
        except ElementTree.ParseError:
            return self._refusal(request, self.mistake(400, "MalformedXML", "not XML"))

    def _refusal(self, request, refusal):
        content = documents.error(refusal.code, refusal.message, **refusal.elements,
                                  Resource=request.raw_path, RequestId="0123456789ABCDEF")
        return refusal.status, {"Content-Type": "application/xml", **refusal.headers}, content

    def _answer(self, connection, request, body, fault):
        if fault.late_code:
            request.code = fault.late_code
            fault = replace(fault, status=200, headers={"Content-Type": "application/xml"},
                            body=documents.error(fault.late_code, "it failed while it worked"))
        return super()._answer(connection, request, body, fault)

    def _send(self, connection, request, status, headers, content, fault):
        marks = {"Date": documents.http_date(self.now()),
                 "x-amz-request-id" if self.dialect == "s3" else "x-guploader-uploadid":
                 secrets.token_hex(8)}
        found = re.search(rb"<Code>(\w+)</Code>", content) if status >= 400 else None
        if found:
            request.code = found.group(1).decode()
        if request.operation == "complete" and status == 200 and self.blanks:
            fault = replace(fault, chunked=True)
        return super()._send(connection, request, status, {**marks, **headers}, content, fault)

    def _send_body(self, connection, request, content, fault):
        if request.operation == "complete" and request.status == 200 and self.blanks:
            first, content = b"", bytes(content)
            if not self.blanks_first:
                first, content = content[:len(documents.DECLARATION)], \
                    content[len(documents.DECLARATION):]
            for piece in [first, *[b"\n"] * self.blanks]:
                if piece:
                    connection.sendall(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                    self.stopping.wait(self.blank_pause)
        super()._send_body(connection, request, content, fault)

    def _has_ranges(self, request, _headers):
        return request.operation == "get"

    def _ranged(self, request, status, content, headers):
        status, content, headers = super()._ranged(request, status, content, headers)
        if status == 416:
            status, more, content = self._refusal(request, Refusal(
                416, "InvalidRange", "the requested range is not satisfiable"))
            headers = {**headers, **more}
        return status, content, headers

    # ---- checks

    def _check(self, request, body):
        names = [name for name, _ in request.fields]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise self.mistake(400, "InvalidRequest", f"sent twice: {twice}")
        goog = [name for name in names if name.startswith("x-goog-")]
        amz = [name for name in names if name.startswith("x-amz-")]
        if goog and (amz or self.dialect == "s3"):
            raise self.mistake(400, "InvalidArgument", f"headers of both dialects: {goog} {amz}")
        self._check_authorization(request, body)
        if request.operation == "unknown":
            raise Refusal(501, "NotImplemented", "this store does not know the operation")
        if request.bucket != self.bucket:
            raise Refusal(404, "NoSuchBucket", "the specified bucket does not exist",
                          BucketName=request.bucket)
        if PERMISSIONS[request.operation] in self.forbidden:
            raise Refusal(403, "AccessDenied", "Access Denied", self._region_header())
        self._check_body(request, body)

    def _check_authorization(self, request, body):
        scheme = request.headers.get("authorization", "").partition(" ")[0]
        if scheme == "AWS4-HMAC-SHA256":
            check_signature(self, request, body)
        elif scheme == "Bearer" and self.dialect == "gcs":
            if any(name.startswith("x-amz-") for name in request.headers):
                raise self.mistake(400, "InvalidArgument", "x-amz-* with a Bearer token")
            check_bearer(self, request)
        elif scheme:
            raise self.mistake(400, "InvalidArgument", f"unsupported authorization type {scheme}")
        elif not self.public:
            raise Refusal(403, "AccessDenied", "Access Denied", self._region_header())

    def check_region(self, region):
        if region == self.region or self.dialect == "gcs" or self.wrong_region == "ignored":
            return
        if self.wrong_region == "malformed":
            raise Refusal(400, "AuthorizationHeaderMalformed",
                          f"the region '{region}' is wrong; expecting '{self.region}'",
                          self._region_header(), Region=self.region)
        status, code = {"moved": (301, "PermanentRedirect"),
                        "temporary": (307, "TemporaryRedirect")}[self.wrong_region]
        endpoint = f"{self.bucket}.s3.{self.region}.amazonaws.com"
        raise Refusal(status, code, "please send all future requests to this endpoint",
                      {**self._region_header(), "Location": self.moved_to or f"{self.url}/moved"},
                      Endpoint=endpoint, Bucket=self.bucket)

    def _region_header(self):
        return {"x-amz-bucket-region": self.region} if self.dialect == "s3" else {}

    def _check_body(self, request, body):
        md5 = request.headers.get("content-md5")
        if md5 and md5 != base64.b64encode(hashlib.md5(body).digest()).decode():
            raise Refusal(400, "BadDigest", "the Content-MD5 did not match")
        sha256 = request.headers.get("x-amz-checksum-sha256")
        if sha256 and sha256 != base64.b64encode(hashlib.sha256(body).digest()).decode():
            raise Refusal(400, "BadDigest", "the SHA256 you specified did not match")
        if request.method == "POST" and request.operation != "create" and \
                "form-urlencoded" in request.headers.get("content-type", ""):
            raise self.mistake(400, "InvalidRequest", "the body is not a form")

    def _check_create_once(self, request):
        """Refuses to overwrite when the request says so; the lock is held."""
        once = {"s3": "if-none-match", "gcs": "x-goog-if-generation-match"}[self.dialect]
        wanted = request.headers.get(once)
        for other in ("if-match", "if-none-match", "if-unmodified-since", "if-range"):
            if other != once and other in request.headers:
                raise self.mistake(400, "InvalidArgument", f"{other} is not for writing here")
        if wanted is None or self.conditionals == "ignored":
            return
        if self.conditionals == "501":
            raise Refusal(501, "NotImplemented",
                          "a header you provided implies functionality that is not implemented")
        if self.dialect == "gcs" and request.operation in ("create", "complete"):
            raise self.mistake(400, "InvalidArgument",
                               "preconditions are not supported in multipart uploads")
        if wanted != {"s3": "*", "gcs": "0"}[self.dialect]:
            raise self.mistake(501, "NotImplemented", f"{once}: {wanted}")
        if request.key in self.objects:
            raise Refusal(412, "PreconditionFailed",
                          "at least one of the pre-conditions you specified did not hold",
                          Condition=once)

    # ---- objects

    def _etag(self, content):
        if self.etags == "random":
            return f'"{secrets.token_hex(16)}"'
        return f'"{hashlib.md5(content).hexdigest()}"'

    def _set(self, key, one):
        if key not in self.objects:
            bisect.insort(self.sorted_keys, key, key=str.encode)
        self.objects[key] = one

    def _unset(self, key):
        if self.objects.pop(key, None):
            self.sorted_keys.remove(key)

    @staticmethod
    def _kept_headers(request):
        """The headers of a write that are sent again with the object."""
        return {name: value for name, value in request.headers.items()
                if name in ("content-type", "cache-control", "content-encoding",
                            "content-disposition", "x-amz-storage-class",
                            "x-amz-server-side-encryption",
                            "x-amz-server-side-encryption-aws-kms-key-id",
                            "x-goog-storage-class", "x-goog-encryption-kms-key-name")
                or name.startswith(("x-amz-meta-", "x-goog-meta-"))}

    def _do_get(self, request, _body):
        with self.lock:
            one = self.objects.get(request.key)
        if one is None:
            if "list" in self.forbidden:
                raise Refusal(403, "AccessDenied", "Access Denied")
            raise Refusal(404, "NoSuchKey", "the specified key does not exist", Key=request.key)
        headers = {"Content-Type": "binary/octet-stream", **one.headers, "ETag": one.etag,
                   "Last-Modified": documents.http_date(one.modified), "Accept-Ranges": "bytes"}
        if self.dialect == "gcs":
            headers["x-goog-generation"] = str(one.generation)
        return 200, headers, one.content

    _do_head = _do_get

    def _do_put(self, request, body):
        etag = self._etag(body)
        with self.lock:
            self._check_create_once(request)
            one = Object(body, etag, self.now(), self._kept_headers(request),
                         next(self.generations))
            self._set(request.key, one)
        return 200, {"ETag": etag, **self._generation(one)}, b""

    def _generation(self, one):
        return {"x-goog-generation": str(one.generation)} if self.dialect == "gcs" else {}

    def _copied(self, request):
        name = "x-amz-copy-source" if self.dialect == "s3" else "x-goog-copy-source"
        bucket, _, key = unquote(request.headers[name]).removeprefix("/").partition("/")
        one = self.objects.get(key) if bucket == self.bucket else None
        if one is None:
            raise Refusal(404, "NoSuchKey", "the specified key does not exist", Key=key)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)",
                              request.headers.get(f"{name}-range", ""))
        if wanted is None:
            return one.content
        return memoryview(one.content)[int(wanted.group(1)):int(wanted.group(2)) + 1]

    def _do_copy(self, request, _body):
        with self.lock:
            content = self._copied(request)
            self.put(request.key, content, **self._kept_headers(request))
            one = self.objects[request.key]
        return self._document("CopyObjectResult", [
            ("LastModified", documents.iso_time(one.modified)), ("ETag", one.etag)])

    def _do_delete(self, request, _body):
        with self.lock:
            self._unset(request.key)
        return 204, {}, b""

    def _do_delete_many(self, request, body):
        if self.dialect == "gcs":
            raise Refusal(501, "NotImplemented", "there is no multi-object delete")
        if not {"content-md5", "x-amz-checksum-sha256", "x-amz-checksum-crc32"} \
                & set(request.headers):
            raise self.mistake(400, "InvalidRequest", "missing required header: Content-MD5")
        keys = [element.text for element in ElementTree.fromstring(body).iter()
                if element.tag.rpartition("}")[2] == "Key"]
        if len(keys) > 1000:
            raise self.mistake(400, "MalformedXML", "more than 1000 keys")
        with self.lock:
            for key in keys:
                self._unset(key)
        return self._document("DeleteResult", [("Deleted", [("Key", key)]) for key in keys])

    # ---- multipart uploads

    def _upload(self, request):
        upload = self.uploads.get(request.parameters["uploadId"])
        if upload is None or upload.key != request.key:
            raise Refusal(404, "NoSuchUpload", "the specified upload does not exist",
                          UploadId=request.parameters["uploadId"])
        return upload

    def _do_create(self, request, body):
        if body:
            raise self.mistake(400, "InvalidRequest", "the body of a create must be empty")
        upload_id = secrets.token_urlsafe(24)
        with self.lock:
            if self.dialect == "gcs":
                self._check_create_once(request)
            self.uploads[upload_id] = Upload(request.key, self.now(), self._kept_headers(request))
        return self._document("InitiateMultipartUploadResult", [
            ("Bucket", self.bucket), ("Key", request.key), ("UploadId", upload_id)])

    def _part_number(self, request):
        number = request.parameters["partNumber"]
        if not number.isdigit() or not 1 <= int(number) <= 10_000:
            raise self.mistake(400, "InvalidArgument", f"part number {number}")
        return int(number)

    def _do_part(self, request, body):
        number, etag = self._part_number(request), self._etag(body)
        with self.lock:
            self._upload(request).parts[number] = Object(body, etag, self.now())
        return 200, {"ETag": etag}, b""

    def _do_part_copy(self, request, _body):
        number = self._part_number(request)
        with self.lock:
            content = self._copied(request)
            part = Object(content, self._etag(content), self.now())
            self._upload(request).parts[number] = part
        return self._document("CopyPartResult", [
            ("LastModified", documents.iso_time(part.modified)), ("ETag", part.etag)])

    def _do_complete(self, request, body):
        wanted = []
        for element in ElementTree.fromstring(body):
            part = {child.tag.rpartition("}")[2]: child.text for child in element}
            wanted.append((int(part["PartNumber"]), part["ETag"].strip('"')))
        if not wanted:
            raise self.mistake(400, "MalformedXML", "a completion without parts")
        with self.lock:
            upload = self._upload(request)
            self._check_create_once(request)
            parts = self._check_parts(upload, wanted)
            # Joined under the lock: whoever completes the same upload at the same time waits.
            content = b"".join(part.content for part in parts)
            marks = b"".join(bytes.fromhex(part.etag.strip('"')) for part in parts)
            etag = self._etag(marks)[:-1] + f'-{len(parts)}"'
            one = Object(content, etag, self.now(), upload.headers, next(self.generations))
            self._set(request.key, one)
            del self.uploads[request.parameters["uploadId"]]
        return self._document("CompleteMultipartUploadResult", [
            ("Location", f"{self.url}/{self.bucket}/{request.key}"), ("Bucket", self.bucket),
            ("Key", request.key), ("ETag", etag)])

    def _check_parts(self, upload, wanted):
        numbers = [number for number, _ in wanted]
        if numbers != sorted(set(numbers)):
            raise self.mistake(400, "InvalidPartOrder", "the parts are not in ascending order")
        parts = []
        for number, etag in wanted:
            part = upload.parts.get(number)
            if part is None or part.etag.strip('"') != etag:
                raise Refusal(400, "InvalidPart", f"part {number} could not be found",
                              PartNumber=number)
            parts.append(part)
        for number, part in zip(numbers, parts[:-1]):
            if len(part.content) < self.part_minimum:
                raise Refusal(400, "EntityTooSmall", "your proposed upload is too small",
                              PartNumber=number, ProposedSize=len(part.content))
        return parts

    def _do_abort(self, request, _body):
        with self.lock:
            self._upload(request)
            del self.uploads[request.parameters["uploadId"]]
        return 204, {}, b""

    def _do_list_parts(self, request, _body):
        after = int(request.parameters.get("part-number-marker", 0))
        most = min(int(request.parameters.get("max-parts", 1000)), self.page_size)
        with self.lock:
            parts = sorted(self._upload(request).parts.items())
        parts = [(number, part) for number, part in parts if number > after]
        page = parts[:most]
        return self._document("ListPartsResult", [
            ("Bucket", self.bucket), ("Key", request.key),
            ("UploadId", request.parameters["uploadId"]), ("MaxParts", most),
            ("NextPartNumberMarker", page[-1][0] if page else 0),
            ("IsTruncated", len(parts) > len(page)),
            *[("Part", [("PartNumber", number), ("ETag", part.etag),
                        ("LastModified", documents.iso_time(part.modified)),
                        ("Size", len(part.content))]) for number, part in page]])

    def _do_list_uploads(self, request, _body):
        given = request.parameters
        prefix, encoding = given.get("prefix", ""), given.get("encoding-type")
        after = (given.get("key-marker", "").encode(), given.get("upload-id-marker", ""))
        most = min(int(given.get("max-uploads", 1000)), self.page_size)
        with self.lock:
            found = sorted((upload.key.encode(), upload_id, upload.started)
                           for upload_id, upload in self.uploads.items()
                           if upload.key.startswith(prefix))
        if after[0]:
            found = [one for one in found if one[0] > after[0]
                     or (one[0] == after[0] and after[1] and one[1] > after[1])]
        page = found[:most]
        more = len(found) > len(page)
        return self._document("ListMultipartUploadsResult", [
            ("Bucket", self.bucket), ("Prefix", documents.key_text(prefix, encoding)),
            ("EncodingType", encoding), ("MaxUploads", most), ("IsTruncated", more),
            *([("NextKeyMarker", documents.key_text(page[-1][0].decode(), encoding)),
               ("NextUploadIdMarker", page[-1][1])] if more else []),
            *[("Upload", [("Key", documents.key_text(key.decode(), encoding)),
                          ("UploadId", upload_id), ("StorageClass", "STANDARD"),
                          ("Initiated", documents.iso_time(started))])
              for key, upload_id, started in page]])

    # ---- the bucket

    def _do_list(self, request, _body):
        given = request.parameters
        second = given.get("list-type") == "2"
        prefix, delimiter = given.get("prefix", ""), given.get("delimiter", "")
        encoding = given.get("encoding-type")
        after = given.get("start-after" if second else "marker", "")
        if "continuation-token" in given:
            after = self._continued(given["continuation-token"])
        most = min(int(given.get("max-keys", 1000)), self.page_size)
        with self.lock:
            entries, last, more = self._page(prefix, delimiter, after, most)
            keys = [(key, self.objects[key]) for key in entries if not isinstance(key, tuple)]
        folders = [key[0] for key in entries if isinstance(key, tuple)]
        token = base64.b64encode(last.encode()).decode()
        return self._document("ListBucketResult", [
            ("Name", self.bucket), ("Prefix", documents.key_text(prefix, encoding)),
            ("MaxKeys", most), ("Delimiter", delimiter or None), ("EncodingType", encoding),
            ("KeyCount", len(entries) if second else None), ("IsTruncated", more),
            ("NextContinuationToken", token if second and more else None),
            ("NextMarker", documents.key_text(last, encoding) if not second and more else None),
            *[("Contents", [("Key", documents.key_text(key, encoding)),
                            ("LastModified", documents.iso_time(one.modified)),
                            ("ETag", one.etag), ("Size", len(one.content)),
                            ("StorageClass", "STANDARD")]) for key, one in keys],
            *[("CommonPrefixes", [("Prefix", documents.key_text(folder, encoding))])
              for folder in folders]])

    def _continued(self, token):
        try:
            return base64.b64decode(token.encode(), validate=True).decode()
        except ValueError:
            raise self.mistake(400, "InvalidArgument", "the continuation token is wrong") from None

    def _page(self, prefix, delimiter, after, most):
        """Keys, and folders as (folder,): the page, its last key or folder, and whether more come."""
        entries, last = [], after
        start = max(prefix.encode(), after.encode())
        at = bisect.bisect_left(self.sorted_keys, start, key=str.encode)
        for key in itertools.islice(self.sorted_keys, at, None):
            if not key.startswith(prefix):
                break
            folder, found, _ = key[len(prefix):].partition(delimiter) if delimiter else ("", "", "")
            name = prefix + folder + delimiter if found else key
            if name.encode() <= last.encode():
                continue
            if len(entries) == most:
                return entries, last, True
            entries.append((name,) if found else name)
            last = name
        return entries, last, False

    def _do_head_bucket(self, _request, _body):
        return 200, {**self._region_header(), "Content-Type": "application/xml"}, b""

    def _do_location(self, _request, _body):
        region = "" if self.region == "us-east-1" else self.region
        return 200, {"Content-Type": "application/xml"}, (
            f'{documents.DECLARATION}<LocationConstraint xmlns="{documents.NAMESPACES["s3"]}">'
            f"{region}</LocationConstraint>").encode()

    def _document(self, name, pairs):
        return 200, {"Content-Type": "application/xml"}, documents.document(
            name, pairs, self.dialect)


def operation_of(request):
    """What a request does. Names that tarn's metrics have, too, are the same."""
    given, copies = request.parameters, f"{request.method} copy" if \
        {"x-amz-copy-source", "x-goog-copy-source"} & set(request.headers) else request.method
    if not request.key:
        wanted = next((name for name in ("uploads", "location", "delete", "versioning", "acl",
                                         "policy", "lifecycle", "versions") if name in given), "")
        return {("GET", ""): "list", ("GET", "uploads"): "list_uploads",
                ("GET", "location"): "location", ("HEAD", ""): "head_bucket",
                ("POST", "delete"): "delete_many"}.get((request.method, wanted), "unknown")
    wanted = "part" if {"partNumber", "uploadId"} <= set(given) else \
        next((name for name in ("uploadId", "uploads", "acl", "tagging") if name in given), "")
    return {("GET", ""): "get", ("HEAD", ""): "head", ("PUT", ""): "put",
            ("PUT copy", ""): "copy", ("PUT", "part"): "part", ("PUT copy", "part"): "part_copy",
            ("POST", "uploads"): "create", ("POST", "uploadId"): "complete",
            ("DELETE", "uploadId"): "abort", ("DELETE", ""): "delete",
            ("GET", "uploadId"): "list_parts"}.get((copies, wanted), "unknown")
