"""Layers, images of them, and what tarn says of their streaming."""

import gzip
import hashlib
import io
import json
import subprocess
import tarfile

import pytest

from kit.content import OCI_CONFIG, digest_of, manifest
from kit.processes import wait_until

OCI_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"


def entry(name, content=b"", **members):
    """A file, unless members say otherwise."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in members.items():
        setattr(info, key, value)
    return info, content


def archive(*entries, form=tarfile.PAX_FORMAT):
    """A tar archive of (TarInfo, bytes)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def zstd(content, *arguments):
    return subprocess.run(["zstd", "-q", "-c", *arguments], input=content, stdout=subprocess.PIPE,
                          check=True).stdout


def packed(tar):
    return gzip.compress(tar, 6, mtime=0)


@pytest.fixture
def repository(upstream):
    return upstream.repository("org/app")


@pytest.fixture
def tarn(start_tarn, upstream):
    """Indexes every layer."""
    return start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}],
                      streaming={"enabled": True, "min_layer": 0})


class StreamImage:
    """An image of archives in a scripted repository."""

    def __init__(self, repository, tars, tag="1", pack=packed, layer_type=OCI_GZIP, diff_ids=None,
                 config_type=OCI_CONFIG):
        self.tars = tars
        self.layers = [pack(tar) for tar in tars]
        self.diff_ids = diff_ids or [digest_of(tar) for tar in tars]
        self.config = json.dumps({"architecture": "amd64", "os": "linux",
                                  "rootfs": {"type": "layers", "diff_ids": self.diff_ids}}).encode()
        for content in (self.config, *self.layers):
            repository.add_blob(content)
        self.document = manifest(self.config, self.layers, layer_type=layer_type,
                                 config_type=config_type)
        self.digest = repository.add_manifest(self.document, tag=tag)
        self.digests = [digest_of(layer) for layer in self.layers]

    def pull(self, tarn, name="org/app"):
        """Pulls the whole image, as a client does."""
        assert tarn.manifest(name, self.digest).status == 200
        for content in (self.config, *self.layers):
            assert tarn.blob(name, digest_of(content)).status == 200

    def chain(self, count):
        chain = self.diff_ids[0]
        for diff_id in self.diff_ids[1:count]:
            chain = "sha256:" + hashlib.sha256(f"{chain} {diff_id}".encode()).hexdigest()
        return chain


def streaming(tarn, what, digest, name="fake.test/org/app", method="GET", **more):
    return (tarn.head if method == "HEAD" else tarn.get)(
        f"/tarn/v1/streaming/{what}/{name}@{digest}", **more)


def state(tarn, what, digest, name="fake.test/org/app"):
    """(state, reason): ("ready", None) if it is there."""
    response = streaming(tarn, what, digest, name)
    if response.status == 200:
        return "ready", None
    assert response.status == 404, response
    error = response.json()["errors"][0]
    assert error["code"] == "INDEX_UNKNOWN"
    assert (response["Retry-After"] == "1") == (error["detail"]["state"] == "pending")
    return error["detail"]["state"], error["detail"]["reason"]


def wait_state(tarn, what, digest, wanted, name="fake.test/org/app"):
    wait_until(lambda: state(tarn, what, digest, name) == wanted,
               f"{what} {digest} to be {wanted}", seconds=60)
