"""Where the bytes of a mounted image come from when its first tarn has none, or wrong ones: another
tarn, or the registry itself by the node's own credentials; and what earlier starts have read."""


import pytest

from kit.agent import ON_A_NODE
from kit.cache_files import blob_file
from kit.content import KIB, MIB, noise
from kit.layers import StreamImage, archive, entry, repository, streaming, wait_state, zstd
from kit.processes import wait_until

pytestmark = ON_A_NODE

CONTENTS = {f"f{number}": noise(3 * MIB, number) for number in range(5)}
WRONG = 64  # bytes


@pytest.fixture
def start_cache(start_tarn, upstream):
    def start(**more):
        return start_tarn([{"host": "fake.test", "url": upstream.url, "default": True, **more}],
                          streaming={"enabled": True, "min_layer": 0})
    return start


def made(tarn, repository, **more):
    image = StreamImage(repository, [archive(*(entry(*one) for one in CONTENTS.items()))], **more)
    image.pull(tarn)
    wait_state(tarn, "image", image.digest, ("ready", None))
    image.name = f"fake.test/org/app@{image.digest}"
    return image


def damage(tarn, image):
    """Changes bytes of the layer that the tarn has, in its middle."""
    path = blob_file(tarn.root, image.digests[0])
    with open(path, "r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(bytes(WRONG))


def read_all(folder):
    for name, content in CONTENTS.items():
        assert (folder / name).read_bytes() == content


def test_the_registry_itself_is_asked_when_no_tarn_answers(start_cache, start_agent, upstream,
                                                          repository, tmp_path):
    password = tmp_path / "password"
    password.write_text("secret")
    upstream.basic = ("robot", "secret")
    login = {"credentials": {"username": "robot", "password_file": str(password)}}
    tarn = start_cache(**login)
    image = made(tarn, repository)
    agent = start_agent(tarn.url, background=0, trace=False, upstreams=[
        {"host": "fake.test", "url": upstream.url, **login}])
    folder = agent.mount(image.name, tmp_path / "m")
    tarn.kill()
    before = upstream.blob_bytes()
    read_all(folder)
    assert upstream.blob_bytes() - before >= len(image.layers[0]) * 0.9
    assert agent.metric("tarn_node_read_errors_total") == 0


def test_a_wrong_span_comes_from_the_registry(start_cache, start_agent, upstream, repository,
                                             tmp_path):
    tarn = start_cache()
    image = made(tarn, repository)
    agent = start_agent(tarn.url, background=0, trace=False,
                        upstreams=[{"host": "fake.test", "url": upstream.url}])
    folder = agent.mount(image.name, tmp_path / "m")
    damage(tarn, image)
    before = upstream.blob_bytes()
    read_all(folder)
    assert 0 < upstream.blob_bytes() - before < len(image.layers[0]) * 0.8
    assert agent.metric("tarn_node_bad_spans_total") >= 1
    assert agent.metric("tarn_node_read_errors_total") == 0
    assert tarn.url in agent.logged("bad span")[0]["source"]


def test_a_wrong_span_comes_from_the_next_tarn(start_cache, start_agent, upstream, repository,
                                              tmp_path):
    tarn, other = start_cache(), start_cache()
    image = made(tarn, repository)
    image.pull(other)
    agent = start_agent(tarn.url, other.url, trace=False)
    damage(tarn, image)
    folder = agent.mount(image.name, tmp_path / "m")
    read_all(folder)
    agent.wait_state(folder, "complete")
    assert agent.metric("tarn_node_bad_spans_total") >= 1
    assert agent.metric("tarn_node_read_errors_total") == 0


def test_what_upstream_has_deleted_is_read_from_the_cache(start_cache, start_agent, upstream,
                                                         repository, tmp_path):
    tarn = start_cache()
    image = made(tarn, repository)
    agent = start_agent(tarn.url, background=0, trace=False,
                        upstreams=[{"host": "fake.test", "url": upstream.url}])
    folder = agent.mount(image.name, tmp_path / "m")
    repository.blobs.clear()
    repository.manifests.clear()
    read_all(folder)


def test_frames_of_a_layer_of_zstd_are_checked_too(start_cache, start_agent, repository, tmp_path):
    tarn = start_cache()
    image = made(tarn, repository, pack=lambda tar: zstd(tar, "-3"),
                 layer_type="application/vnd.oci.image.layer.v1.tar+zstd")
    agent = start_agent(tarn.url, trace=False)
    folder = agent.mount(image.name, tmp_path / "m")
    read_all(folder)
    agent.wait_state(folder, "complete")


def test_the_next_node_fetches_ahead_what_a_start_has_read(start_cache, start_agent, repository,
                                                          tmp_path):
    tarn = start_cache()
    image = made(tarn, repository)
    first = start_agent(tarn.url, background=0, trace_time="1s")
    folder = first.mount(image.name, tmp_path / "first")
    assert first.mount_at(folder)["trace"] is False
    assert (folder / "f3").read_bytes() == CONTENTS["f3"]
    wait_until(lambda: streaming(tarn, "trace", image.digest).status == 200, "the trace")
    second = start_agent(tarn.url, background=0)
    folder = second.mount(image.name, tmp_path / "second")
    assert second.mount_at(folder)["trace"] is True
    wait_until(lambda: second.metric('tarn_node_fetched_bytes_total{why="trace"}') >= 2 * MIB,
               "what was read to come")
    assert second.metric('tarn_node_fetched_bytes_total{why="demand"}') <= 512 * KIB
    assert (folder / "f3").read_bytes() == CONTENTS["f3"]
