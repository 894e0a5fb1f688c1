"""tarn node, mount, unmount and mounts: images are there at once, what they hold is right, and the
commands say what they should."""

import os
import pathlib
import stat
import subprocess
import time

import pytest

from kit.agent import ON_A_NODE, SUPERVISOR, WORKER
from kit.cache_files import blob_file
from kit.content import KIB, MIB, OCI_INDEX, descriptor, digest_of, index, noise
from kit.layers import StreamImage, archive, entry, repository, tarn, wait_state
from kit.processes import wait_until

pytestmark = ON_A_NODE

FIELDS = {"dir", "image", "manifest", "state", "rw", "bytes", "fetched", "waits", "wait_p50",
          "wait_p99", "first_read", "complete", "trace"}


@pytest.fixture
def agent(start_agent, tarn):
    return start_agent(tarn.url)


def made(tarn, repository, *tars, tag="1"):
    """An image that tarn has indexed."""
    image = StreamImage(repository, list(tars), tag=tag)
    image.pull(tarn)
    wait_state(tarn, "image", image.digest, ("ready", None))
    image.name = f"fake.test/org/app@{image.digest}"
    return image


@pytest.fixture
def small(tarn, repository):
    return made(tarn, repository, archive(entry("a/f", noise(300 * KIB)), entry("b", b"b"))).name


# ---- mounting


def test_a_mounted_image_has_the_files_of_its_layers(agent, tarn, repository, tmp_path):
    content = noise(3 * MIB)
    image = made(tarn, repository, archive(entry("a/f", content), entry("b", b"below")),
                 archive(entry("b", b"above"), entry(".wh.gone", b"")))
    folder = agent.mount(image.name, tmp_path / "m")
    assert (folder / "b").read_bytes() == b"above"
    assert (folder / "a/f").read_bytes() == content
    with pytest.raises(OSError):
        (folder / "new").write_text("x")
    agent.unmount(folder)
    assert agent.mounts() == []
    assert list(folder.iterdir()) == []


def test_a_tag_is_mounted_as_the_image_that_it_names(agent, tarn, repository, tmp_path):
    image = made(tarn, repository, archive(entry("f", b"1")), tag="latest")
    folder = agent.mount("fake.test/org/app:latest", tmp_path / "m")
    assert (folder / "f").read_bytes() == b"1"
    mounted = agent.mount_at(folder)
    assert (mounted["image"], mounted["manifest"]) == ("fake.test/org/app:latest", image.digest)


def test_one_image_at_many_folders_is_one_tree(agent, small, tmp_path):
    folders = [agent.mount(small, tmp_path / f"m{number}") for number in range(5)]
    assert len({os.stat(folder / "b").st_dev for folder in folders}) == 1
    assert len(list((agent.run_folder / "images").iterdir())) == 1
    # What is mounted below one of them is not seen below the others.
    subprocess.run(["mount", "-t", "tmpfs", "none", folders[0] / "a"], check=True)
    assert os.listdir(folders[0] / "a") == [] and os.listdir(folders[1] / "a") == ["f"]
    subprocess.run(["umount", folders[0] / "a"], check=True)
    for folder in folders:
        agent.unmount(folder)
    assert list((agent.run_folder / "images").iterdir()) == []


def test_a_writable_mount_keeps_what_is_written_until_it_is_unmounted(agent, small, tmp_path):
    folder = agent.mount(small, tmp_path / "m", "--rw")
    other = agent.mount(small, tmp_path / "other", "--rw")
    assert agent.mount_at(folder)["rw"] is True
    (folder / "b").write_bytes(b"changed")
    (folder / "deep/er").mkdir(parents=True)
    os.unlink(folder / "a/f")
    os.chown(other / "a/f", 1, 2)
    assert os.listdir(folder / "a") == []
    assert (other / "b").read_bytes() == b"b" and (other / "a/f").read_bytes() == noise(300 * KIB)
    agent.unmount(folder)
    agent.mount(small, folder, "--rw")
    assert (folder / "b").read_bytes() == b"b" and os.listdir(folder / "a") == ["f"]
    agent.unmount(folder)
    agent.unmount(other)
    assert os.listdir(agent.root / "writable") == []


