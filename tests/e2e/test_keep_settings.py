"""The settings of `tarn keep` from flags, variables and cachemachine's mounts."""

import json

import pytest

from kit.keeps import LAB, keeper, kubelets, registry  # noqa: F401  (fixtures)
from kit.processes import Program, free_port, wait_until
from kit.tokens import basic


class Flagged:
    """Starts a keeper with further flags."""

    def __init__(self, one):
        self.one = one

    def start(self, *flags):
        one = self.one
        one.write()
        one.process = Program([one.program, "keep", "--config", one.config, *flags],
                              one.directory / "keep.log", one.environment, one.directory)
        one.process.wait_ready(lambda: one._is_up(True))
        return one


def test_flags_override_the_file(keeper, kubelets, tmp_path):
    kubelets.node("n1")
    one = keeper(images=[{"image": f"{LAB}:w_2024_01"}], refresh="5m")
    folder = tmp_path / "specs"
    folder.mkdir()
    (folder / "m").write_text(json.dumps({"name": "m", "labels": {}, "repomen": []}))
    one.port = free_port()
    Flagged(one).start("--listen", f"127.0.0.1:{one.port}", "--refresh=9m", "--operators=anyone",
                       "--machines", str(folder), "--prefix", "cache", "--nublado=labs",
                       "--namespace", "tarn")
    assert one.json("/cache/") == ["m", "labs"]
    assert one.get("/cache/labs", method="DELETE").status == 200
    one.stop()


def test_variables_override_the_file_and_stay_at_a_reload(keeper, kubelets):
    kubelets.node("n1")
    one = keeper(images=[{"image": f"{LAB}:w_2024_01"}],
                 environment={"TARN_KEEP_PREFIX": "cache", "TARN_KEEP_REFRESH": "9m"}).start()
    one.wait_all()
    assert one.json("/cache/") == ["labs"]
    assert one.json("/nublado/spawner/v1/prepulls")["config"]["refresh_interval"] == 540.0


@pytest.mark.parametrize("flag, problem", [
    ("--refresh=1ms", '--refresh: "1ms" is too small; the minimum is 1s'),
    ("--listen=x", "--listen: "),
    ("--operators=/absent", '--operators: "/absent" cannot be read: No such file or directory; '
                            "write an htpasswd file, or anyone"),
    ("--kubeconfig=/absent", '--kubeconfig: "/absent" cannot be read'),
])
def test_a_wrong_flag_is_told(keeper, kubelets, flag, problem):
    done = keeper().once(flag)
    assert done.returncode == 1
    assert problem in done.stderr


def test_a_setting_of_serve_is_no_flag_of_keep(keeper, kubelets):
    done = keeper().once("--max-size=1GiB")
    assert done.returncode == 2
    assert "--max-size" in done.stderr


# ---- credentials

def docker_config(path, host, user="robot", password="secret"):
    path.write_text(json.dumps({"auths": {host: {
        "auth": basic(user, password).removeprefix("Basic ")}}}))
    return path


def test_upstreams_without_credentials_have_those_of_cachemachines_secret(
        keeper, kubelets, registry, tmp_path):
    kubelets.node("n1")
    registry.basic = ("robot", "secret")
    one = keeper(images=[{"image": f"{LAB}:w_2024_01"}],
                 docker_config=str(docker_config(tmp_path / "pull.json", "fake.test"))).start()
    wait_until(lambda: any(image["digest"] for image in one.json("/tarn/v1/keeps/labs")["images"]), "the digest")
    assert basic("robot", "secret") in [
        request.headers.get("authorization") for request in registry.asked("/manifests/w_2024_01")]


def test_a_host_that_no_upstream_names_is_asked_over_https(keeper, kubelets):
    kubelets.node("n1")
    one = keeper(images=[{"image": "registry.nobody.invalid/org/lab:1"}]).start()
    def error():
        return one.json("/tarn/v1/keeps/labs")["source"]["error"] or ""
    wait_until(error, "an error", 60)
    assert "no upstream is configured" not in error()
    assert "registry.nobody.invalid" in error()


@pytest.mark.parametrize("host", ["10.0.0.1", "10.0.0.1:5000", "registry:5000", "[::1]:5000"])
def test_a_place_of_this_network_is_asked_only_if_an_upstream_names_it(keeper, kubelets, host):
    kubelets.node("n1")
    one = keeper(images=[{"image": f"{host}/org/lab:1"}]).start()
    def error():
        return one.json("/tarn/v1/keeps/labs")["source"]["error"] or ""
    wait_until(error, "an error", 60)
    assert f"no upstream is configured for {host}" in error()
