"""A registry that takes pushes, and fails as a test says."""

import http.server
import json
import re
import socket
import struct
import threading
import uuid

from kit.content import digest_of


class PushRegistry:
    """
    Keeps blobs and manifests in memory. `faults` is a list of (phase, fault): the next request of
    that phase (POST, PATCH, GET, PUT, HEAD, MANIFEST) has the fault, which is a status, "cut" (the
    connection is reset in the middle of the body), "lost" (all is done, and then the connection is
    reset), "half" (half of the bytes are taken) or "silent" (no Location in the answer).
    """

    def __init__(self, one_patch=False, no_chunked=False, no_range=False):
        self.one_patch, self.no_chunked, self.no_range = one_patch, no_chunked, no_range
        self.blobs, self.manifests, self.uploads = {}, {}, {}
        self.faults, self.requests = [], []
        self.taken = 0                   # bytes of blobs that came in
        self.arrived = threading.Condition()
        registry = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_POST(self):
                registry.answer(self)

            do_PATCH = do_PUT = do_GET = do_HEAD = do_DELETE = do_POST

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def asked(self, method):
        return [one for one in self.requests if one[0] == method]

    # ---- one request

    def pieces(self, handler):
        """The body as it comes."""
        if handler.headers.get("Transfer-Encoding") == "chunked":
            while size := int(handler.rfile.readline(), 16):
                left = size
                while left:
                    piece = handler.rfile.read1(min(left, 65536))
                    left -= len(piece)
                    yield piece
                handler.rfile.readline()
            handler.rfile.readline()
            return
        left = int(handler.headers.get("Content-Length") or 0)
        while left:
            piece = handler.rfile.read1(min(left, 65536))
            if not piece:
                raise ConnectionError
            left -= len(piece)
            yield piece

    @staticmethod
    def reset(handler):
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.close()
        handler.close_connection = True

    def reply(self, handler, status, headers=None, body=b""):
        handler.send_response(status)
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)

    def refuse(self, handler, status, code="UNKNOWN"):
        handler.close_connection = True
        self.reply(handler, status, {"Connection": "close", "Retry-After": "1"} if status == 429
                   else {"Connection": "close"},
                   json.dumps({"errors": [{"code": code, "message": "scripted"}]}).encode())

    def fault(self, phase):
        for at, (where, fault) in enumerate(self.faults):
            if where == phase:
                del self.faults[at]
                return fault
        return None

    def answer(self, handler):
        try:
            self.requests.append((handler.command, handler.path, dict(handler.headers)))
            path, _, query = handler.path.partition("?")
            upload = re.fullmatch(r"/v2/.+/blobs/uploads/(.*)", path)
            if upload:
                getattr(self, "upload_" + handler.command.lower())(handler, upload[1], query)
            else:
                self.content(handler, path)
        except (ConnectionError, ValueError):
            handler.close_connection = True

    def content(self, handler, path):
        kind, _, name = path.rpartition("/")
        manifests = kind.endswith("/manifests")
        if handler.command == "PUT":
            body = b"".join(self.pieces(handler))
            fault = self.fault("MANIFEST")
            if isinstance(fault, int):
                return self.refuse(handler, fault, "TAG_INVALID")
            self.manifests[name] = self.manifests[digest_of(body)] = body
            if fault:
                return self.reset(handler)
            return self.reply(handler, 201, {"Docker-Content-Digest": digest_of(body)})
        fault = self.fault("HEAD")
        if fault:
            return self.refuse(handler, fault)
        held = (self.manifests if manifests else self.blobs).get(name)
        if held is None:
            return self.refuse(handler, 404, "MANIFEST_UNKNOWN" if manifests else "BLOB_UNKNOWN")
        headers = {"Docker-Content-Digest": digest_of(held)}
        if manifests:
            headers["Content-Type"] = "application/vnd.oci.image.manifest.v1+json"
        return self.reply(handler, 200, headers, held)

    def place(self, name, path):
        last = max(len(self.uploads[name][0]) - 1, 0)
        start = path.partition("/uploads/")[0]
        return {"Location": f"{start}/uploads/{name}?state=1", "Range": f"0-{last}"}

    def upload_post(self, handler, _, query):
        fault = self.fault("POST")
        list(self.pieces(handler))
        if isinstance(fault, int):
            return self.refuse(handler, fault)
        if fault:
            return self.reset(handler)
        name = uuid.uuid4().hex
        self.uploads[name] = [bytearray(), 0]
        return self.reply(handler, 202, self.place(name, handler.path.partition("?")[0]))

    def upload_patch(self, handler, name, _):
        fault, upload = self.fault("PATCH"), self.uploads.get(name)
        if isinstance(fault, int):
            return self.refuse(handler, fault)
        if upload is None:
            return self.refuse(handler, 404, "BLOB_UPLOAD_UNKNOWN")
        held, patches = upload
        ranged = handler.headers.get("Content-Range")
        if self.no_chunked and "Transfer-Encoding" in handler.headers:
            return self.refuse(handler, 411)
        if (self.one_patch and patches) or (self.no_range and ranged):
            return self.refuse(handler, 400)
        if ranged and int(ranged.partition("-")[0]) != len(held):
            return self.refuse(handler, 416)
        upload[1] += 1
        came = 0
        for piece in self.pieces(handler):
            came += len(piece)
            with self.arrived:
                self.taken += len(piece)
                self.arrived.notify_all()
            if fault == "cut" and came > 50000:
                return self.reset(handler)
            held += piece
        if fault == "cut":
            return self.reset(handler)
        if fault == "half":
            del held[len(held) - came // 2:]
        if fault == "lost":
            return self.reset(handler)
        headers = self.place(name, handler.path.partition("?")[0])
        if fault == "silent":
            del headers["Location"]
        return self.reply(handler, 202, headers)

    def upload_get(self, handler, name, _):
        fault = self.fault("GET")
        if isinstance(fault, int) or name not in self.uploads:
            return self.refuse(handler, fault or 404, "BLOB_UPLOAD_UNKNOWN")
        return self.reply(handler, 204, self.place(name, handler.path.partition("?")[0]))

    def upload_delete(self, handler, name, _):
        self.uploads.pop(name, None)
        self.reply(handler, 204)

    def upload_put(self, handler, name, query):
        fault = self.fault("PUT")
        body = b"".join(self.pieces(handler))
        if isinstance(fault, int):
            return self.refuse(handler, fault)
        if name not in self.uploads:
            return self.refuse(handler, 404, "BLOB_UPLOAD_UNKNOWN")
        content = bytes(self.uploads.pop(name)[0]) + body
        digest = re.search(r"digest=([^&]+)", query)[1].replace("%3A", ":")
        if digest_of(content) != digest:
            return self.refuse(handler, 400, "DIGEST_INVALID")
        self.blobs[digest] = content
        if fault:
            return self.reset(handler)
        return self.reply(handler, 201, {"Docker-Content-Digest": digest})
