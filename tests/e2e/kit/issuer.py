"""Issues tokens to tarn's clients, as the token service of a registry does."""

import base64
import http.server
import json
import subprocess
import threading
import time
from urllib.parse import parse_qs, urlsplit

from kit.processes import run
from kit.tokens import basic


def url_text(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def raw_signature(der):
    """The two numbers of an ECDSA signature in DER, 32 bytes each."""
    numbers, at = b"", 2
    for _ in range(2):
        length = der[at + 1]
        numbers += der[at + 2:at + 2 + length].lstrip(b"\0").rjust(32, b"\0")
        at += 2 + length
    return numbers


class Issuer:
    """Keys, tokens, and the settings of a tarn that trusts them."""

    def __init__(self, directory, realm="https://auth.test/token"):
        self.directory, self.realm = directory, realm
        self.jwks = directory / "jwks.json"
        self.kinds = {"RS256": self._make_key("rsa.pem", "RSA", "rsa_keygen_bits:2048"),
                      "ES256": self._make_key("ec.pem", "EC", "ec_paramgen_curve:P-256")}
        self.write()

    def _make_key(self, name, algorithm, option):
        path = self.directory / name
        run(["openssl", "genpkey", "-algorithm", algorithm, "-pkeyopt", option, "-out", path])
        return path

    def keys(self):
        modulus = run(["openssl", "rsa", "-in", self.kinds["RS256"], "-noout", "-modulus"]).stdout
        point = subprocess.run(["openssl", "ec", "-in", self.kinds["ES256"], "-pubout", "-outform",
                                "DER"], check=True, capture_output=True).stdout[-64:]
        number = bytes.fromhex(modulus.strip().partition("=")[2])
        return [{"kty": "RSA", "kid": "RS256", "n": url_text(number), "e": "AQAB"},
                {"kty": "EC", "crv": "P-256", "kid": "ES256", "x": url_text(point[:32]),
                 "y": url_text(point[32:])}]

    def write(self, keys=None):
        self.jwks.write_text(json.dumps({"keys": self.keys() if keys is None else keys}))

    @property
    def settings(self):
        return {"realm": self.realm, "service": "tarn.test", "issuer": "auth.test",
                "jwks": str(self.jwks)}

    def token(self, *repositories, kind="RS256", **claims):
        """A token of alice that may pull from these repositories."""
        now = int(time.time())
        access = [{"type": "repository", "name": name, "actions": ["pull"]}
                  for name in repositories]
        claims = {"iss": "auth.test", "aud": "tarn.test", "sub": "alice", "iat": now, "nbf": now,
                  "exp": now + 300, "access": access, **claims}
        text = ".".join(url_text(json.dumps(part).encode()) for part in
                        ({"alg": kind, "kid": kind, "typ": "JWT"}, claims))
        signature = subprocess.run(["openssl", "dgst", "-sha256", "-sign", self.kinds[kind]],
                                   check=True, capture_output=True, input=text.encode()).stdout
        if kind == "ES256":
            signature = raw_signature(signature)
        return f"{text}.{url_text(signature)}"

    def bearer(self, *repositories, **more):
        return {"Authorization": f"Bearer {self.token(*repositories, **more)}"}


class TokenServer:
    """Serves an issuer's tokens over HTTP: `public` repositories to everybody, all to `users`."""

    def __init__(self, directory, users, public):
        server = self
        self.scopes = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                query = parse_qs(urlsplit(self.path).query)
                server.scopes += query.get("scope", [])
                user = server.user_of(self.headers.get("Authorization"), users)
                if user is None:
                    self.send_response(401)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                names = [scope.split(":")[1] for scope in " ".join(query.get("scope", [])).split()
                         if scope.startswith("repository:")]
                token = server.issuer.token(*[name for name in names if user or name in public],
                                            sub=user)
                body = json.dumps({"token": token, "expires_in": 300}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self):
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.send_response(404)  # a client then asks by GET
                self.send_header("Content-Length", "0")
                self.end_headers()

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = Issuer(directory, f"http://127.0.0.1:{self.server.server_port}/token")
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    @staticmethod
    def user_of(authorization, users):
        """"" for nobody; None for a wrong password."""
        if not authorization:
            return ""
        for user, password in users.items():
            if authorization == basic(user, password):
                return user
        return None

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
