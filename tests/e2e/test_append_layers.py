"""tarn append: what is in a layer, read by other programs, and the same on every machine."""

import os
import shutil
import socket
import stat
import subprocess
import threading
import time

import pytest

from kit.append_command import Append, Layout
from kit.content import noise, MIB
from kit.processes import wait_until
from kit.release import release_build
from kit.scripted_server import several
from kit.writable_registry import WritableRegistry


@pytest.fixture
def append(program, tmp_path):
    return Append(program, tmp_path / "run")


@pytest.fixture
def make_registry():
    yield from several(WritableRegistry)


@pytest.fixture
def target(make_registry):
    return make_registry()


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "folder"
    place.mkdir()
    return place


def pack(append, folder, *arguments, inside="", tag="1", **options):
    """Appends the folder to scratch; the image."""
    append.made("scratch", "--to", f"oci:{append.directory}/out:{tag}", "--add",
                f"{folder}:{inside}" if inside else folder, *arguments, **options)
    return Layout(append.directory / "out", tag)


def fill(folder, order=None):
    """Every kind of file that needs no rights."""
    makers = [
        lambda: (folder / "a-b").write_text("x"),
        lambda: (folder / "a").mkdir(mode=0o750),
        lambda: (folder / "a.txt").write_text("hello\n"),
        lambda: (folder / "B").write_text(""),
        lambda: os.mkfifo(folder / "pipe", 0o620),
        lambda: (folder / "large").write_bytes(noise(3 * MIB, 7)),
        lambda: (folder / "link").symlink_to("a/../a.txt"),
        lambda: (folder / "dangling").symlink_to("/nowhere/at all"),
        lambda: (folder / ("long-" + "n" * 240)).write_text("long"),
        lambda: (folder / "ümläut").write_text("utf-8"),
        lambda: (folder / "new\nline").write_text("n"),
    ]
    for maker in (order or list)(makers):
        maker()
    (folder / "a" / "z").write_text("z")
    os.link(folder / "large", folder / "a" / "second")
    (folder / "a.txt").chmod(0o4711)
    (folder / "a").chmod(0o1777)
    for name in ("a-b", "B", "large", "pipe", "ümläut", "new\nline", "a/z", "long-" + "n" * 240):
        (folder / name).chmod(0o644)


def test_names_are_relative_sorted_by_bytes_and_each_one_once(append, folder):
    fill(folder)
    names = pack(append, folder).names(0)
    raw = [os.fsencode(name) for name in names]
    assert raw == sorted(set(raw))
    assert not any(name.startswith(("/", "./")) for name in names)
    assert {"a", "a-b", "a.txt", "a/z", "a/second", "B", "ümläut", "new\nline"} <= set(names)


def test_each_kind_of_file_comes_back(append, folder):
    fill(folder)
    layer = pack(append, folder).layer(0)
    members = {member.name: member for member in layer.getmembers()}
    assert members["a"].isdir() and members["a"].mode == 0o1777
    assert members["a.txt"].isreg() and members["a.txt"].mode == 0o4711
    assert members["pipe"].isfifo() and members["pipe"].mode == 0o644
    assert members["link"].issym() and members["link"].linkname == "a/../a.txt"
    assert members["dangling"].linkname == "/nowhere/at all"
    assert members["a/second"].isreg()  # the first name in the archive's order
    assert members["large"].islnk() and members["large"].linkname == "a/second"
    assert layer.extractfile("large").read() == noise(3 * MIB, 7)
    assert layer.extractfile("long-" + "n" * 240).read() == b"long"
    for member in members.values():
        assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")
        assert member.mtime == 0


def test_gnu_tar_and_libarchive_read_the_same(append, folder, tmp_path):
    fill(folder)
    layer = tmp_path / "layer.tar"
    layer.write_bytes(pack(append, folder).archive(0))
    readers = [["tar", "-xpf", layer]]
    if shutil.which("bsdtar"):
        readers.append(["bsdtar", "-xpf", layer])
    for number, reader in enumerate(readers):
        place = tmp_path / f"unpacked-{number}"
        place.mkdir()
        done = subprocess.run(reader, cwd=place, capture_output=True, check=False,
                              env={**os.environ, "LC_ALL": "C.UTF-8"})
        assert done.returncode == 0 and done.stderr == b"", done.stderr
        assert subprocess.run(["diff", "-r", "--no-dereference", folder, place], check=False,
                              capture_output=True).stdout == \
            f"File {folder}/pipe is a fifo while file {place}/pipe is a fifo\n".encode()
        assert stat.S_IMODE((place / "a.txt").stat().st_mode) == 0o4711
        assert (place / "a" / "second").stat().st_ino == (place / "large").stat().st_ino


