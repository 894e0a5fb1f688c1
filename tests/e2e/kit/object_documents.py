"""The XML of an object store: right documents, and hostile ones."""

import re
import time
from xml.sax.saxutils import escape

from kit.object_signature import encode

DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
NAMESPACES = {"s3": "http://s3.amazonaws.com/doc/2006-03-01/",
              "gcs": "http://doc.s3.amazonaws.com/2006-03-01"}
# What XML 1.0 cannot hold. S3 sends it all the same, as a reference that a parser refuses.
NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")


def text_of(value):
    if isinstance(value, bool):
        return str(value).lower()
    return NOT_XML.sub(lambda match: f"&#x{ord(match.group()):x};", escape(str(value)))


def elements(pairs):
    """The elements of pairs (name, value); a value that is a list of pairs is nested."""
    return "".join(f"<{name}>{elements(value) if isinstance(value, list) else text_of(value)}"
                   f"</{name}>" for name, value in pairs if value is not None)


def document(name, pairs, dialect="s3"):
    return (f'{DECLARATION}<{name} xmlns="{NAMESPACES[dialect]}">{elements(pairs)}'
            f"</{name}>").encode()


def error(code, message, **more):
    """The document of an error, which has no name space."""
    return (f"{DECLARATION}<Error>" + elements([("Code", code), ("Message", message), *more.items()])
            + "</Error>").encode()


def iso_time(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(seconds))


def http_date(seconds):
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(seconds))


def key_text(key, encoding):
    return encode(key, "/") if encoding == "url" else key


# ---- hostile

def entity_bomb(name="Error", depth=12):
    """Ten to the power of `depth` times "lol", in less than 1 KiB."""
    entities = '<!ENTITY a0 "lol">' + "".join(
        f'<!ENTITY a{level} "{f"&a{level - 1};" * 10}">' for level in range(1, depth))
    return (f'<?xml version="1.0"?><!DOCTYPE {name} [{entities}]>'
            f"<{name}><Code>&a{depth - 1};</Code></{name}>").encode()


def external_entity(url, name="Error"):
    """An entity that a careless parser fetches."""
    return (f'<?xml version="1.0"?><!DOCTYPE {name} [<!ENTITY x SYSTEM "{url}">]>'
            f"<{name}><Code>&x;</Code></{name}>").encode()


def deep(name="Error", depth=100_000):
    return (DECLARATION + f"<{name}>" * depth + f"</{name}>" * depth).encode()


def huge(name="ListBucketResult", size=64 << 20):
    """A document of so many bytes in one element."""
    return f"{DECLARATION}<{name}><Code>".encode() + b"x" * size + f"</Code></{name}>".encode()
