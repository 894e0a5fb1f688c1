"""`tarn ls`, `du`, `rm`, `prune` and `verify` on a running cache, over its socket file, and on the
files of a stopped one."""

import datetime
import json
import os
import re
import signal
import socket
import subprocess
import time

import pytest

from kit.content import KIB, MIB, OCI_INDEX, OCI_MANIFEST, descriptor, digest_of, index, manifest, noise
from kit.disk import small_disk_or_skip
from kit.processes import wait_until
from kit.tarn import Tarn, bare_environment, tarn_command
from test_warm import Terminal, ask_admin

TIMEOUTS = {}  # bytes of the upstream are counted (conftest.py)

DAY = 24 * 3600


@pytest.fixture
def contents(program, tmp_path):
    """Runs a command on a cache (a tarn, running or not, or a folder): the finished process."""

    def run(tarn, *arguments):
        root = tarn.root if isinstance(tarn, Tarn) else tarn
        command, *rest = arguments
        return tarn_command(program, command, "--root", root, *rest, home=tmp_path)

    return run


@pytest.fixture
def told(contents):
    """The same with --json; returns the parsed output."""

    def run(tarn, *arguments, code=0):
        done = contents(tarn, *arguments, "--json")
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture(params=["running", "stopped"])
def cache(request, tarn, upstream):
    """A tarn with images in its cache, which runs or is stopped before the commands."""
    return Cache(tarn, upstream, request.param == "stopped")


@pytest.fixture
def on_disk(start_tarn, upstream, tmp_path):
    """on_disk(kind): (disk, cache), on a file system that can be made read-only."""
    disks = []

    def start(kind):
        disks.append(small_disk_or_skip(tmp_path / "small", kind, 64))
        tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}],
                          root=str(disks[0].root))
        return disks[0], Cache(tarn, upstream)

    yield start
    for disk in disks:
        disk.detach()


def pull(tarn, name):
    """Pulls org/app:1 as a client does, until all of it is on disk."""
    repository, _, tag = name.partition(":")
    document = tarn.manifest(repository, tag).json()
    for blob in [document["config"], *document["layers"]]:
        assert digest_of(tarn.blob(repository, blob["digest"]).body) == blob["digest"]
        tarn.wait_cached(repository, blob["digest"])
    tarn.settle()


class Cache:
    """org/app:1 and :2 share a layer, org/other:1 has it too; lake/alone:1 shares nothing."""

    def __init__(self, tarn, upstream, stopped=False):
        self.tarn, self.upstream, self.stopped = tarn, upstream, stopped
        self.shared = noise(40 * KIB, "shared")
        self.own = {name: noise(30 * KIB, name) for name in ("one", "two", "other", "alone")}
        self.configs = {name: json.dumps({"name": name}).encode() for name in self.own}
        self.digests = {
            "org/app:1": self._image("org/app", "one", "1", [self.shared, self.own["one"]]),
            "org/app:2": self._image("org/app", "two", "2", [self.shared, self.own["two"]]),
            "org/other:1": self._image("org/other", "other", "1",
                                       [self.shared, self.own["other"]]),
            "lake/alone:1": self._image("lake/alone", "alone", "1", [self.own["alone"]]),
        }
        for name in self.digests:
            self.pull(name)

    def _image(self, repository, name, tag, layers):
        return self.upstream.image(repository, layers, tag, self.configs[name])

    def pull(self, name):
        pull(self.tarn, name)

    def ready(self):
        """Stops tarn, if the commands are to work on a stopped one."""
        if self.stopped:
            self.tarn.stop()
            assert not (self.tarn.root / "tarn.sock").exists()
        return self.tarn

    def go_on(self):
        if self.stopped:
            self.tarn.start()
        self.upstream.forget_requests()

    def file(self, digest):
        algorithm, _, name = digest.partition(":")
        return self.tarn.root / "blobs" / algorithm / name[:2] / name

    def age(self, digest, seconds):
        """Makes a blob of a stopped tarn last used so long ago."""
        when = time.time() - seconds
        os.utime(self.file(digest), (when, when))

    def size_of(self, name):
        repository = self.upstream.repository(name.partition(":")[0])
        content = repository.manifests[self.digests[name]][0]
        document = json.loads(content)
        return len(content) + sum(blob["size"]
                                  for blob in [document["config"], *document["layers"]])

    def all_blobs(self):
        """digest -> size of all that is cached."""
        files = (self.tarn.root / "blobs").glob("*/*/*")
        return {f"{file.parts[-3]}:{file.name}": file.stat().st_size for file in files}


def names_of(images):
    return [f"{image['upstream']}/{image['repository']}:{','.join(image['tags'])}"
            for image in images]


# ---- ls


def test_ls_lists_each_image(cache, told):
    images = told(cache.ready(), "ls")
    assert names_of(images) == ["fake.test/lake/alone:1", "fake.test/org/app:1",
                                "fake.test/org/app:2", "fake.test/org/other:1"]
    for image in images:
        name = f"{image['repository']}:{image['tags'][0]}"
        assert set(image) == {"upstream", "repository", "tags", "digest", "size", "last_used",
                              "complete", "pinned", "streams", "streams_why"}
        assert image["digest"] == cache.digests[name]
        assert image["size"] == cache.size_of(name)
        assert image["complete"] is True
        assert image["pinned"] is False
        used = datetime.datetime.strptime(image["last_used"], "%Y-%m-%dT%H:%M:%SZ")
        now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
        assert abs((now - used).total_seconds()) < 120
    if cache.stopped:
        cache.tarn.start()


def test_ls_puts_one_object_on_a_line(cache, contents):
    lines = contents(cache.ready(), "ls", "--json").stdout.splitlines()
    assert (lines[0], lines[-1]) == ("[", "]")
    assert all(json.loads(line.rstrip(",")) for line in lines[1:-1])
    assert len(lines) == 6
    if cache.stopped:
        cache.tarn.start()


