"""deploy/helm and deploy/kubernetes, and all YAML of the documentation, without helm and without a cluster."""

import copy
import json
import pathlib
import re
import shutil
import subprocess

import jsonschema
import kubernetes.client.models as models
import pytest
import yaml

TREE = pathlib.Path(__file__).resolve().parents[2]
CHART = TREE / "deploy" / "helm" / "tarn"
PLAIN = TREE / "deploy" / "kubernetes"
MANIFESTS = [PLAIN / name for name in ("namespace.yaml", "cache.yaml", "keep/keep.yaml",
                                       "nodes/namespace.yaml", "nodes/nodes.yaml")]
PAGES = sorted(path for path in TREE.rglob("*.md")
               if "build" not in str(path.relative_to(TREE).parts[0]))
SNIPPET = re.compile(r"^( *)```(?:yaml|yml)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
IMAGE = {"image": {"repository": "registry.example/tarn"}}
# Newer than the oldest package of Debian with these models (Kubernetes 1.22).
NEWER = {("V1StatefulSetSpec", "persistentVolumeClaimRetentionPolicy")}


def load(path):
    return [each for each in yaml.safe_load_all(path.read_text()) if each]


# ---- the kinds of Kubernetes ----


def wrong(value, kind, path):
    """What is wrong with a value by the models of Kubernetes: (path, what) pairs."""
    if kind.startswith("list["):
        if not isinstance(value, list):
            yield path, "is no list"
            return
        for index, inner in enumerate(value):
            yield from wrong(inner, kind[5:-1], f"{path}[{index}]")
    elif kind.startswith("dict("):
        inner_kind = kind[5:-1].split(", ")[1]
        for key, inner in value.items():
            yield from wrong(inner, inner_kind, f"{path}.{key}")
    elif kind in ("str", "int", "bool", "datetime"):
        wanted = {"str": str, "int": int, "bool": bool, "datetime": str}[kind]
        if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
            yield path, f"is no {kind}: {value!r}"
    elif kind != "object":
        yield from wrong_members(value, getattr(models, kind), path)


def wrong_members(value, model, path):
    if not isinstance(value, dict):
        yield path, "is no mapping"
        return
    kinds = {outer: model.openapi_types[inner] for inner, outer in model.attribute_map.items()}
    inside = {outer: inner for inner, outer in model.attribute_map.items()}
    for key, inner in value.items():
        if key in kinds:
            yield from wrong(inner, kinds[key], f"{path}.{key}")
        elif (model.__name__, key) not in NEWER:
            yield f"{path}.{key}", f"is no key of {model.__name__}"
    try:  # a model refuses None where the API wants a value
        model(**{inside[key]: inner for key, inner in value.items() if key in inside})
    except ValueError as error:
        yield path, str(error)


def faults(thing):
    version = "".join(word.capitalize() for word in thing["apiVersion"].rpartition("/")[2].split("."))
    model = getattr(models, f"{version}{thing['kind']}")
    return list(wrong_members(thing, model, f"{thing['kind']}/{thing['metadata']['name']}"))


@pytest.mark.parametrize("path", MANIFESTS, ids=str)
def test_manifests_are_right_by_the_models_of_kubernetes(path):
    things = load(path)
    assert things
    for thing in things:
        assert faults(thing) == []


@pytest.mark.parametrize("change, word", [
    (lambda spec: spec.update(replcas=1), "replcas"),
    (lambda spec: spec.update(replicas="1"), "replicas"),
    (lambda spec: spec.pop("selector"), "selector"),
    (lambda spec: spec["template"]["spec"]["containers"][0].update(livenesProbe={}), "livenesProbe"),
    (lambda spec: spec["template"]["spec"].update(volumes={}), "volumes")])
def test_the_models_find_what_is_wrong(change, word):
    thing = next(one for one in load(PLAIN / "cache.yaml") if one["kind"] == "StatefulSet")
    change(thing["spec"])
    assert word in str(faults(thing))


def test_plain_manifests_are_as_the_chart_renders_them():
    subprocess.run([TREE / "script" / "manifests", "--check"], check=True, timeout=120)


@pytest.mark.parametrize("name, change, word", [
    ("deploy/helm/tarn/values.yaml", "replicas: 1\n", "out of date"),
    ("deploy/kubernetes/cache.yaml", "replicas: 1\n", "edited")])
def test_a_change_without_a_rendering_is_found_without_helm(tmp_path, name, change, word):
    for folder in ("deploy/helm", "deploy/kubernetes"):
        shutil.copytree(TREE / folder, tmp_path / folder)
    (tmp_path / "script").mkdir()
    script = shutil.copy(TREE / "script" / "manifests", tmp_path / "script")
    environment = {"PATH": "/usr/bin:/bin"}
    assert "no helm" in subprocess.run([script, "--check"], env=environment, check=True, timeout=120,
                                       capture_output=True, text=True).stdout
    text = (tmp_path / name).read_text()
    assert change in text
    (tmp_path / name).write_text(text.replace(change, "replicas: 2\n"))
    done = subprocess.run([script, "--check"], env=environment, check=False, timeout=120,
                          capture_output=True, text=True)
    assert done.returncode != 0 and word in done.stderr


def test_kustomizations_have_every_manifest():
    for folder in (PLAIN, PLAIN / "keep", PLAIN / "nodes"):
        kustomization, = load(folder / "kustomization.yaml")
        there = {path.name for path in folder.glob("*.yaml")
                 if not path.name.endswith(".values.yaml")} - {"kustomization.yaml"}
        assert set(kustomization["resources"]) == there


def test_plain_manifests_are_in_namespaces_of_their_own():
    levels = {one["metadata"]["name"]: one["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
              for path in MANIFESTS for one in load(path) if one["kind"] == "Namespace"}
    assert levels == {"tarn": "restricted", "tarn-nodes": "privileged"}
    for path in MANIFESTS:
        for thing in load(path):
            if thing["kind"] in ("Namespace", "ClusterRole", "ClusterRoleBinding"):
                continue
            expected = "tarn-nodes" if path.parent.name == "nodes" else "tarn"
            assert thing["metadata"]["namespace"] == expected
            spec = thing.get("spec", {}).get("template", {}).get("spec")
            if spec and expected == "tarn":
                assert spec["securityContext"]["runAsNonRoot"] is True
                for container in spec["containers"]:
                    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


# ---- the chart ----


def test_templates_are_functions_of_the_values():
    impure = re.compile(r"(?<![.\w])(lookup|now|date\w*|rand\w+|gen[A-Z]\w+|uuidv4|env|expandenv|htpasswd|"
                        r"getHostByName|bcrypt|ago|unixEpoch)\b|\.Capabilities\b|"
                        r"\.Release\.(IsInstall|IsUpgrade|Revision)\b")
    action = re.compile(r"{{(?!-? */\*)(.*?)}}", re.DOTALL)
    for path in (CHART / "templates").rglob("*.*"):
        if path.name == "secret.yaml":
            # The secret of the replicas is random, unless replication.existingSecret names one, and
            # an upgrade keeps what is there.
            continue
        for inside in action.findall(path.read_text()):
            bare = re.sub(r'"(\\.|[^"\\])*"|`[^`]*`', '""', inside)
            assert not impure.search(bare), f"{path.name}: {inside}"


def keys(schema, values, path=""):
    """The paths of mappings whose keys the schema and values.yaml name differently."""
    if "properties" not in schema or path == ".nodes.streaming.config":
        return  # what has no keys of its own, or also those of node.yaml
    if path:
        assert schema["additionalProperties"] is False, path
    yield path, set(schema["properties"]) - {"global"}, set(values)
    for key, inner in schema["properties"].items():
        if isinstance(values.get(key), dict):
            yield from keys(inner, values[key], f"{path}.{key}")


def test_the_schema_knows_the_keys_of_the_values_and_no_others():
    assert SCHEMA["additionalProperties"] is False
    free = {".resources", ".nodes.resources", ".nodes.streaming.resources", ".keep.resources", ".updateStrategy",
            ".tls.certManager.issuerRef"}  # their keys are those of Kubernetes, and optional
    for path, allowed, given in keys(SCHEMA, VALUES):
        if path in free:
            assert given <= allowed, path
        else:
            assert given == allowed, path


def test_the_default_values_are_right_by_the_schema():
    jsonschema.validate(VALUES, SCHEMA)


def merged(values, more):
    for key, value in more.items():
        inner = values.get(key)
        values[key] = merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) \
            else value
    return values


@pytest.mark.parametrize("path", sorted((CHART / "ci").glob("*.yaml")), ids=lambda path: path.stem)
def test_value_files_are_right_by_the_schema(path):
    jsonschema.validate(merged(copy.deepcopy(VALUES), yaml.safe_load(path.read_text())), SCHEMA)


def mappings(schema, path=()):
    """The paths of the mappings in which only known keys are allowed."""
    if schema.get("additionalProperties") is False:
        yield path
        for key, inner in schema["properties"].items():
            yield from mappings(inner, (*path, key))


@pytest.mark.parametrize("path", list(mappings(SCHEMA)), ids=".".join)
def test_an_unknown_key_is_refused_by_its_name(path):
    values = copy.deepcopy(VALUES)
    at = values
    for key in path:
        at = at.setdefault(key, {})
    at["nokey"] = 1
    with pytest.raises(jsonschema.ValidationError, match="nokey"):
        jsonschema.validate(values, SCHEMA)


# ---- the documentation ----


def snippets():
    for page in PAGES:
        for index, (indent, text) in enumerate(SNIPPET.findall(page.read_text())):
            plain = "\n".join(line[len(indent):] for line in text.splitlines())
            yield pytest.param(plain, id=f"{page.relative_to(TREE)}-{index}")


@pytest.mark.parametrize("text", snippets())
def test_every_snippet_of_yaml_can_be_read(text):
    for thing in yaml.safe_load_all(text):
        is_object = isinstance(thing, dict) and {"apiVersion", "kind", "metadata"} <= set(thing)
        if is_object and re.fullmatch("(apps/|batch/|policy/|(rbac.authorization|networking).k8s.io/)?v1",
                                      thing["apiVersion"]):
            assert faults(thing) == []


def test_the_recipes_of_the_chart_are_right_by_its_schema():
    recipes = SNIPPET.findall((CHART / "README.md").read_text())
    assert len(recipes) >= 5
    for _, text in recipes:
        jsonschema.validate(merged(copy.deepcopy(VALUES), yaml.safe_load(text)), SCHEMA)
