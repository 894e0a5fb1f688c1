"""The chart on a real API server: every object is admitted, and every change of values succeeds."""

import os

import pytest
import yaml

from kit.chart import CHART, IMAGE, VALUE_FILES, objects, pods, rendered, value_file
from kit.processes import Program, free_port, run, wait_until
from kit.tarn import bare_environment

TARN = os.environ["TARN"]
CLUSTER_WIDE = ("ClusterRole", "ClusterRoleBinding")
PLURALS = {"Ingress": "ingresses", "NetworkPolicy": "networkpolicies"}
PRIVILEGED = {("each-node", "cache"), ("each-node", "nodes"), ("nodes", "nodes")}
CLAIMS = "/api/v1/namespaces/{}/persistentvolumeclaims"


def path_of(thing, namespace=None):
    """Where the API has an object."""
    version = thing["apiVersion"]
    place = "" if thing["kind"] in CLUSTER_WIDE else \
        f"/namespaces/{namespace or thing['metadata']['namespace']}"
    plural = PLURALS.get(thing["kind"], thing["kind"].lower() + "s")
    return f"/{'apis' if '/' in version else 'api'}/{version}{place}/{plural}"


def values(name):
    return ("--values", value_file(name))


@pytest.mark.parametrize("name", VALUE_FILES)
def test_the_api_admits_every_object(cluster, make_namespace, name):
    make_namespace("admitted")
    for thing in rendered(name):
        path = f"{path_of(thing, 'admitted')}/{thing['metadata']['name']}"
        if "namespace" in thing["metadata"]:
            thing["metadata"]["namespace"] = "admitted"
        if thing["kind"] == "Pod":
            thing["spec"]["serviceAccountName"] = "default"
        status, answer = cluster.ask(
            "PATCH", f"{path}?dryRun=All&fieldManager=test&fieldValidation=Strict", thing,
            kind="application/apply-patch+yaml")
        assert status in (200, 201), answer


