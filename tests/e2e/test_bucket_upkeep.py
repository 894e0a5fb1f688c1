"""What tarn removes from a bucket, by itself and by order; and the commands that show the bucket."""

import hashlib
import json
import re
from urllib.parse import unquote

import pytest

from kit.processes import wait_until
from kit.tarn import tarn_command

DAY = 86400
BLOBS = "docker/registry/v2/blobs/sha256"
REPOSITORIES = "docker/registry/v2/repositories"
JANITOR = "tarn/tarn/v1/janitor.json"


def digest_of(content):
    return hashlib.sha256(content).hexdigest()


def blob_key(content):
    name = digest_of(content)
    return f"tarn/{BLOBS}/{name[:2]}/{name}/data"


def mark_key(content):
    name = digest_of(content)
    return f"tarn/tarn/v1/used/sha256/{name[:2]}/{name}"


def link_key(name, rest):
    return f"tarn/{REPOSITORIES}/{name}/{rest}/link"


class Shared:
    """A bucket with blobs, and a tarn that is configured for it."""

    def __init__(self, store, start_tarn, program):
        self.store, self.start_tarn, self.program = store, start_tarn, program
        self.tarn = None
        self.contents = {}

    def blob(self, size, age=0, used=None, content=None):
        """A blob that is `age` seconds old, and was last used `used` seconds ago."""
        content = content or (b"%d/" % len(self.contents)).ljust(size, b"x")
        self.contents[digest_of(content)] = content
        self.store.put(blob_key(content), content, age=age)
        if used is not None:
            self.store.put(mark_key(content), b"", age=used)
        return content

    def tag(self, name, tag, content):
        text = f"sha256:{digest_of(content)}".encode()
        self.store.put(link_key(name, f"_manifests/tags/{tag}/current"), text)
        self.store.put(link_key(name, f"_manifests/revisions/sha256/{digest_of(content)}"), text)

    def start(self, **more):
        self.tarn = self.start_tarn([], bucket=self.store.settings(**more),
                                    environment=self.store.environment)
        return self.tarn

    def run(self, *arguments, check=True):
        done = tarn_command(self.program, *arguments, "--config", self.tarn.config_path,
                            home=self.tarn.directory, environment=self.store.environment)
        assert not check or done.returncode == 0, done
        return done

    def last_line(self, *arguments):
        return json.loads(self.run(*arguments, "--json").stdout.splitlines()[-1])

    def blobs(self):
        """The contents of the blobs that are in the bucket."""
        return [content for content in self.contents.values() if self.store.get(blob_key(content))]

    def walks(self):
        """How many pages of blobs and marks were listed."""
        return sum(unquote(request.parameters.get("prefix", "")).endswith(("/blobs/", "/used/"))
                   for request in self.store.requests_of("list"))

    def janitor(self, seconds=60):
        """What the janitor writes when it has run."""
        wait_until(lambda: self.store.get(JANITOR), "the janitor has run", seconds)
        return json.loads(self.store.get(JANITOR))


@pytest.fixture
def shared(object_store, start_tarn, program):
    return Shared(object_store, start_tarn, program)


@pytest.fixture(params=["running", "stopped"])
def either(shared, request):
    """The same, whose tarn runs or has been stopped, when `begin` is called."""
    def begin(**more):
        shared.start(**more)
        if request.param == "stopped":
            shared.tarn.stop()

    shared.begin = begin
    return shared


# ---- the janitor ----

@pytest.mark.slow
def test_the_janitor_deletes_what_was_not_used_for_the_retention(shared):
    shared.store.page_size = 2
    kept = [shared.blob(100, age=1 * DAY), shared.blob(100, age=40 * DAY, used=2 * DAY),
            shared.blob(100, age=2 * DAY, used=40 * DAY), shared.blob(100, age=29 * DAY)]
    gone = [shared.blob(1000, age=31 * DAY), shared.blob(1000, age=90 * DAY, used=31 * DAY)]
    orphan = mark_key(b"a blob that is gone")
    shared.store.put(orphan, b"", age=31 * DAY)
    tarn = shared.start()
    said = shared.janitor()
    assert shared.blobs() == kept
    assert [content for content in gone if shared.store.get(mark_key(content)) is not None] == []
    assert shared.store.get(orphan) is None
    finished = said.pop("finished")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", finished)
    assert said == {"blobs": 4, "bytes": 400, "removed_blobs": 2, "removed_bytes": 2000}
    metrics = tarn.metrics()
    assert metrics["tarn_bucket_removed_total"] == 2
    assert metrics["tarn_bucket_stored_bytes"] == 400
    assert metrics["tarn_bucket_stored_blobs"] == 4