def test_ls_for_people(cache, contents):
    done = contents(cache.ready(), "ls")
    assert done.returncode == 0
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"IMAGE +DIGEST +SIZE +LAST USED", lines[0])
    short = cache.digests["org/app:2"][7:19]
    assert re.fullmatch(rf"fake\.test/org/app:2 +{short} +\d+\.\d KiB +just now", lines[3])
    assert len(lines) == 5
    if cache.stopped:
        cache.tarn.start()


@pytest.mark.parametrize("names, listed", [
    (["fake.test/org/app"], ["org/app:1", "org/app:2"]),
    (["fake.test/org/app:2"], ["org/app:2"]),
    (["fake.test/org/*:1"], ["org/app:1", "org/other:1"]),
    (["fake.test/**"], ["lake/alone:1", "org/app:1", "org/app:2", "org/other:1"]),
    (["*.test/lake/a?one"], ["lake/alone:1"]),
    (["fake.test/org/app:2", "fake.test/lake/*"], ["lake/alone:1", "org/app:2"]),
    (["other.test/**"], []),
    (["FAKE.TEST:443/org/app:1"], ["org/app:1"]),
])
def test_ls_of_some(tarn, upstream, told, names, listed):
    cache = Cache(tarn, upstream)
    expected = ["fake.test/" + name for name in listed]
    assert names_of(told(tarn, "ls", *names)) == expected
    by_digest = told(tarn, "ls", f"fake.test/org/app@{cache.digests['org/app:1']}")
    assert names_of(by_digest) == ["fake.test/org/app:1"]


def test_ls_folds_the_children_of_an_index(tarn, upstream, told):
    repository = upstream.repository("org/app")
    entries, layers, sizes = [], [], []
    for name in ("amd64", "arm64"):
        layer, config = noise(20 * KIB, name), json.dumps({"architecture": name}).encode()
        content = manifest(config, [layer])
        repository.add_blob(layer)
        repository.add_blob(config)
        repository.add_manifest(content)
        layers.append((content, config, layer))
        sizes.append(len(content) + len(config) + len(layer))
        entries.append(descriptor(content, OCI_MANIFEST,
                                  platform={"os": "linux", "architecture": name}))
    content = index(entries)
    repository.add_manifest(content, OCI_INDEX, tag="1")
    upstream.image("org/app", [noise(5000)], tag="by-digest")
    assert tarn.manifest("org/app", "1").status == 200

    def pull(number):
        assert tarn.manifest("org/app", digest_of(layers[number][0])).status == 200
        for blob in layers[number][1:]:
            assert tarn.blob("org/app", digest_of(blob)).status == 200

    def listed(size):
        """Waits until the image has this size: a client has a blob before the store has it."""
        wait_until(lambda: told(tarn, "ls")[0]["size"] == size, f"an image of {size} bytes")
        [image] = told(tarn, "ls")
        return image

    pull(0)
    image = listed(len(content) + sizes[0])
    assert image["digest"] == digest_of(content)
    assert image["complete"] is False  # the other platform is not here
    pull(1)
    assert listed(len(content) + sum(sizes))["complete"] is True
    # A manifest without a tag that no index names is listed by its digest.
    other = upstream.repository("org/app").tags["by-digest"]
    assert tarn.manifest("org/app", other).status == 200
    untagged, _ = told(tarn, "ls")
    assert (untagged["tags"], untagged["digest"]) == ([], other)


def test_ls_is_no_use_of_what_it_lists(cache, told):
    tarn = cache.tarn
    tarn.stop()
    for digest in cache.all_blobs():
        cache.age(digest, 10 * DAY)
    if not cache.stopped:
        tarn.start()
    for _ in range(2):
        for image in told(tarn, "ls"):
            used = datetime.datetime.strptime(image["last_used"], "%Y-%m-%dT%H:%M:%SZ")
            age = time.time() - used.replace(tzinfo=datetime.timezone.utc).timestamp()
            assert abs(age - 10 * DAY) < 600
    if cache.stopped:
        tarn.start()


def test_several_tags_of_one_image_are_one_line(tarn, upstream, told, contents):
    digest = upstream.image("org/app", [b"layer"], tag="1")
    upstream.repository("org/app").tags["latest"] = digest
    assert tarn.manifest("org/app", "1").status == tarn.manifest("org/app", "latest").status == 200
    [image] = told(tarn, "ls")
    assert image["tags"] == ["1", "latest"]
    assert "fake.test/org/app:1,latest " in contents(tarn, "ls").stdout


@pytest.mark.parametrize("count, shown", [(3, "t0000,t0001,t0002"), (4, "t0000,t0001,t0002 +1"),
                                          (1203, "t0000,t0001,t0002 +1,200")])
def test_many_tags_of_one_image_are_counted(tarn, upstream, told, contents, count, shown):
    digest = upstream.image("org/app", [b"layer"], tag="t0000")
    assert tarn.manifest("org/app", "t0000").status == 200
    tarn.stop()
    tags = [f"t{number:04}" for number in range(count)]
    [first] = [path for path in (tarn.root / "repositories").rglob("t0000") if path.is_file()]
    for tag in tags:
        first.with_name(tag).write_bytes(first.read_bytes())
    [image] = told(tarn, "ls")
    assert (image["tags"], image["digest"]) == (tags, digest)
    _, line = contents(tarn, "ls").stdout.splitlines()
    assert line.startswith(f"fake.test/org/app:{shown}   {digest[7:19]} ")
    tarn.start()


# ---- du


def test_du_counts_bytes_and_blobs_by_upstream(cache, told):
    sizes = cache.all_blobs()
    sums = told(cache.ready(), "du")
    assert set(sums) == {"bytes", "blobs", "limit", "pinned_bytes", "partial_bytes", "record_bytes",
                         "records", "bad_bytes", "disk_bytes", "upstreams"}
    assert (sums["bytes"], sums["blobs"]) == (sum(sizes.values()), len(sizes))
    assert sums["upstreams"] == {"fake.test": {"bytes": sum(sizes.values()), "blobs": len(sizes)}}
    assert sums["pinned_bytes"] == sums["partial_bytes"] == 0
    if cache.stopped:
        cache.tarn.start()