def test_a_platform_is_chosen_from_an_index(agent, tarn, repository, tmp_path):
    entries, images = [], {}
    for architecture in ("amd64", "arm64"):
        image = made(tarn, repository, archive(entry("f", architecture.encode())),
                     tag=architecture)
        entries.append(descriptor(image.document, "application/vnd.oci.image.manifest.v1+json",
                                  platform={"os": "linux", "architecture": architecture}))
        images[architecture] = image.digest
    document = index(entries)
    repository.add_manifest(document, OCI_INDEX, tag="both")
    for architecture, digest in images.items():
        folder = agent.mount("fake.test/org/app:both", tmp_path / architecture, "--platform",
                             f"linux/{architecture}")
        assert (folder / "f").read_text() == architecture
        assert agent.mount_at(folder)["manifest"] == digest
    error = agent.mount("fake.test/org/app:both", tmp_path / "none", "--platform", "linux/s390x",
                        status=1)
    assert "fake.test/org/app:both" in error
    assert agent.command("mount", "fake.test/org/app:both", tmp_path, "--platform", "x").returncode == 2


def test_from_names_another_tarn(start_agent, tarn, small, tmp_path):
    agent = start_agent("http://127.0.0.1:9")  # where nobody answers
    folder = agent.mount(small, tmp_path / "m", "--from", tarn.url)
    assert (folder / "b").read_bytes() == b"b"
    worker, = agent.kill(WORKER)
    agent.wait_worker(worker)
    assert (folder / "a/f").read_bytes() == noise(300 * KIB)
    agent.stop()
    agent.start()
    assert (folder / "a/f").read_bytes() == noise(300 * KIB)


# ---- what the commands say


def test_mounts_says_each_field(agent, tarn, repository, tmp_path):
    image = made(tarn, repository, archive(entry("f", noise(2 * MIB))))
    assert agent.mounts() == []
    folder = agent.mount(image.name, tmp_path / "m")
    (folder / "f").read_bytes()
    mounted = agent.wait_state(folder, "complete")
    assert set(mounted) == FIELDS
    assert mounted["dir"] == str(folder) and mounted["image"] == image.name
    assert mounted["manifest"] == image.digest and mounted["rw"] is False
    assert mounted["bytes"] == sum(map(len, image.layers))
    assert mounted["bytes"] <= mounted["fetched"] < 1.2 * mounted["bytes"] + 64 * KIB
    if mounted["waits"]:
        assert 0 < mounted["wait_p50"] <= mounted["wait_p99"] < 60
    else:
        assert mounted["wait_p50"] is None and mounted["wait_p99"] is None
    assert 0 < mounted["first_read"] < 60 and 0 < mounted["complete"] < 60
    assert mounted["trace"] is False
    table = agent.command("mounts")
    assert table.returncode == 0 and str(folder) in table.stdout and "complete" in table.stdout


def test_an_order_that_cannot_be_carried_out_says_why(agent, small, tmp_path):
    missing = tmp_path / "missing"
    done = agent.command("mount", small, missing)
    assert done.returncode == 1 and str(missing) in done.stderr
    file = tmp_path / "file"
    file.write_text("")
    assert agent.command("mount", small, file).returncode == 1
    folder = agent.mount(small, tmp_path / "m")
    for options in ((), ("--rw",)):
        assert str(folder) in agent.mount(small, folder, *options, status=1)
    assert len(agent.mounts()) == 1
    for name in ("fake.test/org/app:none", f"fake.test/org/app@sha256:{'0' * 64}", "nowhere.test/x:1",
                 "no-host"):
        assert name in agent.mount(name, tmp_path / "n", status=1)
    assert str(tmp_path) in agent.unmount(tmp_path, status=1)
    assert agent.command("unmount", missing).returncode == 1
    for command in (("mount",), ("mount", small), ("mount", "a", "b", "c"), ("unmount",),
                    ("mounts", "x"), ("mount", small, folder, "--none")):
        assert agent.command(*command).returncode == 2
    assert len(agent.mounts()) == 1


def test_a_mount_in_use_stays(agent, small, tmp_path):
    for options in ((), ("--rw",)):
        folder = agent.mount(small, tmp_path / "m", *options)
        with open(folder / "a/f", "rb") as held:
            assert "in use" in agent.unmount(folder, status=1)
            assert held.read() == noise(300 * KIB)
        child = subprocess.Popen(["sleep", "1000"], cwd=folder)
        assert str(folder) in agent.unmount(folder, status=1)
        assert (folder / "b").read_bytes() == b"b" and len(agent.mounts()) == 1
        child.kill()
        child.wait()
        agent.unmount(folder)


