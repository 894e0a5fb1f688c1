"""A mounted image is, path by path, what containerd unpacks: mode, owner, time, attributes, links and
content."""

import copy
import tarfile

import pytest

from kit.agent import ON_A_NODE
from kit.containers import needs
from kit.content import MIB, noise
from kit.layers import StreamImage, archive, entry, packed, repository, tarn, wait_state, zstd
from kit.trees import differences, groups, look

pytestmark = [*ON_A_NODE, needs("containerd", "ctr")]


def directory(name, **members):
    return entry(name, type=tarfile.DIRTYPE, mode=members.pop("mode", 0o755), **members)


def symlink(name, target, **members):
    return entry(name, type=tarfile.SYMTYPE, linkname=target, **members)


def hard_link(name, target):
    return entry(name, type=tarfile.LNKTYPE, linkname=target)


def with_attributes(made, **attributes):
    info, content = made
    info.pax_headers = {f"SCHILY.xattr.{name.replace('__', '.')}": value
                        for name, value in attributes.items()}
    return info, content


def plain(info, content):
    """The same without what only PAX can say."""
    info = copy.copy(info)
    info.pax_headers, info.mtime = {}, int(info.mtime)
    return info, content


LOWER = [
    directory("etc", mode=0o750, uid=7, gid=8, mtime=1234567.25),
    entry("etc/a", b"a", mode=0o4711, uid=70000, gid=3000000, mtime=1.5),
    entry("etc/empty", b"", mode=0),
    entry("large", noise(5 * MIB + 17), mtime=1700000000.123456789),
    entry("before", b"x", mtime=0),
    hard_link("etc/also", "etc/a"), hard_link("again", "etc/a"),
    symlink("link", "etc/a", mtime=77), symlink("long", "x" * 4000, uid=5),
    symlink("broken", "../../nowhere"),
    entry("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
    entry("disk", type=tarfile.BLKTYPE, devmajor=259, devminor=70000, mode=0o660),
    entry("pipe", type=tarfile.FIFOTYPE, mode=0o600),
    with_attributes(entry("marked", b"m"), user__a="1", security__b="value"),
    with_attributes(directory("marked.d"), user__c="c" * 300),
    directory("gone"), entry("gone/x", b"1"), entry("gone/y", b"2"),
    directory("opaque"), entry("opaque/below", b"1"), directory("opaque/d"),
    entry("opaque/d/deep", b"2"),
    directory("was.folder"), entry("was.folder/f", b"3"), entry("was.file", b"4"),
    entry("replaced", b"old" * 1000), entry("removed", b"5"),
    *(entry(f"many/{number:05}", str(number).encode(), mode=0o644) for number in range(1500)),
    entry("n" * 255, b"long name"), entry("d/" * 60 + "f", b"deep"),
    entry("blocks", noise(512 * 7)), entry("one-more", noise(512 * 7 + 1)),
    entry("sp ace,comma:colon\\", b"odd"), entry("newline\n", b"odd"),
    entry("ünïcode", b"utf-8"),
]
UPPER = [
    entry("gone/.wh.x"), entry(".wh.removed"), entry("opaque/.wh..wh..opq"),
    entry("opaque/above", b"new"), entry(".wh.was.folder"), entry("was.folder", b"now a file"),
    entry(".wh.was.file"), directory("was.file"), entry("was.file/f", b"now a folder"),
    entry("replaced", b"new", mode=0o600, uid=9, mtime=99.5),
    directory("etc", mode=0o711, mtime=5),
    entry("late/parents/missing", b"m"),
]
TOP = [entry("late/parents/.wh.missing"), entry("top", noise(3 * MIB)), directory("opaque"),
       hard_link("top.again", "top"), symlink("link", "elsewhere")]


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT], ids=["pax", "gnu"])
@pytest.mark.parametrize("pack", [packed, zstd], ids=["gzip", "zstd"])
def test_the_mount_is_what_containerd_unpacks(tarn, start_agent, repository, containerd, tmp_path,
                                             form, pack):
    if pack is zstd and form == tarfile.GNU_FORMAT:
        pytest.skip("the form of the archive does not depend on its compression")
    lower = LOWER if form == tarfile.PAX_FORMAT else [plain(*one) for one in LOWER]
    kind = "application/vnd.oci.image.layer.v1.tar+" + ("zstd" if pack is zstd else "gzip")
    image = StreamImage(repository, [archive(*lower, form=form), archive(*UPPER), archive(*TOP)],
                        tag=f"t{form}{pack.__name__}", pack=pack, layer_type=kind)
    image.pull(tarn)
    wait_state(tarn, "image", image.digest, ("ready", None))
    agent = start_agent(tarn.url)
    mounted = agent.mount(f"fake.test/org/app@{image.digest}", tmp_path / "mounted")
    reference, unpacked = f"{tarn.address}/fake.test/org/app@{image.digest}", tmp_path / "unpacked"
    unpacked.mkdir()
    containerd.ctr("images", "pull", "--plain-http", reference)
    containerd.ctr("images", "mount", reference, unpacked)
    try:
        left, right = look(mounted), look(unpacked)
        linked = groups(mounted), groups(unpacked)
    finally:
        containerd.ctr("images", "unmount", unpacked)
    assert len(left) > 1500 if form == tarfile.PAX_FORMAT else len(left) > 50
    # Folders that no entry makes, or that lose a file, get the time at which they are unpacked.
    made = {b".", b"gone", b"many", b"late", b"late/parents", *(b"/".join([b"d"] * n) for n in range(1, 61))}
    for path in made & left.keys() & right.keys():
        left[path].pop("time"), right[path].pop("time")
    assert differences(left, right) == []
    assert linked[0] == linked[1]