def test_a_blob_of_two_upstreams_counts_for_each_and_once_in_all(start_tarn, make_upstream, told,
                                                                 contents):
    shared = noise(50 * KIB)
    upstreams = [make_upstream(), make_upstream()]
    tarn = start_tarn([{"host": f"{name}.test", "url": upstream.url}
                       for name, upstream in zip("ab", upstreams)])
    for name, upstream in zip("ab", upstreams):
        upstream.image("org/app", [shared], tag="1", config=name.encode())
        assert tarn.manifest(f"{name}.test/org/app", "1").status == 200
        assert tarn.blob(f"{name}.test/org/app", digest_of(shared)).status == 200
    sums = told(tarn, "du")
    assert sums["blobs"] == 3
    assert {host: part["blobs"] for host, part in sums["upstreams"].items()} == {
        "a.test": 2, "b.test": 2}
    assert sums["upstreams"]["a.test"]["bytes"] > len(shared)
    shown = contents(tarn, "du").stdout
    assert re.search(r"^total +\d+\.\d KiB  3 blobs$", shown, re.M)
    assert re.search(r"^b\.test +\d+\.\d KiB  2 blobs$", shown, re.M)


def test_du_knows_the_limit_of_the_configuration(start_tarn, upstream, program, told):
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}],
                      max_size="1GiB")
    assert told(tarn, "du")["limit"] == 1 << 30
    tarn.stop()
    assert told(tarn, "du")["limit"] is None
    done = tarn_command(program, "du", "--config", tarn.config_path, "--json",
                        home=tarn.directory / "home")
    assert json.loads(done.stdout)["limit"] == 1 << 30
    tarn.start()


# ---- rm


def test_rm_removes_an_image_and_what_only_it_used(cache, told):
    before = cache.all_blobs()
    gone = {cache.digests["org/app:1"], digest_of(cache.own["one"]), digest_of(cache.configs["one"])}
    answer = told(cache.ready(), "rm", "fake.test/org/app:1")
    assert answer["removed"] == [{"upstream": "fake.test", "repository": "org/app", "tag": "1",
                                  "digest": cache.digests["org/app:1"]}]
    assert answer["blobs"] == len(gone)
    assert answer["bytes"] == sum(before[digest] for digest in gone)
    assert set(before) - set(cache.all_blobs()) == gone
    assert "org/app:1" not in " ".join(names_of(told(cache.tarn, "ls")))
    cache.go_on()
    # The next pull fetches exactly what was removed.
    cache.pull("org/app:1")
    fetched = {request.path.rpartition("/")[2]
               for request in cache.upstream.asked("/blobs/", method="GET")}
    assert fetched == gone - {cache.digests["org/app:1"]}
    assert cache.upstream.blob_bytes() == len(cache.own["one"]) + len(cache.configs["one"])
    cache.upstream.forget_requests()
    for name in ("org/app:2", "org/other:1"):
        cache.pull(name)
    assert cache.upstream.blob_bytes() == 0


def test_what_was_removed_is_not_answered_from_memory(tarn, upstream, told):
    cache = Cache(tarn, upstream)
    digest = cache.digests["org/app:1"]
    layer = f"/v2/org/app/blobs/{digest_of(cache.own['one'])}"
    assert tarn.manifest("org/app", digest).cache_status == "tarn; hit"
    for _ in range(2):
        assert tarn.head(layer).cache_status == "tarn; hit"
    told(tarn, "rm", "fake.test/org/app:1")
    upstream.refuse()
    for reference in (digest, "1"):
        reply = tarn.manifest("org/app", reference)
        assert reply.status == 502, reply.cache_status
    assert tarn.head(layer).status == 502
    assert tarn.manifest("org/app", cache.digests["org/app:2"]).status == 200


def test_rm_of_a_tag_leaves_an_image_that_has_another(tarn, upstream, told):
    digest = upstream.image("org/app", [b"layer"], tag="1")
    upstream.repository("org/app").tags["latest"] = digest
    for tag in ("1", "latest"):
        assert tarn.manifest("org/app", tag).status == 200
    answer = told(tarn, "rm", "fake.test/org/app:1")
    assert (len(answer["removed"]), answer["blobs"]) == (1, 0)
    assert [image["tags"] for image in told(tarn, "ls")] == [["latest"]]
    # Removing it by its digest removes all its tags.
    answer = told(tarn, "rm", f"fake.test/org/app@{digest}")
    assert [one["tag"] for one in answer["removed"]] == ["latest"]
    assert answer["blobs"] == 1  # only the manifest, because nobody pulled the rest
    assert told(tarn, "ls") == []


def test_rm_of_a_glob(cache, told):
    answer = told(cache.ready(), "rm", "fake.test/org/**")
    assert sorted(one["repository"] + ":" + one["tag"] for one in answer["removed"]) == [
        "org/app:1", "org/app:2", "org/other:1"]
    assert names_of(told(cache.tarn, "ls")) == ["fake.test/lake/alone:1"]
    assert cache.all_blobs().keys() == {
        cache.digests["lake/alone:1"], digest_of(cache.own["alone"]),
        digest_of(cache.configs["alone"])}
    cache.go_on()
    cache.pull("lake/alone:1")
    assert cache.upstream.blob_bytes() == 0
    cache.pull("org/other:1")
    assert digest_of(cache.shared) in cache.all_blobs()