def test_without_an_agent_the_socket_is_named(agent, small, tmp_path):
    agent.stop()
    for command in (("mount", small, tmp_path), ("unmount", tmp_path), ("mounts",)):
        done = agent.command(*command)
        assert done.returncode == 1
        assert str(agent.run_folder / "node.sock") in done.stderr


def test_only_root_runs_an_agent_and_only_one_on_a_folder(agent, program, tmp_path):
    started = subprocess.run([program, "node", "--run", agent.run_folder, "--root",
                              tmp_path / "root", "--listen", "127.0.0.1:0"], check=False,
                             stderr=subprocess.PIPE, text=True, timeout=30)
    assert started.returncode == 1 and str(agent.run_folder) in started.stderr
    if os.access(program, os.X_OK):
        copy = pathlib.Path("/tmp") / f"tarn-copy-{os.getpid()}"
        copy.write_bytes(pathlib.Path(program).read_bytes())
        copy.chmod(0o755)
        try:
            other = subprocess.run([copy, "node", "--run", "/tmp/x", "--root", "/tmp/y"],
                                   check=False, stderr=subprocess.PIPE, text=True, timeout=30,
                                   user=65534, group=65534, extra_groups=[], cwd="/",
                                   env={"ASAN_OPTIONS": "detect_leaks=0"})
        finally:
            copy.unlink()
        assert other.returncode == 1 and "root" in other.stderr
    assert agent.mounts() == []


def test_the_folder_has_sockets_and_process_ids(agent):
    socket = os.stat(agent.run_folder / "node.sock")
    assert stat.S_ISSOCK(socket.st_mode) and stat.S_IMODE(socket.st_mode) == 0o600
    worker, supervisor = agent.pid(WORKER), agent.pid(SUPERVISOR)
    assert supervisor == agent.process.pid and worker != supervisor
    parent = pathlib.Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1]
    assert int(parent) == supervisor


def test_the_process_that_reads_from_the_network_may_not_mount(agent, tarn, small, tmp_path):
    status = pathlib.Path(f"/proc/{agent.pid(WORKER)}/status").read_text()
    assert "NoNewPrivs:\t1" in status and "Seccomp:\t2" in status
    line = agent.logged("confined")[0]
    assert line["programs"] == "denied"
    # All works so, also what needs files below root and run.
    folder = agent.mount(small, tmp_path / "m", "--rw")
    (folder / "new").write_text("x")
    agent.unmount(folder)


def test_health_and_metrics_are_at_the_address(agent, tarn, repository, tmp_path):
    image = made(tarn, repository, archive(entry("f", noise(MIB))))
    assert agent.get("/livez").status == agent.get("/readyz").status == 200
    assert agent.metric('tarn_node_mounts{state="streaming"}') == 0
    folder = agent.mount(image.name, tmp_path / "m")
    (folder / "f").read_bytes()
    agent.wait_state(folder, "complete")
    assert agent.metric('tarn_node_mounts{state="complete"}') == 1
    fetched = {why: agent.metric(f'tarn_node_fetched_bytes_total{{why="{why}"}}')
               for why in ("demand", "readahead", "trace", "background", "metadata")}
    assert fetched["metadata"] > 0 and None not in fetched.values()
    assert sum(fetched.values()) == agent.mount_at(folder)["fetched"]
    assert agent.metric("tarn_node_bad_spans_total") == 0
    assert agent.metric("tarn_node_read_errors_total") == 0
    assert agent.metric("tarn_node_wait_seconds_count") >= 0
    assert agent.metric("tarn_node_cache_bytes") > MIB
    first = agent.logged("stream first read")[0]
    assert first["image"] == image.name and first["manifest"] == image.digest
    assert first["bytes"] > 0 and first["seconds"] > 0
    complete = agent.logged("stream complete")[0]
    assert complete["image"] == image.name and complete["manifest"] == image.digest
    assert complete["bytes"] >= len(image.layers[0]) and complete["seconds"] > 0


# ---- what cannot stream


def test_an_image_that_cannot_stream_is_pulled_whole(agent, tarn, repository, tmp_path):
    hostile = StreamImage(repository, [archive(entry("f", b"1"), entry("../out", b"2"))])
    hostile.pull(tarn)
    wait_state(tarn, "image", hostile.digest, ("refused", "tar"))
    # containerd refuses it as well, or makes a tree without that file.
    done = agent.command("mount", f"fake.test/org/app@{hostile.digest}", tmp_path)
    assert done.returncode in (0, 1)


