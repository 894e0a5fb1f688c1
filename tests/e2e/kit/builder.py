"""Runs tarn build in a folder of its own, and reads what it prints."""

import io
import json
import subprocess
import tarfile

from kit.tarn import SANITIZER_REPORT, bare_environment

PROJECT = "team-1"
BUCKET = f"{PROJECT}_cloudbuild"
IMAGE = f"us-docker.pkg.dev/{PROJECT}/images/app:v1"


class Builder:
    """A folder with a Dockerfile, credentials, and the command."""

    def __init__(self, program, folder, google, service):
        self.program, self.google, self.service = program, google, service
        self.folder = folder / "context"
        self.home = folder / "home"
        self.folder.mkdir()
        self.home.mkdir()
        (folder / "key.json").write_text(json.dumps(google.service_account()))
        self.environment = bare_environment(
            self.home, GOOGLE_APPLICATION_CREDENTIALS=str(folder / "key.json"),
            **service.environment)
        self.write("Dockerfile", "FROM scratch\nCOPY . /\n")

    def write(self, path, content):
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return file

    def begin(self, *arguments, **more):
        return subprocess.Popen([self.program, "build", *map(str, arguments)], text=True,
                                env=self.environment, cwd=self.folder, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)

    def run(self, *arguments, status=0):
        process = self.begin(*arguments)
        out, err = process.communicate(timeout=120)
        assert not SANITIZER_REPORT.search(err), err
        for secret in self.google.all_secrets():
            assert secret not in out + err
        assert process.returncode == status, (process.returncode, out[-2000:], err)
        return Done(out, err)

    def build(self, *arguments, status=0):
        return self.run(".", "--to", IMAGE, *arguments, status=status)

    def request(self, *arguments):
        return self.build("--dry-run", *arguments).events[0]["build"]

    def unpacked(self):
        """{name: TarInfo} and {name: content} of the one context that was sent."""
        ((content, _),) = [value for (_, name), value in self.service.objects.items()
                           if name.startswith("source/")]
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
            entries = {entry.name: entry for entry in archive}
            return entries, {name: archive.extractfile(entry).read()
                             for name, entry in entries.items() if entry.isfile()}


class Done:
    def __init__(self, out, err):
        self.out, self.err = out, err

    @property
    def events(self):
        return [json.loads(line) for line in self.out.splitlines()]

    def all(self, kind):
        return [event for event in self.events if event["event"] == kind]

    @property
    def log(self):
        return "".join(event["text"] for event in self.all("log"))

    @property
    def sentence(self):
        """The one line of standard error."""
        lines = self.err.strip().splitlines()
        assert len(lines) == 1, self.err
        return lines[0]