def test_rm_of_a_layer_that_another_upstream_has_leaves_it(start_tarn, make_upstream, told):
    shared = noise(50 * KIB)
    upstreams = [make_upstream(), make_upstream()]
    tarn = start_tarn([{"host": f"{name}.test", "url": upstream.url}
                       for name, upstream in zip("ab", upstreams)])
    for name, upstream in zip("ab", upstreams):
        upstream.image("org/app", [shared], tag="1", config=name.encode())
        document = tarn.manifest(f"{name}.test/org/app", "1").json()
        for blob in [document["config"], *document["layers"]]:
            assert tarn.blob(f"{name}.test/org/app", blob["digest"]).status == 200
    answer = told(tarn, "rm", "a.test/**")
    assert answer["blobs"] == 2  # manifest and config
    upstreams[1].refuse()
    assert tarn.blob("b.test/org/app", digest_of(shared)).body == shared


def test_rm_of_an_index_removes_its_children_unless_they_are_tagged(tarn, upstream, told):
    repository = upstream.repository("org/app")
    contents, layers = [], []
    for name in ("amd64", "arm64"):
        layer = noise(20 * KIB, name)
        contents.append(manifest(name.encode(), [layer]))
        layers.append(layer)
        repository.add_blob(layer)
        repository.add_blob(name.encode())
        repository.add_manifest(contents[-1])
    repository.tags["only-arm"] = digest_of(contents[1])
    top = index([descriptor(content, OCI_MANIFEST) for content in contents])
    repository.add_manifest(top, OCI_INDEX, tag="1")
    for reference in ("1", digest_of(contents[0]), "only-arm"):
        assert tarn.manifest("org/app", reference).status == 200
    for layer in layers:
        assert tarn.blob("org/app", digest_of(layer)).status == 200
    answer = told(tarn, "rm", "fake.test/org/app:1")
    assert [one["tag"] for one in answer["removed"]] == ["1"]
    assert answer["bytes"] == len(top) + len(contents[0]) + len(layers[0])
    [left] = told(tarn, "ls")
    assert left["tags"] == ["only-arm"]
    upstream.forget_requests()
    assert "hit" in tarn.blob("org/app", digest_of(layers[1])).cache_status


def test_docker_hub_by_any_of_its_names(start_tarn, upstream, told):
    tarn = start_tarn([{"host": "docker.io", "url": upstream.url}])
    upstream.image("library/alpine", [b"layer"], tag="3")
    assert tarn.manifest("docker.io/alpine", "3").status == 200
    tarn.stop()
    for name in ("docker.io/alpine", "index.docker.io/alpine:3", "registry-1.docker.io/library/*",
                 "docker.io/*", "docker.io/**"):
        assert [image["repository"] for image in told(tarn, "ls", name)] == ["library/alpine"]
    assert told(tarn, "rm", "registry-1.docker.io/alpine:3")["blobs"] == 1
    tarn.start()


def test_rm_of_nothing_says_so(cache, contents, told):
    done = contents(cache.ready(), "rm", "fake.test/org/none:1")
    assert done.returncode == 1
    assert "nothing in the cache is named fake.test/org/none:1" in done.stderr
    answer = told(cache.tarn, "rm", "fake.test/org/none", "fake.test/org/app:1", code=1)
    assert [one["tag"] for one in answer["removed"]] == ["1"]
    answer = told(cache.tarn, "rm", "fake.test/org/none", code=1)
    assert answer == {"removed": [], "blobs": 0, "bytes": 0}
    if cache.stopped:
        cache.tarn.start()


def test_rm_for_people(cache, contents):
    done = contents(cache.ready(), "rm", "fake.test/lake/alone:1")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0] == f"removed fake.test/lake/alone:1@{cache.digests['lake/alone:1']}"
    assert re.fullmatch(r"3 blobs, \d+\.\d KiB freed", lines[1])
    if cache.stopped:
        cache.tarn.start()


def test_rm_while_a_client_reads(tarn, upstream, told):
    layer = noise(8 * MIB)
    upstream.image("org/app", [layer], tag="1")
    assert tarn.manifest("org/app", "1").status == 200
    assert tarn.blob("org/app", digest_of(layer)).status == 200
    tarn.wait_cached("org/app", digest_of(layer))
    with tarn.download(f"/v2/org/app/blobs/{digest_of(layer)}") as reader:
        first = reader.read(1000)
        assert told(tarn, "rm", "fake.test/org/app:1")["blobs"] == 2
        assert first + reader.read(len(layer)) == layer
    assert tarn.blob("org/app", digest_of(layer)).body == layer  # fetched anew


# ---- prune


def aged(cache):
    """Stops tarn, makes lake/alone:1 40 days old and org/other:1's own 20; starts it if it is to
    run."""
    cache.tarn.stop()
    old = {cache.digests["lake/alone:1"], digest_of(cache.own["alone"]),
           digest_of(cache.configs["alone"])}
    older = {cache.digests["org/other:1"], digest_of(cache.own["other"]),
             digest_of(cache.configs["other"])}
    for digest in old:
        cache.age(digest, 40 * DAY)
    for digest in older:
        cache.age(digest, 20 * DAY)
    if not cache.stopped:
        cache.tarn.start()
    return old, older


def test_prune_by_age(cache, told):
    old, _ = aged(cache)
    before = cache.all_blobs()
    size = sum(before[digest] for digest in old)
    wished = told(cache.tarn, "prune", "--older-than", "30d", "--dry-run")
    assert cache.all_blobs() == before
    answer = told(cache.tarn, "prune", "--older-than", "30d")
    assert answer == {"blobs": 3, "bytes": size, "dry_run": False,
                      "remaining_bytes": sum(before.values()) - size}
    assert wished == {**answer, "dry_run": True}
    assert set(before) - set(cache.all_blobs()) == old
    assert "fake.test/lake/alone:1" not in names_of(told(cache.tarn, "ls"))
    cache.go_on()
    cache.pull("lake/alone:1")
    assert cache.upstream.blob_bytes() == len(cache.own["alone"]) + len(cache.configs["alone"])


