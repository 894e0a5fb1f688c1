"""Pushes through tarn to a real registry, by the distribution API and by real clients."""

import base64
import json

import pytest

from kit.client import fetch
from kit.containers import needs
from kit.content import MIB, OCI_MANIFEST, OCTETS, digest_of, manifest, noise
from kit.processes import run
from kit.tokens import basic

pytestmark = pytest.mark.xdist_group("origin")

AUTH = {"Authorization": basic("alice", "secret")}


@pytest.fixture
def pushing(start_tarn, origin, users):
    """A tarn through which alice may push to the origin, and bob may not."""
    return start_tarn([{"host": "origin.test", "url": origin.url, "push": True, "delete": True}],
                      clients={"htpasswd": str(users), "rules": [
                          {"users": ["alice"], "push": True}, {"users": ["bob"]}]})


@pytest.fixture
def unique(request):
    """A repository of the test's own."""
    return "push/" + request.node.name.replace("_", "-").lower()[:60].strip("-")


def push_blob(tarn, repository, content, headers=None):
    begun = fetch(f"{tarn.url}/v2/{repository}/blobs/uploads/", AUTH, method="POST")
    assert begun.status == 202, begun
    place = tarn.url + begun["Location"]
    sent = fetch(place, {**AUTH, "Content-Type": OCTETS, **(headers or {})}, method="PATCH",
                 body=content)
    assert sent.status == 202, sent
    assert sent["Range"] == f"0-{len(content) - 1}"
    done = fetch(f"{tarn.url}{sent['Location']}&digest={digest_of(content)}", AUTH, method="PUT")
    assert done.status == 201, done
    return done


def test_an_image_is_pushed_by_hand(pushing, origin, unique):
    layer, config = noise(3 * MIB), b"{}"
    name = f"origin.test/{unique}"
    for blob in (layer, config):
        done = push_blob(pushing, name, blob)
        assert done["Docker-Content-Digest"] == digest_of(blob)
        assert done["Location"] == f"/v2/{name}/blobs/{digest_of(blob)}"
    document = manifest(config, [layer])
    put = fetch(f"{pushing.url}/v2/{name}/manifests/1", {**AUTH, "Content-Type": OCI_MANIFEST},
                method="PUT", body=document)
    assert put.status == 201, put
    assert put["Docker-Content-Digest"] == digest_of(document)
    assert origin.manifest(unique, "1").body == document
    assert fetch(f"{origin.url}/v2/{unique}/blobs/{digest_of(layer)}").body == layer
    mark = len(origin.log())
    got = fetch(f"{pushing.url}/v2/{name}/blobs/{digest_of(layer)}", AUTH)
    assert got.body == layer and "hit" in got.cache_status
    got = fetch(f"{pushing.url}/v2/{name}/manifests/1", AUTH)
    assert got.body == document and "hit" in got.cache_status
    assert not origin.blob_requests(mark)


def auth_file(tmp_path, tarn):
    path = tmp_path / "auth.json"
    path.write_text(json.dumps({"auths": {tarn.address: {
        "auth": base64.b64encode(b"alice:secret").decode()}}}))
    return path


@needs("skopeo")
def test_skopeo_pushes_and_pulls(pushing, origin, images, tmp_path, unique):
    auth = auth_file(tmp_path, pushing)
    for _ in range(2):  # the second time all is there
        run(["skopeo", "copy", "--quiet", "--dest-tls-verify=false", "--src-tls-verify=false",
             "--dest-authfile", auth, f"docker://{origin.address}/lake/app:1",
             f"docker://{pushing.address}/origin.test/{unique}:1"])
    run(["skopeo", "copy", "--quiet", "--src-tls-verify=false", "--src-authfile", auth,
         f"docker://{pushing.address}/origin.test/{unique}:1", f"dir:{tmp_path}/pulled"])
    got = (tmp_path / "pulled" / "manifest.json").read_bytes()
    assert got == origin.manifest(unique, "1").body
