"""Indexes of layers and images: when they are made, what refuses them, who may read them."""

import json
import struct

import pytest

from kit.content import KIB, MIB, digest_of, noise
from kit.layers import (OCI_GZIP, StreamImage, archive, entry, packed, state, streaming, wait_state,
                        zstd)
from kit.processes import wait_until
from kit.tarn import tarn_command

STREAMING = {"enabled": True, "min_layer": 0}
LAYER_TYPE = "application/vnd.tarn.index.v1"
IMAGE_TYPE = "application/vnd.tarn.image.v1"


@pytest.fixture
def repository(upstream):
    return upstream.repository("org/app")


@pytest.fixture
def start(start_tarn, upstream):
    def start(streaming=STREAMING, **more):
        return start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}],
                          streaming=streaming, **more)
    return start


def small_tar(number=0):
    return archive(entry(f"f{number}", noise(KIB, number)))


def test_an_image_can_stream_once_all_of_it_is_cached(start, repository):
    tarn = start()
    image = StreamImage(repository, [small_tar(0), small_tar(1)])
    layer = image.digests[0]
    assert state(tarn, "layer", layer) == ("absent", None)
    assert state(tarn, "image", image.digest) == ("absent", None)
    assert tarn.manifest("org/app", image.digest).status == 200
    assert tarn.blob("org/app", layer).status == 200
    assert state(tarn, "image", image.digest) == ("absent", None)
    image.pull(tarn)
    wait_state(tarn, "image", image.digest, ("ready", None))
    for digest in image.digests:
        wait_state(tarn, "layer", digest, ("ready", None))
    response = streaming(tarn, "image", image.digest)
    assert response["Content-Type"] == IMAGE_TYPE
    assert response.body[:8] == b"TARNIMG1"
    assert struct.unpack_from("<Q", response.body, 40) == (2,)
    response = streaming(tarn, "layer", layer)
    assert response["Content-Type"] == LAYER_TYPE
    assert response.body[:8] == b"TARNIDX1"
    assert response.body[136:168].hex() == layer.removeprefix("sha256:")
    assert response.body[208:240].hex() == image.diff_ids[0].removeprefix("sha256:")


def test_indexes_are_served_like_files(start, repository):
    tarn = start()
    image = StreamImage(repository, [small_tar()])
    image.pull(tarn)
    wait_state(tarn, "image", image.digest, ("ready", None))
    whole = streaming(tarn, "layer", image.digests[0])
    head = streaming(tarn, "layer", image.digests[0], method="HEAD")
    assert head.status == 200 and head.body == b""
    assert head["Content-Length"] == whole["Content-Length"] == str(len(whole.body))
    assert head["ETag"] == whole["ETag"]
    same = streaming(tarn, "layer", image.digests[0], headers={"If-None-Match": whole["ETag"]})
    assert same.status == 304 and same.body == b""
    part = streaming(tarn, "layer", image.digests[0], headers={"Range": "bytes=10-19"})
    assert part.status == 206 and part.body == whole.body[10:20]
    assert part["Content-Range"] == f"bytes 10-19/{len(whole.body)}"
    behind = streaming(tarn, "layer", image.digests[0], headers={"Range": "bytes=99999999-"})
    assert behind.status == 416


def test_asking_fetches_and_makes_nothing(start, upstream, repository):
    tarn = start()
    image = StreamImage(repository, [small_tar()])
    for _ in range(3):
        assert state(tarn, "layer", image.digests[0]) == ("absent", None)
        assert state(tarn, "image", image.digest) == ("absent", None)
    assert upstream.asked() == []


def test_switched_off_nothing_is_made(start, repository):
    tarn = start(streaming={"enabled": False, "min_layer": 0})
    image = StreamImage(repository, [small_tar()])
    image.pull(tarn)
    tarn.settle()
    assert state(tarn, "image", image.digest) == ("absent", "off")
    assert state(tarn, "layer", image.digests[0]) == ("absent", "off")
    assert not (tarn.root / "aside").exists()