def test_prune_to_a_size_takes_the_least_recently_used(cache, told):
    old, older = aged(cache)
    before = cache.all_blobs()
    total = sum(before.values())
    keep = total - sum(before[digest] for digest in old) - 1
    wished = told(cache.tarn, "prune", "--to-size", str(keep), "--dry-run")
    answer = told(cache.tarn, "prune", "--to-size", str(keep))
    assert wished == {**answer, "dry_run": True}
    left = cache.all_blobs()
    assert answer["remaining_bytes"] == sum(left.values()) <= keep
    gone = set(before) - set(left)
    assert old < gone
    assert len(gone & older) == 1  # one was enough
    if cache.stopped:
        cache.tarn.start()


def test_prune_to_nothing(cache, told):
    cache.ready()
    wished = told(cache.tarn, "prune", "--to-size=0", "--dry-run")
    assert wished["remaining_bytes"] == 0
    answer = told(cache.tarn, "prune", "--to-size=0")
    assert answer["remaining_bytes"] == 0
    assert cache.all_blobs() == {}
    if cache.stopped:  # a running tarn keeps the records of the last minute
        assert told(cache.tarn, "ls") == []
    cache.go_on()
    cache.pull("org/app:1")


def test_prune_for_people(cache, contents):
    aged(cache)
    before = cache.all_blobs()
    shown = contents(cache.tarn, "prune", "--older-than", "30d", "--dry-run").stdout.splitlines()
    assert len(shown) == 4
    assert re.fullmatch(r"would delete sha256:[0-9a-f]{64} +[\d.]+ (B|KiB)  last used 1 month ago",
                        shown[0])
    assert re.fullmatch(r"3 blobs, [\d.]+ KiB would be freed; [\d.]+ KiB would be left", shown[-1])
    assert cache.all_blobs() == before
    shown = contents(cache.tarn, "prune", "--older-than", "30d").stdout
    assert re.search(r"^3 blobs, [\d.]+ KiB freed; [\d.]+ KiB left$", shown, re.M)
    if cache.stopped:
        cache.tarn.start()


def test_prune_leaves_what_is_being_read(tarn, upstream, told, contents):
    layer = noise(16 * MIB)
    upstream.image("org/app", [layer], tag="1")
    assert tarn.blob("org/app", digest_of(layer)).status == 200
    tarn.wait_cached("org/app", digest_of(layer))
    with tarn.download(f"/v2/org/app/blobs/{digest_of(layer)}") as reader:
        first = reader.read(1000)
        done = contents(tarn, "prune", "--to-size", "1MiB")
        assert done.returncode == 1
        assert "could not be reached: the rest is pinned or in use" in done.stderr
        assert first + reader.read(len(layer)) == layer
    wait_until(lambda: told(tarn, "prune", "--to-size", "1MiB", "--dry-run")["blobs"] == 1,
               "the blob is no longer in use")
    assert told(tarn, "prune", "--to-size", "1MiB")["remaining_bytes"] == 0


def test_prune_leaves_what_is_pinned(start_tarn, upstream, program, told, contents):
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}],
                      pin=["fake.test/org/app:1"])
    cache = Cache(tarn, upstream)
    pinned = {cache.digests["org/app:1"], digest_of(cache.configs["one"]), digest_of(cache.shared),
              digest_of(cache.own["one"])}
    size = sum(cache.all_blobs()[digest] for digest in pinned)
    tarn.restart()  # so that the pins are known
    wait_until(lambda: told(tarn, "du")["pinned_bytes"] == size, "the pins are known")
    assert {image["repository"] + image["tags"][0]: image["pinned"]
            for image in told(tarn, "ls")}["org/app1"] is True
    done = contents(tarn, "prune", "--to-size", "0")
    assert done.returncode == 1
    assert "pinned or in use" in done.stderr
    assert set(cache.all_blobs()) == pinned
    # The same on a stopped tarn whose configuration is given.
    cache.pull("lake/alone:1")
    tarn.stop()
    done = tarn_command(program, "prune", "--config", tarn.config_path, "--to-size", "0", "--json",
                        home=tarn.directory / "home")
    assert (done.returncode, json.loads(done.stdout)["remaining_bytes"]) == (1, size)
    assert set(cache.all_blobs()) == pinned
    tarn.start()


@pytest.mark.parametrize("arguments", [
    [], ["--dry-run"], ["--older-than"], ["--older-than", "30"], ["--older-than=5 parsecs"],
    ["--to-size", "-1"], ["--to-size", "much"], ["--older-than", "1d", "image"],
    ["--to-size", "1", "--root", "/x", "--config", "/y"]])
def test_bad_usage_of_prune(program, tmp_path, arguments):
    done = tarn_command(program, "prune", *arguments, home=tmp_path)
    assert done.returncode == 2
    assert "tarn prune --help" in done.stderr


def test_prune_of_what_cannot_be_deleted_ends_and_says_why(on_disk, contents):
    disk, cache = on_disk("ext4")
    os.sync()
    disk.fail()
    before = cache.all_blobs()
    for arguments in (["--to-size", "0"], ["--older-than", "0s", "--to-size", "0"]):
        done = contents(cache.tarn, "prune", *arguments)
        assert done.returncode == 1
        assert "Read-only file system" in done.stderr
    assert cache.all_blobs() == before
    assert cache.tarn.get("/readyz").status == 200
    cache.tarn.stop()
    done = contents(cache.tarn, "prune", "--to-size", "0")
    assert done.returncode == 1
    assert "Read-only file system" in done.stderr
    assert cache.all_blobs() == before
    disk.attach_again()
    cache.tarn.start()


# ---- verify


def flip(path, at):
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


def test_verify_of_a_sound_cache(cache, contents, told):
    sizes = cache.all_blobs()
    tarn = cache.ready()
    assert told(tarn, "verify") == {"blobs": len(sizes), "bytes": sum(sizes.values()), "bad": [],
                                    "unreadable": [], "set_aside": 0, "repaired": False}
    done = contents(tarn, "verify")
    assert (done.returncode, done.stdout) == (0, "")
    assert "all correct" in done.stderr
    if cache.stopped:
        tarn.start()


