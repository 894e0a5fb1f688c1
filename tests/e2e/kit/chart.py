"""The chart deploy/helm/tarn, as helm renders it."""

import functools
import json
import pathlib
import subprocess

import yaml

TREE = pathlib.Path(__file__).resolve().parents[3]
CHART = TREE / "deploy" / "helm" / "tarn"
VALUE_FILES = sorted(path.stem for path in (CHART / "ci").glob("*.yaml"))
IMAGE = {"image": {"repository": "registry.example/tarn"}}
RELEASE, NAMESPACE = "cache", "tarn"
WORKLOADS = ("StatefulSet", "Deployment", "DaemonSet")


def value_file(name):
    return CHART / "ci" / f"{name}.yaml"


def template(*arguments, values=None, release=RELEASE):
    """The finished `helm template`; `values` is a dictionary for standard input."""
    given = ["--values", "-"] if values is not None else []
    return subprocess.run(
        ["helm", "template", release, CHART, "--namespace", NAMESPACE, *given, *arguments],
        input=json.dumps(values) if values is not None else "", capture_output=True, text=True,
        timeout=60, check=False)


@functools.lru_cache(maxsize=None)
def rendered_text(name):
    """The rendering of a value file in ci/."""
    done = template("--values", str(value_file(name)))
    assert done.returncode == 0, f"{name}: {done.stderr}"
    return done.stdout


def rendered(name):
    return objects(rendered_text(name))


def objects(text):
    return [each for each in yaml.safe_load_all(text) if each]


def render(values):
    done = template(values={**IMAGE, **values})
    assert done.returncode == 0, done.stderr
    return objects(done.stdout)


def refusal(values):
    """What helm says when it refuses values."""
    done = template(values=values)
    assert done.returncode != 0, f"not refused: {values}"
    return done.stderr


def find(things, kind, name=None):
    found = [each for each in things if each["kind"] == kind
             and (name is None or each["metadata"]["name"] == name)]
    assert len(found) == 1, [f"{each['kind']}/{each['metadata']['name']}" for each in things]
    return found[0]


def pods(things):
    """(object, template of its pod) of everything that runs pods."""
    for each in things:
        if each["kind"] in WORKLOADS:
            yield each, each["spec"]["template"]
        elif each["kind"] == "Pod":
            yield each, each


def component(thing):
    return thing["metadata"]["labels"]["app.kubernetes.io/component"]


def cache(things):
    """The object that runs the cache."""
    return next(each for each, _ in pods(things)
                if each["kind"] != "Pod" and component(each) == "cache")


def configuration(things, name=None):
    """The text of tarn's configuration in a ConfigMap."""
    return next(each["data"]["tarn.yaml"] for each in things if each["kind"] == "ConfigMap"
                and "tarn.yaml" in each["data"] and name in (None, each["metadata"]["name"]))


def leaves(value, path=()):
    """(path, text) of every text in a value."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from leaves(inner, (*path, index))
    elif isinstance(value, str):
        yield path, value
