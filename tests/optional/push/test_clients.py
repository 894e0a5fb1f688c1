"""crane, regctl and oras push through tarn to a real registry, tag, and delete."""

import base64
import json

import pytest

from kit.containers import environment, needs
from kit.content import noise
from kit.processes import run


@pytest.fixture
def tarn(start_tarn, images, users):
    return start_tarn([{"host": "origin.test", "url": images.url, "push": True, "delete": True}],
                      clients={"htpasswd": str(users), "rules": [
                          {"users": ["alice"], "push": True}, {"users": ["bob"]}]})


@pytest.fixture
def home(tmp_path, tarn):
    """A home whose docker configuration logs in as alice."""
    folder = tmp_path / "home"
    (folder / ".docker").mkdir(parents=True)
    (folder / ".docker" / "config.json").write_text(json.dumps({"auths": {tarn.address: {
        "auth": base64.b64encode(b"alice:secret").decode()}}}))
    return folder


def at(tarn, name):
    return f"{tarn.address}/origin.test/{name}"


@needs("crane")
def test_crane(tarn, images, home, tmp_path):
    def crane(*arguments, **more):
        return run(["crane", "--insecure", *arguments], environment(home), **more)

    name = at(tarn, "crane/app")
    crane("copy", f"{images.address}/lake/platforms:1", f"{name}:1")
    assert images.manifest("crane/app", "1").body == images.manifest("lake/platforms", "1").body
    crane("copy", f"{images.address}/lake/app:1", f"{name}:one")
    crane("copy", f"{name}:one", f"{at(tarn, 'crane/other')}:1")  # mounts
    crane("tag", f"{name}:one", "two")
    assert {"1", "one", "two"} <= set(crane("ls", name).stdout.split())
    crane("pull", f"{name}:one", tmp_path / "image.tar")
    crane("push", tmp_path / "image.tar", f"{name}:pushed")
    (tmp_path / "file").write_bytes(noise(100_000))
    run(["tar", "-C", tmp_path, "-cf", tmp_path / "layer.tar", "file"])
    crane("append", "--base", f"{name}:one", "--new_layer", tmp_path / "layer.tar", "--new_tag",
          f"{name}:more")
    layers = images.manifest("crane/app", "more").json()["layers"]
    assert len(layers) == len(images.manifest("lake/app", "1").json()["layers"]) + 1
    digest = crane("digest", f"{name}:more").stdout.strip()
    crane("delete", f"{name}@{digest}")
    assert crane("digest", f"{name}:more", check=False).returncode != 0


@needs("regctl")
def test_regctl(tarn, images, home):
    def regctl(*arguments, **more):
        return run(["regctl", "--host", f"reg={tarn.address},tls=disabled,blobChunk=1000000,"
                    "blobMax=2000000", "--host",
                    f"reg={images.address},tls=disabled", *arguments], environment(home), **more)

    name = at(tarn, "regctl/app")
    regctl("image", "copy", f"{images.address}/lake/platforms:1", f"{name}:1")
    assert images.manifest("regctl/app", "1").body == images.manifest("lake/platforms", "1").body
    regctl("image", "copy", f"{images.address}/lake/app:1", f"{name}:one")
    (home / "file").write_bytes(noise(5_000_000))
    regctl("artifact", "put", "--artifact-type", "application/x.test", "--file", home / "file",
           "--subject", f"{name}:one")
    assert "application/x.test" in regctl("artifact", "list", f"{name}:one").stdout
    digest = regctl("image", "digest", f"{name}:one").stdout.strip()
    regctl("manifest", "delete", f"{name}@{digest}")
    assert regctl("image", "digest", f"{name}:one", check=False).returncode != 0


@needs("oras")
def test_oras(tarn, images, home):
    def oras(*arguments, **more):
        return run(["oras", *arguments], environment(home), directory=home, **more)

    name, content = at(tarn, "oras/files"), noise(3_000_000)
    (home / "file").write_bytes(content)
    oras("push", "--plain-http", f"{name}:1", "file:application/x.test")
    assert len(images.manifest("oras/files", "1").json()["layers"]) == 1
    oras("attach", "--plain-http", "--artifact-type", "application/x.signature", f"{name}:1",
         "file:application/x.test")
    assert "application/x.signature" in oras("discover", "--plain-http", f"{name}:1").stdout
    (home / "file").unlink()
    oras("pull", "--plain-http", f"{name}:1")
    assert (home / "file").read_bytes() == content
    oras("tag", "--plain-http", f"{name}:1", "2")
    oras("copy", "--from-plain-http", "--to-plain-http", "--recursive", f"{name}:2",
         f"{at(tarn, 'oras/copy')}:1")
    oras("manifest", "delete", "--plain-http", "--force", f"{name}:2")
    assert oras("resolve", "--plain-http", f"{name}:1", check=False).returncode != 0