def test_indexing_can_be_switched_on_for_what_is_cached(start, repository):
    tarn = start(streaming={"enabled": False})
    image = StreamImage(repository, [small_tar()])
    image.pull(tarn)
    tarn.settle()
    tarn.stop()
    tarn.settings["streaming"] = STREAMING
    tarn.start()
    wait_state(tarn, "image", image.digest, ("ready", None))


def test_an_image_without_a_large_layer_is_small(start, repository):
    tarn = start(streaming={"enabled": True, "min_layer": "64KiB"})
    small = StreamImage(repository, [small_tar(0), small_tar(1)], tag="s")
    large = StreamImage(repository, [small_tar(2), archive(entry("l", noise(100 * KIB)))], tag="l")
    small.pull(tarn)
    large.pull(tarn)
    wait_state(tarn, "image", large.digest, ("ready", None))
    assert state(tarn, "layer", large.digests[0]) == ("ready", None)
    assert state(tarn, "image", small.digest) == ("refused", "small")
    assert state(tarn, "layer", small.digests[0]) == ("refused", "small")


def bad_pack(tar):
    return packed(tar)[:-9]


@pytest.mark.parametrize("why, members", [
    ("compression", {"pack": bad_pack}),
    ("tar", {"tars": [archive(entry("a/../b"))]}),
    ("tar", {"tars": [b"no archive" * 100]}),
    ("diff_id", {"diff_ids": ["sha256:" + "0" * 64]}),
    ("media_type", {"layer_type": "application/vnd.cncf.helm.chart.content.v1.tar+gzip"}),
    ("media_type", {"config_type": "application/vnd.cncf.helm.config.v1+json"}),
])
def test_what_cannot_stream_says_why(start, repository, why, members):
    tarn = start()
    image = StreamImage(repository, members.pop("tars", [small_tar()]), **members)
    image.pull(tarn)
    wait_state(tarn, "image", image.digest, ("refused", why))
    assert state(tarn, "layer", image.digests[0]) == ("refused", why)
    tarn.restart()
    wait_state(tarn, "image", image.digest, ("refused", why))


def test_a_lying_configuration_harms_no_other_image(start, repository):
    tarn = start()
    tar = small_tar()
    liar = StreamImage(repository, [tar], tag="liar", diff_ids=["sha256:" + "0" * 64])
    liar.pull(tarn)
    wait_state(tarn, "image", liar.digest, ("refused", "diff_id"))
    honest = StreamImage(repository, [tar], tag="honest")
    honest.pull(tarn)
    wait_state(tarn, "image", honest.digest, ("ready", None))
    assert state(tarn, "image", liar.digest) == ("refused", "diff_id")
    assert state(tarn, "layer", honest.digests[0]) == ("ready", None)


def test_an_image_streams_whole_or_not_at_all(start, repository):
    tarn = start()
    image = StreamImage(repository, [small_tar(), archive(entry("../x"))])
    image.pull(tarn)
    wait_state(tarn, "image", image.digest, ("refused", "tar"))
    assert state(tarn, "layer", image.digests[0]) == ("ready", None)


def test_a_layer_that_the_repository_does_not_link_is_absent(start, upstream, repository):
    tarn = start()
    image = StreamImage(repository, [small_tar()])
    image.pull(tarn)
    wait_state(tarn, "image", image.digest, ("ready", None))
    upstream.repository("org/other").add_blob(b"x")
    for what, digest in (("layer", image.digests[0]), ("image", image.digest)):
        assert state(tarn, what, digest, "fake.test/org/other") == ("absent", None)


def test_indexes_survive_a_crash_and_are_not_made_again(start, repository):
    tarn = start()
    image = StreamImage(repository, [small_tar(), small_tar(1)])
    image.pull(tarn)
    wait_state(tarn, "image", image.digest, ("ready", None))
    before = streaming(tarn, "layer", image.digests[0])
    tarn.kill()
    tarn.start()
    assert state(tarn, "image", image.digest) == ("ready", None)
    assert streaming(tarn, "layer", image.digests[0])["ETag"] == before["ETag"]
    assert tarn.metrics()["tarn_streaming_read_bytes_total"] == 0