def test_verify_finds_a_flipped_byte_and_repairs(cache, contents, told):
    bad = digest_of(cache.own["one"])
    tarn = cache.ready()
    flip(cache.file(bad), 12345)
    done = contents(tarn, "verify")
    assert (done.returncode, done.stdout) == (1, bad + "\n")
    answer = told(tarn, "verify", code=1)
    assert (answer["bad"], answer["repaired"]) == ([bad], False)
    assert cache.file(bad).exists()
    answer = told(tarn, "verify", "--repair", code=1)
    assert (answer["bad"], answer["repaired"]) == ([bad], True)
    assert not cache.file(bad).exists()
    assert (tarn.root / "bad" / bad.replace(":", "-")).exists()
    assert told(tarn, "verify")["bad"] == []
    cache.go_on()
    cache.pull("org/app:1")
    assert cache.upstream.blob_bytes() == len(cache.own["one"])


@pytest.mark.parametrize("size", [0, 100, 100 * KIB])
def test_verify_finds_a_file_of_another_length(cache, told, size):
    bad = digest_of(cache.own["two"])
    tarn = cache.ready()
    os.truncate(cache.file(bad), size)
    assert told(tarn, "verify", code=1)["bad"] == [bad]
    assert told(tarn, "verify", "--repair", code=1)["bad"] == [bad]
    assert told(tarn, "verify")["bad"] == []
    cache.go_on()
    cache.pull("org/app:2")


def test_what_cannot_be_set_aside_is_not_called_so(on_disk, contents, told):
    disk, cache = on_disk("tmpfs")
    bad = digest_of(cache.own["one"])
    shorter = digest_of(cache.own["two"])
    cache.tarn.stop()
    flip(cache.file(bad), 12345)
    os.truncate(cache.file(shorter), 100)
    disk.make_read_only()
    done = contents(cache.tarn, "verify", "--repair")
    assert done.returncode == 1
    assert set(done.stdout.split()) == {bad, shorter}
    assert "2 bad, not set aside\n" in done.stderr
    assert done.stderr.count("it cannot be set aside: ") == 2
    assert "Read-only file system" in done.stderr
    assert "fetched again" not in done.stderr
    answer = told(cache.tarn, "verify", "--repair", code=1)
    assert (set(answer["bad"]), answer["set_aside"], answer["repaired"]) == (
        {bad, shorter}, 0, False)
    disk.make_read_only(False)
    done = contents(cache.tarn, "verify", "--repair")
    assert "2 bad, set aside; they will be fetched again when asked for\n" in done.stderr
    cache.tarn.start()


def test_an_unreadable_blob_is_not_reported_as_bad(tarn, upstream, contents, told):
    cache = Cache(tarn, upstream)
    bad, locked = digest_of(cache.own["one"]), digest_of(cache.own["two"])
    flip(cache.file(bad), 12345)
    kept = cache.file(locked).read_bytes()
    cache.file(locked).unlink()
    with socket.socket(socket.AF_UNIX) as nobody_opens_it:
        directory = os.open(cache.file(locked).parent, os.O_PATH)
        nobody_opens_it.bind(f"/proc/self/fd/{directory}/{cache.file(locked).name}")
        os.close(directory)
    answer = told(tarn, "verify", code=1)
    assert (answer["bad"], answer["unreadable"], answer["set_aside"]) == ([bad], [locked], 0)
    done = contents(tarn, "verify", "--repair")
    assert (done.returncode, done.stdout) == (1, bad + "\n")
    assert f"tarn verify: {locked} cannot be read: " in done.stderr
    assert "No such device or address" in done.stderr
    assert ("1 bad, set aside; they will be fetched again when asked for; 1 cannot be read\n"
            in done.stderr)
    assert cache.file(locked).is_socket()
    answer = told(tarn, "verify", code=1)
    assert (answer["bad"], answer["unreadable"]) == ([], [locked])
    cache.file(locked).unlink()
    cache.file(locked).write_bytes(kept)
    assert told(tarn, "verify")["unreadable"] == []


def test_verify_keeps_to_its_rate(tarn, upstream, told):
    upstream.image("org/app", [noise(200 * KIB, number) for number in range(5)], tag="1")
    pull(tarn, "org/app:1")
    began = time.monotonic()
    told(tarn, "verify", "--rate", "500KiB")
    assert time.monotonic() - began > 1.5  # of 2 s


def test_verify_shows_progress_on_a_terminal(tarn, upstream):
    Cache(tarn, upstream)
    shown, code = Terminal([tarn.program, "verify", "--rate=300KiB", "--root", str(tarn.root)],
                           tarn.environment).finish()
    assert code == 0, shown
    assert re.search(r"\d+ of 13 blobs, .* KiB of \d+\.\d KiB", shown)
    assert "13 blobs, " in shown


def reads(pid, layer):
    """Whether the process has the blob's file open."""
    target = f"/blobs/sha256/{digest_of(layer)[7:9]}/{digest_of(layer)[7:]}"
    folder = f"/proc/{pid}/fd"
    for name in os.listdir(folder):
        try:
            if os.readlink(f"{folder}/{name}").endswith(target):
                return True
        except OSError:
            pass  # closed meanwhile
    return False


def test_a_client_that_leaves_ends_verify(tarn, upstream):
    layer = noise(8 * MIB)
    upstream.image("org/app", [layer], tag="1")
    tarn.blob("org/app", digest_of(layer))
    tarn.wait_cached("org/app", digest_of(layer))
    wait_until(lambda: not reads(tarn.process.pid, layer), "the transfer to end")
    child = subprocess.Popen([tarn.program, "verify", "--rate", "100KiB", "--root", str(tarn.root)],
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL, env=tarn.environment)

    wait_until(lambda: reads(tarn.process.pid, layer), "the blob is being hashed")
    child.send_signal(signal.SIGINT)
    assert child.wait(5) == 130
    wait_until(lambda: not reads(tarn.process.pid, layer), "hashing ends", seconds=5)


