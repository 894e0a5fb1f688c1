"""What the chart deploy/helm/tarn repeats: the table of values in its README, the version, and the files
that it takes from deploy/prometheus and deploy/grafana, because a chart cannot reach out of its folder."""
import json
import re

import yaml

from . import markers

CHART = "deploy/helm/tarn"
COPIES = ["deploy/prometheus/tarn.rules.yml", "deploy/prometheus/tarn-keep.rules.yml",
          "deploy/grafana/tarn.json"]
KEY = re.compile(r"^( *)([A-Za-z]+):")
VERSION = re.compile(r"^(version|appVersion): .*$", re.MULTILINE)


def commented(text):
    """{path: comment} of the keys of values.yaml, in its order. A key without a comment of its own
    belongs to the one above it that has one, or holds keys that have comments."""
    comments, above, path = {}, [], []
    for line in text.splitlines():
        key = KEY.match(line)
        if line.lstrip().startswith("#"):
            above.append(line.strip().lstrip("#").strip())
        elif key:
            path = [*path[:len(key[1]) // 2], key[2]]
            if above:
                comments[tuple(path)] = " ".join(above)
            above = []
        elif not line.strip():
            above = []
    return comments


def undocumented(values, comments, path=()):
    """The paths of values that no comment covers."""
    for key, value in values.items():
        here = (*path, key)
        if here in comments:
            continue
        if isinstance(value, dict) and any(other[:len(here)] == here for other in comments):
            yield from undocumented(value, comments, here)
        else:
            yield ".".join(here)


def value_at(values, path):
    for key in path:
        values = values[key]
    return values


def table(text):
    comments, values = commented(text), yaml.safe_load(text)
    missing = list(undocumented(values, comments))
    if missing:
        raise SystemExit(f"{CHART}/values.yaml: no comment says what these are: {', '.join(missing)}")
    rows = "\n| value | default | what it is |\n|---|---|---|\n"
    for path, comment in comments.items():
        default = json.dumps(value_at(values, path), ensure_ascii=False)
        rows += f"| `{'.'.join(path)}` | `{default}` | {comment.replace('|', chr(92) + '|')} |\n"
    return rows + "\n"


def write(top, _):
    readme = markers.Document(top / CHART / "README.md")
    readme.replace("values", table((top / CHART / "values.yaml").read_text(encoding="utf-8")))
    version = re.search(r"^    version: '([^']+)'", (top / "meson.build").read_text(encoding="utf-8"),
                        re.MULTILINE)[1]
    chart = (top / CHART / "Chart.yaml").read_text(encoding="utf-8")
    texts = {f"{CHART}/README.md": readme.finish(),
             f"{CHART}/Chart.yaml": VERSION.sub(rf"\1: {version}", chart)}
    for name in COPIES:
        texts[f"{CHART}/files/{name.rpartition('/')[2]}"] = (top / name).read_text(encoding="utf-8")
    return texts