def test_what_was_not_indexed_is_pulled_whole_with_a_line_that_says_so(start_tarn, start_agent,
                                                                       upstream, repository,
                                                                       tmp_path):
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}],
                      streaming={"enabled": False})
    content = noise(2 * MIB)
    image = StreamImage(repository, [archive(entry("a", b"1"), entry("gone", b"2")),
                                     archive(entry("f", content), entry(".wh.gone"))])
    image.pull(tarn)
    name = f"fake.test/org/app@{image.digest}"
    agent = start_agent(tarn.url)
    folder = agent.mount(name, tmp_path / "m", note=f"{name}: cannot stream (off): ")
    assert agent.mount_at(folder)["state"] == "whole"
    tarn.kill()
    assert sorted(os.listdir(folder)) == ["a", "f"] and (folder / "f").read_bytes() == content
    agent.kill(SUPERVISOR, WORKER)
    agent.start()
    assert agent.mount_at(folder)["state"] == "whole"
    assert (folder / "f").read_bytes() == content


def test_a_wrong_diff_id_is_no_image(agent, tarn, repository, tmp_path):
    tar = archive(entry("f", b"1"))
    image = StreamImage(repository, [tar], diff_ids=[digest_of(b"something else")])
    image.pull(tarn)
    wait_state(tarn, "image", image.digest, ("refused", "diff_id"))
    assert agent.mount(f"fake.test/org/app@{image.digest}", tmp_path / "m", status=1)
    broken = StreamImage(repository, [tar], tag="2", pack=lambda tar: b"\x1f\x8b\x08broken" * 99)
    broken.pull(tarn)
    wait_state(tarn, "image", broken.digest, ("refused", "compression"))
    assert agent.mount(f"fake.test/org/app@{broken.digest}", tmp_path / "m", status=1)
    assert agent.mounts() == []


# ---- sources that fail


def test_what_is_complete_needs_no_cache(agent, tarn, repository, tmp_path):
    contents = {f"f{number}": noise(MIB, number) for number in range(6)}
    image = made(tarn, repository, archive(*(entry(*one) for one in contents.items())))
    folder = agent.mount(image.name, tmp_path / "m")
    agent.wait_state(folder, "complete")
    tarn.kill()
    for name, content in contents.items():
        assert (folder / name).read_bytes() == content
    agent.stop()
    agent.start()
    assert agent.wait_state(folder, "complete")
    subprocess.run(["sh", "-c", "echo 3 > /proc/sys/vm/drop_caches"], check=False)
    for name, content in contents.items():
        assert (folder / name).read_bytes() == content


@pytest.mark.slow
def test_reads_wait_while_the_cache_is_away_and_then_go_on(start_agent, tarn, repository, tmp_path):
    contents = {f"f{number}": noise(3 * MIB, number) for number in range(4)}
    image = made(tarn, repository, archive(*(entry(*one) for one in contents.items())))
    agent = start_agent(tarn.url, background=0)
    folder = agent.mount(image.name, tmp_path / "m")
    assert (folder / "f0").read_bytes() == contents["f0"]
    tarn.kill()
    reading = subprocess.Popen(["sha256sum", folder / "f2"], stdout=subprocess.PIPE, text=True)
    wait_until(lambda: reading.poll() is None, "the reader")
    # What is here is read meanwhile.
    assert (folder / "f0").read_bytes() == contents["f0"]
    time.sleep(8)
    assert reading.poll() is None
    tarn.start()
    out, _ = reading.communicate(timeout=60)
    assert "sha256:" + out.split()[0] == digest_of(contents["f2"])
    assert agent.metric("tarn_node_read_errors_total") == 0
    assert agent.metric("tarn_node_wait_seconds_count") >= 1
    mounted = agent.mount_at(folder)
    assert mounted["waits"] >= 1 and 1 < mounted["wait_p99"] < 60


def test_a_read_that_has_waited_too_long_fails_and_the_next_one_asks_again(start_agent, tarn,
                                                                          repository, tmp_path):
    content = noise(3 * MIB)
    image = made(tarn, repository, archive(entry("early", b"1"), entry("f", content)))
    agent = start_agent(tarn.url, background=0, wait="1s")
    folder = agent.mount(image.name, tmp_path / "m")
    os.listdir(folder)
    tarn.kill()
    began = time.monotonic()
    with pytest.raises(OSError):
        (folder / "f").read_bytes()
    assert 0.9 < time.monotonic() - began < 30
    tarn.start()
    assert (folder / "f").read_bytes() == content


