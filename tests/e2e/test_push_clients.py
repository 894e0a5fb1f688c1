"""Real clients push through tarn to a real registry, and pull what they pushed."""

import base64
import json
import pathlib
import shutil
import tempfile

import pytest

from kit.containers import Podman, environment, needs
from kit.content import digest_of
from kit.processes import run

pytestmark = [pytest.mark.xdist_group("origin"), pytest.mark.slow]


@pytest.fixture
def tarn(start_tarn, images, users):
    """A tarn through which alice may push to the origin, and bob may not."""
    return start_tarn([{"host": "origin.test", "url": images.url, "push": True, "delete": True}],
                      clients={"htpasswd": str(users), "rules": [
                          {"users": ["alice"], "push": True}, {"users": ["bob"]}]})


@pytest.fixture
def name(request, tarn):
    """The name of an image of the test's own, at tarn."""
    return f"{tarn.address}/origin.test/{own(request)}:1"


@pytest.fixture
def pushed(request, images):
    """pushed(): the manifest that has come to the origin."""
    return lambda reference="1": images.manifest(own(request), reference)


def own(request):
    return "clients/" + request.node.name.replace("_", "-").lower()[5:60].strip("-")


@pytest.fixture
def auth(tmp_path, tarn):
    path = tmp_path / "auth.json"
    path.write_text(json.dumps({"auths": {tarn.address: {
        "auth": base64.b64encode(b"alice:secret").decode()}}}))
    return path


@pytest.fixture
def podman():
    one = Podman(pathlib.Path(tempfile.mkdtemp(prefix="lake-")))  # podman wants short paths
    yield one
    one.podman("rmi", "--all", "--force", check=False)
    shutil.rmtree(one.directory, ignore_errors=True)


def layers_are_hits(tarn, manifest, name):
    """What was pushed is in the cache."""
    repository = name.partition("/")[2].rpartition(":")[0]
    credentials = base64.b64encode(b"bob:secret").decode()
    for layer in manifest.json()["layers"]:
        got = tarn.get(f"/v2/{repository}/blobs/{layer['digest']}",
                       {"Authorization": f"Basic {credentials}"})
        assert digest_of(got.body) == layer["digest"] and "hit" in got.cache_status


@needs("dockerd", "docker", "containerd")
def test_docker_pushes_and_pulls(tarn, images, name, pushed, dockerd, tmp_path):
    source, config = f"{images.address}/lake/app:1", ("--config", tmp_path / "docker")
    dockerd.docker("pull", source)
    dockerd.docker("tag", source, name)
    said = dockerd.docker(*config, "push", name, check=False)
    assert said.returncode != 0
    dockerd.docker(*config, "login", "-u", "bob", "-p", "secret", tarn.address)
    assert "denied" in dockerd.docker(*config, "push", name, check=False).stderr
    dockerd.docker(*config, "login", "-u", "alice", "-p", "secret", tarn.address)
    first = dockerd.docker(*config, "push", name).stdout
    assert pushed()["Docker-Content-Digest"] in first
    layers_are_hits(tarn, pushed(), name)
    again = dockerd.docker(*config, "push", name).stdout  # now all is there
    assert pushed()["Docker-Content-Digest"] in again and "Layer already exists" in again
    dockerd.docker("rmi", "--force", source, name)
    dockerd.docker(*config, "pull", name)
    dockerd.docker("rmi", "--force", name)


@needs("podman")
def test_podman_pushes_and_pulls(tarn, images, name, pushed, podman, auth):
    source, options = f"{images.address}/lake/app:1", ("--tls-verify=false", "--authfile", auth)
    podman.podman("pull", "--quiet", "--tls-verify=false", source)
    assert podman.podman("push", "--tls-verify=false", "--creds", "bob:secret", source, name,
                         check=False).returncode != 0
    podman.podman("push", "--quiet", *options, source, name)
    layers_are_hits(tarn, pushed(), name)
    podman.podman("rmi", "--all", "--force")
    podman.podman("pull", "--quiet", *options, name)


@needs("buildah")
def test_buildah_builds_and_pushes(tarn, name, pushed, auth, tmp_path):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="lake-"))
    (tmp_path / "greeting").write_text("hello\n")
    buildah = ["buildah", "--root", folder / "root", "--runroot", folder / "run",
               "--storage-driver", "vfs"]
    try:
        made = run([*buildah, "from", "scratch"], environment(folder)).stdout.strip()
        run([*buildah, "copy", made, tmp_path / "greeting", "/"], environment(folder))
        run([*buildah, "commit", "--quiet", made, "greeting"], environment(folder))
        for _ in range(2):
            run([*buildah, "push", "--quiet", "--tls-verify=false", "--authfile", auth, "greeting",
                 f"docker://{name}"], environment(folder))
        layers_are_hits(tarn, pushed(), name)
    finally:
        run([*buildah, "rm", "--all"], environment(folder), check=False)
        shutil.rmtree(folder, ignore_errors=True)


@needs("skopeo")
def test_skopeo_copies_an_index_and_deletes_it(tarn, images, name, pushed, auth, tmp_path):
    copy = ["skopeo", "copy", "--quiet", "--all", "--src-tls-verify=false",
            "--dest-tls-verify=false", "--dest-authfile", auth]
    run([*copy, f"docker://{images.address}/lake/platforms:1", f"docker://{name}"])
    assert pushed().body == images.manifest("lake/platforms", "1").body
    run([*copy, "--src-authfile", auth, f"docker://{name}", f"oci:{tmp_path / 'pulled'}:1"])
    delete = ["skopeo", "delete", "--tls-verify=false", "--authfile", auth, f"docker://{name}"]
    run(delete)
    assert run(delete, check=False).returncode != 0
    assert run(["skopeo", "inspect", "--tls-verify=false", "--authfile", auth, f"docker://{name}"],
               check=False).returncode != 0