def test_indexes_die_with_their_blobs(start, repository):
    tarn = start()
    image = StreamImage(repository, [small_tar(), small_tar(1)])
    image.pull(tarn)
    wait_state(tarn, "image", image.digest, ("ready", None))
    assert len(list((tarn.root / "aside").iterdir())) == 3
    assert tarn.metrics()["tarn_streaming_bytes"] > 0
    tarn_command(tarn.program, "rm", "--root", tarn.root, "fake.test/org/app", home=tarn.directory,
                 check=True)
    assert list((tarn.root / "aside").iterdir()) == []
    assert tarn.metrics()["tarn_streaming_bytes"] == 0
    assert state(tarn, "image", image.digest) == ("absent", None)


def test_what_a_killed_tarn_left_beside_no_blob_is_deleted(start, repository):
    tarn = start()
    image = StreamImage(repository, [small_tar()])
    image.pull(tarn)
    wait_state(tarn, "image", image.digest, ("ready", None))
    tarn.kill()
    name = image.digests[0].removeprefix("sha256:")
    (tarn.root / "blobs/sha256" / name[:2] / name).unlink()
    tarn.start()
    wait_until(lambda: not (tarn.root / f"aside/sha256-{name}.index").exists(), "the index to go")


def test_indexes_count_in_max_size(start, repository):
    """The cache stays below its limit with the indexes, of which each is larger than its layer."""
    tarn = start(max_size="3MiB")
    for number in range(12):
        image = StreamImage(repository, [archive(entry("f", noise(400 * KIB, number)))],
                            tag=str(number))
        image.pull(tarn)
    wait_until(lambda: sum(file.stat().st_blocks * 512 for file in tarn.root.rglob("*")
                           if file.is_file() and file.parent.name != "tmp") <= 3 * MIB,
               "the cache to be below its limit")


def test_damaged_indexes_are_made_again(start, repository):
    tarn = start()
    image = StreamImage(repository, [small_tar(), small_tar(1)])
    image.pull(tarn)
    wait_state(tarn, "image", image.digest, ("ready", None))
    tarn.stop()
    aside = tarn.root / "aside"
    file = aside / f"sha256-{image.digests[0].removeprefix('sha256:')}.index"
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(content)
    tarn.start()
    wait_state(tarn, "image", image.digest, ("ready", None))
    content[0] ^= 1
    assert file.read_bytes() == content


def test_failures_of_our_own_are_tried_again_at_the_next_start(start, repository):
    tarn = start()
    image = StreamImage(repository, [small_tar()])
    image.pull(tarn)
    wait_state(tarn, "image", image.digest, ("ready", None))
    tarn.stop()
    name = f"sha256-{image.digests[0].removeprefix('sha256:')}"
    (tarn.root / f"aside/{name}.index").unlink()
    (tarn.root / f"aside/{name}.refused").write_text(f"{image.diff_ids[0]} error\n")
    tarn.start()
    wait_state(tarn, "image", image.digest, ("ready", None))


def test_zstd_layers_get_a_copy_in_frames(start, repository):
    tarn = start()
    tar = archive(entry("f", noise(9 * MIB)))
    image = StreamImage(repository, [tar], layer_type=OCI_GZIP.replace("gzip", "zstd"),
                        pack=zstd)
    image.pull(tarn)
    wait_state(tarn, "image", image.digest, ("ready", None))
    frames = streaming(tarn, "frames", image.digests[0])
    assert frames.status == 200
    assert digest_of(zstd(frames.body, "-d")) == digest_of(tar)


