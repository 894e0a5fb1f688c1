"""Writes plain values as YAML text, as far as a configuration needs it, with scalars as JSON."""

import json


def yaml_text(value, indent=0):
    """Block style with one scalar a line, so that messages can name a line."""
    margin = "  " * indent
    if isinstance(value, dict) and value:
        return "".join(f"{margin}{key}:{_below(item, indent + 1)}" for key, item in value.items())
    if isinstance(value, list) and value:
        lines = []
        for item in value:
            text = yaml_text(item, indent + 1) if isinstance(item, (dict, list)) and item else None
            if text is None:
                lines.append(f"{margin}- {json.dumps(item)}\n")
            else:
                lines.append(f"{margin}- {text.lstrip()}")
        return "".join(lines)
    return f"{margin}{json.dumps(value)}\n"


def _below(value, indent):
    if isinstance(value, (dict, list)) and value:
        return "\n" + yaml_text(value, indent)
    return f" {json.dumps(value)}\n"
