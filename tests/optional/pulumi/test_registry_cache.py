"""deploy/pulumi/registry-cache, with Pulumi's mocks: its objects are those of the chart."""

import base64
import json
import pathlib
import re
import runpy
import shutil
import subprocess
import sys

import pulumi
import pytest
import yaml

TREE = pathlib.Path(__file__).resolve().parents[3]
PROGRAM = TREE / "deploy/pulumi/registry-cache"
CHART = TREE / "deploy/helm/tarn"
PLAIN = TREE / "deploy/kubernetes"
IMAGE = "us-central1-docker.pkg.dev/p/r/tarn:0.1.0"
USERS = "alice:$2y$05$abcdefghijklmnopqrstuuQWERTYUIOPasdfghjklzxcvbnm12345\n"
ACCOUNT = "tarn@p.iam.gserviceaccount.com"
LEAST = {"image": IMAGE, "registryNodePort": "30026"}
SECRET = "4dabf18193072939515e22adb298388d"  # Pulumi's mark of a secret value
GCP = {"enabled": True, "project": "p", "location": "us-central1", "repository": "r"}

sys.path.insert(0, str(PROGRAM))


class Recorder(pulumi.runtime.Mocks):
    """Takes what the program makes."""

    def __init__(self):
        self.made = []

    def new_resource(self, args):
        self.made.append((args.typ, args.inputs))
        more = {}
        if args.typ == "gcp:serviceaccount/account:Account":
            email = f"{args.inputs['accountId']}@{args.inputs['project']}.iam.gserviceaccount.com"
            more = {"email": email, "name": f"projects/p/serviceAccounts/{email}"}
        return [f"{args.name}-id", {**args.inputs, **more}]

    def call(self, args):
        raise AssertionError(f"the program calls {args.token}")


def run(settings, secrets=("registryHtpasswd", "replicationSecret")):
    """The objects of Kubernetes, and the resources of Google as (type, inputs)."""
    recorder = Recorder()
    pulumi.runtime.set_mocks(recorder, project="registry-cache", stack="prod")
    pulumi.runtime.set_all_config(
        {f"registry-cache:{key}": value if isinstance(value, str) else json.dumps(value)
         for key, value in settings.items()},
        [f"registry-cache:{key}" for key in secrets])

    @pulumi.runtime.test
    def program():
        runpy.run_path(str(PROGRAM / "__main__.py"))

    program()
    things, google = [], []
    for kind, inputs in recorder.made:
        (things if kind.startswith("kubernetes:") else google).append((kind, inputs))
    for _, inputs in things:  # what is secret is one to Pulumi, too
        assert (SECRET in json.dumps(inputs)) == (inputs["kind"] == "Secret")
    return [clean(inputs) for _, inputs in things], sorted(google, key=lambda made: made[0])