def test_a_stop_ends_verify(tarn, upstream):
    layer = noise(8 * MIB)
    upstream.image("org/app", [layer], tag="1")
    tarn.blob("org/app", digest_of(layer))
    tarn.wait_cached("org/app", digest_of(layer))
    child = subprocess.Popen([tarn.program, "verify", "--rate", "100KiB", "--root", str(tarn.root)],
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE, env=tarn.environment, text=True)
    wait_until(lambda: reads(tarn.process.pid, layer), "the blob is being hashed")
    began = time.monotonic()
    tarn.stop()
    assert time.monotonic() - began < 8
    assert child.wait(5) == 1
    assert "tarn is stopping" in child.stderr.read()
    child.stderr.close()


def test_ctrl_c_ends_the_command_on_a_stopped_cache(tarn, upstream):
    layer = noise(8 * MIB)
    upstream.image("org/app", [layer], tag="1")
    tarn.blob("org/app", digest_of(layer))
    tarn.wait_cached("org/app", digest_of(layer))
    tarn.stop()
    child = subprocess.Popen([tarn.program, "verify", "--rate", "100KiB", "--root", str(tarn.root)],
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL, env=tarn.environment)
    wait_until(lambda: (tarn.root / "lock").read_text() == f"{child.pid}\n", "it has the lock")
    wait_until(lambda: reads(child.pid, layer), "the blob is being hashed")
    child.send_signal(signal.SIGINT)
    assert child.wait(5) == 130
    tarn.start()


# ---- which cache


@pytest.mark.parametrize("arguments", [["ls"], ["du"], ["rm", "a.test/b:1"],
                                       ["prune", "--to-size=1"], ["verify"]])
def test_a_root_that_is_not_there_is_an_error_and_not_made(contents, tmp_path, arguments):
    root = tmp_path / "none"
    done = contents(root, *arguments)
    assert done.returncode == 1
    assert f"there is no cache at {root}" in done.stderr
    assert not root.exists()


def test_an_empty_cache(contents, told, tmp_path):
    root = tmp_path / "empty"
    root.mkdir()
    assert told(root, "ls") == []
    sums = told(root, "du")
    assert sums.pop("records") < 10  # its own directory and what holds the lock
    assert sums.pop("record_bytes") == sums.pop("disk_bytes")
    assert sums == {"bytes": 0, "blobs": 0, "limit": None, "pinned_bytes": 0, "partial_bytes": 0,
                    "bad_bytes": 0, "upstreams": {}}
    assert told(root, "prune", "--to-size=0")["blobs"] == 0
    assert told(root, "verify")["blobs"] == 0
    assert contents(root, "ls").stdout.split() == ["IMAGE", "DIGEST", "SIZE", "LAST", "USED"]


def test_a_socket_left_by_a_crash_is_no_running_tarn(tarn, upstream, told):
    cache = Cache(tarn, upstream)
    tarn.kill()
    assert (tarn.root / "tarn.sock").exists()
    assert len(told(tarn, "ls")) == 4
    assert told(tarn, "verify")["bad"] == []
    tarn.start()


def test_a_held_cache_without_a_socket_says_who_holds_it(tarn, contents):
    (tarn.root / "tarn.sock").rename(tarn.root / "elsewhere")
    done = contents(tarn, "ls")
    (tarn.root / "elsewhere").rename(tarn.root / "tarn.sock")
    assert done.returncode == 1
    assert f"in use by process {tarn.process.pid}" in done.stderr
    assert "tarn.sock does not answer" in done.stderr


def test_the_root_is_found_through_the_configuration(tarn, upstream, program):
    cache = Cache(tarn, upstream)
    for _ in range(2):
        done = tarn_command(program, "ls", "--config", tarn.config_path, "--json",
                            home=tarn.directory / "home")
        assert len(json.loads(done.stdout)) == 4, done.stderr
        if tarn.process.runs():
            tarn.stop()
    tarn.start()
    assert cache


@pytest.mark.parametrize("arguments", [
    ["ls", "--unknown"], ["ls", "--root"], ["ls", "--root", "/x", "--config", "/y"],
    ["du", "image"], ["rm"], ["rm", "--json"], ["rm", "--all", "a"], ["verify", "image"],
    ["verify", "--rate", "fast"], ["verify", "--rate"]])
def test_bad_usage(program, tmp_path, arguments):
    done = tarn_command(program, *arguments, home=tmp_path)
    assert done.returncode == 2
    assert f"tarn {arguments[0]} --help" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("command", ["ls", "du", "rm", "prune", "verify"])
def test_help(program, tmp_path, command):
    for arguments in ([command, "--help"], [command, "--json", "-h"], ["help", command]):
        done = tarn_command(program, *arguments, home=tmp_path)
        assert done.returncode == 0
        assert done.stdout.startswith(f"Usage: tarn {command} ")
        assert "--json" in done.stdout


@pytest.mark.parametrize("name", ["alpine:3", "org", "../x/y", "a.test/../b", "a.test/B", "a.test/b:",
                                  "a.test/b@sha256:1", "a.test/b:x y", "a.test/" + "b" * 5000, ""])
def test_names_that_cannot_be(tarn, contents, name):
    done = contents(tarn, "rm", "--", name)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("tarn rm: ")
    assert "write UPSTREAM/REPOSITORY" in done.stderr
    assert "refused with status" not in done.stderr
    assert contents(tarn, "ls", "--", name).returncode == 2


def test_too_many_names(tarn, contents):
    names = [f"a.test/b{number}" for number in range(1001)]
    done = contents(tarn, "rm", *names)
    assert (done.returncode, done.stdout) == (2, "")
    assert "more than 1,000 names at once" in done.stderr
    assert contents(tarn, "rm", *names[1:]).stderr.count("nothing in the cache is named") == 1000


