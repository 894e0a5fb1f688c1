"""Helm logs in by a password, by a token and by a certificate, pulls a chart, and pushes one."""

import gzip
import io
import json
import tarfile

import pytest

from kit.authority import Authority
from kit.containers import environment
from kit.content import OCI_MANIFEST, manifest
from kit.htpasswd import write_htpasswd
from kit.issuer import TokenServer
from kit.processes import free_port, run
from kit.tarn import TlsTarn, self_signed

CHART = {"apiVersion": "v2", "name": "lake", "version": "1.0.0"}


def packed_chart():
    """lake-1.0.0.tgz, as `helm package` makes it."""
    text = "".join(f"{key}: {value}\n" for key, value in CHART.items()).encode()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        entry = tarfile.TarInfo("lake/Chart.yaml")
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text))
    return gzip.compress(out.getvalue(), mtime=0)


@pytest.fixture
def chart(upstream):
    """The chart in the repository charts/lake of the upstream."""
    repository, packed = upstream.repository("charts/lake"), packed_chart()
    config = json.dumps(CHART).encode()
    for blob in (config, packed):
        repository.add_blob(blob)
    repository.add_manifest(
        manifest(config, [packed], config_type="application/vnd.cncf.helm.config.v1+json",
                 layer_type="application/vnd.cncf.helm.chart.content.v1.tar+gzip"),
        OCI_MANIFEST, tag="1.0.0")
    return packed


@pytest.fixture
def helm(tmp_path):
    """helm(ARGUMENT...) with a home of its own."""
    home = tmp_path / "home"
    home.mkdir()
    return lambda *arguments, check=True: run(["helm", *arguments], environment=environment(home),
                                              directory=home, check=check)


def pull(helm, tarn, *more, host="127.0.0.1", check=True):
    return helm("pull", f"oci://{host}:{tarn.port}/fake.test/charts/lake", "--version", "1.0.0",
                *more, check=check)


def upstreams(upstream):
    return [{"host": "fake.test", "url": upstream.url, "default": True}]


def test_helm_logs_in_by_a_password(start_tarn, upstream, chart, helm, tmp_path):
    write_htpasswd(tmp_path / "htpasswd", "alice", "bob")
    tarn = start_tarn(upstreams(upstream), clients={
        "htpasswd": str(tmp_path / "htpasswd"),
        "rules": [{"users": ["alice"], "repositories": ["charts/*"]}]})
    assert pull(helm, tarn, "--plain-http", check=False).returncode != 0
    assert helm("registry", "login", "--insecure", "-u", "alice", "-p", "wrong", tarn.address,
                check=False).returncode != 0
    helm("registry", "login", "--insecure", "-u", "alice", "-p", "secret", tarn.address)
    pull(helm, tarn, "--plain-http", "--destination", tmp_path)
    assert (tmp_path / "lake-1.0.0.tgz").read_bytes() == chart
    helm("registry", "login", "--insecure", "-u", "bob", "-p", "secret", tarn.address)
    said = pull(helm, tarn, "--plain-http", check=False)
    assert said.returncode != 0 and "403" in said.stderr


def test_helm_gets_a_token(start_tarn, upstream, chart, helm, tmp_path):
    name = "fake.test/charts/lake"
    service = TokenServer(tmp_path, {"alice": "secret"}, public=[])
    try:
        tarn = start_tarn(upstreams(upstream), clients={"token": service.issuer.settings})
        assert pull(helm, tarn, "--plain-http", check=False).returncode != 0
        helm("registry", "login", "--insecure", "-u", "alice", "-p", "secret", tarn.address)
        pull(helm, tarn, "--plain-http", "--destination", tmp_path)
        assert (tmp_path / "lake-1.0.0.tgz").read_bytes() == chart
        assert f"repository:{name}:pull" in service.scopes
    finally:
        service.stop()


def test_helm_shows_a_certificate(program, upstream, chart, helm, tmp_path):
    addresses = run(["hostname", "-I"]).stdout.split()
    if not addresses:
        pytest.skip("this machine has no address but loopback, and there helm speaks plain HTTP")
    host, port = addresses[0], free_port("0.0.0.0")
    certificate, key = self_signed(tmp_path, names=f"IP:{host}")
    authority = Authority(tmp_path, "authority")
    tarn = TlsTarn(program, tmp_path / "tarn", {
        "listen": [f"0.0.0.0:{port}"],
        "upstreams": upstreams(upstream),
        "tls": {"certificate": str(certificate), "key": str(key)},
        "clients": {"ca": str(authority.certificate), "rules": [{"users": ["alice"]}]}})
    try:
        own, own_key = authority.issue("/CN=alice")
        assert pull(helm, tarn, "--ca-file", certificate, host=host, check=False).returncode != 0
        pull(helm, tarn, "--ca-file", certificate, "--cert-file", own, "--key-file", own_key,
             "--destination", tmp_path, host=host)
        assert (tmp_path / "lake-1.0.0.tgz").read_bytes() == chart
    finally:
        tarn.finish()


def test_helm_pushes_a_chart(start_tarn, origin, helm, tmp_path):
    write_htpasswd(tmp_path / "htpasswd", "alice", "bob")
    tarn = start_tarn([{"host": "origin.test", "url": origin.url, "push": True}], clients={
        "htpasswd": str(tmp_path / "htpasswd"),
        "rules": [{"users": ["alice"], "push": True}, {"users": ["bob"]}]})
    packed, place = tmp_path / "lake-1.0.0.tgz", f"oci://{tarn.address}/origin.test/charts"
    packed.write_bytes(packed_chart())
    helm("registry", "login", "--insecure", "-u", "bob", "-p", "secret", tarn.address)
    assert helm("push", packed, place, "--plain-http", check=False).returncode != 0
    helm("registry", "login", "--insecure", "-u", "alice", "-p", "secret", tarn.address)
    for _ in range(2):
        helm("push", packed, place, "--plain-http")
    (tmp_path / "pulled").mkdir()
    helm("pull", f"{place}/lake", "--version", "1.0.0", "--plain-http", "--destination",
         tmp_path / "pulled")
    assert (tmp_path / "pulled" / "lake-1.0.0.tgz").read_bytes() == packed.read_bytes()
    assert origin.manifest("charts/lake", "1.0.0").status == 200
