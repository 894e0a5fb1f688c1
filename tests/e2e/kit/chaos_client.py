"""One client of one round of chaos: makes requests at random and checks every response."""

import http.client
import random
import threading
import time

REPOSITORY = "chaos/app"
ROUND_SECONDS = 1.5
PATIENCE = 40           # seconds after which a response that does not end counts as a hang
STATUSES = (200, 206, 502, 503, 504)  # faults of upstream; 500 would be a fault of tarn


class Client:
    """`chaos` has the content to ask for, and gets what the client finds."""

    def __init__(self, chaos, plan, number):
        self.chaos, self.plan, self.tarn = chaos, plan, chaos.tarn
        self.chance = random.Random(f"{plan.name} client {number}")
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        end = time.monotonic() + ROUND_SECONDS
        calls = [self._whole, self._range, self._leave, self._manifest, self._head]
        try:
            while time.monotonic() < end and not self.chaos.findings:
                self.chance.choices(calls, [4, 4, 1, 2, 1])[0]()
        except AssertionError as wrong:
            self.chaos.findings.append(str(wrong))
        except BaseException as error:  # a defect of the test is reported too
            self.chaos.findings.append(f"{type(error).__name__}: {error}")

    def _ask(self, what, call):
        """The response; None when there was none because tarn was killed."""
        started = time.monotonic()
        try:
            reply = call()
        except (OSError, http.client.HTTPException) as error:
            assert time.monotonic() - started < PATIENCE - 1, f"{what}: no answer, {error}"
            assert self.plan.kill, f"{what}: {type(error).__name__}: {error}"
            return None
        self.chaos.add_answer(reply)
        if reply.status == 0:
            assert self.plan.kill, f"{what}: closed without an answer"
            return None
        assert time.monotonic() - started < PATIENCE - 1, f"{what}: never ended: {reply}"
        assert reply.status in STATUSES, f"{what}: {reply}"
        return reply

    def _any_blob(self):
        digest = self.chance.choice(list(self.chaos.content.blobs))
        return digest, self.chaos.content.blobs[digest]

    def _strict(self, digest):
        """Whether upstream cannot have sent a wrong byte, so that each has to be right."""
        return not self.plan.corrupt and digest not in self.chaos.proxy.corrupted

    def _whole(self):
        digest, blob = self._any_blob()
        what, strict = f"blob {digest} of {len(blob)}", self._strict(digest)
        reply = self._ask(what, lambda: self.tarn.blob(REPOSITORY, digest, timeout=PATIENCE))
        if reply and reply.status < 300:
            assert reply.status == 200, f"{what}: {reply}"
            assert reply["Content-Length"] == str(len(blob)), f"{what}: {reply}"
            self._check(what, reply.body, blob, reply.complete, strict or reply.complete)

    def _range(self):
        digest, blob = self._any_blob()
        size = len(blob)
        first = self.chance.randrange(size)
        last = self.chance.choice([first, size - 1, self.chance.randrange(first, size)])
        text = self.chance.choice([f"{first}-{last}", f"{first}-", f"-{size - first}"])
        if not text.endswith(f"-{last}") or text.startswith("-"):
            last = size - 1
        what, strict = f"bytes={text} of blob {digest} of {size}", self._strict(digest)
        reply = self._ask(what, lambda: self.tarn.blob(
            REPOSITORY, digest, {"Range": f"bytes={text}"}, timeout=PATIENCE))
        if reply and reply.status < 300:
            assert reply.status == 206, f"{what}: {reply}"
            assert reply["Content-Range"] == f"bytes {first}-{last}/{size}", f"{what}: {reply}"
            part = blob[first:last + 1]
            assert reply["Content-Length"] == str(len(part)), f"{what}: {reply}"
            self._check(what, reply.body, part, reply.complete, strict)

    def _leave(self):
        """Reads a part, then resets the connection."""
        digest, blob = self._any_blob()
        what, strict = f"a part of blob {digest} of {len(blob)}", self._strict(digest)
        try:
            with self.tarn.download(f"/v2/{REPOSITORY}/blobs/{digest}",
                                    timeout=PATIENCE) as download:
                download.read_what_comes(self.chance.uniform(0, 0.5))
        except (OSError, http.client.HTTPException) as error:
            assert self.plan.kill, f"{what}: {type(error).__name__}: {error}"
            return
        if download.status == 200:
            whole = len(download.body) == len(blob)
            self._check(what, download.body, blob, whole, strict or whole)

    def _manifest(self):
        tag, text = self.chance.choice(list(self.chaos.content.tags.items()))
        reply = self._ask(f"tag {tag}", lambda: self.tarn.manifest(REPOSITORY, tag,
                                                                   timeout=PATIENCE))
        if reply and reply.status == 200:
            self._check(f"tag {tag}", reply.body, text, reply.complete, True)

    def _head(self):
        digest, blob = self._any_blob()
        what = f"HEAD of blob {digest} of {len(blob)}"
        reply = self._ask(what, lambda: self.tarn.head(f"/v2/{REPOSITORY}/blobs/{digest}",
                                                       timeout=PATIENCE))
        if reply and reply.status == 200:
            assert reply["Content-Length"] == str(len(blob)), f"{what}: {reply}"

    def _check(self, what, got, right, complete, strict):
        self.chaos.add_checked(len(got))
        assert not complete or len(got) == len(right), \
            f"{what}: whole, but {len(got)} of {len(right)} bytes"
        assert len(got) <= len(right), f"{what}: {len(got)} bytes are too many"
        if strict and got != right[:len(got)]:
            wrong = [at for at, (one, two) in enumerate(zip(got, right)) if one != two]
            raise AssertionError(f"{what}: {'whole' if complete else 'cut'}, and {len(wrong)} "
                                 f"bytes are wrong, from {wrong[0]} to {wrong[-1]}")
