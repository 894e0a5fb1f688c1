"""What deploy/kubernetes and the chart's test give tarn to do, without a cluster."""

import os
import pathlib
import subprocess

import pytest
import yaml

from kit.content import KIB, manifest, noise
from kit.htpasswd import write_htpasswd
from kit.processes import free_port, run
from kit.tarn import TlsTarn, self_signed

TREE = pathlib.Path(__file__).resolve().parents[2]
PLAIN = TREE / "deploy" / "kubernetes"
SCRIPT = TREE / "deploy" / "helm" / "tarn" / "files" / "test.sh"
IMAGE = "registry.test/org/app:1"


def objects(name):
    return [each for each in yaml.safe_load_all((PLAIN / name).read_text()) if each]


# ---- the plain manifests ----


@pytest.mark.parametrize("name", ["cache.yaml", "keep/keep.yaml", "nodes/nodes.yaml"])
def test_tarn_takes_the_configuration_of_the_manifests(program, tmp_path, name):
    config, = (each["data"]["tarn.yaml"] for each in objects(name) if each["kind"] == "ConfigMap")
    (tmp_path / "tarn.yaml").write_text(config)
    run([program, "check-config", tmp_path / "tarn.yaml"])


def test_tarn_node_takes_the_configuration_of_the_manifests(program, tmp_path):
    config, = (each["data"]["node.yaml"] for each in objects("streaming/streaming.yaml")
               if each["kind"] == "ConfigMap")
    (tmp_path / "node.yaml").write_text(config)
    run([program, "node", "--check", "--config", tmp_path / "node.yaml"],
        {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)})
    spec, = (each["spec"]["template"]["spec"] for each in objects("streaming/streaming.yaml")
             if each["kind"] == "DaemonSet")
    container, = spec["containers"]
    paths = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    known = yaml.safe_load(config)
    assert (paths["root"], paths["run"]) == (known["root"], known["run"])
    assert container["args"] == ["node"]


def test_tarn_takes_the_commands_for_nodes(program, tmp_path):
    config, = (each["data"]["tarn.yaml"] for each in objects("nodes/nodes.yaml")
               if each["kind"] == "ConfigMap")
    (tmp_path / "tarn.yaml").write_text(config)
    spec, = (each["spec"]["template"]["spec"] for each in objects("nodes/nodes.yaml")
             if each["kind"] == "DaemonSet")
    environment = {"TARN_CONFIG": str(tmp_path / "tarn.yaml"), "PATH": "/usr/bin:/bin"}
    def placed(words):
        return [word.replace("--destdir=/host", f"--destdir={tmp_path}") for word in words]
    files = tmp_path / "etc" / "containerd" / "certs.d"
    run([program, *placed(spec["initContainers"][0]["args"])], environment)
    assert "http://127.0.0.1:30500" in (files / "_default" / "hosts.toml").read_text()
    assert (files / "docker.io" / "hosts.toml").exists()
    watch = spec["containers"][0]
    run([program, *placed(watch["lifecycle"]["preStop"]["exec"]["command"])[1:]], environment)
    assert not files.exists() or not list(files.iterdir())
    port, = (word.rpartition(":")[2] for word in watch["args"] if word.startswith("--listen="))
    assert watch["ports"] == [{"name": "watch", "containerPort": int(port), "hostPort": int(port),
                               "protocol": "TCP"}]


# ---- helm test ----


