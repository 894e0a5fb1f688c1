"""
What tarns over one bucket promise. Here the bucket is the scripted object store;
`script/test --optional engines` runs the same on real object stores.
"""

import json
import threading

import pytest

from kit.content import KIB, MIB, OCI_MANIFEST, digest_of, noise
from kit.processes import Program, accepts, free_port, run, wait_until
from kit.shared_bucket import (data_key, layer_key, revision_key, tag_key, wait_settled,
                               wait_stored)
from kit.tarn import bare_environment, tarn_command
from kit.yaml_text import yaml_text

SMALL = noise(300 * KIB)
LARGE = noise(66 * MIB + 77, seed=1)  # is uploaded in parts
CONFIG = b"{}"
REPOSITORY = "fake.test/org/app"


@pytest.fixture
def engine(object_store):
    return object_store


@pytest.fixture
def start(start_tarn, upstream, engine):
    """A tarn with a disk of its own, on the bucket."""
    def one(**bucket):
        return start_tarn([{"host": "fake.test", "url": upstream.url, "default": True,
                            "tag_ttl": "0"}], environment=engine.environment,
                          bucket=engine.settings(**{"patience": "20s", **bucket}))
    return one


def pull(tarn, manifest_digest, layers):
    """Pulls as a client does: the manifest by its tag, then all blobs."""
    answer = tarn.manifest("org/app", "1", timeout=60)
    assert (answer.status, digest_of(answer.body)) == (200, manifest_digest)
    for content in [CONFIG, *layers]:
        got = tarn.blob("org/app", digest_of(content), timeout=120)
        assert (got.status, digest_of(got.body)) == (200, digest_of(content))


def keys_of(manifest_digest, layers):
    """All that a tarn has to keep in the bucket of this image."""
    blobs = [digest_of(content) for content in [CONFIG, *layers]]
    return ([data_key(digest) for digest in [manifest_digest, *blobs]] +
            [layer_key(REPOSITORY, digest) for digest in blobs] +
            [revision_key(REPOSITORY, manifest_digest), tag_key(REPOSITORY, "1")])


def fill(start, upstream, engine, layers):
    """A tarn has pulled the image, and all of it is in the bucket: (the tarn, its digest)"""
    manifest_digest = upstream.image("org/app", layers, tag="1", config=CONFIG)
    tarn = start()
    pull(tarn, manifest_digest, layers)
    wait_stored(engine, *keys_of(manifest_digest, layers), seconds=120)
    return tarn, manifest_digest


def test_a_tarn_that_starts_empty_serves_what_another_fetched(start, upstream, engine):
    layers = [SMALL, LARGE]
    first, manifest_digest = fill(start, upstream, engine, layers)
    for content in [CONFIG, *layers]:
        assert digest_of(engine.get(data_key(digest_of(content)))) == digest_of(content)
    wait_settled(first)
    assert not engine.uploads
    first.stop()
    upstream.refuse()
    second = start()
    pull(second, manifest_digest, layers)
    part = second.blob("org/app", digest_of(LARGE), {"Range": "bytes=50000000-50000999"})
    assert (part.status, part.body == LARGE[50000000:50001000]) == (206, True)
    assert second.manifest("org/app", manifest_digest).status == 200


def test_a_range_of_a_blob_of_the_bucket_is_served_without_upstream(start, upstream, engine):
    _, _ = fill(start, upstream, engine, [LARGE])
    upstream.refuse()
    second = start()
    part = second.blob("org/app", digest_of(LARGE), {"Range": f"bytes={40 * MIB}-"}, timeout=60)
    assert (part.status, digest_of(part.body)) == (206, digest_of(LARGE[40 * MIB:]))


@pytest.mark.slow
def test_a_plain_registry_serves_the_bucket(start, upstream, engine, tmp_path):
    tarn, manifest_digest = fill(start, upstream, engine, [SMALL, LARGE])
    wait_settled(tarn)
    port = free_port()
    config = tmp_path / "registry.yml"
    config.write_text(yaml_text({
        "version": 0.1,
        "storage": {"s3": {"accesskey": engine.environment["AWS_ACCESS_KEY_ID"],
                           "secretkey": engine.environment["AWS_SECRET_ACCESS_KEY"],
                           "region": engine.region, "regionendpoint": engine.url,
                           "bucket": engine.bucket, "secure": False, "rootdirectory": "/tarn"},
                    "redirect": {"disable": True},
                    "maintenance": {"readonly": {"enabled": True}}},
        "http": {"addr": f"127.0.0.1:{port}"}}))
    registry = Program(["docker-registry", "serve", config], tmp_path / "registry.log",
                       bare_environment(tmp_path))
    try:
        registry.wait_ready(lambda: accepts(port))
        run(["skopeo", "copy", "--quiet", "--src-tls-verify=false",
             f"docker://127.0.0.1:{port}/{REPOSITORY}:1", f"dir:{tmp_path}/copy"])
    finally:
        registry.stop()
    for content in (SMALL, LARGE):
        name = digest_of(content).partition(":")[2]
        assert digest_of((tmp_path / "copy" / name).read_bytes()) == digest_of(content)
    assert digest_of((tmp_path / "copy" / "manifest.json").read_bytes()) == manifest_digest