def test_sockets_are_left_out(append, tmp_path):
    folder = tmp_path / "s"
    folder.mkdir()
    (folder / "f").write_text("x")
    with socket.socket(socket.AF_UNIX) as one:
        os.chdir(folder)  # a socket's path may have 107 bytes
        one.bind("socket")
        assert pack(append, folder).names(0) == ["f"]


def test_names_that_are_not_utf_8(append, folder):
    os.mkdir(os.fsencode(folder) + b"/\xff\xfe")
    with open(os.fsencode(folder) + b"/\xff\xfe/f\x80", "w", encoding="utf-8") as file:
        file.write("x")
    image = pack(append, folder)
    assert [os.fsencode(name) for name in image.names(0)] == [b"\xff\xfe", b"\xff\xfe/f\x80"]
    listed = subprocess.run(["tar", "-tf", "-", "--quoting-style=literal"], check=True,
                            input=image.archive(0), stdout=subprocess.PIPE,
                            env={**os.environ, "LC_ALL": "C"}).stdout
    assert listed == b"\xff\xfe/\n\xff\xfe/f\x80\n"


def test_paths_as_long_as_they_may_be(append, folder):
    deep = folder
    for part in range(12):
        deep = deep / (str(part % 10) * 250)
    deep.mkdir(parents=True)
    (deep / "f").write_text("deep")
    (deep / "l").symlink_to("t" * 300)
    layer = pack(append, folder, inside="/opt/x").layer(0)
    name = "opt/x/" + str((deep / "f").relative_to(folder))
    assert layer.extractfile(name).read() == b"deep"
    assert layer.getmember(name[:-1] + "l").linkname == "t" * 300


def test_odd_names_come_back_in_each_reader(append, folder, tmp_path):
    names = [b" ", b"a\\b", b"*?[x]", b"-rf", b"..x", b"...", b"=", b"7 path=x", b"tab\there", b"\x01",
             "\N{LATIN SMALL LETTER U WITH DIAERESIS}".encode() * 127, b"%s%n", b"a" * 99, b"a" * 100,
             b"a" * 101, b"b" * 255, b"c" * 154 + b"-", b"quote'\"", b"wh.x", b"x.wh.y"]
    for name in names:
        with open(os.fsencode(folder) + b"/" + name, "wb") as file:
            file.write(name)
        os.symlink(name, os.fsencode(folder) + b"/l" + name[:200])
    image = pack(append, folder)
    layer = image.layer(0)
    for name in names:
        assert layer.extractfile(os.fsdecode(name)).read() == name
        assert os.fsencode(layer.getmember(os.fsdecode(b"l" + name[:200])).linkname) == name
    place = tmp_path / "unpacked"
    place.mkdir()
    done = subprocess.run(["tar", "-xpf", "-"], cwd=place, input=image.archive(0), check=False,
                          capture_output=True, env={**os.environ, "LC_ALL": "C.UTF-8"})
    assert done.returncode == 0 and done.stderr == b"", done.stderr
    assert sorted(os.listdir(os.fsencode(place))) == sorted(os.listdir(os.fsencode(folder)))


def test_times_that_a_plain_header_cannot_hold(append, folder):
    times = {"before": -86400 * 365 * 50 * 10 ** 9, "just-before": -10 ** 9,
             "before-part": -1_250_000_000, "late": 9_000_000_000 * 10 ** 9,
             "part": 1_700_000_000_123_456_789}
    for name, nanoseconds in times.items():
        (folder / name).write_text("x")
        os.utime(folder / name, ns=(0, nanoseconds))
    found = {name: (folder / name).stat().st_mtime_ns for name in times}
    layer = pack(append, folder, "--preserve").layer(0)
    for name in times:
        exact = layer.getmember(name).pax_headers.get("mtime")
        if exact:
            whole, _, part = exact.partition(".")
            nanoseconds = int(part.ljust(9, "0") or 0)
            assert int(whole) * 10 ** 9 + (-nanoseconds if exact[0] == "-" else nanoseconds) == \
                found[name], (name, exact)
        else:
            assert layer.getmember(name).mtime * 10 ** 9 == found[name]
    last = pack(append, folder, "--created", "9999-12-31T23:59:59Z", tag="2")
    assert last.layer(0).getmember("late").mtime == 253402300799
    assert last.config["created"] == "9999-12-31T23:59:59Z"


