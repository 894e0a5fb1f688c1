"""
Google's endpoints on loopback, as strict as Google: metadata server, OAuth token endpoint with real
signature verification, STS, IAM Credentials, and Artifact Registry with its token endpoint. They
refuse what Google refuses, with Google's messages as far as they are known.
"""

import base64
import hashlib
import json
import secrets
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from kit.relay import relay

CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
FLAVOR = {"Metadata-Flavor": "Google"}
GRANT = "urn:ietf:params:oauth:grant-type:"
TYPE = "urn:ietf:params:oauth:token-type:"
AUDIENCE = ("//iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/pool/"
            "providers/cluster")
WORKFORCE = "//iam.googleapis.com/locations/global/workforcePools/pool/providers/provider"
METADATA = "/computeMetadata/v1/instance/service-accounts/default/"
STOP_POLL = 0.02  # seconds between two checks whether to stop; the default would cost each test 0.5 s


class Refused(Exception):
    """A response other than 200."""

    def __init__(self, status, body, headers=None):
        super().__init__(body)
        self.status, self.body, self.headers = status, body, headers or {}


def oauth_error(status, error, description):
    return Refused(status, {"error": error, "error_description": description})


def api_error(status, name, message):
    return Refused(status, {"error": {"code": status, "status": name, "message": message}})


def oci_error(status, code, message, headers=None):
    return Refused(status, {"errors": [{"code": code, "message": message}]}, headers)


def unpad(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def openssl(*arguments, check=True):
    return subprocess.run(["openssl", *arguments], capture_output=True, check=check)


class Key:
    """A service account's RSA key."""

    def __init__(self, folder, name="1"):
        self.key_id = name
        private, self.public = folder / f"{name}.pem", folder / f"{name}.pub"
        openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out",
                str(private))
        openssl("pkey", "-in", str(private), "-pubout", "-out", str(self.public))
        self.pem = private.read_text()

    def verifies(self, signed, signature):
        with tempfile.NamedTemporaryFile() as message, tempfile.NamedTemporaryFile() as mark:
            message.write(signed)
            message.flush()
            mark.write(signature)
            mark.flush()
            return openssl("dgst", "-sha256", "-verify", str(self.public), "-signature",
                           mark.name, message.name, check=False).returncode == 0


