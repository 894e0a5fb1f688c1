"""Makes what the clients pull: blobs of given sizes and one small image."""
import hashlib
import json
import os

MIB = 1 << 20
MANIFEST_SIZE = 691  # as that of a small image


class Content:
    def __init__(self, folder):
        self.folder = folder
        for name in ("blobs", "manifests"):
            os.makedirs(os.path.join(folder, name), exist_ok=True)
        self.tag = "latest"
        self.manifest = self._image()

    def blob(self, size, seed=0):
        """Makes a blob that cannot be compressed, and returns its hex digest. The same size and
        seed make the same blob."""
        hasher, written = hashlib.sha256(), 0
        block = hashlib.shake_256(f"{size}/{seed}".encode()).digest(min(size, MIB))
        temporary = os.path.join(self.folder, f"blob-{os.getpid()}")
        with open(temporary, "wb") as file:
            while written < size:
                # The number in front makes each block differ from the others.
                piece = (written.to_bytes(8, "big") + block[8:])[: size - written]
                file.write(piece)
                hasher.update(piece)
                written += len(piece)
        os.rename(temporary, os.path.join(self.folder, "blobs", hasher.hexdigest()))
        return hasher.hexdigest()

    def _image(self):
        """Makes an image of one layer with the tag `latest`; returns its manifest's hex digest."""
        def descriptor(kind, size):
            return {"mediaType": f"application/vnd.oci.image.{kind}",
                    "digest": f"sha256:{self.blob(size)}", "size": size}
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("config.v1+json", 1500),
            "layers": [descriptor("layer.v1.tar+gzip", MIB)],
            "annotations": {"org.opencontainers.image.title": ""},
        }
        padding = MANIFEST_SIZE - len(json.dumps(manifest, indent=1))
        manifest["annotations"]["org.opencontainers.image.title"] = "x" * padding
        body = json.dumps(manifest, indent=1).encode()
        digest = hashlib.sha256(body).hexdigest()
        for name in (digest, self.tag):
            with open(os.path.join(self.folder, "manifests", name), "wb") as file:
                file.write(body)
        return digest
