"""tarn files, cat and extract: single files out of images, right or not at all."""

import base64
import hashlib
import json
import os
import shutil
import stat
import subprocess
import tarfile

import pytest

from kit.content import KIB, MIB, digest_of, noise
from kit.layers import (OCI_GZIP, StreamImage, archive, entry, packed, repository, tarn,
                        wait_state, zstd)
from kit.processes import run
from kit.tarn import bare_environment

STREAMING = {"enabled": True, "min_layer": 0}
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="owners and devices need root")


class Files:
    """The commands on one image."""

    def __init__(self, tarn, image, name="fake.test/org/app"):
        self.tarn, self.name = tarn, f"{name}@{image.digest}"
        image.pull(tarn)
        wait_state(tarn, "image", image.digest, ("ready", None))

    def run(self, command, *operands, name=None, **environment):
        return subprocess.run(
            [self.tarn.program, command, name or self.name, *map(str, operands), "--from",
             self.tarn.url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False,
            stdin=subprocess.DEVNULL, timeout=120,
            env=bare_environment(self.tarn.directory / "home", **environment))

    def cat(self, path):
        done = self.run("cat", path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def list(self, *path):
        done = self.run("files", *path, "--json")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def paths(self, *path):
        return [one["path"] for one in self.list(*path)]

    def extract(self, to, *paths):
        done = self.run("extract", *paths, "--to", to)
        assert done.returncode == 0, done.stderr
        return to


def directory(name, **members):
    return entry(name, type=tarfile.DIRTYPE, mode=members.pop("mode", 0o755), **members)


def symlink(name, target):
    return entry(name, type=tarfile.SYMTYPE, linkname=target)


def test_a_listing_says_what_the_archive_says(tarn, repository):
    info, content = entry("d/f", b"abc", mode=0o4755, uid=70000, gid=7, mtime=12.5)
    info.pax_headers = {"SCHILY.xattr.user.a": "1"}
    files = Files(tarn, StreamImage(repository, [archive(
        directory("d", mtime=9), (info, content), symlink("d/l", "f"),
        entry("d/h", type=tarfile.LNKTYPE, linkname="d/f", mode=0o4755, uid=70000, gid=7,
              mtime=12.5),
        entry("d/c", type=tarfile.CHRTYPE, devmajor=1, devminor=300))]))
    listed = {one["path"]: one for one in files.list()}
    assert list(listed) == ["/d", "/d/c", "/d/f", "/d/h", "/d/l"]
    assert listed["/d/f"] == {
        "path": "/d/f", "type": "file", "mode": "4755", "uid": 70000, "gid": 7, "size": 3,
        "mtime": "12.500000000", "nlink": 2, "link": None, "major": 0, "minor": 0,
        "xattrs": {"user.a": base64.b64encode(b"1").decode()}}
    assert listed["/d/l"]["link"] == "f" and listed["/d/l"]["type"] == "symlink"
    assert (listed["/d/c"]["major"], listed["/d/c"]["minor"]) == (1, 300)
    assert listed["/d"]["mtime"] == "9.000000000"
    assert files.paths("/d/f") == ["/d/f"]
    plain = files.run("files", "/d/f").stdout.decode()
    assert plain.startswith("-rwsr-xr-x 70000/7") and plain.endswith(" /d/f\n")


def test_names_that_are_not_utf_8_come_as_base64(tarn, repository):
    info, content = entry("x", b"1")
    info.name = "\udcff"
    files = Files(tarn, StreamImage(repository, [archive((info, content), form=tarfile.GNU_FORMAT)]))
    one, = files.list()
    assert "path" not in one and base64.b64decode(one["path_base64"]) == b"/\xff"


def test_cat_follows_links_inside_of_the_image(tarn, repository):
    files = Files(tarn, StreamImage(repository, [archive(
        entry("usr/lib/x", b"right"), symlink("lib", "usr/lib"), symlink("a", "/lib/../lib/x"),
        symlink("out", "../../../../usr/lib/x"), symlink("loop", "loop"))]))
    for path in ("/lib/x", "lib/x", "/a", "/out", "/../usr/./lib//x"):
        assert files.cat(path) == b"right"
    for path in ("/loop", "/nothing", "/usr", "/usr/lib/x/y"):
        done = files.run("cat", path)
        assert done.returncode == 1 and done.stdout == b""
        assert files.name.encode() in done.stderr and path.encode() in done.stderr


@pytest.mark.parametrize("pack, layer_type", [
    (packed, OCI_GZIP),
    (lambda tar: zstd(tar, "-1"), OCI_GZIP.replace("gzip", "zstd")),
    (lambda tar: b"".join(zstd(tar[at:at + MIB]) for at in range(0, len(tar), MIB)),
     OCI_GZIP.replace("gzip", "zstd")),
    (lambda tar: b"".join(packed(tar[at:at + 100000]) for at in range(0, len(tar), 100000)),
     OCI_GZIP),
    (lambda tar: tar, OCI_GZIP.removesuffix("+gzip")),
], ids=["gzip", "zstd", "frames", "members", "plain"])
def test_only_the_spans_of_a_file_are_fetched(tarn, repository, pack, layer_type):
    contents = [noise(3 * MIB, number) for number in range(6)]
    image = StreamImage(repository, [archive(*(entry(f"f{number}", content)
                                               for number, content in enumerate(contents)))],
                        pack=pack, layer_type=layer_type)
    files = Files(tarn, image)
    before = tarn.metrics()
    assert digest_of(files.cat("/f3")) == digest_of(contents[3])
    after = tarn.metrics()
    sent = 'registry_proxy_pushed_bytes_total{type="blob"}'
    assert after.get(sent, 0) - before.get(sent, 0) < 8 * MIB
    for number in (0, 5):
        assert digest_of(files.cat(f"/f{number}")) == digest_of(contents[number])


def test_upper_layers_hide_lower_ones(tarn, repository):
    files = Files(tarn, StreamImage(repository, [
        archive(entry("a", b"lower"), entry("gone", b"x"), entry("d/x", b"x"), entry("d/y", b"y")),
        archive(entry("a", b"upper"), entry(".wh.gone"), entry("d/.wh..wh..opq"),
                entry("d/z", b"z"))]))
    assert files.paths() == ["/a", "/d", "/d/z"]
    assert files.cat("/a") == b"upper"
    assert files.run("cat", "/gone").returncode == 1


def test_what_is_not_there_or_cannot_stream_says_so(tarn, repository):
    bad = StreamImage(repository, [archive(entry("../x"))])
    files = Files(tarn, StreamImage(repository, [archive(entry("x"))], tag="good"))
    bad.pull(tarn)
    wait_state(tarn, "image", bad.digest, ("refused", "tar"))
    done = files.run("cat", "/x", name=f"fake.test/org/app@{bad.digest}")
    assert done.returncode == 1 and b"cannot stream (tar)" in done.stderr
    assert files.run("cat", "/x", name="fake.test/org/app:nothing").returncode == 1
    assert files.run("cat", "/x", name="fake.test/org/app:good").returncode == 0
    assert files.run("cat", "/x", name="org/app:good").returncode == 2
    assert files.run("cat").returncode == 2
    assert files.run("extract", "/x").returncode == 2
    assert files.run("files", "--platform", "nonsense").returncode == 2


def test_damaged_bytes_are_never_printed(tarn, repository):
    content = noise(MIB)
    image = StreamImage(repository, [archive(entry("f", content))])
    files = Files(tarn, image)
    name = image.digests[0].removeprefix("sha256:")
    file = tarn.root / "blobs/sha256" / name[:2] / name
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    done = files.run("cat", "/f")
    assert done.returncode == 1 and done.stdout == b""
    assert b"digest" in done.stderr


def test_sparse_files_and_empty_ones(tarn, repository, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    with open(source / "sparse", "wb") as file:
        file.truncate(3 * MIB)
        file.seek(MIB)
        file.write(noise(64 * KIB))
    (source / "empty").touch()
    for number, options in enumerate((["--format=gnu"], ["--format=posix", "--sparse-version=0.0"],
                                      ["--format=posix", "--sparse-version=0.1"],
                                      ["--format=posix", "--sparse-version=1.0"])):
        run(["tar", "-C", source, "-S", *options, "-cf", tmp_path / "t.tar", "sparse", "empty"])
        tar = (tmp_path / "t.tar").read_bytes()
        assert len(tar) < MIB
        files = Files(tarn, StreamImage(repository, [tar], tag=str(number)))
        assert digest_of(files.cat("/sparse")) == digest_of((source / "sparse").read_bytes())
        assert files.cat("/empty") == b""


def described(root):
    """What is below a folder, by path."""
    found = {}
    for path in sorted(root.rglob("*")):
        state = path.lstat()
        what = {"mode": oct(state.st_mode), "owner": (state.st_uid, state.st_gid),
                "time": state.st_mtime_ns, "device": state.st_rdev}
        if stat.S_ISREG(state.st_mode):
            what["content"] = hashlib.sha256(path.read_bytes()).hexdigest()
        if not stat.S_ISDIR(state.st_mode):
            what["links"] = state.st_nlink
        if stat.S_ISLNK(state.st_mode):
            what["target"] = os.readlink(path)
        what["xattrs"] = {name: os.getxattr(path, name, follow_symlinks=False)
                          for name in os.listxattr(path, follow_symlinks=False)}
        found[str(path.relative_to(root))] = what
    return found


def fill(folder):
    """A folder of everything that an archive can hold."""
    (folder / "d/e").mkdir(parents=True)
    (folder / "d/f").write_bytes(noise(100 * KIB))
    (folder / "d/s").write_bytes(b"x")
    os.chmod(folder / "d/s", 0o4711)
    os.link(folder / "d/f", folder / "d/e/hard")
    os.symlink("../f", folder / "d/e/link")
    os.symlink("y/" * 250, folder / "d/e/long")
    os.mkfifo(folder / "d/p")
    os.mknod(folder / "d/c", stat.S_IFCHR | 0o660, os.makedev(5, 1))
    os.chown(folder / "d/s", 1234, 100000)
    os.chmod(folder / "d/s", 0o4711)
    (folder / "d" / ("n" * 200)).touch()
    for number in range(300):
        (folder / f"d/e/{number}").write_bytes(b"%d" % number)
    for number, path in enumerate(sorted(folder.rglob("*"), reverse=True)):
        os.utime(path, ns=(0, 1_600_000_000_000_000_000 + number * 1_234_567_891),
                 follow_symlinks=False)


ARCHIVERS = {
    "gnu": ["tar", "--format=gnu"], "posix": ["tar", "--format=posix", "--xattrs"],
    "bsd-pax": ["bsdtar", "--format", "pax"], "bsd-gnutar": ["bsdtar", "--format", "gnutar"],
}


@as_root
@pytest.mark.parametrize("archiver", ARCHIVERS)
def test_what_is_extracted_is_what_tar_unpacks(tarn, repository, tmp_path, archiver):
    program = ARCHIVERS[archiver]
    if not shutil.which(program[0]):
        pytest.skip(f"{program[0]} is not installed")
    source, wanted, got = (tmp_path / name for name in ("source", "wanted", "got"))
    source.mkdir()
    wanted.mkdir()
    fill(source)
    run([*program, "-C", source, "-cf", tmp_path / "t.tar", "d"])
    run([program[0], "-C", wanted, "--same-owner", "-xpf", tmp_path / "t.tar"])
    files = Files(tarn, StreamImage(repository, [(tmp_path / "t.tar").read_bytes()]))
    files.extract(got, "/")
    right = described(wanted)
    wrong = {path: (what, right.get(path)) for path, what in described(got).items()
             if what != right.get(path)}
    assert not wrong and len(described(got)) == len(right)
    files.extract(tmp_path / "part", "/d/e/7", "d/s")
    assert sorted(described(tmp_path / "part")) == ["d", "d/e", "d/e/7", "d/s"]
    assert described(tmp_path / "part")["d/s"] == right["d/s"]


def test_extract_writes_nothing_outside_of_its_folder(tarn, repository, tmp_path):
    files = Files(tarn, StreamImage(repository, [archive(
        directory("d"), entry("d/f", b"new"), symlink("l", "/etc"))]))
    outside, to = tmp_path / "outside", tmp_path / "to"
    outside.mkdir()
    to.mkdir()
    (outside / "f").write_bytes(b"old")
    (to / "d").symlink_to(outside)
    files.run("extract", "/d/f", "--to", to)
    assert (outside / "f").read_bytes() == b"old"
    assert not (to / "d").is_symlink() or sorted(os.listdir(outside)) == ["f"]
    files.extract(to, "/l")
    assert os.readlink(to / "l") == "/etc"


def test_extract_goes_through_links_of_the_image(tarn, repository, tmp_path):
    files = Files(tarn, StreamImage(repository, [archive(
        entry("usr/bin/x", b"right"), symlink("bin", "usr/bin"))]))
    to = files.extract(tmp_path / "to", "/bin/x")
    assert (to / "bin/x").read_bytes() == b"right"
    assert (to / "usr/bin/x").read_bytes() == b"right"


def test_a_login_comes_from_dockers_config(start_tarn, upstream, repository, tmp_path):
    run(["htpasswd", "-Bbc", tmp_path / "htpasswd", "user", "secret"])
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}],
                      streaming=STREAMING, clients={"htpasswd": str(tmp_path / "htpasswd")})
    image = StreamImage(repository, [archive(entry("f", b"content"))])
    login = {"Authorization": "Basic " + base64.b64encode(b"user:secret").decode()}
    for what in (f"manifests/{image.digest}", f"blobs/{digest_of(image.config)}",
                 f"blobs/{image.digests[0]}"):
        assert tarn.get(f"/v2/org/app/{what}", login).status == 200
    path = f"/tarn/v1/streaming/image/fake.test/org/app@{image.digest}"
    assert tarn.get(path).status == 401
    files = Files.__new__(Files)
    files.tarn, files.name = tarn, f"fake.test/org/app@{image.digest}"
    assert files.run("cat", "/f").returncode == 1
    (tmp_path / "config.json").write_text(json.dumps({"auths": {tarn.address: {
        "auth": base64.b64encode(b"user:secret").decode()}}}))
    done = files.run("cat", "/f", DOCKER_CONFIG=str(tmp_path))
    assert done.stdout == b"content", done.stderr
