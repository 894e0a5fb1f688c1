"""
AWS's services of credentials on loopback, as strict as AWS: the token service (STS), the service of
a container's credentials, and an instance's metadata service (IMDSv2 only). Every request is
recorded. A test says what goes wrong.
"""

import hashlib
import json
import secrets
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl

ROLE = "arn:aws:iam::123456789012:role/tarn"
XML = "https://sts.amazonaws.com/doc/2011-06-15/"


def time_text(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


class Request:
    """One request as it came."""

    def __init__(self, method, path, headers, body):
        self.method, self.path, self.headers, self.body = method, path, headers, body
        self.form = dict(parse_qsl(body.decode(), keep_blank_values=True))

    def __repr__(self):
        return f"{self.method} {self.path}"


class AwsServices:
    """The services; `life` is how many seconds the credentials live that they give."""

    def __init__(self):
        self.requests, self.given = [], []
        self.lock = threading.Lock()
        self.life = 3600
        self.date_offset = 0     # of the services' clock
        self.answers = []        # (status, headers, body) that come first, one for each request
        self.before = None       # called before each answer
        self.on_made = None      # called with each credentials that are given
        self.web_tokens = {"web-token-1"}
        self.container_token = None
        self.instance_tokens = set()
        self.instance_role = "tarn-node"
        self.instance_document = None  # in place of its credentials
        self.region = "eu-north-1"
        self.known = {}          # key id: (secret, session token), which sign AssumeRole
        services = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def date_time_string(self, timestamp=None):
                return formatdate(time.time() + services.date_offset, usegmt=True)

            def answer(self):
                length = int(self.headers.get("Content-Length", 0))
                request = Request(self.command, self.path, self.headers, self.rfile.read(length))
                status, headers, body = services.take(request)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                try:
                    self.end_headers()
                    self.wfile.write(body)
                except ConnectionError:
                    pass  # who asked waits no longer

            do_GET = do_PUT = do_POST = answer

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def paths(self):
        return [repr(request) for request in self.requests]

    def count(self, word):
        """Requests whose path or form has the word."""
        return sum(word in request.path or word in request.form.values()
                   for request in self.requests)

    # ---- answers ----

    def take(self, request):
        with self.lock:
            self.requests.append(request)
            scripted = self.answers.pop(0) if self.answers else None
        if self.before:
            self.before(request)
        if scripted:
            return scripted
        if request.method == "POST" and request.path == "/":
            return self.token_service(request)
        if request.path.startswith("/latest/"):
            return self.instance(request)
        if request.method == "GET" and request.path.startswith("/v1/credentials"):
            return self.container(request)
        return 404, {}, b"no such thing"

    def make(self):
        """New credentials, and when they end."""
        number = len(self.given) + 1
        made = {"AccessKeyId": f"ASIA{number:04}{secrets.token_hex(4).upper()}",
                "SecretAccessKey": "secret/" + secrets.token_urlsafe(24),
                "Token": "session+" + secrets.token_urlsafe(32),
                "Expiration": time_text(time.time() + self.date_offset + self.life)}
        self.given.append(made)
        if self.on_made:
            self.on_made(made)
        self.known[made["AccessKeyId"]] = (made["SecretAccessKey"], made["Token"])
        return made

    def all_secrets(self):
        return [made[name] for made in self.given for name in ("SecretAccessKey", "Token")] + \
            [secret for pair in self.known.values() for secret in pair if secret] + \
            sorted(self.web_tokens) + sorted(self.instance_tokens) + \
            ([self.container_token] if self.container_token else [])

    # ---- the token service ----

    @staticmethod
    def sts_error(status, code, message):
        body = (f'<ErrorResponse xmlns="{XML}"><Error><Type>Sender</Type><Code>{code}</Code>'
                f"<Message>{message}</Message></Error><RequestId>1</RequestId></ErrorResponse>")
        return status, {"Content-Type": "text/xml"}, body.encode()

    def token_service(self, request):
        form = request.form
        if request.headers.get("Content-Type", "").split(";")[0] != \
                "application/x-www-form-urlencoded":
            return self.sts_error(400, "InvalidAction", "not a form")
        if form.get("Version") != "2011-06-15" or not form.get("RoleSessionName"):
            return self.sts_error(400, "MissingParameter", "Version or RoleSessionName")
        action = form.get("Action")
        if action == "AssumeRoleWithWebIdentity":
            if request.headers.get("Authorization"):
                return self.sts_error(400, "InvalidRequest", "it must not be signed")
            if form.get("WebIdentityToken") not in self.web_tokens:
                return self.sts_error(400, "InvalidIdentityToken",
                                      f"not valid: {form.get('WebIdentityToken')}")
        elif action == "AssumeRole":
            refusal = self.check_signature(request)
            if refusal:
                return self.sts_error(403, *refusal)
        else:
            return self.sts_error(400, "InvalidAction", str(action))
        if not form.get("RoleArn", "").startswith("arn:aws:iam::"):
            return self.sts_error(403, "AccessDenied",
                                  f"not authorized to perform: sts:{action}")
        made = self.make()
        body = (f'<{action}Response xmlns="{XML}">\n <{action}Result>\n  <Credentials>\n'
                f"   <AccessKeyId>{made['AccessKeyId']}</AccessKeyId>\n"
                f"   <SecretAccessKey>{made['SecretAccessKey']}</SecretAccessKey>\n"
                f"   <SessionToken>{made['Token']}</SessionToken>\n"
                f"   <Expiration>{made['Expiration']}</Expiration>\n  </Credentials>\n"
                f" </{action}Result>\n</{action}Response>\n")
        return 200, {"Content-Type": "text/xml"}, body.encode()

    def check_signature(self, request):
        """None, or the code and the sentence of a refusal; botocore's signer is the judge."""
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials
        given = request.headers.get("Authorization", "")
        scope = given.partition("Credential=")[2].partition(",")[0].split("/")
        if len(scope) != 5 or scope[0] not in self.known:
            return "InvalidClientTokenId", "The security token included in the request is invalid."
        secret, token = self.known[scope[0]]
        if (token or None) != request.headers.get("X-Amz-Security-Token"):
            return "InvalidClientTokenId", "session token"
        stamp = request.headers.get("X-Amz-Date", "")
        try:
            sent = time.mktime(time.strptime(stamp + "+0000", "%Y%m%dT%H%M%SZ%z")) - time.timezone
        except ValueError:
            return "IncompleteSignature", "X-Amz-Date"
        if abs(sent - time.time() - self.date_offset) > 900:
            return "SignatureDoesNotMatch", "Signature expired"
        signed = given.partition("SignedHeaders=")[2].partition(",")[0].split(";")
        if not {"host", "x-amz-date", "content-type"} <= set(signed):
            return "SignatureDoesNotMatch", "a field is not signed"
        one = AWSRequest(method="POST", url=f"http://{request.headers['Host']}/",
                         data=request.body,
                         headers={name: request.headers[name] for name in signed if name != "host"})
        one.context["timestamp"] = stamp
        signer = SigV4Auth(Credentials(scope[0], secret, token), scope[3], scope[2])
        canonical = signer.canonical_request(one)
        wanted = signer.signature(signer.string_to_sign(one, canonical), one)
        if given.partition("Signature=")[2] != wanted:
            return "SignatureDoesNotMatch", \
                f"not as calculated {hashlib.sha256(canonical.encode()).hexdigest()}"
        return None

    # ---- container and instance ----

    def container(self, request):
        if self.container_token and request.headers.get("Authorization") != self.container_token:
            body = {"code": "AccessDeniedException",
                    "message": f"token {request.headers.get('Authorization')} is not known"}
            return 403, {}, json.dumps(body).encode()
        return 200, {"Content-Type": "application/json"}, \
            json.dumps({**self.make(), "RoleArn": ROLE}).encode()

    def instance(self, request):
        path = request.path.removeprefix("/latest/")
        if path == "api/token":
            if request.method != "PUT" or \
                    not request.headers.get("X-aws-ec2-metadata-token-ttl-seconds"):
                return 400, {}, b""
            token = secrets.token_urlsafe(32)
            self.instance_tokens.add(token)
            return 200, {}, token.encode()
        if request.headers.get("X-aws-ec2-metadata-token") not in self.instance_tokens:
            return 401, {}, b""
        if path == "meta-data/placement/region":
            return 200, {}, self.region.encode()
        prefix = "meta-data/iam/security-credentials/"
        if not path.startswith(prefix) or not self.instance_role:
            return 404, {}, b""
        if path == prefix:
            return 200, {}, self.instance_role.encode()
        if path != prefix + self.instance_role:
            return 404, {}, b""
        document = self.instance_document or {"Code": "Success", "Type": "AWS-HMAC",
                                              "LastUpdated": time_text(time.time()), **self.make()}
        return 200, {}, json.dumps(document).encode()
