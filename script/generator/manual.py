"""The parts of the manual page tarn(1) that repeat what the commands' help says."""
import re

from . import markers, roff


def synopsis(command):
    line = f"\\fBtarn {roff.escape(command['name'])}\\fP"
    if command["options"]:
        line += " [\\fIOPTION\\fP...]"
    if command["arguments"]:
        operands = roff.placeholders(command["arguments"])
        line += " " + (operands if "\\fI" in operands else operands.replace("|", " | "))
    return line


def placeholders_of(command):
    texts = [command["arguments"]] + [option["value"] or "" for option in command["options"]]
    return {word for text in texts for word in re.findall(r"[A-Z]{2,}", text)}


def introduction(command):
    text = f".SS tarn {roff.escape(command['name'])}\n"
    text += roff.prose(roff.sentence(command["summary"]), placeholders_of(command))
    if command["text"]:
        text += roff.prose(command["text"], placeholders_of(command))
    return text


def option_name(option):
    name = f"\\fB{roff.escape('--' + option['name'])}\\fP"
    if option["letter"]:
        name += f", \\fB{roff.escape('-' + option['letter'])}\\fP"
    if option["type"] == "flag":
        return name
    value = roff.placeholders(option["value"])
    if option["type"] == "switch":
        return f"{name}[={value}]"
    return f"{name} {value}" + ("[,...]" if option["type"] == "list" else "")


def options(command, settings):
    text = ""
    for option in command["options"]:
        words = option["help"]
        setting = settings.get(option["setting"])
        if setting and setting["choices"]:
            words += ": " + ", ".join(setting["choices"])
        text += f".TP\n{option_name(option)}\n"
        text += roff.prose(roff.sentence(words), {option["value"]} if option["value"] else ())
        if setting:
            text += roff.prose(f"Variable: {setting['variable']}. Default: {setting['default']}.")
        elif option["variable"]:
            text += roff.prose(f"Variable: {option['variable']}.")
    return text


def write(top, description):
    name = "docs/tarn.1"
    page = markers.Document(top / name)
    settings = {setting["key"]: setting for setting in description["settings"]}
    of_node = {setting["key"]: setting for setting in description["node_settings"]}
    lines = [synopsis(command) + "\n" for command in description["commands"]]
    page.replace("synopsis", ".br\n".join(lines))
    for command in description["commands"]:
        page.replace(f"introduction of {command['name']}", introduction(command))
        if command["options"]:
            page.replace(f"options of {command['name']}", options(command, of_node if command["name"] == "node" else settings))
    return {name: page.finish()}
