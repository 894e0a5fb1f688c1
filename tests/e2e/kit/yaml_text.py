"""Plain values as YAML text: just what a configuration needs, with the scalars in JSON's form."""

import json


def yaml_text(value, indent=0):
    """Block style, one line a scalar, so that line numbers in messages mean something."""
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