def test_a_wrong_span_is_an_error_for_its_readers_and_no_others(start_agent, tarn, repository,
                                                               tmp_path):
    contents = {f"f{number}": noise(3 * MIB, number) for number in range(5)}
    image = made(tarn, repository, archive(*(entry(*one) for one in contents.items())))
    agent = start_agent(tarn.url, background=0, trace=False)
    folder = agent.mount(image.name, tmp_path / "m")
    path = blob_file(tarn.root, image.digests[0])
    right = path.read_bytes()
    middle = len(right) // 2
    with open(path, "r+b") as file:
        file.seek(middle)
        file.write(bytes(64))
    began = time.monotonic()
    with pytest.raises(OSError):
        (folder / "f2").read_bytes()
    assert time.monotonic() - began < 10
    assert (folder / "f0").read_bytes() == contents["f0"]
    assert (folder / "f4").read_bytes() == contents["f4"]
    assert agent.metric("tarn_node_bad_spans_total") >= 1
    assert agent.metric("tarn_node_read_errors_total") >= 1
    line = agent.logged("bad span")[0]
    assert tarn.url in line["source"] and line["layer"] == image.digests[0]
    assert line["image"] == image.name and line["offset"] >= 0
    with open(path, "r+b") as file:
        file.seek(middle)
        file.write(right[middle:middle + 64])
    assert (folder / "f2").read_bytes() == contents["f2"]


def test_a_cache_smaller_than_the_image_still_reads_right(start_agent, tarn, repository, tmp_path):
    contents = {f"f{number}": noise(4 * MIB, number) for number in range(16)}
    image = made(tarn, repository, archive(*(entry(*one) for one in contents.items())))
    agent = start_agent(tarn.url, cache_size="16MiB")
    folder = agent.mount(image.name, tmp_path / "m")
    most = 0
    for _ in range(2):
        for name, content in contents.items():
            fd = os.open(folder / name, os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)
            assert digest_of((folder / name).read_bytes()) == digest_of(content)
            blocks = sum(os.lstat(os.path.join(parent, one)).st_blocks
                         for parent, _, files in os.walk(agent.root) for one in files)
            most = max(most, blocks * 512)
    assert most <= (16 + 24) * MIB


# ---- settings


def test_each_setting_is_a_flag_and_a_variable(program, tmp_path):
    def check(text=None, flags=(), **environment):
        file = tmp_path / "node.yaml"
        file.write_text(text or "")
        return subprocess.run([program, "node", "--check", "--config", file, *flags], check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=30,
                              env={"PATH": os.environ["PATH"], **environment})

    assert check().returncode == 0
    right = {"from": "https://a.test", "root": "/r", "run": "/x", "listen": "127.0.0.1:1",
             "cache_size": "1GiB", "background": "0", "wait": "1s", "trace": "false",
             "trace_time": "5s", "confine": "off"}
    done = check("".join(f"{key}: {value}\n" for key, value in right.items()))
    assert (done.returncode, done.stderr) == (0, "")
    for key, value in {**right, "log.level": "warn", "log.format": "json"}.items():
        name = key.replace(".", "_")
        assert check(flags=[f"--{name.replace('_', '-')}={value}"]).returncode == 0
        assert check(**{f"TARN_NODE_{name.upper()}": value}).returncode == 0
    for text, word in (("nothing: 1\n", "nothing"), ("wait: x\n", "wait"), ("from: []\n", "from"),
                       ("cache_size: -1\n", "cache_size"), ("max_size: 1GiB\n", "max_size"),
                       ("log: {level: loud}\n", "log.level")):
        done = check(text)
        assert done.returncode == 1 and f"node.yaml:1: {word}" in done.stderr
    assert "--wait" in check(flags=["--wait=x"]).stderr
    assert "TARN_NODE_WAIT" in check(TARN_NODE_WAIT="x").stderr


def test_a_tree_comes_over_https_or_from_this_machine_only(program, tmp_path):
    done = subprocess.run([program, "node", "--run", tmp_path / "run", "--root", tmp_path / "root",
                           "--from", "http://192.0.2.1:5000", "--listen", "127.0.0.1:0"],
                          check=False, stderr=subprocess.PIPE, text=True, timeout=30)
    assert done.returncode == 1 and "http://192.0.2.1:5000" in done.stderr
