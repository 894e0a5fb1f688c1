"""What a killed part of the agent costs: a pause, or errors while all of it is gone. Never wrong
bytes, and never a reader that is stuck."""

import hashlib
import os
import signal
import subprocess
import threading
import time

import pytest

from kit.agent import ON_A_NODE, SUPERVISOR, WORKER, lives
from kit.content import KIB, MIB, noise
from kit.layers import StreamImage, archive, entry, repository, tarn, wait_state
from kit.processes import run, wait_until

pytestmark = ON_A_NODE

FILES, SIZE = 24, 2 * MIB


@pytest.fixture
def longest(program):
    """Seconds that a read may wait for another worker; sanitizers make the program slow."""
    symbols = run(["readelf", "-W", "--dyn-syms", program]).stdout
    return 30 if "__asan" in symbols or "__tsan" in symbols else 5


@pytest.fixture
def agent(start_agent, tarn):
    return start_agent(tarn.url, background=0, trace=False)


@pytest.fixture
def contents():
    return {f"f{number}": noise(SIZE, number) for number in range(FILES)}


@pytest.fixture
def image(tarn, repository, contents):
    made = StreamImage(repository, [archive(*(entry(name, content)
                                              for name, content in contents.items()))])
    made.pull(tarn)
    wait_state(tarn, "image", made.digest, ("ready", None))
    return f"fake.test/org/app@{made.digest}"


class Readers:
    """Threads that read files by small parts, again and again past the page cache."""

    def __init__(self, folder, contents, threads=4):
        self.folder, self.contents = folder, contents
        self.ended = threading.Event()
        self.errors, self.longest, self.reads = [], 0.0, 0
        self.threads = [threading.Thread(target=self._run, args=(at,)) for at in range(threads)]
        for thread in self.threads:
            thread.start()

    def _read(self, name):
        content = self.contents[name]
        fd = os.open(self.folder / name, os.O_RDONLY)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            offset = 0
            while offset < len(content):
                began = time.monotonic()
                got = os.pread(fd, 64 * KIB, offset)
                self.longest = max(self.longest, time.monotonic() - began)
                self.reads += 1
                # The kernel gives what is before a page that failed, and then the error.
                if not got or got != content[offset:offset + len(got)]:
                    self.errors.append(f"{name} at {offset}: wrong bytes")
                    break
                offset += len(got)
        finally:
            os.close(fd)

    def _run(self, at):
        names = sorted(self.contents)
        while not self.ended.is_set():
            for name in names[at:] + names[:at]:
                if self.ended.is_set():
                    return
                try:
                    self._read(name)
                except OSError as failure:
                    self.errors.append(f"{name}: {failure}")

    def finish(self, seconds=60):
        self.ended.set()
        for thread in self.threads:
            thread.join(seconds)
        assert not any(thread.is_alive() for thread in self.threads), "a reader is stuck"


def test_a_killed_worker_costs_a_pause_and_no_read(agent, image, contents, tmp_path, longest):
    folder = agent.mount(image, tmp_path / "m")
    readers = Readers(folder, contents)
    for _ in range(5):
        before = readers.reads
        wait_until(lambda: readers.reads > before + 20, "reads", 60)
        worker, = agent.kill(WORKER, wait=False)
        began = time.monotonic()
        agent.wait_worker(worker)
        assert time.monotonic() - began < longest
    readers.finish()
    assert readers.errors == []
    assert readers.longest < longest
    assert agent.mount_at(folder)["state"] in ("streaming", "complete")


def test_reads_go_on_without_a_supervisor_and_the_next_one_takes_over(agent, image, contents,
                                                                     tmp_path, longest):
    folder = agent.mount(image, tmp_path / "m")
    readers = Readers(folder, contents)
    worker = agent.pid(WORKER)
    agent.kill(SUPERVISOR)
    before = readers.reads
    wait_until(lambda: readers.reads > before + 100, "reads without a supervisor", 60)
    assert lives(worker)
    agent.start()
    assert agent.wait_worker(worker) != worker
    assert not lives(worker)
    before = readers.reads
    wait_until(lambda: readers.reads > before + 100, "reads of the new worker", 60)
    readers.finish()
    assert readers.errors == []
    assert readers.longest < longest
    agent.unmount(folder)


def test_with_both_killed_reads_fail_and_the_next_start_mounts_again(agent, image, contents,
                                                                    tmp_path):
    folder = agent.mount(image, tmp_path / "m")
    assert (folder / "f0").read_bytes() == contents["f0"]
    # Nothing of f9 is in the page cache, and the read must not wait for ever.
    agent.kill(SUPERVISOR, WORKER)
    with pytest.raises(OSError):
        (folder / "f9").read_bytes()
    agent.start()
    for name, content in contents.items():
        assert hashlib.sha256((folder / name).read_bytes()).digest() == \
            hashlib.sha256(content).digest()
    assert len(agent.mounts()) == 1
    agent.unmount(folder)
    assert list(folder.iterdir()) == []


