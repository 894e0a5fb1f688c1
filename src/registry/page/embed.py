"""Writes files as C arrays: embed.py OUT FILE... For each file an array and the hash of its bytes."""
import hashlib
import pathlib
import sys


def main():
    lines = ["/* Made by embed.py; not to be edited. */"]
    for name in sys.argv[2:]:
        path = pathlib.Path(name)
        content = path.read_bytes()
        symbol = path.name.replace(".", "_")
        numbers = ",".join(str(byte) for byte in content)
        lines.append(f"static const unsigned char {symbol}[] = {{{numbers}}};")
        lines.append(f'#define HASH_{symbol} "{hashlib.sha256(content).hexdigest()[:16]}"')
    pathlib.Path(sys.argv[1]).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
