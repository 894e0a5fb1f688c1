"""What a scripted registry does wrong, and with which requests."""

import re
import threading
from dataclasses import dataclass, field
from typing import Callable, Optional


@dataclass
class Fault:
    """How a response differs from a right one. Offsets count bytes of the response's body."""

    # In place of a response
    drop: bool = False           # closed without a byte
    reset: bool = False          # RST without a byte
    black_hole: bool = False     # no response, ever
    takeover: Optional[Callable] = None  # gets the connection and a function that says when to stop
    status: Optional[int] = None  # this status, with `headers` and `body`
    headers: dict = field(default_factory=dict)
    body: bytes = b""

    # The head
    delay: float = 0.0           # seconds before the first byte
    hold_head: bool = False      # silent until `gate` is set
    ignore_range: bool = False   # 200 with the whole content
    content_range: Optional[str] = None  # a wrong value
    content_length: Optional[int] = None  # a wrong value
    etag: Optional[str] = None
    chunked: bool = False        # chunked, without a length
    until_close: bool = False    # neither length nor chunks: the end of the connection ends the body

    # The body
    content: Optional[bytes] = None  # sent in place of the right content
    flip: Optional[int] = None   # the byte at this offset of the *content* is wrong
    cut_after: Optional[int] = None    # closed after so many bytes
    reset_after: Optional[int] = None  # RST after so many bytes
    hold_after: Optional[int] = None   # silent after so many bytes, until `gate` is set
    gate: Optional[threading.Event] = None
    bytes_per_second: Optional[float] = None
    piece: Optional[int] = None  # so many bytes at a time
    extra: bytes = b""           # sent after the announced end

    # The body of the request, for an object store and for a registry that takes pushes
    early: bool = False          # responds without having read the body, and closes
    upload_reset_after: Optional[int] = None  # RST after so many bytes were read
    upload_hold_after: Optional[int] = None   # reads no more after so many bytes, until `gate` is set
    upload_bytes_per_second: Optional[float] = None
    late_code: Optional[str] = None  # 200, and then an error of this code in the body

    # What is written, for a registry that takes pushes
    lost: bool = False           # all is done, and then there is an RST without a byte
    takes_half: bool = False     # of the bytes of an upload, and says so
    no_location: bool = False    # in the answer to an upload

    def holds(self):
        """Whether it waits for `gate`."""
        return (self.hold_head or self.hold_after is not None
                or self.upload_hold_after is not None)


@dataclass
class Rule:
    """The requests that meet with a fault: not the first `skip`, then `times` (None: all)."""

    path: re.Pattern
    fault: Fault
    method: Optional[str] = "GET"
    skip: int = 0
    times: Optional[int] = None
    when: Optional[Callable] = None
    seen: int = 0
    done: int = 0

    def befalls(self, request):
        if self.method not in (None, request.method) or not self.path.search(request.target):
            return False
        if self.when and not self.when(request):
            return False
        self.seen += 1
        if self.seen <= self.skip or (self.times is not None and self.done >= self.times):
            return False
        self.done += 1
        return True