class Google:
    """The state of all services. Tests set its attributes."""

    def __init__(self, key):
        self.lock = threading.Lock()
        self.requests = []            # (kind, detail) of each request
        self.key = key
        self.account = "robot@project.iam.gserviceaccount.com"
        self.node = "node@project.iam.gserviceaccount.com"
        self.refresh_tokens = {"1//refresh-of-the-person": "person@example.com"}
        self.client = ("client-id", "client-secret-xyz")
        self.subjects = {}            # subject token -> subject
        self.may_act_as = {}          # account -> who may get its tokens
        self.access = {}              # access token -> (who, end, scopes)
        self.readers = None           # accounts that may read; None: all with a token
        self.public = False
        self.tokens_for_all = None    # status of a private manifest with an anonymous token
        self.registry_tokens = {}     # token -> (repository, end)
        self.lifetime = 3599
        self.registry_lifetime = None  # sent as expires_in
        self.clock_offset = 0         # seconds that Google's clock is ahead of ours
        self.fail = {}                # kind -> list of Refused to send first
        self.delay = {}               # kind -> seconds
        self.metadata_account = True  # False: 404 on the token path
        self.images = {}              # (repository, reference) -> (type, bytes)
        self.blobs = {}               # digest -> bytes
        self.downloads = {}           # opaque -> digest
        self.problems = []            # mistakes of clients
        self.more_servers = []
        server = Server(("127.0.0.1", 0), type("Handler", (Handler,), {"google": self}))
        self.server, self.port = server, server.server_port
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.host}"
        self.services = {"us-docker.pkg.dev", self.host}
        threading.Thread(target=server.serve_forever, args=(STOP_POLL,), daemon=True).start()

    def stop(self):
        for server in (self.server, *self.more_servers):
            server.shutdown()
            server.server_close()

    # ---- for tests

    def listen_at(self, host, port):
        """Serves at this address, too."""
        server = Server((host, port), type("Handler", (Handler,), {"google": self}))
        self.more_servers.append(server)
        threading.Thread(target=server.serve_forever, args=(STOP_POLL,), daemon=True).start()

    def now(self):
        return time.time() + self.clock_offset

    def count(self, kind):
        with self.lock:
            return sum(1 for one, _ in self.requests if one == kind)

    def last(self, kind):
        with self.lock:
            return [detail for one, detail in self.requests if one == kind][-1]

    def all_secrets(self):
        """Everything that must not be in a log, an error or a page."""
        with self.lock:
            return [*self.access, *self.registry_tokens, *self.refresh_tokens, *self.subjects,
                    self.client[1], "".join(self.key.pem.split("\n")[1:3])]

    def revoke_access(self):
        with self.lock:
            self.access.clear()

    def revoke_registry_tokens(self):
        with self.lock:
            self.registry_tokens.clear()

    def add_image(self, repository, tag, config, layers):
        def blob(content, media_type):
            digest = "sha256:" + hashlib.sha256(content).hexdigest()
            self.blobs[digest] = content
            return {"mediaType": media_type, "size": len(content), "digest": digest}

        media_type = "application/vnd.oci.image.manifest.v1+json"
        content = json.dumps({
            "schemaVersion": 2, "mediaType": media_type,
            "config": blob(config, "application/vnd.oci.image.config.v1+json"),
            "layers": [blob(layer, "application/vnd.oci.image.layer.v1.tar") for layer in layers],
        }).encode()
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        self.images[repository, tag] = self.images[repository, digest] = (media_type, content)
        return digest

    # ---- credential files

    def service_account(self, **more):
        return {"type": "service_account", "project_id": "project", "private_key_id":
                self.key.key_id, "private_key": self.key.pem, "client_email": self.account,
                "client_id": "1", "token_uri": f"{self.url}/token", **more}

    def authorized_user(self, **more):
        return {"type": "authorized_user", "client_id": self.client[0], "client_secret":
                self.client[1], "refresh_token": next(iter(self.refresh_tokens)),
                "token_uri": f"{self.url}/token", **more}

    def workforce_user(self, **more):
        return {"type": "external_account_authorized_user", "audience": WORKFORCE,
                "client_id": self.client[0], "client_secret": self.client[1], "refresh_token":
                next(iter(self.refresh_tokens)), "token_url": f"{self.url}/v1/oauthtoken",
                "token_info_url": f"{self.url}/v1/introspect", **more}

    def external_account(self, source, account=None, **more):
        if account:
            more["service_account_impersonation_url"] = self.impersonation_url(account)
        return {"type": "external_account", "audience": AUDIENCE, "subject_token_type":
                TYPE + "jwt", "token_url": f"{self.url}/v1/token", "credential_source": source,
                **more}

    def impersonated(self, account, source, **more):
        return {"type": "impersonated_service_account", "service_account_impersonation_url":
                self.impersonation_url(account), "source_credentials": source, **more}

    def impersonation_url(self, account):
        return f"{self.url}/v1/projects/-/serviceAccounts/{account}:generateAccessToken"

    # ---- tokens

    def give_access(self, who, scopes, lifetime=None):
        token = "ya29." + secrets.token_urlsafe(40) + "......"
        with self.lock:
            self.access[token] = (who, time.time() + (lifetime or self.lifetime), scopes)
        return token

    def holder(self, token):
        with self.lock:
            who, end, scopes = self.access.get(token, (None, 0, []))
        return (who, scopes) if time.time() < end else (None, [])

    # ---- the metadata server

    def metadata(self, request):
        if request.headers.get("Metadata-Flavor") != "Google":
            raise Refused(403, "<html>Forbidden: Missing Metadata-Flavor:Google header.</html>",
                          FLAVOR)
        if "X-Forwarded-For" in request.headers or "Via" in request.headers:
            raise Refused(403, "<html>through a proxy</html>", FLAVOR)
        path, query = request.path_only, request.query
        if path == "/":
            return "computeMetadata/\n", FLAVOR
        if not self.metadata_account:
            raise Refused(404, "The requested URL was not found on this server.", FLAVOR)
        if path == METADATA + "email":
            return self.node, FLAVOR
        if path != METADATA + "token":
            raise Refused(404, "not found", FLAVOR)
        scopes = query.get("scopes", [CLOUD_PLATFORM])[0].split(",")
        return {"access_token": self.give_access(self.node, scopes), "expires_in": self.lifetime,
                "token_type": "Bearer"}, FLAVOR

    # ---- OAuth

    def oauth(self, request):
        form = request.form
        if form.get("grant_type") == GRANT + "jwt-bearer":
            who, scopes = self.check_assertion(form.get("assertion", ""))
        elif form.get("grant_type") == "refresh_token":
            if (form.get("client_id"), form.get("client_secret")) != self.client:
                raise oauth_error(401, "invalid_client", "The OAuth client was not found.")
            who = self.refresh_tokens.get(form.get("refresh_token"))
            if not who:
                raise oauth_error(400, "invalid_grant", "Token has been expired or revoked.")
            scopes = [CLOUD_PLATFORM]
        else:
            raise oauth_error(400, "unsupported_grant_type", "Invalid grant_type")
        return {"access_token": self.give_access(who, scopes), "expires_in": self.lifetime,
                "token_type": "Bearer"}, {}

    def workforce(self, request):
        pair = base64.b64encode(":".join(self.client).encode()).decode()
        if request.headers.get("Authorization") != f"Basic {pair}" or "client_id" in request.form:
            raise oauth_error(401, "invalid_client", "The OAuth client was not found.")
        if request.form.get("grant_type") != "refresh_token":
            raise oauth_error(400, "unsupported_grant_type", "Invalid grant_type")
        who = self.refresh_tokens.get(request.form.get("refresh_token"))
        if not who:
            raise oauth_error(400, "invalid_grant", "Token has been expired or revoked.")
        return {"access_token": self.give_access(who, [CLOUD_PLATFORM]), "expires_in":
                self.lifetime, "token_type": "Bearer", "refresh_token": "1//the-next"}, {}

    def check_assertion(self, assertion):
        try:
            header, claims, signature = assertion.split(".")
            head, body = json.loads(unpad(header)), json.loads(unpad(claims))
        except ValueError as error:
            raise oauth_error(400, "invalid_grant", "Bad Request") from error
        if "=" in assertion or head.get("alg") != "RS256" or head.get("typ") != "JWT":
            raise oauth_error(400, "invalid_grant", "Bad JWT header")
        if body.get("iss") != self.account:
            raise oauth_error(400, "invalid_grant", "Invalid grant: account not found")
        if head.get("kid") != self.key.key_id or not self.key.verifies(
                f"{header}.{claims}".encode(), unpad(signature)):
            raise oauth_error(400, "invalid_grant", "Invalid JWT Signature.")
        now = self.now()
        if not (body["iat"] <= now < body["exp"] and 0 < body["exp"] - body["iat"] <= 3600):
            raise oauth_error(400, "invalid_grant",
                              "Invalid JWT: Token must be a short-lived token (60 minutes) and in "
                              "a reasonable timeframe. Check your iat and exp values in the JWT "
                              "claim.")
        if body.get("aud") != f"{self.url}/token":
            raise oauth_error(400, "invalid_grant", "Invalid JWT: Failed audience check.")
        if not body.get("scope"):
            raise oauth_error(400, "invalid_scope", "Invalid OAuth scope or ID token audience "
                              "provided.")
        return self.account, body["scope"].split(" ")

    # ---- STS and IAM Credentials

    def sts(self, request):
        form = request.form
        if form.get("grant_type") != GRANT + "token-exchange" or \
                form.get("requested_token_type") != TYPE + "access_token":
            raise oauth_error(400, "invalid_request", "Invalid grant_type")
        if form.get("audience") != AUDIENCE:
            raise oauth_error(400, "invalid_target", "The target service indicated by the "
                              '"audience" parameters is invalid.')
        if form.get("subject_token_type") not in (TYPE + "jwt", TYPE + "id_token", TYPE + "saml2"):
            raise oauth_error(400, "invalid_request", "Invalid subject token type")
        if not form.get("scope"):
            raise oauth_error(400, "invalid_request", "Missing required parameter: scope")
        who = self.subjects.get(form.get("subject_token"))
        if not who:  # a careless service that repeats the token in its message
            raise oauth_error(400, "invalid_grant", "Unable to parse the ID Token "
                              + form.get("subject_token", ""))
        return {"access_token": self.give_access(who, form["scope"].split(" ")),
                "issued_token_type": TYPE + "access_token", "token_type": "Bearer",
                "expires_in": self.lifetime}, {}

    def generate_access_token(self, request):
        account = request.path_only.rpartition("/")[2].partition(":")[0]
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        who, scopes = self.holder(token) if scheme == "Bearer" else (None, [])
        if not who:
            raise api_error(401, "UNAUTHENTICATED", "Request had invalid authentication "
                            "credentials.")
        if CLOUD_PLATFORM not in scopes:
            raise api_error(403, "PERMISSION_DENIED",
                            "Request had insufficient authentication scopes. "
                            "(ACCESS_TOKEN_SCOPE_INSUFFICIENT)")
        asked = json.loads(request.body)
        chain = [who, *(one.rpartition("/")[2] for one in asked.get("delegates", [])), account]
        for actor, target in zip(chain, chain[1:]):
            if actor not in self.may_act_as.get(target, ()):
                raise api_error(403, "PERMISSION_DENIED", "Permission "
                                "'iam.serviceAccounts.getAccessToken' denied on resource (or it "
                                "may not exist).")
        lifetime = int(asked.get("lifetime", "3600s").rstrip("s"))
        if not 0 < lifetime <= 3600:
            raise api_error(400, "INVALID_ARGUMENT", "The lifetime is too long.")
        if not asked.get("scope"):
            raise api_error(400, "INVALID_ARGUMENT", "Scopes are required.")
        lifetime = min(lifetime, self.lifetime)
        end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.now() + lifetime))
        return {"accessToken": self.give_access(account, asked["scope"], lifetime),
                "expireTime": end}, {}

    # ---- Artifact Registry

    def registry_token(self, request):
        scope = request.query.get("scope", [""])[0]
        # skopeo and podman omit it when the challenge omits it, but a wrong one is a mistake.
        if request.query.get("service", [self.host])[0] not in self.services:
            raise oci_error(400, "UNSUPPORTED", "no such service")
        kind, _, rest = scope.partition(":")
        repository, _, actions = rest.rpartition(":")
        if kind != "repository" or actions != "pull" or repository.count("/") < 2:
            raise oci_error(400, "NAME_INVALID", f"bad scope {scope}")
        who = self.basic_holder(request)
        if not who and not self.public and not self.tokens_for_all:
            raise oci_error(403, "DENIED", "Unauthenticated request. Unauthenticated requests do "
                            "not have permission \"artifactregistry.repositories."
                            "downloadArtifacts\"")
        if who and self.readers is not None and who not in self.readers:
            raise oci_error(403, "DENIED", "Permission \"artifactregistry.repositories."
                            "downloadArtifacts\" denied on resource \"projects/p\" (or it may not "
                            "exist)")
        token = secrets.token_urlsafe(60)
        with self.lock:
            opens = repository if who or self.public else None
            self.registry_tokens[token] = (opens, time.time() + (self.registry_lifetime or 3600))
        answer = {"token": token}
        if self.registry_lifetime:
            answer["expires_in"] = self.registry_lifetime
        return answer, {}

    def basic_holder(self, request):
        """The user of the Basic credentials; None without any; 401 for wrong ones."""
        scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
        if not scheme:
            return None
        username, _, password = base64.b64decode(encoded).decode().partition(":")
        if username == "_json_key":
            who = json.loads(password).get("client_email")
        elif username == "_json_key_base64":
            who = json.loads(base64.b64decode(password)).get("client_email")
        elif username == "oauth2accesstoken":
            who, _ = self.holder(password)
        else:
            who = None
        if scheme != "Basic" or not who:
            raise oci_error(401, "UNAUTHORIZED", "authentication failed")
        return who

    def registry(self, request):
        path = request.path_only
        challenge = {"WWW-Authenticate": f'Bearer realm="{request.base}/v2/token"'}
        authorization = request.headers.get("Authorization", "")
        if path == "/v2/":
            if authorization.startswith("Basic ") and self.basic_holder(request):
                return {}, {}
            raise oci_error(401, "UNAUTHORIZED", "No valid credential was supplied.", challenge)
        what = "/manifests/" if "/manifests/" in path else "/blobs/"
        repository, found, reference = path[len("/v2/"):].rpartition(what)
        if not found:
            raise Refused(404, "not found")
        if authorization.startswith("Basic "):
            self.problems.append(f"a Google token went to {path}")
        token = authorization.partition(" ")[2]
        with self.lock:
            allowed, end = self.registry_tokens.get(token, (None, 0))
        if self.tokens_for_all and end and not allowed:
            raise oci_error(self.tokens_for_all, "DENIED", "Unauthenticated request.",
                            challenge if self.tokens_for_all == 401 else None)
        if allowed != repository or time.time() >= end:
            raise oci_error(401, "UNAUTHORIZED", "No valid credential was supplied.", challenge)
        if what == "/manifests/":
            if (repository, reference) not in self.images:
                raise oci_error(404, "MANIFEST_UNKNOWN", "Failed to fetch the manifest")
            media_type, content = self.images[repository, reference]
            if media_type not in request.headers.get("Accept", ""):
                raise oci_error(404, "MANIFEST_UNKNOWN", "not in an accepted media type")
            digest = "sha256:" + hashlib.sha256(content).hexdigest()
            return content, {"Content-Type": media_type, "Docker-Content-Digest": digest}
        if reference not in self.blobs:
            raise oci_error(404, "BLOB_UNKNOWN", "no such blob")
        opaque = secrets.token_urlsafe(700)
        with self.lock:
            self.downloads[opaque] = reference
        raise Refused(302, "<html>found</html>", {
            "Location": f"/artifacts-downloads/namespaces/p/repositories/r/downloads/{opaque}",
            "Docker-Distribution-Api-Version": "registry/2.0"})

    def download(self, request):
        if request.headers.get("Authorization", "").startswith("Basic "):
            self.problems.append("a Google token went along a redirect")
        digest = self.downloads.get(request.path_only.rpartition("/")[2])
        if not digest:
            raise Refused(404, "gone")
        return self.blobs[digest], {"Content-Type": "application/octet-stream"}


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """Does not print an error when a client leaves during a response."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    google = None
    base = None

    def log_message(self, *arguments):
        pass

    def route(self):
        google, path, method = self.google, self.path_only, self.command
        if method == "GET" and (path == "/" or path.startswith("/computeMetadata/")):
            return "metadata", google.metadata
        if method == "GET" and path == "/v2/token":
            return "registry token", google.registry_token
        if method in ("GET", "HEAD") and path.startswith("/v2/"):
            kind = "manifest" if "/manifests/" in path else "blob" if "/blobs/" in path else "ping"
            return kind, google.registry
        if method in ("GET", "HEAD") and path.startswith("/artifacts-downloads/"):
            return "download", google.download
        if method == "POST" and path == "/token":
            return "oauth", google.oauth
        if method == "POST" and path == "/v1/oauthtoken":
            return "workforce", google.workforce
        if method == "POST" and path == "/v1/token":
            return "sts", google.sts
        if method == "POST" and path.endswith(":generateAccessToken"):
            return "iam", google.generate_access_token
        if method == "GET" and path == "/subject":
            return "subject", self.subject
        return "unknown", None

    def subject(self, request):
        if request.headers.get("Authorization") != "bearer the-key-of-the-job":
            raise Refused(401, "no")
        return {"value": next(iter(self.google.subjects))}, {}

    def answer(self):
        google = self.google
        parts = urlsplit(self.path)
        self.path_only, self.query = parts.path, parse_qs(parts.query)
        self.base = self.base or google.url
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.form = {name: values[0] for name, values in parse_qs(self.body.decode(
            errors="replace")).items()}
        kind, answer = self.route()
        with google.lock:
            google.requests.append((kind, {"path": self.path, "body": self.body.decode(
                errors="replace"), "headers": dict(self.headers)}))
            waiting = google.fail.get(kind)
            first = waiting.pop(0) if waiting else None
        time.sleep(google.delay.get(kind, 0))
        try:
            if first:
                raise first
            if not answer:
                raise Refused(404, "no such path")
            if kind in ("oauth", "sts") and self.headers.get("Content-Type") != \
                    "application/x-www-form-urlencoded":
                raise oauth_error(400, "invalid_request", "Bad content type")
            body, headers = answer(self)
            self.send(200, body, headers)
        except Refused as refused:
            self.send(refused.status, refused.body, refused.headers)

    def send(self, status, body, headers):
        headers = dict(headers)
        if isinstance(body, dict):
            headers.setdefault("Content-Type", "application/json; charset=UTF-8")
            body = json.dumps(body)
        if isinstance(body, str):
            body = body.encode()
        wanted = self.headers.get("Range", "")
        if status == 200 and wanted.startswith("bytes=") and self.path.startswith("/artifacts"):
            first, _, last = wanted[6:].partition("-")
            first, last = int(first), min(int(last or len(body) - 1), len(body) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
            body, status = body[first:last + 1], 206
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_POST = do_HEAD = answer


class TlsFront:
    """
    A proxy (CONNECT) that connects us-docker.pkg.dev to the emulator over TLS, for clients that
    need real names. It connects no other name.
    """

    HOST = "us-docker.pkg.dev"

    def __init__(self, google, folder):
        self.certificate = folder / "tls.pem"
        key = folder / "tls.key"
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
                f"/CN={self.HOST}", "-addext", f"subjectAltName=DNS:{self.HOST}", "-keyout",
                str(key), "-out", str(self.certificate))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, key)
        self.server = Server(
            ("127.0.0.1", 0), type("TlsHandler", (Handler,),
                                   {"google": google, "base": f"https://{self.HOST}"}))
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True,
                                                 do_handshake_on_connect=False)
        threading.Thread(target=self.server.serve_forever, args=(STOP_POLL,), daemon=True).start()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.proxy = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def stop(self):
        self.listener.close()
        self.server.shutdown()
        self.server.server_close()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.connect, args=(client,), daemon=True).start()

    def connect(self, client):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            got = client.recv(1)
            if not got:
                return
            head += got
        if not head.startswith(f"CONNECT {self.HOST}:443 ".encode()):
            client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            client.close()
            return
        target = socket.create_connection(self.server.server_address)
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        relay(client, target)
