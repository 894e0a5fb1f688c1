"""The tables of settings in docs/configuration.md and in the manual page tarn.yaml(5)."""
import re
import textwrap

from . import markers, roff

# The tables by the group of their settings, in the order of the documents.
RESTART = "A change needs a restart"

GROUPS = ["server", "cache", "bucket", "replicas", "limits", "upstreams", "upstream", "commands", "keep", "node"]


def is_for_one(settings):
    """Whether they are the settings of one upstream, which have neither flag nor variable."""
    return settings[0]["group"] == "upstream"


# ---- Markdown ----


def kind(setting):
    if setting["choices"]:
        return "one of " + ", ".join(setting["choices"])
    return setting["type"] + (f", {setting['limits']}" if setting["limits"] else "")


def meaning(setting):
    """Help, details, and whether a reload can change it: sentences without the last full stop."""
    sentences = [setting["help"], setting["details"], RESTART if setting["needs_restart"] else None]
    return ". ".join(each.rstrip(".") for each in sentences if each)


def row(setting):
    cells = [f"`{setting['key']}`" if setting["in_file"] else "(none)"]
    if setting["group"] != "upstream":
        cells += [f"`{setting['flag']}`", f"`{setting['variable']}`"]
    cells += [kind(setting), setting["default"], meaning(setting).replace("*", "\\*")]
    return "| " + " | ".join(cells) + " |\n"


def table(settings):
    columns = ["key"] if is_for_one(settings) else ["key in the file", "flag", "variable"]
    columns += ["type", "default", "what it is"]
    return ("\n| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|\n" +
            "".join(map(row, settings)) + "\n")


# ---- the manual page ----


def lines(sentences):
    """The sentences, each on lines of its own that are short enough for mandoc."""
    text = ""
    for line in roff.escape(sentences).split(". "):
        text += "\n".join(textwrap.wrap(line, 78, break_on_hyphens=False, break_long_words=False))
        text += "" if line.endswith(".") else "."
        text += "\n"
    return text


def entry(setting):
    text = f".TP\n.B {setting['key']}\n" + lines(roff.sentence(setting["help"]))
    if setting["details"]:
        text += lines(setting["details"])
    if setting["needs_restart"]:
        text += lines(RESTART + ".")
    if setting["choices"]:
        text += lines(f"One of {', '.join(setting['choices'])}.")
    elif setting["type"] not in ("string", "boolean"):
        text += lines(f"A {kind(setting)}.")
    return text + lines(f"Default: {setting['default']}.")


# ---- the documents ----


def write(top, description):
    settings = description["settings"] + description["upstream_settings"] + description["node_settings"]
    guide, page = markers.Document(top / "docs/configuration.md"), markers.Document(top / "docs/tarn.yaml.5")
    for group in GROUPS:
        members = [setting for setting in settings if setting["group"] == group]
        guide.replace(f"settings of {group}", table(members))
        page.replace(f"settings of {group}", "".join(entry(each) for each in members if each["in_file"]))
    return {"docs/configuration.md": guide.finish(), "docs/tarn.yaml.5": page.finish()}