def test_links_to_links_and_a_folder_that_is_a_link(append, folder, tmp_path):
    (folder / "file").write_text("x")
    (folder / "link").symlink_to("file")
    os.link(folder / "link", folder / "same link", follow_symlinks=False)
    (folder / "folder link").symlink_to("..")
    os.mkfifo(folder / "pipe")
    os.link(folder / "pipe", folder / "same pipe")
    (tmp_path / "way").symlink_to(folder)
    layer = pack(append, tmp_path / "way").layer(0)
    assert sorted(layer.getnames()) == ["file", "folder link", "link", "pipe", "same link",
                                        "same pipe"]
    assert layer.getmember("same link").linkname == layer.getmember("link").linkname == "file"
    assert layer.getmember("folder link").linkname == ".."
    assert layer.getmember("same pipe").isfifo() or layer.getmember("same pipe").islnk()


def test_hard_links_of_other_places_are_files(append, folder, tmp_path):
    (tmp_path / "elsewhere").write_text("one content")
    (folder / "d").mkdir()
    os.link(tmp_path / "elsewhere", folder / "d" / "b")
    image = pack(append, folder, "--add", f"{folder}/d:/second")
    assert image.layer(0).extractfile("d/b").read() == b"one content"
    assert image.layer(1).getnames() == ["second", "second/b"]
    assert image.layer(1).extractfile("second/b").read() == b"one content"  # each layer stands alone


def test_a_large_attribute(append, folder):
    (folder / "f").write_text("x")
    value = noise(3000, 5)
    try:
        os.setxattr(folder / "f", "user.large", value)
    except OSError:
        pytest.skip("the file system takes no attribute of this size")
    [found] = pack(append, folder).layer(0).getmember("f").pax_headers.values()
    assert found.encode("utf-8", "surrogateescape") == value


def test_a_sparse_file_has_its_zeros(append, folder):
    with open(folder / "sparse", "wb") as file:
        file.truncate(300 * MIB)
        file.seek(200 * MIB)
        file.write(b"here")
    image = pack(append, folder)
    assert image.manifest["layers"][0]["size"] < MIB
    archive = image.archive(0)
    assert archive[512 + 200 * MIB:][:4] == b"here"
    assert archive[512:].replace(b"\0", b"") == b"here"
    assert image.layer(0).getmember("sparse").size == 300 * MIB


