"""`tarn append`: runs it, and reads the images in OCI layouts that it makes."""

import gzip
import io
import json
import os
import subprocess
import tarfile

from kit.content import digest_of


class Done:
    """What a run left."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    @property
    def lines(self):
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def result(self):
        return self.lines[-1]

    def events(self, kind):
        return [line for line in self.lines if line["event"] == kind]


class Append:
    """Runs the command in a folder, with a home and a configuration of its own."""

    def __init__(self, program, directory):
        self.program, self.directory = program, directory
        directory.mkdir(parents=True, exist_ok=True)
        self.config = directory / "tarn.yaml"
        self.config.write_text("upstreams: []\n")
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(directory)}

    def arguments(self, *arguments):
        return [self.program, "append", "--config", str(self.config),
                *(str(argument) for argument in arguments)]

    def __call__(self, *arguments, prefix=(), umask=-1, **environment):
        done = subprocess.run([*prefix, *self.arguments(*arguments)], stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=120, check=False, cwd=self.directory,
                              umask=umask, env={**self.environment, **environment})
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode(errors="replace"))

    def made(self, *arguments, **options):
        """A run that works."""
        done = self(*arguments, **options)
        assert done.code == 0 and done.err == "", done.err
        return done

    def start(self, *arguments):
        return subprocess.Popen(self.arguments(*arguments), stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                cwd=self.directory, env=self.environment)


class Layout:
    """The image in an OCI layout, with each blob checked against its digest."""

    def __init__(self, directory, tag):
        self.directory = directory
        index = json.loads((directory / "index.json").read_text())
        [self.descriptor] = [
            entry for entry in index["manifests"]
            if entry.get("annotations", {}).get("org.opencontainers.image.ref.name") == tag]
        self.manifest = json.loads(self.blob(self.descriptor))
        self.config = json.loads(self.blob(self.manifest["config"]))

    def blob(self, descriptor):
        algorithm, _, value = descriptor["digest"].partition(":")
        content = (self.directory / "blobs" / algorithm / value).read_bytes()
        assert len(content) == descriptor["size"]
        assert digest_of(content) == descriptor["digest"]
        return content

    def archive(self, number):
        """The layer unpacked, checked against its diff ID."""
        descriptor = self.manifest["layers"][number]
        content = self.blob(descriptor)
        if descriptor["mediaType"].endswith("gzip"):
            content = gzip.decompress(content)
        elif descriptor["mediaType"].endswith("zstd"):
            content = subprocess.run(["zstd", "-dcq"], input=content, stdout=subprocess.PIPE,
                                     check=True).stdout
        assert digest_of(content) == self.config["rootfs"]["diff_ids"][number]
        return content

    def layer(self, number):
        return tarfile.open(fileobj=io.BytesIO(self.archive(number)), errorlevel=2,
                            encoding="utf-8", errors="surrogateescape")

    def names(self, number):
        return self.layer(number).getnames()