@pytest.mark.slow
def test_the_janitor_deletes_what_was_used_longest_ago_until_the_size_is_reached(shared):
    for number in range(20):
        shared.blob(1000, age=(number + 1) * DAY)
    shared.store.put(f"tarn/{REPOSITORIES}/a/b/_layers/sha256/x/link", b"")
    shared.start(retention="0", max_size=7500)
    said = shared.janitor()
    assert shared.blobs() == list(shared.contents.values())[:7]
    assert (said["blobs"], said["bytes"], said["removed_blobs"]) == (7, 7000, 13)


@pytest.mark.slow
def test_the_janitor_runs_once_a_day_by_the_buckets_clock(shared):
    shared.store.clock_offset = -5 * DAY
    kept = [shared.blob(100, age=29 * DAY)]
    shared.blob(100, age=31 * DAY)
    shared.store.put(JANITOR, b"{}", age=23 * 3600)
    shared.start()
    wait_until(lambda: shared.store.count("head", "janitor.json"), "the first look", 60)
    shared.tarn.stop()
    assert not shared.walks() and shared.store.count("delete") == 0
    shared.store.make_older(2 * 3600, JANITOR)
    shared.tarn.start()
    wait_until(lambda: shared.store.get(JANITOR) != b"{}", "the janitor has run", 60)
    assert shared.blobs() == kept
    assert shared.walks() == 2 and shared.store.count("list_uploads") == 1


@pytest.mark.slow
def test_a_janitor_that_may_not_delete_says_so_once_and_goes_on(shared):
    for _ in range(5):
        shared.blob(100, age=31 * DAY)
    shared.store.forbidden.add("delete")
    tarn = shared.start()
    said = shared.janitor()
    assert (said["blobs"], said["removed_blobs"]) == (5, 0)
    wait_until(lambda: "bucket cleaned" in tarn.log(), "it is logged")
    assert len([line for line in tarn.log().splitlines() if re.search(r"\bdelete\b", line)]) == 1
    assert shared.store.count("delete") == 1
    assert tarn.metrics()["tarn_bucket_up"] == 1


@pytest.mark.slow
def test_uploads_older_than_a_day_are_aborted_and_younger_ones_stay(shared):
    shared.start()
    old, young = "tarn/old", "tarn/young"
    begin_upload(shared.store, old, 25 * 3600)
    begin_upload(shared.store, young, 23 * 3600)
    shared.janitor()
    assert [upload.key for upload in shared.store.uploads.values()] == [young]


@pytest.mark.slow
def test_a_bucket_that_is_only_read_has_no_janitor(shared):
    content = shared.blob(100, age=31 * DAY)
    shared.start(read_only=True)
    done = shared.run("prune", "--bucket", "--older-than", "1d", check=False)
    assert done.returncode == 1 and "read_only" in done.stderr
    assert shared.store.get(blob_key(content)) == content
    assert shared.store.count("head|put|delete") == 0


def begin_upload(store, key, age):
    from kit.object_store import Upload
    with store.lock:
        store.uploads[f"id-{len(store.uploads)}"] = Upload(key, store.now() - age, {})


# ---- prune ----

def test_prune_deletes_by_age_alone(either):
    kept = either.blob(100, age=9 * DAY, used=DAY)
    gone = either.blob(300, age=8 * DAY)
    begin_upload(either.store, "tarn/old", 25 * 3600)
    either.begin()
    wished = either.last_line("prune", "--bucket", "--older-than", "7d", "--dry-run")
    assert wished == {"done": True, "dry_run": True, "blobs": 1, "bytes": 300}
    assert either.blobs() == [kept, gone] and len(either.store.uploads) == 1
    done = either.last_line("prune", "--bucket", "--older-than", "7d")
    assert done == {"done": True, "dry_run": False, "blobs": 1, "bytes": 300}
    assert either.blobs() == [kept] and not either.store.uploads
    assert either.store.get(mark_key(kept)) == b""


