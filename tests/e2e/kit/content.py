"""Registry content made in memory: blobs, manifests, indexes, and their digests."""

import base64
import hashlib
import json
import random

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
OCTETS = "application/octet-stream"

KIB = 1 << 10
MIB = 1 << 20


def digest_of(content, algorithm="sha256"):
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def noise(size, seed=0):
    """Random bytes that cannot be compressed. The same size and seed give the same bytes."""
    return random.Random(f"{size} {seed}").randbytes(size)


def descriptor(content, media_type, **members):
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content), **members}


def manifest(config, layers, media_type=OCI_MANIFEST, config_type=OCI_CONFIG,
             layer_type=OCI_LAYER, **members):
    """The bytes of an image manifest over the bytes of a config and of layers."""
    return json.dumps({
        "schemaVersion": 2, "mediaType": media_type,
        "config": descriptor(config, config_type),
        "layers": [descriptor(layer, layer_type) for layer in layers], **members}).encode()


def index(entries, media_type=OCI_INDEX, **members):
    """The bytes of an index with these descriptors."""
    return json.dumps({"schemaVersion": 2, "mediaType": media_type,
                       "manifests": entries, **members}).encode()


def schema_1(name="org/app", layers=()):
    """A signed manifest of schema 1 over the digests of layers: (the document, its digest)"""
    def encoded(content):
        return base64.urlsafe_b64encode(content).rstrip(b"=").decode()

    front = json.dumps({"schemaVersion": 1, "name": name, "tag": "1",
                        "fsLayers": [{"blobSum": digest} for digest in layers]},
                       indent=3).encode().removesuffix(b"\n}")
    header = {"formatLength": len(front), "formatTail": encoded(b"\n}"), "time": "2015"}
    signatures = [{"header": {"alg": "ES256"}, "signature": "x",
                   "protected": encoded(json.dumps(header).encode())}]
    document = front + b',\n   "signatures": ' + json.dumps(signatures).encode() + b"\n}"
    return document, digest_of(front + b"\n}")


def assert_same(got, wanted):
    """Two bodies, without their bytes in the message."""
    assert (len(got), digest_of(got)) == (len(wanted), digest_of(wanted))