def test_reads_under_way_end_with_errors_when_both_are_killed(agent, tarn, image, contents,
                                                             tmp_path):
    folder = agent.mount(image, tmp_path / "m")
    tarn.kill()  # reads wait
    readers = Readers(folder, contents)
    wait_until(lambda: agent.metric("tarn_node_wait_seconds_count") is not None, "metrics")
    time.sleep(0.5)
    agent.kill(SUPERVISOR, WORKER)
    readers.finish(20)
    assert not any("wrong bytes" in error for error in readers.errors)
    tarn.start()
    agent.start()
    assert (folder / "f3").read_bytes() == contents["f3"]


def test_what_was_written_outlives_every_kill(agent, image, contents, tmp_path):
    folder = agent.mount(image, tmp_path / "m", "--rw")
    (folder / "new").write_text("written")
    (folder / "f0").write_bytes(b"changed")
    worker, = agent.kill(WORKER)
    agent.wait_worker(worker)
    assert (folder / "new").read_text() == "written"
    agent.kill(SUPERVISOR, WORKER)
    agent.start()
    assert (folder / "new").read_text() == "written"
    assert (folder / "f0").read_bytes() == b"changed"
    assert (folder / "f1").read_bytes() == contents["f1"]
    agent.unmount(folder)
    assert os.listdir(agent.root / "writable") == []


@pytest.mark.parametrize("reading", [False, True])
def test_sigterm_ends_it_whatever_is_mounted_and_the_next_start_has_it_again(
        agent, image, contents, tmp_path, reading):
    folders = [agent.mount(image, tmp_path / f"m{at}", *options)
               for at, options in enumerate([(), ("--rw",), ()])]
    held = open(folders[0] / "f0", "rb")
    readers = Readers(folders[0], contents) if reading else None
    began = time.monotonic()
    agent.stop()
    assert time.monotonic() - began < 10
    if readers:
        readers.finish()
        assert not any("wrong bytes" in error for error in readers.errors)
    agent.start()
    assert [each["dir"] for each in agent.mounts()] == [str(folder) for folder in folders]
    for folder in folders:
        assert (folder / "f5").read_bytes() == contents["f5"]
    held.close()


def test_sigterm_ends_it_while_the_cache_is_silent(agent, tarn, image, contents, tmp_path):
    folder = agent.mount(image, tmp_path / "m")
    os.listdir(folder)
    tarn.process.send_signal(signal.SIGSTOP)
    try:
        readers = Readers(folder, contents)
        mounting = threading.Thread(
            target=agent.command, args=("mount", "fake.test/org/app:1", tmp_path / "other"))
        (tmp_path / "other").mkdir()
        mounting.start()
        time.sleep(1)
        began = time.monotonic()
        agent.stop()
        assert time.monotonic() - began < 10
        readers.finish()
        mounting.join(60)
        assert not mounting.is_alive()
    finally:
        tarn.process.send_signal(signal.SIGCONT)
    agent.start()
    assert (folder / "f5").read_bytes() == contents["f5"]
    assert [each["dir"] for each in agent.mounts()] == [str(folder)]


def test_a_reader_that_waits_can_be_killed_and_others_read_on(agent, tarn, image, contents,
                                                             tmp_path):
    folder = agent.mount(image, tmp_path / "m")
    os.listdir(folder)
    tarn.kill()
    readers = [subprocess.Popen(["sha256sum", folder / "f9"], stdout=subprocess.PIPE, text=True)
               for _ in range(3)]
    time.sleep(1.5)
    readers[0].kill()
    readers[1].send_signal(signal.SIGSTOP)  # a signal that does not end it
    readers[1].send_signal(signal.SIGCONT)
    assert readers[0].wait(10) == -signal.SIGKILL
    time.sleep(0.5)
    assert readers[1].poll() is None and readers[2].poll() is None
    tarn.start()
    for reader in readers[1:]:
        out, _ = reader.communicate(timeout=60)
        assert out.split()[0] == hashlib.sha256(contents["f9"]).hexdigest()


def test_an_order_that_a_kill_interrupts_is_carried_out(agent, image, contents, tmp_path):
    for at in range(3):
        mounting = threading.Thread(target=agent.mount, args=(image, tmp_path / f"m{at}"))
        worker = agent.pid(WORKER)
        mounting.start()
        time.sleep(0.02 * at)
        os.kill(worker, signal.SIGKILL)
        mounting.join(60)
        agent.wait_worker(worker)
        wait_until(lambda: agent.mount_at(tmp_path / f"m{at}"), "the mount", 30)
        assert (tmp_path / f"m{at}/f7").read_bytes() == contents["f7"]