@pytest.mark.parametrize("arguments", [
    ["ls"], ["ls", "--json"], ["du"], ["du", "--json"], ["verify", "--json"],
    ["prune", "--to-size=1TiB"], ["prune", "--to-size=1TiB", "--json"],
    ["rm", "fake.test/lake/**"], ["rm", "--json", "fake.test/lake/**"]])
def test_an_answer_that_cannot_be_written_is_a_failure(tarn, upstream, arguments):
    Cache(tarn, upstream)
    with open("/dev/full", "wb") as full:
        done = subprocess.run([tarn.program, arguments[0], "--root", str(tarn.root),
                               *arguments[1:]], stdin=subprocess.DEVNULL, stdout=full,
                              stderr=subprocess.PIPE, env=tarn.environment, text=True, timeout=20,
                              check=False)
    assert done.returncode == 1
    assert f"tarn {arguments[0]}: writing the output: No space left on device\n" in done.stderr


# ---- the socket


def test_a_socket_that_cannot_be_removed_is_named_and_serving_goes_on(on_disk):
    disk, cache = on_disk("tmpfs")
    cache.tarn.kill()
    assert (cache.tarn.root / "tarn.sock").exists()
    disk.make_read_only()
    cache.tarn.start()
    assert cache.tarn.manifest("org/app", "1").status == 200  # Cache.pull() needs the socket
    assert cache.tarn.blob("org/app", digest_of(cache.shared)).body == cache.shared
    [line] = [line for line in cache.tarn.log().splitlines() if "orders are not taken" in line]
    assert "the old socket cannot be removed: Read-only file system" in line
    assert "in use" not in line
    disk.make_read_only(False)


@pytest.mark.parametrize("method, path, body, status", [
    ("POST", "/tarn/v1/ls", b"{}", 405),
    ("GET", "/tarn/v1/rm", None, 405),
    ("DELETE", "/tarn/v1/prune", None, 405),
    ("HEAD", "/tarn/v1/du", None, 405),
    ("GET", "/tarn/v1/ls?names=org", None, 400),
    ("GET", "/tarn/v1/ls?names=a.test%2Fb&names=c", None, 400),
    ("GET", "/tarn/v1/ls?names=" + "," * 5000, None, 200),
    ("GET", "/tarn/v1/ls?names=" + "a" * 8000, None, 400),
    ("POST", "/tarn/v1/rm", None, 400),
    ("POST", "/tarn/v1/rm", b"{}", 400),
    ("POST", "/tarn/v1/rm", b'{"names":[]}', 400),
    ("POST", "/tarn/v1/rm", b'{"names":"a.test/b"}', 400),
    ("POST", "/tarn/v1/rm", b'{"names":[1]}', 400),
    ("POST", "/tarn/v1/rm", b'{"names":["a.test/b\\u0000c"]}', 400),
    ("POST", "/tarn/v1/rm", b'{"names":["../../b"]}', 400),
    ("POST", "/tarn/v1/rm", b"[" * 100000, 400),
    ("POST", "/tarn/v1/rm", b'{"names":["' + b"a" * 300000 + b'"]}', 413),
    ("POST", "/tarn/v1/prune", b"{}", 400),
    ("POST", "/tarn/v1/prune", b'{"to_size":-1}', 400),
    ("POST", "/tarn/v1/prune", b'{"to_size":1.5}', 400),
    ("POST", "/tarn/v1/prune", b'{"to_size":"0"}', 400),
    ("POST", "/tarn/v1/prune", b'{"to_size":0,"dryrun":true}', 400),
    ("POST", "/tarn/v1/prune", b'{"to_size":0,"dry_run":1}', 400),
    ("POST", "/tarn/v1/verify", b'{"rate":"1MiB"}', 400),
    ("POST", "/tarn/v1/verify", b'{"repair":"yes"}', 400),
    ("POST", "/tarn/v1/verify", b"verify", 400),
    ("POST", "/tarn/v1/verify", b"null", 400),
])
def test_the_socket_refuses_what_is_no_order(tarn, upstream, method, path, body, status):
    cache = Cache(tarn, upstream)
    before = cache.all_blobs()
    got, content = ask_admin(tarn, method, path, body)
    assert got == status, content
    if status != 200 and method != "HEAD":
        assert json.loads(content)["errors"][0]["message"]
    assert cache.all_blobs() == before


def test_the_last_line_of_an_answer_says_done(tarn, upstream):
    Cache(tarn, upstream)
    for method, path, body in [("GET", "/tarn/v1/ls", None), ("GET", "/tarn/v1/du", None),
                               ("POST", "/tarn/v1/verify", b"{}"),
                               ("POST", "/tarn/v1/prune", b'{"to_size":0,"dry_run":true}'),
                               ("POST", "/tarn/v1/rm", b'{"names":["fake.test/org/app:1"]}')]:
        status, content = ask_admin(tarn, method, path, body)
        assert status == 200
        assert json.loads(content.splitlines()[-1])["done"] is True


def test_nobody_does_it_over_tcp(tarn, upstream):
    cache = Cache(tarn, upstream)
    before = cache.all_blobs()
    for path in ("ls", "du", "rm", "prune", "verify"):
        reply = tarn.get(f"/tarn/v1/{path}", method="POST",
                         body=b'{"names":["fake.test/**"],"to_size":0}')
        assert reply.status in (404, 405)
    assert cache.all_blobs() == before


def test_an_answer_that_ends_early_is_a_failure(program, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "tarn.sock"))
        listener.listen()
        child = subprocess.Popen([program, "ls", "--root", str(root)], stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                 env=bare_environment(tmp_path))
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\n"
                               b"{}\n")
        out, err = child.communicate(timeout=10)
    assert child.returncode == 1
    assert "the response ended early" in err
    assert out == ""
