"""The token service of a scripted registry: bearer tokens with scopes and a lifetime."""

import base64
import json
import secrets
import threading
import time
from dataclasses import dataclass, field
from urllib.parse import parse_qs


def basic(username, password):
    """The value of an Authorization field."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


@dataclass
class TokenService:
    """Issues a token for each scope; records the tokens and the requests."""

    anonymous: bool = True            # without credentials: a token for `public` only
    users: dict = field(default_factory=dict)      # username -> password
    refresh_tokens: set = field(default_factory=set)  # valid identity tokens
    public: tuple = ("",)             # prefixes of repositories that anonymous tokens open
    lifetime: int = 300               # seconds, sent as expires_in
    tell_lifetime: bool = True
    member: str = "token"             # or "access_token"
    refuse: int = 0                   # the status of every response, if not 0
    delay: float = 0.0                # seconds before each response
    given: dict = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, request, body):
        """(status, headers, body) of the response to a request to the realm."""
        if self.delay:
            time.sleep(self.delay)
        if self.refuse:
            return self.refuse, {}, json.dumps({"errors": [{
                "code": "DENIED", "message": "the token service says no"}]}).encode()
        query = parse_qs(request.query)
        known = False
        if request.method == "POST":
            form = parse_qs(body.decode())
            query = form
            if form.get("refresh_token", [""])[0] in self.refresh_tokens:
                known = True
            elif form.get("password"):
                known = self.users.get(form["username"][0]) == form["password"][0]
            if not known:
                return 401, {}, b'{"details":"bad refresh token"}'
        elif "authorization" in request.headers:
            known = any(request.headers["authorization"] == basic(name, password)
                        for name, password in self.users.items())
            if not known:
                return 401, {}, b'{"details":"incorrect username or password"}'
        elif not self.anonymous:
            return 401, {}, b'{"details":"authentication required"}'
        token = secrets.token_hex(24)
        with self.lock:
            self.given[token] = (query.get("scope", [""])[0], known,
                                 time.monotonic() + self.lifetime)
        reply = {self.member: token}
        if self.tell_lifetime:
            reply["expires_in"] = self.lifetime
        return 200, {"Content-Type": "application/json"}, json.dumps(reply).encode()

    def opens(self, authorization, repository):
        """Whether the token in this Authorization value allows to pull from the repository."""
        kind, _, token = (authorization or "").partition(" ")
        with self.lock:
            scope, known, end = self.given.get(token, ("", False, 0.0))
        if kind != "Bearer" or time.monotonic() >= end:
            return False
        if repository is None:
            return True
        if not scope.startswith(f"repository:{repository}:") or "pull" not in scope:
            return False
        return known or any(repository.startswith(prefix) for prefix in self.public)

    def forget(self):
        """Makes every token that was issued so far invalid."""
        with self.lock:
            self.given.clear()
