"""The TOML and JSON of the documentation; test_deploy.py has its YAML."""

import json
import pathlib
import re
import tomllib

import pytest
import yaml

TREE = pathlib.Path(__file__).resolve().parents[2]
PAGES = sorted(path for path in TREE.rglob("*.md")
               if "build" not in str(path.relative_to(TREE).parts[0]))
SNIPPET = re.compile(r"^( *)```(\w+)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
NODES = TREE / "docs" / "kubernetes.md"
URL = "http://127.0.0.1:30500"


def snippets(path, language):
    """The snippets of a page, without what they are indented by."""
    for indent, found, text in SNIPPET.findall(path.read_text()):
        if found == language:
            yield re.sub(f"^{indent}", "", text, flags=re.MULTILINE)


def pages_with(language):
    return [path for path in PAGES if any(snippets(path, language))]


@pytest.mark.parametrize("path", pages_with("toml"), ids=lambda path: str(path.relative_to(TREE)))
def test_toml_can_be_read(path):
    for text in snippets(path, "toml"):
        assert tomllib.loads(text), text


@pytest.mark.parametrize("path", pages_with("json"), ids=lambda path: str(path.relative_to(TREE)))
def test_json_can_be_read(path):
    for text in snippets(path, "json"):
        assert json.loads(text), text


# ---- the nodes of docs/kubernetes.md


def values(kind):
    """The documents of one language on the page about nodes."""
    for text in snippets(NODES, kind):
        if kind == "toml":
            yield tomllib.loads(text)
        else:
            yield from yaml.safe_load_all(text)


def test_containerd_gets_the_folder_in_both_versions():
    found = {value["version"]: value["plugins"] for value in values("toml") if "plugins" in value}
    folder = {"registry": {"config_path": "/etc/containerd/certs.d"}}
    assert found == {2: {"io.containerd.grpc.v1.cri": folder},
                     3: {"io.containerd.cri.v1.images": folder}}


def test_toml_inside_yaml_and_scripts_can_be_read():
    inside = []
    for value in values("yaml"):
        spec = value.get("spec", {})
        inside += [spec["containerd"]["config"]] if "containerd" in spec else []
        inside += [file["content"] for file in
                   spec.get("template", {}).get("spec", {}).get("files", [])]
    for text in snippets(NODES, "sh"):
        inside += re.findall(r"<<'END'\n(.*?)^END$", text, re.MULTILINE | re.DOTALL)
    assert len(inside) == 3
    for text in inside:
        assert tomllib.loads(text)


def test_every_kind_of_node_is_led_to_the_same_address():
    def addresses(value):
        if isinstance(value, dict):
            for inner in value.values():
                yield from addresses(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from addresses(inner)
        elif isinstance(value, str) and "127.0.0.1" in value:
            yield value

    found = {kind: {address for value in values(kind) for address in addresses(value)}
             for kind in ("yaml", "toml")}
    assert found["yaml"] == {URL}
    assert found["toml"] == {URL, *(f"127.0.0.1:30500/{host}" for host in
                                    ("docker.io", "registry.k8s.io"))}


@pytest.mark.parametrize("word", [
    "registryHosts", "kubeadm", "containerd_registries_mirrors", "/etc/rancher/k3s/registries.yaml",
    "/etc/rancher/rke2/registries.yaml", "RegistryMirrorConfig",
    "settings.container-registry.mirrors", "node.eks.aws/v1alpha1", "registries.conf.d"])
def test_each_kind_of_node_has_its_text(word):
    assert any(word in text for _, _, text in SNIPPET.findall(NODES.read_text())) or \
        word == "kubeadm" and "preKubeadmCommands" in NODES.read_text()