@pytest.mark.parametrize("name", VALUE_FILES)
def test_pods_pass_restricted_but_those_of_a_node(cluster, make_namespace, name):
    make_namespace("restricted", "restricted")
    make_namespace("privileged", "privileged")
    for thing, pod in pods(rendered(name)):
        part = thing["metadata"]["labels"]["app.kubernetes.io/component"]
        spec = {**pod["spec"], "serviceAccountName": "default"}
        for claim in thing["spec"].get("volumeClaimTemplates", []):
            spec["volumes"] = [*spec["volumes"], {
                "name": claim["metadata"]["name"], "persistentVolumeClaim": {"claimName": "claim"}}]
        for level, expected in (("privileged", 201),
                                ("restricted", 403 if (name, part) in PRIVILEGED else 201)):
            status, answer = cluster.ask("POST", f"/api/v1/namespaces/{level}/pods?dryRun=All", {
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": spec})
            assert status == expected, f"{part} in {level}: {answer}"


# ---- install, upgrade, rollback, uninstall ----


def circuit(nodes):
    """A walk that goes from each node to each other one exactly once."""
    left = {one: [other for other in nodes if other != one] for one in nodes}
    walk, stack = [], [nodes[0]]
    while stack:
        if left[stack[-1]]:
            stack.append(left[stack[-1]].pop())
        else:
            walk.append(stack.pop())
    return walk[::-1]


def claims_of(name):
    return [each["spec"].get("volumeClaimTemplates") for each in rendered(name)
            if each["kind"] == "StatefulSet"]


def orphan(cluster, namespace, name):
    """kubectl delete statefulset NAME --cascade=orphan"""
    path = f"/apis/apps/v1/namespaces/{namespace}/statefulsets/{name}"
    cluster.ask("DELETE", path, {"apiVersion": "v1", "kind": "DeleteOptions",
                                 "propagationPolicy": "Orphan"})
    wait_until(lambda: cluster.ask("GET", path)[0] == 404, "the deletion", 60)


@pytest.mark.parametrize("side", ["true", "false"])
def test_upgrades_between_every_pair_of_value_files(cluster, manager, helm, side):
    if not manager:
        pytest.skip("it needs kube-controller-manager: a StatefulSet is deleted on the way")
    walk = circuit(VALUE_FILES)
    assert len(walk) == len(VALUE_FILES) * (len(VALUE_FILES) - 1) + 1
    option = [f"--server-side={side}"] if "v4" in run(["helm", "version", "--short"]).stdout else []
    if side == "true" and not option:
        pytest.skip("this helm applies on its own side only")
    helm("install", "cache", CHART, *values(walk[0]), *option)
    for one, other in zip(walk, walk[1:]):
        before, after = claims_of(one), claims_of(other)
        if before and after and before != after:
            orphan(cluster, helm.namespace, "cache-tarn")
        done = helm("upgrade", "cache", CHART, *values(other), *option, check=False)
        assert done.returncode == 0, f"from {one} to {other}: {done.stderr}"


KEEP = {"keep": {"enabled": True, "config": {"keeps": []}}}
NODES = {"service": {"type": "NodePort", "nodePort": 30511},
         "nodes": {"enabled": True, "url": "http://10.1.2.3:30511"}}
CHANGES = [
    {"replicas": 0}, {"replicas": 3}, {"replicas": 3, "podDisruptionBudget": {"maxUnavailable": "50%"}},
    {"image": {"tag": "2"}}, {"image": {"pullPolicy": "Always"}}, {"imagePullSecrets": [{"name": "a"}]},
    {"nameOverride": "cache2"}, {"fullnameOverride": "b"}, {"commonLabels": {"a": "b"}},
    {"serviceAccount": {"create": False}}, {"serviceAccount": {"name": "other"}},
    {"serviceAccount": {"annotations": {"a": "b"}}},
    {"kind": "Deployment"}, {"kind": "Deployment", "storage": {"emptyDir": {"enabled": True}}},
    {"kind": "Deployment", "replicas": 2, "storage": {"emptyDir": {"enabled": True}},
     "updateStrategy": {"type": "Recreate"}},
    {"kind": "DaemonSet", "storage": {"hostPath": "/srv/tarn"}, "hostPort": 5000},
    {"kind": "DaemonSet", "storage": {"emptyDir": {"enabled": True}}, "updateStrategy": {"type": "OnDelete"}},
    {"config": {"tag_ttl": "5m"}}, {"config": {"listen": ":8080", "metrics_listen": ":8081"}},
    {"config": {"version": 0.1, "proxy": {"remoteurl": "https://registry-1.docker.io"}}},
    {"existingConfigMap": "mine"}, {"clients": {"existingSecret": "users", "key": "a"}},
    {"files": [{"secret": "a", "at": "/etc/tarn/a"}, {"configMap": "b", "at": "/etc/tarn/b"}]},
    {"google": {"audience": "//iam.googleapis.com/a"}}, {"tls": {"existingSecret": "a"}},
    {"storage": {"retain": False}},
    {"service": {"port": 80}}, {"service": {"sessionAffinity": "ClientIP"}},
    {"service": {"internalTrafficPolicy": "Local"}}, {"service": {"internalTrafficPolicy": ""}},
    {"service": {"type": "NodePort"}}, {"service": {"type": "NodePort", "nodePort": 30512}},
    {"service": {"type": "NodePort", "externalTrafficPolicy": "Local"}},
    {"service": {"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.0/8"]}},
    {"service": {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}},
    {"service": {"trafficDistribution": "PreferClose"}},
    {"service": {"annotations": {"a": "b"}, "labels": {"c": "d"}}},
    {"ingress": {"enabled": True, "hosts": ["a.example"]}},
    {"resources": {"limits": {"memory": "2Gi"}}}, {"podSecurityContext": {"fsGroup": 1000}},
    {"securityContext": {"readOnlyRootFilesystem": False}}, {"updateStrategy": {"type": "OnDelete"}},
    {"updateStrategy": {"rollingUpdate": {"partition": 1}}}, {"topologySpreadConstraints": []},
    {"priorityClassName": "system-cluster-critical"}, {"nodeSelector": {"pool": "a"}},
    {"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}},
    {"tolerations": [{"operator": "Exists"}]}, {"podAnnotations": {"a": "b"}, "podLabels": {"c": "d"}},
    {"extraEnv": [{"name": "A", "value": "b"}]},
    {"extraVolumes": [{"name": "a", "emptyDir": {}}],
     "extraVolumeMounts": [{"name": "a", "mountPath": "/a"}]},
    {"initContainers": [{"name": "a", "image": "a.example/b"}]},
    {"extraContainers": [{"name": "a", "image": "a.example/b"}]}, {"networkPolicy": {"enabled": True}},
    {"monitoring": {"podMonitor": {"enabled": True}, "dashboard": {"enabled": True}}},
    KEEP, {"keep": {**KEEP["keep"], "replicas": 1}}, {"keep": {**KEEP["keep"], "namespace": "tarn-nodes"}},
    {"keep": {**KEEP["keep"], "machines": {"a": {"name": "a"}}, "pullSecret": "b", "denyPullers": False}},
    {"keep": {"enabled": True, "config": {"keeps": [], "lease": "mine", "listen": ":9090"}}},
    {"keep": {**KEEP["keep"], "service": {"type": "NodePort", "port": 80}}},
    NODES, {**NODES, "nodes": {"enabled": True, "namespace": "tarn-nodes", "listen": ":5002"}},
    {**NODES, "nodes": {"enabled": True, "credentialProvider": {"enabled": True}}}]


@pytest.mark.parametrize("base", [{}, {**KEEP, **NODES, "clients": {"existingSecret": "users"}}],
                         ids=["default", "with-keep-and-nodes"])
def test_any_value_changes_and_changes_back(helm, tmp_path, base):
    path = tmp_path / "values.yaml"

    def change(verb, given):
        image = {**IMAGE["image"], **given.get("image", {})}
        path.write_text(yaml.safe_dump({**given, "image": image}))
        done = helm(verb, "cache", CHART, "--values", path, check=False)
        assert done.returncode == 0, f"{given}: {done.stderr}"
    change("install", base)
    for one in CHANGES:
        if "service" in base and {"nameOverride", "fullnameOverride"} & set(one):
            continue  # the old Service has the port of the node: README.md, "Another name"
        given = {**base, **one}
        if "existingConfigMap" in one or "version" in one.get("config", {}):
            given.pop("keep", None)  # its section belongs into that configuration
        change("upgrade", given)
        change("upgrade", base)


def stored(cluster, thing, namespace):
    status, answer = cluster.ask(
        "GET", f"{path_of(thing, namespace)}/{thing['metadata']['name']}")
    assert status == 200, answer
    return answer


def test_a_rollback_gives_back_what_was_there(cluster, helm):
    helm("install", "cache", CHART, *values("default"))
    things = objects(helm("get", "manifest", "cache").stdout)
    before = [stored(cluster, thing, helm.namespace) for thing in things]
    helm("upgrade", "cache", CHART, *values("node-port"), "--set", "config.tag_ttl=5m")
    helm("rollback", "cache", "1")
    for one in before:
        now = stored(cluster, one, helm.namespace)
        for section in ("spec", "data"):
            assert now.get(section) == one.get(section), one["metadata"]["name"]


@pytest.mark.parametrize("setting", ["storage.size=300Gi", "storage.storageClass=fast",
                                     "storage.accessModes={ReadWriteMany}", "storage.annotations.a=b"])
def test_claims_of_a_statefulset_change_by_the_two_commands_of_the_readme(
        cluster, manager, helm, setting):
    helm("install", "cache", CHART, *values("default"))
    refused = helm("upgrade", "cache", CHART, *values("default"), "--set", setting, check=False)
    assert refused.returncode != 0 and "spec" in refused.stderr
    if not manager:
        pytest.skip("it needs kube-controller-manager to delete a StatefulSet alone")
    pod = f"/api/v1/namespaces/{helm.namespace}/pods/cache-tarn-0"
    wait_until(lambda: cluster.ask("GET", pod)[0] == 200, "the pod", 60)
    uid = cluster.ask("GET", pod)[1]["metadata"]["uid"]
    orphan(cluster, helm.namespace, "cache-tarn")
    helm("upgrade", "cache", CHART, *values("default"), "--set", setting)
    # Another size is another max_size, for which the pod is replaced.
    if "size" not in setting:
        assert cluster.ask("GET", pod)[1]["metadata"]["uid"] == uid


def test_a_claim_grows_by_the_command_of_the_readme(cluster, manager, helm):
    if not manager:
        pytest.skip("it needs kube-controller-manager to bind the claim")
    cluster.make("/apis/storage.k8s.io/v1/storageclasses", {
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "grows"},
        "provisioner": "test.example/none", "allowVolumeExpansion": True})
    cluster.make("/api/v1/persistentvolumes", {
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": helm.namespace},
        "spec": {"capacity": {"storage": "200Gi"}, "accessModes": ["ReadWriteOnce"],
                 "storageClassName": "grows", "hostPath": {"path": "/nowhere"},
                 "claimRef": {"namespace": helm.namespace, "name": "cache-cache-tarn-0"}}})
    helm("install", "cache", CHART, *values("default"), "--set", "storage.storageClass=grows")
    claim = f"{CLAIMS.format(helm.namespace)}/cache-cache-tarn-0"
    wait_until(lambda: cluster.ask("GET", claim)[1].get("status", {}).get("phase") == "Bound",
               "the claim to be bound", 60)
    status, answer = cluster.ask("PATCH", claim, {"spec": {"resources": {"requests": {
        "storage": "300Gi"}}}}, kind="application/merge-patch+json")
    assert status == 200, answer
    orphan(cluster, helm.namespace, "cache-tarn")
    helm("upgrade", "cache", CHART, *values("default"), "--set",
         "storage.storageClass=grows,storage.size=300Gi")


def test_an_address_of_the_service_changes_when_the_service_is_deleted(cluster, helm):
    setting = ("--set", "service.clusterIP=10.0.0.77")
    helm("install", "cache", CHART, *values("default"))
    assert helm("upgrade", "cache", CHART, *values("default"), *setting, check=False).returncode != 0
    service = f"/api/v1/namespaces/{helm.namespace}/services/cache-tarn"
    assert cluster.ask("DELETE", service)[0] == 200
    helm("upgrade", "cache", CHART, *values("default"), *setting)
    assert cluster.ask("GET", service)[1]["spec"]["clusterIP"] == "10.0.0.77"


def claim_names(cluster, namespace):
    return {one["metadata"]["name"]
            for one in cluster.ask("GET", CLAIMS.format(namespace))[1]["items"]
            if "deletionTimestamp" not in one["metadata"]}


@pytest.mark.parametrize("kind, claim", [("StatefulSet", "cache-cache-tarn-0"),
                                         ("Deployment", "cache-tarn")])
def test_an_uninstall_leaves_the_volume_unless_it_is_not_to_be_retained(
        cluster, manager, helm, kind, claim):
    if not manager:
        pytest.skip("it needs kube-controller-manager to make the claims of a StatefulSet")
    for retain in ("true", "false"):
        helm("install", "cache", CHART, *values("default"), "--set",
             f"kind={kind},storage.retain={retain}")
        wait_until(lambda: claim in claim_names(cluster, helm.namespace), "the claim", 60)
        helm("uninstall", "cache")
        if retain == "true":
            path = f"/apis/apps/v1/namespaces/{helm.namespace}/{kind.lower()}s/cache-tarn"
            wait_until(lambda: cluster.ask("GET", path)[0] == 404, "the end of the cache", 60)
            assert claim in claim_names(cluster, helm.namespace)
    wait_until(lambda: claim not in claim_names(cluster, helm.namespace), "the claim's end", 60)


def test_an_uninstall_leaves_nothing_else(cluster, helm):
    helm("install", "cache", CHART, *values("everything"))
    things = objects(helm("get", "manifest", "cache").stdout)
    assert len(things) > 20
    helm("uninstall", "cache")
    for thing in things:
        path = f"{path_of(thing)}/{thing['metadata']['name']}"
        wait_until(lambda path=path: cluster.ask("GET", path)[0] == 404, path, 60)


def test_what_is_wrong_is_refused_before_anything_is_made(cluster, helm):
    refused = helm("install", "cache", CHART, *values("default"), "--set", "replcas=2", check=False)
    assert refused.returncode != 0 and "replcas" in refused.stderr
    assert not helm("list", "--short").stdout


# ---- the rights of keep ----


@pytest.fixture
def keep(cluster, helm):
    """A kubeconfig for the controller's account, as the chart makes it."""
    helm("install", "cache", CHART, *values("keep"))
    account = f"/api/v1/namespaces/{helm.namespace}/serviceaccounts/cache-tarn-keep/token"
    status, answer = cluster.ask("POST", account, {
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}})
    assert status == 201, answer
    return cluster.kubeconfig(answer["status"]["token"], helm.namespace)