def test_extended_attributes_user_and_capability(append, folder):
    (folder / "d").mkdir()
    (folder / "f").write_text("x")
    os.setxattr(folder / "f", "user.b", b"\x00\xff=\n")
    os.setxattr(folder / "f", "user.a", b"")
    os.setxattr(folder / "d", "user.folder", b"v")
    expected = {"SCHILY.xattr.user.a": b"", "SCHILY.xattr.user.b": b"\x00\xff=\n"}
    if os.geteuid() == 0:
        capability = bytes.fromhex("0100000202000000000000000000000000000000")
        os.setxattr(folder / "f", "security.capability", capability)
        os.setxattr(folder / "f", "trusted.x", b"no")
        expected["SCHILY.xattr.security.capability"] = capability
    layer = pack(append, folder).layer(0)

    def attributes(name):
        return {key: value.encode("utf-8", "surrogateescape")
                for key, value in layer.getmember(name).pax_headers.items()}
    assert attributes("f") == expected
    assert attributes("d") == {"SCHILY.xattr.user.folder": b"v"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices and gives files away")
def test_devices_and_owners(append, folder):
    os.mknod(folder / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(folder / "disk", 0o660 | stat.S_IFBLK, os.makedev(259, 70000))
    (folder / "f").write_text("x")
    os.chown(folder / "f", 3000000, 12)
    os.utime(folder / "f", ns=(0, 1234567890_500000000))
    plain = pack(append, folder).layer(0)
    assert (plain.getmember("null").devmajor, plain.getmember("null").devminor) == (1, 3)
    assert (plain.getmember("disk").devmajor, plain.getmember("disk").devminor) == (259, 70000)
    assert (plain.getmember("f").uid, plain.getmember("f").mtime) == (0, 0)
    kept = pack(append, folder, "--preserve", tag="2").layer(0).getmember("f")
    assert (kept.uid, kept.gid, kept.mtime) == (3000000, 12, 1234567890.5)
    assert (kept.uname, kept.gname) == ("", "")


# ---- the same on every machine


def test_the_digest_depends_on_nothing_but_the_files(append, tmp_path):
    one, other = tmp_path / "one", tmp_path / "some other place"
    for place, order in ((one, None), (other, reversed)):
        place.mkdir()
        fill(place, order)
    os.utime(other / "a.txt", (5, 5))
    os.utime(other / "a", (6, 6))
    arguments = ["--env", "A=1", "--created", "2026-05-01T12:00:00Z"]
    digest = pack(append, one, *arguments).descriptor["digest"]
    variants = [
        {},
        {"umask": 0o077},
        {"umask": 0},
        {"prefix": ["taskset", "-c", "0"]},
        {"TZ": "Asia/Kathmandu", "LC_ALL": "tr_TR.UTF-8", "LANG": "C"},
        {"TZ": "America/St_Johns", "LC_ALL": "C.UTF-8", "SOURCE_DATE_EPOCH": "77"},
    ]
    for number, variant in enumerate(variants):
        image = pack(append, other, *arguments, tag=str(number + 2), **variant)
        assert image.descriptor["digest"] == digest, variant


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_any_number_of_processors_gives_the_same(append, folder, compression):
    (folder / "f").write_bytes(noise(2 * MIB, 1) + bytes(3 * MIB) + b"words and words " * 200000)
    everywhere = pack(append, folder, "--compression", compression)
    alone = pack(append, folder, "--compression", compression, tag="2",
                 prefix=["taskset", "-c", "0"])
    assert everywhere.descriptor["digest"] == alone.descriptor["digest"]
    assert everywhere.layer(0).getnames() == ["f"]
    suffix = {"none": ""}.get(compression, "+" + compression)
    assert everywhere.manifest["layers"][0]["mediaType"] == \
        "application/vnd.oci.image.layer.v1.tar" + suffix


def test_times_are_the_created_one_else_that_of_the_environment(append, folder):
    (folder / "f").write_text("x")

    def of(image):
        return image.layer(0).getmember("f").mtime, image.config["created"]
    assert of(pack(append, folder)) == (0, "1970-01-01T00:00:00Z")
    assert of(pack(append, folder, SOURCE_DATE_EPOCH="1700000000")) == \
        (1700000000, "2023-11-14T22:13:20Z")
    assert of(pack(append, folder, "--created", "2024-02-29T23:59:59+02:00",
                   SOURCE_DATE_EPOCH="5")) == (1709243999, "2024-02-29T21:59:59Z")
    assert of(pack(append, folder, "--created", "1700000000")) == \
        (1700000000, "2023-11-14T22:13:20Z")
    assert of(pack(append, folder, "--created", "0")) == (0, "1970-01-01T00:00:00Z")


# ---- files that change


@pytest.mark.parametrize("change, said", [
    (lambda path: os.truncate(path, path.stat().st_size + 1), "grew"),
    (lambda path: os.truncate(path, path.stat().st_size - 1), "shrank"),
    (lambda path: os.unlink(path), "vanished"),
    (lambda path: path.open("r+b").write(b"!"), "written"),
    (lambda path: os.rename(path.with_name("other"), path), "vanished"),
    (lambda path: os.rename(path, path.with_name("moved")), "attributes"),
    (lambda path: os.utime(path, (5, 5)), "written"),
    (lambda path: path.chmod(0o600), "attributes")])
def test_a_file_that_changes_is_named_and_no_tag_is_written(append, folder, target, change, said):
    folder = folder / "deep"
    folder.mkdir()
    large = folder / "large"
    with open(large, "wb") as file:
        for part in range(64):
            file.write(noise(MIB, part))
    (folder / "other").write_text("y")
    gate = threading.Event()
    target.fault("/blobs/uploads/", method="PATCH", upload_hold_after=MIB, gate=gate)
    place = f"{target.host}:{target.port}/team/app"
    running = append.start("scratch", "--to", f"{place}:1", "--add", folder.parent)
    # So the file is being read: what is between it and the registry holds much less than it has.
    wait_until(lambda: target.received >= MIB or running.poll() is not None, "the layer to be sent")
    change(large)
    gate.set()
    out, err = running.communicate(timeout=120)
    assert running.returncode == 1, err
    assert str(large).encode() in err and said.encode() in err, err
    assert len(err.splitlines()) == 1
    assert b'"state":"failed"' in out.splitlines()[-1]
    target.await_no_sessions()
    assert target.writes == []


@pytest.mark.parametrize("change", [
    lambda place: (place / "new").write_text("x"),
    lambda place: (place / "other").unlink(),
    lambda place: (place / "other").rename(place / "renamed")])
def test_a_folder_that_changes_is_named(append, folder, target, change):
    place = folder / "deep"
    place.mkdir()
    (place / "large").write_bytes(noise(64 * MIB, 3))
    (place / "other").write_text("y")
    gate = threading.Event()
    target.fault("/blobs/uploads/", method="PATCH", upload_hold_after=MIB, gate=gate)
    running = append.start("scratch", "--to", f"{target.host}:{target.port}/team/app:1", "--add",
                           folder)
    wait_until(lambda: target.received >= MIB or running.poll() is not None, "the layer to be sent")
    change(place)
    gate.set()
    _, err = running.communicate(timeout=120)
    assert running.returncode == 1, err
    assert str(place).encode() in err and len(err.splitlines()) == 1, err
    target.await_no_sessions()
    assert target.writes == []


# ---- removals and where the content goes


def test_removals_of_odd_names(append, folder):
    (folder / "f").write_text("x")
    names = ["a b", "new\nline", "x" * 200, "deep/" * 30 + "file", "ümlaut", "*"]
    image = pack(append, folder, *(word for name in names for word in ("--remove", f"/{name}")))
    found = set(image.names(1))
    for name in names:
        parent, _, last = name.rpartition("/")
        assert f"{parent}/.wh.{last}".lstrip("/") in found


def test_removals_are_the_last_layer(append, folder):
    (folder / "f").write_text("x")
    image = pack(append, folder, "--remove", "/opt/model/old", "--remove", "etc//passwd/",
                 "--remove", "/opt/model", inside="/opt/model")
    assert len(image.manifest["layers"]) == 2
    assert image.names(0) == ["opt", "opt/model", "opt/model/f"]
    assert image.names(1) == ["etc", "etc/.wh.passwd", "opt", "opt/.wh.model"]
    for number in range(2):
        for member in image.layer(number).getmembers():
            if member.isdir():
                assert (member.mode, member.uid, member.gid) == (0o755, 0, 0)
    assert [entry["created_by"] for entry in image.config["history"]] == \
        ["tarn append --add /opt/model", "tarn append --remove /opt/model/old /etc/passwd /opt/model"]
    assert str(folder) not in str(image.config)


def test_umoci_unpacks_layers_over_one_another(append, folder, tmp_path):
    (folder / "keep").write_text("k")
    (folder / "drop").write_text("d")
    (folder / "sub").mkdir()
    (folder / "sub" / "gone").write_text("g")
    more = tmp_path / "more"
    more.mkdir()
    (more / "new").write_text("n")
    append.made("scratch", "--to", f"oci:{tmp_path}/out:1", "--add", f"{folder}:/m", "--add",
                f"{more}:/m/sub", "--remove", "/m/drop", "--remove", "m/sub/gone")
    rootless = [] if os.geteuid() == 0 else ["--rootless"]
    subprocess.run(["umoci", "unpack", *rootless, "--image", f"{tmp_path}/out:1",
                    tmp_path / "bundle"], check=True, capture_output=True)
    root = tmp_path / "bundle" / "rootfs"
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*")) == \
        ["m", "m/keep", "m/sub", "m/sub/new"]


@pytest.mark.serial
def test_memory_stays_flat_with_many_files(append, folder, program):
    for number in range(100):
        (folder / f"folder-{number}").mkdir()
        for name in range(200):
            (folder / f"folder-{number}" / f"{name}-{'n' * 100}").touch()
    with open(folder / "large", "wb") as file:
        file.truncate(400 * MIB)
    append.program = release_build(program)
    running = append.start("scratch", "--to", f"oci:{append.directory}/out:1", "--add", folder)
    most = 0
    while running.poll() is None:
        status = open(f"/proc/{running.pid}/status", encoding="ascii").read()
        most = max([most, *(int(line.split()[1]) for line in status.splitlines()
                            if line.startswith("VmHWM:"))])
        time.sleep(0.01)
    assert running.returncode == 0
    assert 1 << 10 < most <= 64 << 10  # KiB
    assert len(Layout(append.directory / "out", "1").names(0)) == 20101