@pytest.fixture
def test_pod(program, tmp_path):
    """Runs the script of the chart's test pod: (exit code, all that it printed)."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "tarn").symlink_to(program)
    (tmp_path / "tarn.yaml").write_text('listen: ":5000"\nroot: /var/lib/tarn/cache\n')
    for name in ("work", "login"):
        (tmp_path / name).mkdir()

    def run_script(port, image="", **more):
        environment = {
            **{name: value for name, value in os.environ.items() if "SAN_OPTIONS" in name},
            "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "HOME": str(tmp_path),
            "TARN_CONFIG": str(tmp_path / "tarn.yaml"), "CACHE": f"127.0.0.1:{port}",
            "HEALTH": f"127.0.0.1/{port}", "SCHEME": "http", "IMAGE": image,
            "WORK": str(tmp_path / "work"), "LOGIN": str(tmp_path / "login"),
            "AUTHORITIES": str(tmp_path / "absent"), **more}
        done = subprocess.run(["bash", "-c", SCRIPT.read_text()], env=environment, timeout=120,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False)
        return done.returncode, done.stdout
    return run_script


@pytest.fixture
def image(upstream):
    """registry.test/org/app:1 of an upstream; gives how often its layer was asked for."""
    repository = upstream.repository("org/app")
    layer = noise(100 * KIB, "layer")
    digest = repository.add_blob(layer)
    repository.add_blob(b"{}")
    repository.add_manifest(manifest(b"{}", [layer]), tag="1")
    return repository, digest


def cache_entry(upstream, **more):
    return {"host": "registry.test", "url": upstream.url, "credentials": "anonymous", **more}


def test_the_test_of_the_chart_pulls_through_the_cache(image, upstream, start_tarn, test_pod):
    tarn = start_tarn([cache_entry(upstream)])
    code, told = test_pod(tarn.port, IMAGE)
    assert code == 0, told
    assert "200 OK" in told and f"a pull of {IMAGE}" in told
    assert tarn.get(f"/v2/registry.test/org/app/blobs/{image[1]}", method="HEAD").status == 200


def test_without_an_image_nothing_is_pulled(upstream, start_tarn, test_pod):
    tarn = start_tarn([cache_entry(upstream)])
    code, told = test_pod(tarn.port)
    assert code == 0 and "no pull: test.image is empty" in told


def test_an_image_that_is_not_there_fails(image, upstream, start_tarn, test_pod):
    tarn = start_tarn([cache_entry(upstream)])
    code, told = test_pod(tarn.port, "registry.test/org/app:2")
    assert code != 0 and "registry.test/org/app:2" in told
    code, told = test_pod(tarn.port, "busybox:1")
    assert code != 0 and "does not begin with its registry" in told


def test_a_cache_that_does_not_answer_fails(test_pod):
    code, told = test_pod(free_port(), IMAGE)
    assert code != 0 and "a pull" not in told


def test_a_wrong_configuration_fails(upstream, start_tarn, test_pod, tmp_path):
    tarn = start_tarn([cache_entry(upstream)])
    (tmp_path / "tarn.yaml").write_text("max_sise: 1GiB\n")
    code, told = test_pod(tarn.port, IMAGE)
    assert code != 0 and "max_sise" in told and "/readyz" not in told


def test_a_cache_with_a_login_is_pulled_from_with_it(image, upstream, start_tarn, test_pod, tmp_path):
    users = write_htpasswd(tmp_path / "users", "alice")
    tarn = start_tarn([cache_entry(upstream)], clients={"htpasswd": str(users)})
    code, told = test_pod(tarn.port, IMAGE)
    assert code != 0 and "401" in told
    (tmp_path / "login" / "username").write_text("alice")
    (tmp_path / "login" / "password").write_text("secret")
    code, told = test_pod(tarn.port, IMAGE)
    assert code == 0 and "secret" not in told.replace("secretly", ""), told


def test_a_cache_with_tls_is_pulled_from_by_its_authority(
        image, program, upstream, request, test_pod, tmp_path):
    certificate, key = self_signed(tmp_path, "IP:127.0.0.1")
    metrics = free_port()
    tarn = TlsTarn(program, tmp_path / "cache", {
        "upstreams": [cache_entry(upstream)], "metrics_listen": f"127.0.0.1:{metrics}",
        "tls": {"certificate": str(certificate), "key": str(key)}})
    request.addfinalizer(tarn.finish)
    way = {"SCHEME": "https", "HEALTH": f"127.0.0.1/{metrics}"}
    code, told = test_pod(tarn.port, IMAGE, **way)
    assert code != 0 and "certificate" in told
    code, told = test_pod(tarn.port, IMAGE, AUTHORITIES=str(certificate), **way)
    assert code == 0, told