def test_prune_to_a_size_deletes_the_oldest_use_first(either):
    blobs = [either.blob(1000, age=hours * 3600, used=used)
             for hours, used in ((1, None), (50, 2 * 3600), (3, None), (40, None), (30, None))]
    either.store.page_size = 2
    either.begin()
    shown = either.run("prune", "--bucket", "--to-size", "3000").stdout
    assert either.blobs() == blobs[:3]
    assert f"deleted sha256:{digest_of(blobs[3])}" in shown
    assert shown.splitlines()[-1] == "2 blobs, 2.0 KiB freed"
    assert either.last_line("prune", "--bucket", "--to-size", "3000")["blobs"] == 0


def test_prune_without_limits_only_aborts_uploads(either):
    content = either.blob(100, age=400 * DAY)
    begin_upload(either.store, "tarn/old", 25 * 3600)
    either.begin()
    done = either.last_line("prune", "--bucket")
    assert done == {"done": True, "dry_run": False, "blobs": 0, "bytes": 0}
    assert either.blobs() == [content] and not either.store.uploads


def test_prune_that_may_not_delete_fails(either):
    either.blob(100, age=400 * DAY)
    either.store.forbidden.add("delete")
    either.begin()
    done = either.run("prune", "--bucket", "--older-than", "1d", check=False)
    assert done.returncode == 1 and "s3:DeleteObject" in done.stderr


def test_lists_that_are_not_in_order_delete_nothing(either):
    either.blob(100, age=400 * DAY)
    either.blob(100, age=400 * DAY)
    keys = either.store.keys("tarn/docker")
    entries = "".join(f"<Contents><Key>{key}</Key><Size>100</Size><LastModified>"
                      "2001-01-01T00:00:00.000Z</LastModified></Contents>"
                      for key in reversed(keys))
    body = ("<ListBucketResult><IsTruncated>false</IsTruncated>"
            f"{entries}</ListBucketResult>").encode()
    either.store.fault("list", status=200, body=body, headers={"Content-Type": "application/xml"})
    either.begin()
    done = either.run("prune", "--bucket", "--older-than", "1d", check=False)
    assert done.returncode == 1, done
    assert len(either.blobs()) == 2


def test_a_cleaning_lists_each_thousand_keys_twice(either):
    for number in range(2500):
        content = b"%06d" % number
        either.store.put(blob_key(content), content, age=number * 3600)
        if number % 2:
            either.store.put(mark_key(content), b"", age=number * 1800)
    either.begin()
    done = either.last_line("prune", "--bucket", "--to-size", "14760")
    by_use = sorted(range(2500), key=lambda number: number * (1800 if number % 2 else 3600))
    left = sorted(int(either.store.get(key)) for key in either.store.keys(f"tarn/{BLOBS}"))
    assert left == sorted(by_use[:2460]) and done["blobs"] == 40
    assert either.walks() == 2 * (3 + 2)


# ---- ls, du ----

def test_ls_shows_the_tags_in_the_bucket(either):
    either.tag("docker.io/library/alpine", "3.20", b"one")
    either.tag("docker.io/library/alpine", "latest", b"one")
    either.tag("localhost_5000/a/b", "v1", b"two")
    either.store.put(link_key("ghcr.io/not/a/tag", "_layers/sha256/" + "0" * 64), b"")
    either.store.page_size = 2
    either.begin()
    assert either.run("ls", "--bucket").stdout.splitlines() == [
        "docker.io/library/alpine:3.20", "docker.io/library/alpine:latest", "localhost:5000/a/b:v1"]
    assert either.run("ls", "--bucket", "alpine:3*", check=False).returncode == 2  # no upstream
    assert either.run("ls", "--bucket", "docker.io/alpine:3*").stdout == \
        "docker.io/library/alpine:3.20\n"
    assert json.loads(either.run("ls", "--bucket", "--json", "localhost:5000/**").stdout) == [
        {"upstream": "localhost:5000", "repository": "a/b", "tag": "v1"}]