def whoami(keep, tmp_path):
    return run([TARN, "keep", "--whoami", "--kubeconfig", keep], check=False,
               environment=bare_environment(tmp_path))


def test_keep_has_every_right_that_it_uses(keep, helm, tmp_path):
    done = whoami(keep, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"system:serviceaccount:{helm.namespace}:cache-tarn-keep" in done.stdout
    assert "missing" not in done.stdout and "rights:     all that tarn keep uses" in done.stdout


def test_keep_says_which_right_is_gone(cluster, keep, helm, tmp_path):
    things = objects(helm("get", "manifest", "cache").stdout)
    for role in (one for one in things if one["kind"] in ("ClusterRole", "Role")):
        path = f"{path_of(role)}/{role['metadata']['name']}"
        for index, rule in enumerate(role["rules"]):
            less = {**role, "rules": role["rules"][:index] + role["rules"][index + 1:]}
            assert cluster.ask("PUT", path, less)[0] == 200
            wait_until(lambda rule=rule: any(
                line.startswith("missing:") and rule["resources"][0] in line
                for line in whoami(keep, tmp_path).stdout.splitlines()), f"word of {rule}", 60)
            assert cluster.ask("PUT", path, role)[0] == 200
        wait_until(lambda: "missing" not in whoami(keep, tmp_path).stdout, "all rights", 60)


def test_keep_leads_with_these_rights(cluster, keep, helm, tmp_path):
    things = objects(helm("get", "manifest", "cache").stdout)
    text = next(one["data"]["tarn.yaml"] for one in things if one["kind"] == "ConfigMap"
                and one["metadata"]["name"] == "cache-tarn-keep")
    config = yaml.safe_load(text)
    port = free_port()
    config["keep"]["listen"] = f"127.0.0.1:{port}"
    (tmp_path / "tarn.yaml").write_text(yaml.safe_dump(config))
    program = Program([TARN, "keep", "--config", tmp_path / "tarn.yaml", "--kubeconfig", keep],
                      tmp_path / "keep.log", bare_environment(tmp_path))
    lease = f"/apis/coordination.k8s.io/v1/namespaces/{helm.namespace}/leases/tarn-keep"
    try:
        program.wait_ready(lambda: cluster.ask("GET", lease)[0] == 200)
        ready = ["curl", "-sf", f"http://127.0.0.1:{port}/readyz"]
        program.wait_ready(lambda: run(ready, check=False).returncode == 0)
    finally:
        assert program.stop() == 0, program.log()
