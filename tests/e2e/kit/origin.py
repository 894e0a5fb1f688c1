"""A real registry, docker-registry with its store on disk, as the origin of real images."""

import json

from kit.client import fetch
from kit.content import (DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, OCTETS,
                         digest_of)
from kit.processes import Program, accepts, free_port, run
from kit.yaml_text import yaml_text


class Origin:
    """The registry, and how to push images, blobs and manifests to it."""

    def __init__(self, directory):
        self.port = free_port()
        directory.mkdir(parents=True, exist_ok=True)
        config = directory / "registry.yml"
        config.write_text(yaml_text({
            "version": 0.1,
            "log": {"level": "info", "accesslog": {"disabled": False}},
            "storage": {"filesystem": {"rootdirectory": str(directory / "store")},
                        "delete": {"enabled": True}},
            "http": {"addr": f"127.0.0.1:{self.port}"},
        }))
        self.process = Program(["docker-registry", "serve", config], directory / "registry.log")
        self.process.wait_ready(lambda: accepts(self.port))

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    @property
    def url(self):
        return f"http://{self.address}"

    def log(self):
        return self.process.log()

    def blob_requests(self, mark=0):
        """The log's lines of requests for blobs, from the character `mark` on."""
        return [line for line in self.log()[mark:].splitlines()
                if '"GET /v2/' in line and "/blobs/" in line]

    def push_image(self, source, name):
        """Copies an image with all its platforms; `source` is a name for skopeo."""
        run(["skopeo", "copy", "--quiet", "--all", "--dest-tls-verify=false", source,
             f"docker://{self.address}/{name}"])

    def push_blob(self, repository, content):
        """Pushes a blob by the distribution API."""
        begun = fetch(f"{self.url}/v2/{repository}/blobs/uploads/", method="POST")
        assert begun.status == 202, begun
        place, digest = begun["Location"], digest_of(content)
        done = fetch(f"{place}{'&' if '?' in place else '?'}digest={digest}", method="PUT",
                     body=content, headers={"Content-Type": OCTETS})
        assert done.status == 201, done
        return digest

    def push_manifest(self, repository, content, media_type, tag=None):
        done = fetch(f"{self.url}/v2/{repository}/manifests/{tag or digest_of(content)}",
                     method="PUT", body=content, headers={"Content-Type": media_type})
        assert done.status == 201, done
        return digest_of(content)

    def manifest(self, name, reference):
        accept = ", ".join([OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST, "*/*"])
        reply = fetch(f"{self.url}/v2/{name}/manifests/{reference}", {"Accept": accept})
        assert reply.status == 200, reply
        return reply

    def blob(self, name, digest):
        reply = fetch(f"{self.url}/v2/{name}/blobs/{digest}")
        assert reply.status == 200, reply
        return reply.body

    def stop(self):
        self.process.stop()


def write_layout(directory, blobs, entries):
    """Writes an OCI layout, for an index of several platforms."""
    folder = directory / "blobs" / "sha256"
    folder.mkdir(parents=True)
    (directory / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
    for content in blobs:
        (folder / digest_of(content).partition(":")[2]).write_bytes(content)