def test_du_counts_the_bucket(either):
    either.blob(100)
    either.blob(200, age=DAY, used=0)
    either.begin()
    told = either.last_line("du", "--bucket")["bucket"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", told.pop("as_of"))
    assert told == {"bytes": 300, "blobs": 2}
    assert re.search(r"^bucket +300 B +2 blobs$", either.run("du", "--bucket").stdout, re.M)
    assert "bucket" not in either.last_line("du")


# ---- verify ----

def test_verify_reads_every_blob_of_the_bucket(either):
    good, bad, short = either.blob(3000), either.blob(2000), either.blob(1000)
    either.store.put(blob_key(bad), bad[:-1] + b"!")
    either.store.put(blob_key(short), short[:-1])
    wrong = sorted(f"sha256:{digest_of(content)}" for content in (bad, short))
    either.begin()
    done = either.run("verify", "--bucket", check=False)
    assert done.returncode == 1 and done.stdout.splitlines() == wrong, done
    assert either.store.count("delete") == 0
    done = either.run("verify", "--bucket", "--repair", "--json", check=False)
    told = json.loads(done.stdout)
    assert done.returncode == 1 and told["bad"] == wrong and told["repaired"] is True
    assert either.blobs() == [good]
    assert either.run("verify", "--bucket").stdout == ""


def test_verify_says_what_cannot_be_read(either):
    content = either.blob(3000)
    either.store.fault("get", "data$", reset_after=1000)
    either.begin()
    done = either.run("verify", "--bucket", check=False)
    assert done.returncode == 1 and done.stdout == ""
    assert f"sha256:{digest_of(content)} cannot be read" in done.stderr


# ---- rm ----

def test_rm_deletes_the_tags_links_in_the_bucket(either):
    name = "docker.io/library/alpine"
    either.tag(name, "3.20", b"one")
    either.tag(name, "3.21", b"two")
    either.store.put(link_key(name, f"_manifests/tags/3.20/index/sha256/{digest_of(b'one')}"), b"")
    content = either.blob(100)
    either.begin()
    shown = either.run("rm", "docker.io/alpine:3.20").stdout
    assert f"removed {name}:3.20@sha256:{digest_of(b'one')} from the bucket" in shown
    assert either.store.keys(f"tarn/{REPOSITORIES}/{name}/_manifests/tags/3.20/") == []
    assert len(either.store.keys(f"tarn/{REPOSITORIES}/{name}/_manifests/tags/3.21/")) == 1
    assert either.blobs() == [content]
    done = either.run("rm", "docker.io/alpine:3.20", check=False)
    assert done.returncode == 1 and "nothing in the cache is named" in done.stderr


def test_rm_of_a_repository_deletes_all_its_links_and_of_a_digest_that_ones(either):
    either.tag("ghcr.io/a/b", "v1", b"one")
    either.tag("ghcr.io/a/b", "v2", b"two")
    either.tag("ghcr.io/a/b2", "v1", b"one")
    either.store.put(link_key("ghcr.io/a/b", "_layers/sha256/" + "0" * 64), b"")
    either.begin()
    either.run("rm", f"ghcr.io/a/b@sha256:{digest_of(b'one')}")
    assert [key.split("/")[-4:-1] for key in either.store.keys(f"tarn/{REPOSITORIES}/ghcr.io/a/b/")] \
        == [["_layers", "sha256", "0" * 64], ["revisions", "sha256", digest_of(b"two")],
            ["tags", "v2", "current"]]
    either.run("rm", "ghcr.io/a/b")
    assert either.store.keys(f"tarn/{REPOSITORIES}/ghcr.io/a/b/") == []
    assert len(either.store.keys(f"tarn/{REPOSITORIES}/ghcr.io/a/b2/")) == 2


def test_rm_fails_when_the_bucket_fails(either):
    either.tag("ghcr.io/a/b", "v1", b"one")
    either.store.forbidden.add("delete")
    either.begin()
    done = either.run("rm", "ghcr.io/a/b:v1", check=False)
    assert done.returncode == 1 and "403 AccessDenied" in done.stderr, done


# ---- without a bucket ----

@pytest.mark.parametrize("order", [("ls",), ("du",), ("prune", "--older-than", "1d"), ("verify",)])
def test_an_order_about_the_bucket_needs_one(start_tarn, program, order):
    tarn = start_tarn([])
    done = tarn_command(program, *order, "--bucket", "--config", tarn.config_path,
                        home=tarn.directory)
    assert done.returncode == 1 and "no bucket is configured (bucket.url)" in done.stderr
    tarn.stop()
    done = tarn_command(program, *order, "--bucket", "--config", tarn.config_path,
                        home=tarn.directory)
    assert done.returncode == 1 and "no bucket is configured (bucket.url)" in done.stderr
    done = tarn_command(program, *order, "--bucket", "--root", tarn.root, home=tarn.directory)
    assert done.returncode == 1 and "--root names no bucket" in done.stderr


def test_a_bucket_that_is_away_is_an_error(either):
    either.begin()
    either.store.stop()
    done = either.run("ls", "--bucket", check=False)
    assert done.returncode == 1 and "s3://cache" in done.stderr, done
