"""What the chart renders: a function of the values, without secrets, and right by every schema."""

import base64
import json
import os
import shutil
import subprocess

import pytest
import yaml

from kit.chart import (CHART, TREE, VALUE_FILES, cache, component, configuration, find, leaves, objects,
                       pods, render, rendered, rendered_text, template, value_file)
from kit.processes import Program, free_port, run
from kit.tarn import self_signed

TARN = os.environ["TARN"]
HASH = "$2y$05$MuyU0xBgNLGTZIQLqYyHzOyBSYCPlYgYGuHuFrrqmoPYt9UUgqlRG"
KEEP = {"keep": {"enabled": True, "config": {"keeps": [{"name": "a", "images": [{"image": "b.io/c:d"}]}]}}}
NODES = {"service": {"type": "NodePort", "nodePort": 30500}, "nodes": {"enabled": True}}
CLUSTER_WIDE = ("ClusterRole", "ClusterRoleBinding")


def test_there_are_thirteen_value_files():
    assert len(VALUE_FILES) == 14


@pytest.mark.parametrize("name", VALUE_FILES)
def test_lint_finds_nothing(name):
    done = run(["helm", "lint", "--strict", CHART, "--values", value_file(name)], check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", VALUE_FILES)
def test_two_renderings_are_the_same_byte_for_byte(name):
    again = template("--values", str(value_file(name))).stdout
    assert again == rendered_text(name)


def test_an_upgrade_renders_what_an_install_renders():
    upgrade = template("--values", str(value_file("everything")), "--is-upgrade").stdout
    assert upgrade == rendered_text("everything")


@pytest.mark.parametrize("version", ["1.28", "1.32", "1.37"])
def test_every_object_is_right_by_the_schemas_of_kubernetes(version, tmp_path):
    validate = shutil.which("kubernetes-validate")
    if not validate:
        pytest.skip("it needs kubernetes-validate: pip install kubernetes-validate")
    for name in VALUE_FILES:
        (tmp_path / f"{name}.yaml").write_text(rendered_text(name))
    run([validate, "--strict", "--no-warn", "-k", version, *sorted(tmp_path.iterdir())])


def test_the_schemas_would_find_a_wrong_key(tmp_path):
    validate = shutil.which("kubernetes-validate")
    if not validate:
        pytest.skip("it needs kubernetes-validate: pip install kubernetes-validate")
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(rendered_text("default").replace("replicas: 1", "replcas: 1"))
    assert run([validate, "--strict", "-k", "1.37", wrong], check=False).returncode != 0


@pytest.fixture(scope="module")
def mounted(tmp_path_factory):
    """What the chart mounts at /etc/tarn."""
    folder = tmp_path_factory.mktemp("mounted")
    for name, text in (("clients/htpasswd", f"alice:{HASH}\n"), ("quay/password", "word\n"),
                       ("replicas/secrets", "s" * 32)):
        (folder / name).parent.mkdir()
        (folder / name).write_text(text)
    (folder / "tls").mkdir()
    self_signed(folder / "tls")
    return folder


@pytest.mark.parametrize("name", VALUE_FILES)
def test_tarn_takes_the_configurations(name, mounted, tmp_path):
    for each in rendered(name):
        if each["kind"] == "ConfigMap" and "tarn.yaml" in each["data"]:
            path = tmp_path / "tarn.yaml"
            path.write_text(each["data"]["tarn.yaml"].replace("/etc/tarn/", f"{mounted}/").replace(
                "/etc/cachemachine", str(tmp_path)))
            run([TARN, "check-config", path])


def test_the_root_is_a_folder_in_the_volume():
    for name in VALUE_FILES:
        things = rendered(name)
        container = cache(things)["spec"]["template"]["spec"]["containers"][0]
        mount = next(one for one in container["volumeMounts"] if one["name"] == "cache")
        assert mount["mountPath"] == "/var/lib/tarn"
        variables = {one["name"]: one.get("value") for one in container["env"]}
        root = variables.get("TARN_FALLBACK_ROOT") or \
            yaml.safe_load(configuration(things))["root"]
        assert root == "/var/lib/tarn/cache", name


@pytest.mark.parametrize("size, most", [
    ("200Gi", 180 << 30), ("1.5Ti", (15 * (1 << 40) // 10) * 9 // 10), ("500Mi", 450 << 20),
    ("100G", 90 * 10**9), ("1024", 1 << 20)])
def test_the_cache_takes_nine_tenths_of_its_volume(size, most):
    config = yaml.safe_load(configuration(render({"storage": {"size": size}})))
    assert config["max_size"] == f"{most >> 20}MiB"


def test_the_recipes_of_the_readme_render(tmp_path):
    text = (CHART / "README.md").read_text()
    recipes = [part.split("```", 1)[0] for part in text.split("```yaml\n")[1:]]
    assert len(recipes) >= 5
    for recipe in recipes:
        (tmp_path / "values.yaml").write_text(recipe.replace("$2y$05$…", HASH))
        done = template("--values", str(tmp_path / "values.yaml"))
        assert done.returncode == 0, f"{recipe}{done.stderr}"


def test_what_the_configuration_says_counts():
    config = yaml.safe_load(configuration(render({"config": {
        "max_size": "7GiB", "listen": ":8443", "log": {"level": "debug"}, "max_connections": 1000000}})))
    assert config["max_size"] == "7GiB" and config["listen"] == ":8443"
    assert config["log"] == {"level": "debug"} and config["max_connections"] == 1000000


def test_ports_follow_the_configuration():
    things = render({"config": {"listen": ["0.0.0.0:8443", "[::]:8444"], "metrics_listen": ":9000"}})
    container = cache(things)["spec"]["template"]["spec"]["containers"][0]
    assert {one["name"]: one["containerPort"] for one in container["ports"]} == {
        "registry": 8443, "metrics": 9000}
    assert find(things, "Service", "cache-tarn")["spec"]["ports"][0]["targetPort"] == "registry"


@pytest.mark.parametrize("config, variables", [
    ({"existingConfigMap": "mine"}, {"TARN_FALLBACK_LISTEN": ":5000"}),
    ({"config": {"version": 0.1, "proxy": {"remoteurl": "https://registry-1.docker.io"}}},
     {"TARN_FALLBACK_LISTEN": ":5000"}),
    ({"existingConfigMap": "mine", "tls": {"existingSecret": "certificate"},
      "clients": {"existingSecret": "users"}},
     {"TARN_FALLBACK_TLS_CERTIFICATE": "/etc/tarn/tls/tls.crt", "TARN_FALLBACK_TLS_KEY": "/etc/tarn/tls/tls.key",
      "TARN_FALLBACK_CLIENTS_HTPASSWD": "/etc/tarn/clients/htpasswd"})])
def test_a_configuration_of_somebody_else_is_left_as_it_is(config, variables, tmp_path):
    things = render(config)
    container = cache(things)["spec"]["template"]["spec"]["containers"][0]
    given = {one["name"]: one.get("value") for one in container["env"]}
    assert {**given, **variables} == given
    assert given["TARN_FALLBACK_MAX_SIZE"] == "184320MiB"
    if "config" in config:
        assert yaml.safe_load(configuration(things)) == config["config"]
        (tmp_path / "tarn.yaml").write_text(configuration(things))
        run([TARN, "check-config", tmp_path / "tarn.yaml"])


REPLICATION = {"kind": "Deployment", "replicas": 3, "storage": {"emptyDir": {"enabled": True}},
               "replication": {"enabled": True}}


def test_replicas_find_each_other_by_a_service_of_the_ready_pods():
    things = render({**REPLICATION, "config": {"listen": ":8000"}})
    service = find(things, "Service", "cache-tarn-replicas")["spec"]
    assert service["clusterIP"] == "None" and "publishNotReadyAddresses" not in service
    assert service["ports"] == [{"name": "registry", "port": 8000, "targetPort": "registry",
                                 "protocol": "TCP"}]
    section = yaml.safe_load(configuration(things))["replicas"]
    namespace = cache(things)["metadata"]["namespace"]
    assert section == {"dns": f"cache-tarn-replicas.{namespace}.svc", "port": 8000,
                       "secret_file": "/etc/tarn/replicas/secrets"}
    assert find(things, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    spread = cache(things)["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert [each["topologyKey"] for each in spread] == ["kubernetes.io/hostname",
                                                        "topology.kubernetes.io/zone"]


def test_the_secret_of_the_replicas_is_random_or_yours():
    made = [base64.b64decode(find(render(REPLICATION), "Secret",
                                  "cache-tarn-replicas")["data"]["secrets"]) for _ in range(2)]
    assert len(made[0]) == 64 and made[0] != made[1]
    things = render({**REPLICATION, "replication": {"enabled": True, "existingSecret": "mine"}})
    assert [one for one in things if one["kind"] == "Secret"] == []
    pod = cache(things)["spec"]["template"]["spec"]
    assert {"name": "replicas", "secret": {"secretName": "mine", "defaultMode": 0o440, "items": [
        {"key": "secrets", "path": "secrets"}]}} in pod["volumes"]
    assert {"name": "replicas", "mountPath": "/etc/tarn/replicas",
            "readOnly": True} in pod["containers"][0]["volumeMounts"]


def test_a_network_policy_lets_replicas_reach_each_other():
    policy = {"enabled": True, "from": [{"namespaceSelector": {}}],
              "egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]}
    things = render({**REPLICATION, "networkPolicy": policy})
    own = {"podSelector": {"matchLabels": cache(things)["spec"]["selector"]["matchLabels"]}}
    spec = find(things, "NetworkPolicy")["spec"]
    assert spec["ingress"][0]["from"] == [{"namespaceSelector": {}}, own]
    assert spec["egress"][1]["to"] == [own]
    alone = render({**REPLICATION, "replication": {"enabled": False}, "networkPolicy": policy})
    assert own not in find(alone, "NetworkPolicy")["spec"]["ingress"][0]["from"]


def test_replicas_with_a_certificate_speak_tls():
    given = {"certManager": {"enabled": True, "issuerRef": {"name": "a"}, "dnsNames": ["b.example"]}}
    section = yaml.safe_load(configuration(render({**REPLICATION, "tls": given})))["replicas"]
    assert section["tls"] == {"ca": "/etc/tarn/tls/ca.crt", "name": "b.example"}
    pod = cache(render({**REPLICATION, "tls": given, "existingConfigMap": "mine"}))
    given = {one["name"]: one.get("value")
             for one in pod["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert given["TARN_FALLBACK_REPLICAS_TLS_NAME"] == "b.example"
    assert given["TARN_FALLBACK_REPLICAS_SECRET_FILE"] == "/etc/tarn/replicas/secrets"


def test_ports_follow_a_configuration_of_the_cncf_registry():
    things = render({"config": {"version": 0.1, "proxy": {"remoteurl": "https://a.example"},
                                "http": {"addr": ":8000", "debug": {"addr": ":8001"}}}})
    container = cache(things)["spec"]["template"]["spec"]["containers"][0]
    assert {one["name"]: one["containerPort"] for one in container["ports"]} == {
        "registry": 8000, "metrics": 8001}


@pytest.mark.parametrize("grace, seconds", [(None, 45), ("30s", 45), ("2m", 135), ("1m30s", 105),
                                            ("500ms", 15), ("1h", 3615)])
def test_a_pod_has_the_time_that_its_tarn_wants_for_its_end(grace, seconds):
    config = {} if grace is None else {"grace": grace}
    assert template_of({"config": config})["spec"]["terminationGracePeriodSeconds"] == seconds


# ---- secrets ----


def test_no_secret_is_in_a_configmap_an_argument_or_an_annotation():
    things = render({"clients": {"htpasswd": f"alice:{HASH}\nbob:{HASH}\n"}, **KEEP, **NODES})
    holders = set()
    for each in things:
        for _, text in leaves(each):
            if HASH in text or base64.b64encode(HASH.encode()).decode()[4:-4] in text:
                holders.add(each["kind"])
    secret = find(things, "Secret")
    assert base64.b64decode(secret["data"]["htpasswd"]).decode() == f"alice:{HASH}\nbob:{HASH}\n"
    assert holders <= {"Secret"}


def test_secrets_are_mounted_as_folders_so_that_tarn_sees_their_changes():
    for name in VALUE_FILES:
        for _, pod in pods(rendered(name)):
            for container in pod["spec"]["containers"]:
                assert not [one for one in container.get("volumeMounts", []) if "subPath" in one]


def secret_values():
    return {"clients": {"htpasswd": f"alice:{HASH}"}, "tls": {"existingSecret": "certificate"}}


def template_of(values):
    return cache(render(values))["spec"]["template"]


def test_a_change_of_the_configuration_rolls_the_pods():
    assert template_of({}) != template_of({"config": {"tag_ttl": "5m"}})
    one = {"google": {"credentialConfig": '{"type": "external_account", "a": 1}'}}
    other = {"google": {"credentialConfig": '{"type": "external_account", "a": 2}'}}
    assert template_of(one) != template_of(other)
    changed = json.loads(json.dumps(KEEP))
    changed["keep"]["config"]["refresh"] = "1m"
    def keep(values):
        return find(render(values), "Deployment")["spec"]["template"]
    assert keep(KEEP) != keep(changed)
    assert keep(KEEP) != keep({"keep": {**KEEP["keep"], "machines": {"m": {"name": "m"}}}})
    def nodes(values):
        return find(render(values), "DaemonSet")["spec"]["template"]
    assert nodes(NODES) != nodes({**NODES, "config": {"upstreams": [{"host": "ghcr.io"}]}})
    assert nodes(NODES) == nodes({**NODES, "config": {"max_age": "3d"}})


def test_a_change_of_keep_does_not_roll_the_cache():
    assert template_of(KEEP) == template_of({})


def test_a_change_of_users_does_not_roll_the_pods():
    other = json.loads(json.dumps(secret_values()))
    other["clients"]["htpasswd"] += f"\nbob:{HASH}"
    assert template_of(secret_values()) == template_of(other)


def test_a_new_version_of_the_chart_changes_no_selector_and_no_claim():
    for name in VALUE_FILES:
        for each, pod in pods(rendered(name)):
            if each["kind"] != "Pod":
                assert "app.kubernetes.io/version" not in pod["metadata"]["labels"]
    claim = find(rendered("default"), "StatefulSet")["spec"]["volumeClaimTemplates"][0]
    assert set(claim["metadata"]["labels"]) == {
        "app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component"}


def test_selectors_depend_on_nothing_but_the_release():
    found = {}
    for name in VALUE_FILES:
        for each in rendered(name):
            if each["kind"] in ("StatefulSet", "Deployment", "DaemonSet"):
                selector = each["spec"]["selector"]["matchLabels"]
                assert selector.items() <= each["spec"]["template"]["metadata"]["labels"].items()
                assert found.setdefault(component(each), selector) == selector
            elif each["kind"] == "Service":
                assert each["spec"]["selector"]["app.kubernetes.io/instance"] == "cache"
    assert found["cache"] == {"app.kubernetes.io/name": "tarn", "app.kubernetes.io/instance": "cache",
                              "app.kubernetes.io/component": "cache"}
    other = objects(template("--values", str(value_file("default")), release="other").stdout)
    assert cache(other)["spec"]["selector"]["matchLabels"]["app.kubernetes.io/instance"] == "other"


# ---- pods and rights ----


@pytest.mark.parametrize("name", VALUE_FILES)
def test_pods_know_no_services_and_have_no_token(name):
    for each, pod in pods(rendered(name)):
        assert pod["spec"]["enableServiceLinks"] is False
        assert pod["spec"]["automountServiceAccountToken"] is (component(each) == "keep")


@pytest.mark.parametrize("name", VALUE_FILES)
def test_nothing_is_cluster_wide_without_keep(name):
    things = rendered(name)
    kinds = {each["kind"] for each in things}
    has_keep = any(component(each) == "keep" for each, _ in pods(things))
    assert bool(kinds & set(CLUSTER_WIDE)) == has_keep
    assert ("Role" in kinds) == has_keep
    for each in things:
        # A class of pods has no namespace, and gives nobody a right.
        if each["kind"] not in [*CLUSTER_WIDE, "RuntimeClass"]:
            assert each["metadata"]["namespace"], each["metadata"]["name"]


def rules(roles):
    return sorted((tuple(rule["apiGroups"]), tuple(rule["resources"]), tuple(rule["verbs"]),
                   tuple(rule.get("resourceNames", ()))) for role in roles for rule in role["rules"])


def test_the_rights_of_keep_are_those_that_its_page_lists():
    text = (TREE / "docs" / "keep.md").read_text()
    documented = objects(text.split("```yaml\nkind: ClusterRole", 1)[1].split("```", 1)[0].join(
        ["kind: ClusterRole", ""]))
    things = render(KEEP)
    for kind in ("ClusterRole", "Role"):
        assert rules([find(things, kind)]) == rules([one for one in documented if one["kind"] == kind])


def test_pullers_may_have_a_namespace_of_their_own():
    things = render({"keep": {**KEEP["keep"], "namespace": "pullers"}})
    roles = {one["metadata"]["namespace"]: one for one in things if one["kind"] == "Role"}
    assert rules([roles["pullers"]]) == [
        (("",), ("pods",), ("get", "list", "watch", "create", "delete"), ())]
    assert rules(roles.values()) == rules([find(render(KEEP), "Role")])
    assert yaml.safe_load(configuration(things, "cache-tarn-keep"))["keep"]["namespace"] == "pullers"
    assert find(things, "NetworkPolicy")["metadata"]["namespace"] == "pullers"


@pytest.mark.parametrize("name", VALUE_FILES)
def test_probes_need_no_password_and_liveness_looks_at_the_process_alone(name):
    for each, pod in pods(rendered(name)):
        if each["kind"] == "Pod":
            continue
        container = pod["spec"]["containers"][0]
        assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
        for probe in ("livenessProbe", "readinessProbe"):
            assert "httpHeaders" not in container[probe]["httpGet"]
            assert container[probe]["httpGet"]["port"] in {one["name"] for one in container["ports"]}


@pytest.mark.parametrize("values, scheme", [
    ({}, "HTTP"), ({"tls": {"existingSecret": "a"}}, "HTTPS"),
    ({"config": {"tls": {"certificate": "/etc/tarn/a/b", "key": "/etc/tarn/a/c"}}}, "HTTPS"),
    ({"tls": {"certManager": {"enabled": True, "issuerRef": {"name": "a"}}}}, "HTTPS")])
def test_probes_speak_tls_when_the_cache_does(values, scheme):
    container = template_of(values)["spec"]["containers"][0]
    assert container["livenessProbe"]["httpGet"]["scheme"] == scheme


def test_a_deployment_with_a_volume_is_recreated():
    for storage in ({}, {"existingClaim": "mine"}):
        thing = cache(render({"kind": "Deployment", "storage": storage}))
        assert thing["spec"]["strategy"] == {"type": "Recreate"}
    thing = cache(render({"kind": "Deployment", "storage": {"emptyDir": {"enabled": True}}}))
    assert thing["spec"]["strategy"]["type"] == "RollingUpdate"


def test_the_claim_stays_unless_the_values_say_otherwise():
    for retain, policy in ((True, "Retain"), (False, "Delete")):
        thing = cache(render({"storage": {"retain": retain}}))
        assert thing["spec"]["persistentVolumeClaimRetentionPolicy"] == {
            "whenDeleted": policy, "whenScaled": "Retain"}
        claim = find(render({"kind": "Deployment", "storage": {"retain": retain}}),
                     "PersistentVolumeClaim")
        notes = claim["metadata"].get("annotations", {})
        assert notes.get("helm.sh/resource-policy") == ("keep" if retain else None)


def test_a_disruption_budget_is_there_from_two_replicas_on():
    def budgets(values):
        return [one for one in render(values) if one["kind"] == "PodDisruptionBudget"]
    assert not budgets({}) and len(budgets({"replicas": 2})) == 1
    assert not budgets({"replicas": 2, "podDisruptionBudget": {"enabled": False}})


# ---- nodes ----


def node_commands(values):
    spec = find(render(values), "DaemonSet")["spec"]["template"]["spec"]
    watch = spec["containers"][0]
    return spec["initContainers"][0]["args"], watch["args"], \
        watch["lifecycle"]["preStop"]["exec"]["command"]


@pytest.mark.parametrize("values, url", [
    (NODES, "http://127.0.0.1:30500"),
    ({"nodes": {"enabled": True, "url": "http://10.1.2.3:5000"}}, "http://10.1.2.3:5000")])
def test_nodes_are_sent_to_where_they_reach_the_cache(values, url):
    for command in node_commands(values):
        assert f"--url={url}" in command


def test_tarn_takes_the_commands_of_the_nodes(tmp_path):
    values = {**NODES, "nodes": {"enabled": True, "registries": ["docker.io", "ghcr.io"],
                                 "certsDir": "/etc/other/certs.d"}}
    config = tmp_path / "tarn.yaml"
    config.write_text(configuration(render(values), "cache-tarn-nodes"))
    environment = {"TARN_CONFIG": str(config), "PATH": "/usr/bin:/bin"}
    def placed(command):
        return [word.replace("--destdir=/host", f"--destdir={tmp_path}") for word in command]
    install, watch, remove = node_commands(values)
    files = tmp_path / "etc" / "other" / "certs.d"
    run([TARN, *placed(install)], environment)
    assert {path.name for path in files.iterdir()} == {"docker.io", "ghcr.io"}
    text = (files / "ghcr.io" / "hosts.toml").read_text()
    assert 'server = "https://ghcr.io"' in text and 'dial_timeout = "200ms"' in text
    assert "http://127.0.0.1:30500" in text
    run([TARN, *placed(remove[1:])], environment)
    assert not files.exists() or not list(files.iterdir())
    assert [word for word in watch if not word.startswith("--listen")][2:] == install[2:]


def test_tarn_takes_the_command_of_the_watch(tmp_path):
    spec = find(rendered("each-node"), "DaemonSet", "cache-tarn-nodes")["spec"]["template"]["spec"]
    port = free_port()
    command = [word.replace("--destdir=/host", f"--destdir={tmp_path}").replace(
        "--listen=:5002", f"--listen=127.0.0.1:{port}") for word in spec["containers"][0]["args"]]
    (tmp_path / "tarn.yaml").write_text("{}")
    assert "--after=2" in command and "--every=10s" in command
    watch = Program([TARN, *command], tmp_path / "watch.log",
                    {"TARN_CONFIG": str(tmp_path / "tarn.yaml"), "PATH": "/usr/bin:/bin"})
    alive = ["curl", "-sf", f"http://127.0.0.1:{port}/livez"]
    try:
        watch.wait_ready(lambda: run(alive, check=False).returncode == 0)
    finally:
        assert watch.stop() == 0, watch.log()


def test_tarn_takes_the_command_of_the_credential_provider(tmp_path):
    spec = find(rendered("nodes"), "DaemonSet")["spec"]["template"]["spec"]
    provider = next(one for one in spec["initContainers"] if one["name"] == "credential-provider")
    command = [word.replace("--destdir=/host", f"--destdir={tmp_path}") for word in provider["args"]]
    for mount in provider["volumeMounts"]:
        (tmp_path / mount["mountPath"].removeprefix("/host/")).mkdir(parents=True, exist_ok=True)
    run([TARN, *command])
    assert (tmp_path / "usr/local/lib/kubelet-credential-providers/tarn").exists()
    config = yaml.safe_load((tmp_path / "etc/kubernetes/credential-provider.yaml").read_text())
    assert "//iam.googleapis.com/projects/1/" in json.dumps(config)


def test_the_daemonset_may_be_alone_in_a_namespace():
    values = {**NODES, "nodes": {"enabled": True, "namespace": "alone"}}
    for each in render(values):
        expected = "alone" if component(each) == "nodes" else "tarn"
        assert each["metadata"]["namespace"] == expected
        kinds = {"ServiceAccount", "ConfigMap", "DaemonSet"}
        assert component(each) != "nodes" or each["kind"] in kinds


def test_only_the_folders_of_containerd_are_mounted_on_a_node():
    spec = find(render(NODES), "DaemonSet")["spec"]["template"]["spec"]
    paths = {one["hostPath"]["path"]: one["name"] for one in spec["volumes"] if "hostPath" in one}
    assert set(paths) == {"/etc/containerd", "/etc/containerd/certs.d"}
    mounts = {one["name"]: one for one in spec["containers"][0]["volumeMounts"]}
    assert mounts[paths["/etc/containerd"]]["readOnly"] is True
    assert spec["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": ["DAC_OVERRIDE"]}}


# ---- monitoring ----


def test_promtool_takes_the_rules(tmp_path):
    rule = find(render({**KEEP, "monitoring": {"rules": {"enabled": True}}}), "PrometheusRule")
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump(rule["spec"]))
    run(["promtool", "check", "rules", path])
    alerts = {one["alert"] for group in rule["spec"]["groups"] for one in group["rules"]}
    written = set()
    for name in ("tarn", "tarn-keep"):
        document = yaml.safe_load((TREE / "deploy" / "prometheus" / f"{name}.rules.yml").read_text())
        written |= {one["alert"] for group in document["groups"] for one in group["rules"]}
    assert alerts == written


def test_alerts_can_be_left_out_by_name():
    rule = find(rendered("everything"), "PrometheusRule")
    alerts = {one["alert"] for group in rule["spec"]["groups"] for one in group["rules"]}
    assert "TarnCacheFull" not in alerts and "TarnDown" in alerts


def test_the_dashboard_is_that_of_deploy_grafana():
    shown = find(rendered("everything"), "ConfigMap", "cache-tarn-dashboard")["data"]["tarn.json"]
    assert json.loads(shown) == json.loads((TREE / "deploy" / "grafana" / "tarn.json").read_text())


def test_monitors_name_the_job_that_the_alerts_expect():
    for kind in ("podMonitor", "serviceMonitor"):
        things = render({**KEEP, **NODES, "nodes": {"enabled": True, "listen": ":5002"},
                         "monitoring": {kind: {"enabled": True}}})
        monitors = [one for one in things if one["kind"] in ("PodMonitor", "ServiceMonitor")]
        assert {component(one) for one in monitors} == {"cache", "keep", "nodes"}
        for monitor in monitors:
            label = monitor["spec"]["jobLabel"]
            assert monitor["spec"]["selector"]["matchLabels"][label] == "tarn"


def test_a_package_of_the_chart_renders_the_same(tmp_path):
    run(["helm", "package", CHART, "--destination", tmp_path])
    package = next(tmp_path.glob("tarn-*.tgz"))
    done = subprocess.run(["helm", "template", "cache", package, "--namespace", "tarn", "--values",
                           value_file("everything")], capture_output=True, text=True, check=True)
    assert done.stdout == rendered_text("everything")
