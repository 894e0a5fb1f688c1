"""Replaces the generated parts of a file that people write otherwise.

A part stands between two lines that hold "begin generated NAME" and "end generated NAME", in the
comments of whatever language the file is in.
"""
import re


class Document:
    """A file's text, whose generated parts are replaced one by one."""

    def __init__(self, path):
        self.path = path
        self.text = path.read_text(encoding="utf-8")
        self.names = set(re.findall(r"begin generated ([\w -]*\w)", self.text))

    def replace(self, name, body):
        """Puts `body` (whole lines, or nothing) in place of what the part held."""
        begin, end = f"begin generated {name}", f"end generated {name}"
        pattern = re.compile(rf"(^[^\n]*\b{begin}(?![\w -]*\w)[^\n]*\n).*?(^[^\n]*\b{end}(?![\w -]*\w))",
                             re.MULTILINE | re.DOTALL)
        if name not in self.names:
            raise SystemExit(f"{self.path}: lines with \"{begin}\" and \"{end}\" are missing")
        self.names.remove(name)
        self.text = pattern.sub(lambda match: match[1] + body + match[2], self.text, count=1)

    def finish(self):
        """The whole text. Every part that the file has must have been replaced."""
        if self.names:
            raise SystemExit(f"{self.path}: nothing is generated for: {', '.join(self.names)}")
        return self.text
