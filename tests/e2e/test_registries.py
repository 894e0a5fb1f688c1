"""Each registry by its name, with what is odd about it. docs/registries.md says the same to users."""

import json

import pytest

from kit.containers import needs
from kit.content import KIB, digest_of, noise
from kit.processes import run
from kit.tokens import TokenService

TIMEOUTS = {}
LAYER = noise(300 * KIB)
DIGEST = digest_of(LAYER)


def known_as(start_tarn, upstream, host, **more):
    """A tarn that knows the scripted registry by the name of a real one."""
    return start_tarn([{"host": host, "url": upstream.url, "default": True, **more}])


# ---- Amazon ECR Public: every HEAD of a blob is refused; blobs are at CloudFront, signed for GET

ECR_PUBLIC = "public.ecr.aws"


@pytest.fixture
def ecr_public(start_tarn, upstream):
    """(tarn, upstream): two images share a layer."""
    upstream.tokens = TokenService()
    upstream.redirect = "elsewhere"
    upstream.fault("/blobs/", method="HEAD", status=405)
    upstream.fault("/downloads/", method="HEAD", status=403)
    for name in ("docker/library/one", "docker/library/two"):
        config = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Cmd": [name]},
                             "rootfs": {"type": "layers", "diff_ids": [DIGEST]}}).encode()
        upstream.image(name, [LAYER], tag="1", config=config)
    return known_as(start_tarn, upstream, ECR_PUBLIC), upstream


def test_ecr_public_says_a_blobs_length_to_a_head(ecr_public):
    tarn, _ = ecr_public
    for name in ("docker/library/one", "docker/library/two"):
        reply = tarn.blob(name, DIGEST, method="HEAD")
        assert (reply.status, reply["Content-Length"]) == (200, str(len(LAYER)))


@needs("skopeo")
def test_ecr_public_by_skopeo_with_a_layer_that_two_images_share(ecr_public, tmp_path):
    tarn, upstream = ecr_public
    for name in ("one", "two"):
        run(["skopeo", "copy", "--quiet", "--src-tls-verify=false",
             f"docker://{tarn.address}/{ECR_PUBLIC}/docker/library/{name}:1",
             f"dir:{tmp_path}/{name}"])
        assert (tmp_path / name / DIGEST.removeprefix("sha256:")).read_bytes() == LAYER
    layers = [request for request in upstream.asked("/downloads/", "GET")
              if request.sent > len(LAYER) // 2]
    assert sum(request.sent for request in layers) == len(LAYER)