def test_wrong_bytes_in_the_bucket_are_replaced(start, upstream, engine):
    first, _ = fill(start, upstream, engine, [SMALL])
    first.stop()
    digest = digest_of(SMALL)
    engine.put(data_key(digest), SMALL[:-1] + b"!")
    second = start()
    wait_until(lambda: second.blob("org/app", digest).body == SMALL, "upstream's bytes")
    wait_until(lambda: engine.get(data_key(digest)) == SMALL, "the right object", 60)
    assert second.metrics()["tarn_bucket_wrong_total"] >= 1


def test_tarns_that_fetch_the_same_at_once_end_with_one_object(start, upstream, engine):
    manifest_digest = upstream.image("org/app", [LARGE], tag="1", config=CONFIG)
    tarns = [start() for _ in range(2)]
    failures = []

    def one(tarn):
        try:
            pull(tarn, manifest_digest, [LARGE])
        except BaseException as failure:  # pylint: disable=broad-except
            failures.append(failure)

    threads = [threading.Thread(target=one, args=(tarn,)) for tarn in tarns]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    wait_stored(engine, *keys_of(manifest_digest, [LARGE]), seconds=120)
    for tarn in tarns:
        wait_settled(tarn, 120)
    assert digest_of(engine.get(data_key(digest_of(LARGE)))) == digest_of(LARGE)
    wait_until(lambda: not engine.uploads, "no unfinished upload")


def test_what_was_not_uploaded_is_uploaded_after_a_crash(start, upstream, engine):
    manifest_digest = upstream.image("org/app", [SMALL, LARGE], tag="1", config=CONFIG)
    tarn = start()
    pull(tarn, manifest_digest, [SMALL, LARGE])
    tarn.kill()
    tarn.start()
    wait_stored(engine, *keys_of(manifest_digest, [SMALL, LARGE]), seconds=120)
    wait_settled(tarn)


def test_check_bucket_finds_everything_and_leaves_nothing(program, engine, tmp_path):
    config = tmp_path / "tarn.yaml"
    config.write_text(yaml_text({"bucket": engine.settings()}))
    done = tarn_command(program, "check-bucket", "--json", "--config", config, home=tmp_path,
                        environment=engine.environment)
    report = json.loads(done.stdout)
    assert (done.returncode, report["reads"], report["writes"]) == (0, True, True), report
    assert [check for check in report["checks"] if not check["ok"]] == []
    assert engine.keys() == [] and not engine.uploads


def test_commands_list_check_and_empty_the_bucket(start, upstream, engine, program, tmp_path):
    tarn, manifest_digest = fill(start, upstream, engine, [SMALL])
    wait_settled(tarn)
    digests = [manifest_digest, digest_of(CONFIG), digest_of(SMALL)]

    def order(command, *arguments):
        return tarn_command(program, command, "--bucket", *arguments, "--config", tarn.config_path,
                            home=tmp_path, environment=engine.environment)

    listed = order("ls")
    assert (listed.returncode, listed.stdout) == (0, f"{REPOSITORY}:1\n"), listed.stderr
    measured = json.loads(order("du", "--json").stdout.splitlines()[-1])["bucket"]
    assert measured["blobs"] == len(digests)
    assert measured["bytes"] == sum(len(engine.get(data_key(digest))) for digest in digests)
    assert order("verify").returncode == 0
    kept = json.loads(order("prune", "--older-than", "1d", "--json").stdout.splitlines()[-1])
    assert kept == {"done": True, "dry_run": False, "blobs": 0, "bytes": 0}
    gone = json.loads(order("prune", "--to-size", "0", "--json").stdout.splitlines()[-1])
    assert (gone["done"], gone["blobs"], gone["bytes"]) == (True, 3, measured["bytes"])
    assert engine.keys("tarn/docker/registry/v2/blobs/") == []


def test_what_a_cncf_registry_has_kept_is_found(start_tarn, upstream, engine, tmp_path):
    """tarn takes its place with its configuration; upstream is asked once whether it may be read."""
    upstream.image("org/app", [SMALL], tag="1", config=CONFIG)
    digest, address = digest_of(SMALL), f"127.0.0.1:{free_port()}"
    engine.put(data_key(digest), SMALL)
    tarn = start_tarn(
        version=0.1, listen=[address], http={"addr": address}, proxy={"remoteurl": upstream.url},
        storage={"s3": {"bucket": engine.bucket, "rootdirectory": "/tarn", "region": engine.region,
                        "regionendpoint": engine.url, "secure": False,
                        "accesskey": engine.environment["AWS_ACCESS_KEY_ID"],
                        "secretkey": engine.environment["AWS_SECRET_ACCESS_KEY"]},
                 "redirect": {"disable": True}},
        flags=["--root", str(tmp_path / "tarn-0" / "root"), "--bucket-patience=20s"])
    answer = tarn.blob("org/app", digest)
    assert (answer.status, digest_of(answer.body)) == (200, digest)
    assert [request.method for request in upstream.asked("/blobs/")] == ["HEAD"]
    assert "detail=bucket" in answer.cache_status
    tarn.logged("storage.redirect is ignored")


def test_a_manifest_keeps_its_media_type(start, upstream, engine):
    first, manifest_digest = fill(start, upstream, engine, [SMALL])
    wait_settled(first)
    upstream.refuse()
    answer = start().manifest("org/app", "1", timeout=60)
    assert (answer.status, answer["Content-Type"]) == (200, OCI_MANIFEST)
    assert answer["Docker-Content-Digest"] == manifest_digest