def test_chains_name_the_images_that_have_them(start, repository):
    tarn = start()
    image = StreamImage(repository, [small_tar(0), small_tar(1)])
    assert tarn.get(f"/tarn/v1/streaming/chain/{image.chain(1)}").status == 404
    image.pull(tarn)
    wait_state(tarn, "image", image.digest, ("ready", None))
    for layers in (1, 2):
        answer = wait_until(
            lambda: (lambda one: one.status == 200 and one)(
                tarn.get(f"/tarn/v1/streaming/chain/{image.chain(layers)}")), "the chain")
        assert answer.json() == {"images": [{"image": f"fake.test/org/app@{image.digest}",
                                           "layers": layers}]}
    assert tarn.get("/tarn/v1/streaming/chain/nonsense").status == 400
    tarn.restart()
    wait_until(lambda: tarn.get(f"/tarn/v1/streaming/chain/{image.chain(2)}").status == 200,
               "the chain after a restart")


def test_traces_are_kept_for_other_nodes(start, repository):
    tarn = start()
    image = StreamImage(repository, [small_tar()])
    path = f"/tarn/v1/streaming/trace/fake.test/org/app@{image.digest}"
    trace = json.dumps({"version": 1, "reads": [
        {"layer": image.digests[0], "offset": 0, "length": 512}]}).encode()
    assert tarn.get(path, method="POST", body=trace).status == 404
    image.pull(tarn)
    tarn.settle()
    missing = tarn.get(path)
    assert missing.status == 404 and missing.code == "TRACE_UNKNOWN"
    assert tarn.get(path, method="POST", body=trace).status == 204
    assert tarn.get(path).body == trace
    for nonsense, status in ((b"{}", 400), (b"nonsense", 400), (b"x" * (257 * KIB), 413),
                             (b'{"version":1,"reads":[{"layer":"x","offset":0,"length":1}]}', 400)):
        assert tarn.get(path, method="POST", body=nonsense).status == status
        assert tarn.get(path).body == trace
    for method in ("PUT", "DELETE"):
        assert tarn.get(path, method=method).status == 405


def test_malformed_names_are_refused(start, repository):
    tarn = start()
    zeros = "sha256:" + "0" * 64
    for path, status, code in ((f"layer/fake.test/org/app@{zeros[:-1]}", 400, "DIGEST_INVALID"),
                               ("layer/fake.test/org/app", 400, "DIGEST_INVALID"),
                               ("image/fake.test/org/app@latest", 400, "DIGEST_INVALID"),
                               (f"image/org/app@{zeros}", 404, "NAME_UNKNOWN"),
                               (f"image/nowhere.test/org/app@{zeros}", 404, "NAME_UNKNOWN"),
                               (f"image/fake.test/ORG@{zeros}", 400, "NAME_INVALID")):
        response = tarn.get(f"/tarn/v1/streaming/{path}")
        assert (response.status, response.code) == (status, code), path
    assert tarn.get(f"/tarn/v1/streaming/image/fake.test/org/app@{zeros}?ns=else.test").status == 404


def test_repositories_that_may_not_be_read_are_denied(start_tarn, upstream, repository):
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "repositories": ["other/**"]}],
                      streaming=STREAMING)
    zeros = "sha256:" + "0" * 64
    for what in ("layer", "image", "trace", "frames"):
        response = streaming(tarn, what, zeros)
        assert (response.status, response.code) == (403, "DENIED")


def test_metrics_say_what_indexing_cost(start, repository):
    tarn = start()
    image = StreamImage(repository, [small_tar(), archive(entry("../x"))])
    image.pull(tarn)
    wait_state(tarn, "image", image.digest, ("refused", "tar"))
    metrics = tarn.metrics()
    assert metrics['tarn_streaming_layers{state="ready"}'] == 1
    assert metrics['tarn_streaming_layers{state="refused"}'] == 1
    assert metrics["tarn_streaming_read_bytes_total"] >= len(image.layers[0])
    assert metrics["tarn_streaming_cpu_seconds_total"] > 0