def clean(value):
    """Without what mocks add: members without a value, and the wrapping of secrets."""
    if isinstance(value, dict) and SECRET in value:
        return clean(value["value"])
    if isinstance(value, dict):
        return {key: clean(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [clean(inner) for inner in value]
    return int(value) if isinstance(value, float) and value == int(value) else value


def comparable(things):
    """By kind and name, without what has to differ: who renders, and the text of the configuration,
    which is compared as YAML."""
    found = {}
    for thing in things:
        thing = json.loads(json.dumps(thing))
        labels = thing["metadata"].get("labels", {})
        for own in ("app.kubernetes.io/managed-by", "app.kubernetes.io/version"):
            labels.pop(own, None)
        if thing["kind"] == "ConfigMap":
            thing["data"]["tarn.yaml"] = yaml.safe_load(thing["data"]["tarn.yaml"])
        if thing["kind"] == "Secret":
            thing["data"] = {key: base64.b64decode(value).decode().strip()
                             for key, value in thing["data"].items()}
            if thing["metadata"]["name"] == "tarn-replicas":  # the chart's is random
                assert len(thing["data"].pop("secrets")) >= 32
        annotations = thing["spec"].get("template", {}).get("metadata", {}).get("annotations", {}) \
            if "spec" in thing else {}
        if annotations:
            assert re.fullmatch("[0-9a-f]{64}", annotations.pop("checksum/config"))
        assert (thing["kind"], thing["metadata"]["name"]) not in found
        found[thing["kind"], thing["metadata"]["name"]] = thing
    return found


# ---- as the chart ----


def test_the_objects_are_those_of_deploy_kubernetes():
    """But for the image, and for the Service, which is a NodePort here."""
    things, google = run({**LEAST, "image": "registry.example/tarn:latest"})
    ours = comparable(things)
    theirs = comparable([thing for name in ("namespace.yaml", "cache.yaml")
                         for thing in yaml.safe_load_all((PLAIN / name).read_text()) if thing])
    service = theirs["Service", "tarn"]["spec"]
    service.update(type="NodePort", externalTrafficPolicy="Cluster")
    service["ports"][0]["nodePort"] = 30026
    theirs["ConfigMap", "tarn"]["data"]["tarn.yaml"]["upstreams"] = [
        {"default": True, "host": "docker.io"}]
    assert ours == theirs
    assert google == []


CASES = {
    "least": ({}, {}),
    "all": ({"registryHtpasswd": USERS, "gcpServiceAccount": ACCOUNT, "replicas": "3",
             "upstream": "https://us-central1-docker.pkg.dev/", "storageSize": "1.5Ti"},
            {"clients": {"htpasswd": USERS}, "replicas": 3, "storage": {"size": "1.5Ti"},
             "config": {"upstreams": [{"host": "us-central1-docker.pkg.dev", "default": True}]},
             "serviceAccount": {"annotations": {"iam.gke.io/gcp-service-account": ACCOUNT}}}),
    "replication": ({"replicas": "3", "storageSize": "", "replicationSecret": "s" * 32},
                    {"kind": "Deployment", "storage": {"emptyDir": {"enabled": True}},
                     "replicas": 3, "replication": {"enabled": True}}),
    "deployment": ({"storageSize": "", "replicas": "2"},
                   {"kind": "Deployment", "storage": {"emptyDir": {"enabled": True}},
                    "replicas": 2}),
}


@pytest.mark.skipif(not shutil.which("helm"), reason="it needs helm")
@pytest.mark.parametrize("settings,values", CASES.values(), ids=CASES.keys())
def test_the_objects_are_those_that_the_chart_renders(settings, values, tmp_path):
    repository, tag = IMAGE.rsplit(":", 1)
    values = {"image": {"repository": repository, "tag": tag},
              "service": {"type": "NodePort", "nodePort": 30026},
              "config": {"upstreams": [{"host": "docker.io", "default": True}]}, **values}
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(values))
    rendered = subprocess.run(
        ["helm", "template", "tarn", CHART, "--namespace", "tarn", "--skip-tests", "--values",
         tmp_path / "values.yaml"], capture_output=True, text=True, check=True).stdout
    things, _ = run({**LEAST, **settings})
    ours = comparable(things)
    del ours["Namespace", "tarn"]
    assert ours == comparable(thing for thing in yaml.safe_load_all(rendered) if thing)


# ---- what it promises ----


def test_the_password_is_in_the_secret_alone():
    things, _ = run({**LEAST, "registryHtpasswd": USERS})
    encoded = base64.b64encode(USERS.encode()).decode()
    for thing in things:
        text = json.dumps(thing)
        assert USERS.strip() not in text
        assert (encoded in text) == (thing["kind"] == "Secret")


def test_a_change_of_the_configuration_rolls_the_pods_and_one_of_the_users_does_not():
    def checksum(**more):
        things, _ = run({**LEAST, "registryHtpasswd": USERS, **more})
        (workload,) = [thing for thing in things if thing["kind"] == "StatefulSet"]
        return workload["spec"]["template"]["metadata"]["annotations"]["checksum/config"]

    before = checksum()
    assert checksum(upstream="ghcr.io") != before
    assert checksum(registryHtpasswd=USERS.replace("alice", "bob")) == before


def test_google_gets_an_account_that_may_read_the_repository():
    things, google = run({**LEAST, "gcp": GCP})
    assert [kind for kind, _ in google] == [
        "gcp:artifactregistry/repositoryIamMember:RepositoryIamMember",
        "gcp:serviceaccount/account:Account",
        "gcp:serviceaccount/iAMMember:IAMMember"]
    reader, account, identity = (inputs for _, inputs in google)
    assert (account["accountId"], account["project"]) == ("tarn", "p")
    assert {key: reader[key]
            for key in ("project", "location", "repository", "role", "member")} == {
        "project": "p", "location": "us-central1", "repository": "r",
        "role": "roles/artifactregistry.reader", "member": f"serviceAccount:{ACCOUNT}"}
    (ours,) = [thing for thing in things if thing["kind"] == "ServiceAccount"]
    metadata = ours["metadata"]
    assert identity["role"] == "roles/iam.workloadIdentityUser"
    assert identity["member"] == \
        f"serviceAccount:p.svc.id.goog[{metadata['namespace']}/{metadata['name']}]"
    assert identity["serviceAccountId"] == f"projects/p/serviceAccounts/{ACCOUNT}"
    assert metadata["annotations"] == {"iam.gke.io/gcp-service-account": ACCOUNT}
    _, google = run({**LEAST, "gcp": GCP, "gcpServiceAccount": "cache@p.iam.gserviceaccount.com"})
    assert google[1][1]["accountId"] == "cache"
    assert run({**LEAST, "gcp": {**GCP, "enabled": False}})[1] == []


@pytest.mark.parametrize("settings,said", [
    ({"registryNodePort": "80"}, "registryNodePort: 80 is not within"),
    ({"registryNodePort": "x"}, "registryNodePort: 'x' is no number"),
    ({"replicas": "0"}, "replicas: 0 is less than 1"),
    ({"replicas": "two"}, "replicas: 'two' is no number"),
    ({"storageSize": "much"}, "storageSize: 'much' is no size"),
    ({"storageSize": "0Gi"}, "storageSize: '0Gi' is no size"),
    ({"upstream": "https://a.example/v2"}, "upstream: 'a.example/v2' is no host"),
    ({"image": "tarn"}, "image: 'tarn' is no image"),
    ({"image": "a.example/tarn"}, "image: 'a.example/tarn' is no image"),
    ({"gcp": {"enabled": True, "project": "p"}}, "gcp.location: is missing"),
    ({"gcp": {"enable": True}}, "gcp: is no mapping"),
    ({"gcp": GCP, "gcpServiceAccount": "a@other.iam.gserviceaccount.com"}, "gcpServiceAccount: a@"),
    ({"replicationSecret": "secret-word"}, "replicationSecret: line 1 has fewer than 32 bytes"),
    ({"registryHtpasswd": "alice secret-word"}, "registryHtpasswd: line 1 is not NAME:HASH"),
])
def test_what_cannot_work_is_refused_by_its_key(settings, said):
    with pytest.raises(Exception) as refused:
        run({**LEAST, **settings})
    assert said in str(refused.value)
    assert "secret-word" not in str(refused.value)


@pytest.mark.parametrize("key", ["image", "registryNodePort"])
def test_required_keys(key):
    with pytest.raises(Exception, match=key):
        run({name: value for name, value in LEAST.items() if name != key})


# ---- the files of the project ----


def test_the_stack_and_the_readme_have_every_key():
    source = "".join(path.read_text() for path in PROGRAM.glob("*.py"))
    keys = set(re.findall(r'(?:config\.\w+\(|(?:number|text)\(config, )"(\w+)"', source))
    assert keys == {"image", "registryNodePort", "upstream", "registryHtpasswd",
                    "gcpServiceAccount", "replicas", "replicationSecret", "storageSize", "gcp"}
    stack = (PROGRAM / "Pulumi.prod.yaml").read_text()
    named = set(re.findall(r"^  #?registry-cache:(\w+):", stack, re.MULTILINE))
    assert named == keys
    readme = (PROGRAM / "README.md").read_text()
    assert all(f"`{key}`" in readme for key in keys - {"gcp"})
    assert set(GCP) == set(yaml.safe_load(stack)["config"]["registry-cache:gcp"])


def test_the_stack_of_the_example_can_be_made():
    values = yaml.safe_load((PROGRAM / "Pulumi.prod.yaml").read_text())["config"]
    things, google = run({key.partition(":")[2]: value for key, value in values.items()})
    assert len(things) == 6 and google == []
    assert yaml.safe_load((PROGRAM / "Pulumi.yaml").read_text())["name"] == "registry-cache"
