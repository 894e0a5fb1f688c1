"""Text as man(7) wants it."""
import re


def escape(text):
    """Plain text, so that no character of it is an instruction."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("…", "...")
    return re.sub(r"^([.'])", r"\\&\1", text)


def placeholders(text):
    """Words in capitals in italics: OS/ARCH[/VARIANT]."""
    return re.sub(r"[A-Z][A-Z_]*", r"\\fI\g<0>\\fP", escape(text))


def prose(text, names=()):
    """Sentences, one a line, with options in bold and the placeholders `names` in italics."""
    text = escape(" ".join(text.split()))
    text = re.sub(r"\\-\\-[a-z]+(?:\\-[a-z]+)*", r"\\fB\g<0>\\fP", text)
    if names:
        words = "|".join(sorted(map(re.escape, names), key=len, reverse=True))
        text = re.sub(rf"(?<![\w/])(?:{words})(?!\w)", r"\\fI\g<0>\\fP", text)
    return re.sub(r"(?<=[.:;]) (?=[A-Z\\])", "\n", text) + "\n"


def sentence(text):
    """With a capital and a full stop."""
    return text[0].upper() + text[1:] + "."
