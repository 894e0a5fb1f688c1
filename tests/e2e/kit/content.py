"""Registry content made in memory: blobs, manifests, indexes, and their digests."""

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
