"""What a fake upstream does wrong, and to which requests."""

import re
import threading
from dataclasses import dataclass, field
from typing import Callable, Optional


@dataclass
class Fault:
    """How one answer differs from a good one. Offsets count bytes of that answer's body."""

    # Instead of an answer
    drop: bool = False           # closed without a byte
    reset: bool = False          # RST without a byte
    black_hole: bool = False     # read and never answered
    status: Optional[int] = None  # this status, with `headers` and `body`
    headers: dict = field(default_factory=dict)
    body: bytes = b""

    # The head
    delay: float = 0.0           # seconds before the first byte
    ignore_range: bool = False   # 200 and the whole content
    content_range: Optional[str] = None  # a lie
    content_length: Optional[int] = None  # a lie
    etag: Optional[str] = None
    chunked: bool = False        # no length, chunked
    until_close: bool = False    # neither length nor chunks: the end of the connection ends it

    # The body
    content: Optional[bytes] = None  # served in place of the real content, as if it were that
    flip: Optional[int] = None   # the byte at this offset of the *content* is wrong
    cut_after: Optional[int] = None    # closed after so many bytes
    reset_after: Optional[int] = None  # RST after so many bytes
    hold_after: Optional[int] = None   # silent after so many bytes, until `gate` is set
    gate: Optional[threading.Event] = None
    bytes_per_second: Optional[int] = None
    extra: bytes = b""           # behind the announced end


@dataclass
class Rule:
    """Which requests a fault befalls: the `skip`th after, `times` of them (None: all further)."""

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
