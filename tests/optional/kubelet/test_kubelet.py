"""A real kubelet asks the provider that tarn installed, and its containerd pulls through tarn."""

import io
import json
import os
import subprocess
import tarfile

from kit.content import digest_of, noise
from kit.processes import run, wait_until

TARN = os.environ["TARN"]


def layer():
    """A file system with one file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info, content = tarfile.TarInfo("noise"), noise(300 * 1024)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


LAYER = layer()
CONFIG = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/noise"]},
                     "rootfs": {"type": "layers", "diff_ids": [digest_of(LAYER)]}}).encode()
IMAGE = "us-docker.pkg.dev/project/repository/app:1"


def tarn(*arguments):
    done = subprocess.run([TARN, *map(str, arguments)], capture_output=True, text=True,
                          timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done


def test_the_kubelet_pulls_with_the_token_of_the_installed_provider(google, start_node, place):
    google.add_image("project/repository/app", "1", CONFIG, [LAYER])
    google.readers = {google.account}
    credentials = place / "google.json"
    credentials.write_text(json.dumps(google.service_account()))
    bin_dir, config = place / "providers", place / "etc/provider.yaml"
    said = tarn("kubelet-credential-provider", "install", "--bin-dir", bin_dir, "--config", config,
                "--credentials", credentials)
    assert f"--image-credential-provider-bin-dir={bin_dir}" in said.stderr
    hosts = place / "etc/containerd/certs.d/us-docker.pkg.dev/hosts.toml"
    hosts.parent.mkdir(parents=True)
    hosts.write_text(f'server = "{google.url}"\n[host."{google.url}"]\n'
                     '  capabilities = ["pull", "resolve"]\n')

    node = start_node((bin_dir, config))
    node.pull("app", IMAGE)
    wait_until(lambda: node.has(IMAGE), "the image on the node", 120)
    assert {who for who, *_ in google.access.values()} == {google.account}
    again = tarn("kubelet-credential-provider", "install", "--bin-dir", bin_dir, "--config", config,
                 "--credentials", credentials)
    assert "is missing" not in again.stderr
    assert f"process {node.kubelet.pid}" in again.stderr


def test_the_kubelet_pulls_through_the_mirror_and_without_it(images, start_tarn, start_node, place):
    lake = start_tarn([{"host": "lake.test", "url": images.url, "tag_ttl": "0"}])
    options = ["--for", "containerd", "--certs-dir", place / "etc/containerd/certs.d", "--config",
               lake.config_path, "--url", lake.url, "--containerd-config",
               place / "etc/containerd/config.toml"]
    node = start_node()
    said = tarn("mirror", "install", "--dial-timeout", "200ms", *options)
    assert "config_path" not in said.stderr
    node.pull("app", "lake.test/lake/app:1")
    wait_until(lambda: node.has("lake.test/lake/app:1"), "the image on the node", 120)
    lake.logged("lake/app")

    lake.stop()
    run(["skopeo", "copy", "--quiet", "--dest-tls-verify=false", "--src-tls-verify=false",
         f"docker://{images.url.removeprefix('http://')}/lake/app:1",
         f"docker://{images.url.removeprefix('http://')}/lake/second:1"])
    node.pull("second", "lake.test/lake/second:1")
    wait_until(lambda: node.has("lake.test/lake/second:1"), "the image without tarn", 120)
    lake.start()


def test_a_list_of_folders_is_read_as_one_name(images, start_tarn, start_node, place):
    """containerd 2.1 to 2.4. When this fails, containerd has learnt it, and the note can go."""
    lake = start_tarn([{"host": "lake.test", "url": images.url, "tag_ttl": "0"}])
    certs = place / "etc/containerd/certs.d"
    node = start_node(config_path=f"{certs}:{place}/etc/docker/certs.d")
    said = tarn("mirror", "install", "--for", "containerd", "--certs-dir", certs, "--config",
                lake.config_path, "--url", lake.url, "--containerd-config",
                place / "etc/containerd/config.toml")
    assert "several folders" in said.stderr
    node.pull("app", "lake.test/lake/app:1")
    wait_until(lambda: "lake.test: no such host" in node.log() or "ErrImagePull" in node.log(),
               "a failed pull", 120)
    assert "lake/app" not in lake.log()
