"""
What an attacker inside the process can still do, and on which systems tarn runs.

tests/unit/cmd/test_confine.c tests what each denied call returns. These tests run the whole program:
it serves while it is confined and logs that, it runs on a kernel that offers nothing, and with
`confine: require` it refuses to start there.
"""

import base64
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import pytest

from kit.content import KIB, MIB, digest_of, noise
from kit.processes import free_port, run, wait_until
from kit.release import release_build
from kit.tarn import SANITIZER_REPORT, Tarn, serve_that_fails
from kit.yaml_text import yaml_text

BLOB = noise(3 * MIB)
DIGEST = digest_of(BLOB)
NOBODY = 65534
TREE = pathlib.Path(__file__).resolve().parents[2]

# Runs a program as if the kernel had neither Landlock nor seccomp.
OLD_KERNEL = f"""#!{sys.executable}
import ctypes, errno, os, sys
seccomp = ctypes.CDLL("libseccomp.so.2", use_errno=True)
seccomp.seccomp_init.restype = ctypes.c_void_p
seccomp.seccomp_init.argtypes = [ctypes.c_uint32]
seccomp.seccomp_rule_add_array.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int,
                                           ctypes.c_uint, ctypes.c_void_p]
seccomp.seccomp_load.argtypes = [ctypes.c_void_p]
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
class Compare(ctypes.Structure):
    _fields_ = [("argument", ctypes.c_uint), ("operator", ctypes.c_int),
                ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]
is_22 = Compare(0, 4, 22, 0)  # PR_SET_SECCOMP
context = seccomp.seccomp_init(ALLOW)
number = seccomp.seccomp_syscall_resolve_name
assert seccomp.seccomp_rule_add_array(context, ERRNO | errno.ENOSYS, 444, 0, None) == 0  # Landlock
assert seccomp.seccomp_rule_add_array(context, ERRNO | errno.ENOSYS, number(b"seccomp"), 0,
                                      None) == 0
assert seccomp.seccomp_rule_add_array(context, ERRNO | errno.EINVAL, number(b"prctl"), 1,
                                      ctypes.byref(is_22)) == 0
assert seccomp.seccomp_load(context) == 0
os.execv("PROGRAM", ["PROGRAM"] + sys.argv[1:])
"""

# Runs it as an ordinary user who can write only below ROOT, in a mount namespace of its own.
READ_ONLY = f"""#!/bin/sh
exec unshare --mount --propagation private sh -c '
    mount --bind ROOT ROOT && mount -o remount,bind,ro / || exit 1
    awk "\\$5 != \\"ROOT\\" && \\$6 ~ /^rw/ {{ print \\$5 }}" /proc/self/mountinfo |
    while read -r place; do mount -o remount,bind,ro "$place" 2>/dev/null; done
    exec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups --bounding-set=-all \\
        --inh-caps=-all "$@"' sh PROGRAM "$@"
"""


@pytest.fixture
def image(upstream):
    return upstream.image("org/app", [BLOB], tag="1")


@pytest.fixture
def settings(upstream):
    """Settings of a tarn whose default upstream is the fake one, without credentials."""
    return {"upstreams": [{"host": "fake.test", "url": upstream.url, "default": True,
                           "credentials": "anonymous", "stall_timeout": "2s"}]}


@pytest.fixture
def start(program, tmp_path, settings):
    """start(**settings): one more tarn; `wrapped` is a script's text that starts PROGRAM."""
    started = []

    def begin(wrapped=None, environment=None, **more):
        executable = program
        if wrapped:
            executable = tmp_path / f"wrapper-{len(started)}"
            executable.write_text(wrapped.replace("PROGRAM", str(program)))
            executable.chmod(0o755)
        started.append(Tarn(str(executable), tmp_path / f"tarn-{len(started)}",
                            {**settings, **more}, environment))
        return started[-1]

    yield begin
    for one in started:
        one.finish()


def serves(tarn, image):
    """Pulls a blob cold and then from the cache; both must be right."""
    assert tarn.manifest("org/app", "1")["Docker-Content-Digest"] == image
    assert tarn.blob("org/app", DIGEST).body == BLOB
    tarn.wait_cached("org/app", DIGEST)
    hit = tarn.blob("org/app", DIGEST)
    assert hit.body == BLOB and "hit" in hit.cache_status
    return True


def status_of(tarn, name):
    """A line of /proc/PID/status, for every thread."""
    values = set()
    for thread in pathlib.Path(f"/proc/{tarn.process.pid}/task").iterdir():
        text = (thread / "status").read_text(encoding="ascii")
        values.add(re.search(rf"^{name}:\s*(.*)$", text, re.M).group(1))
    return values


# ---- the limits in force

def test_it_serves_confined_and_says_so(start, image):
    tarn = start(confine="require")
    assert serves(tarn, image)
    tarn.logged(r"confined .*landlock=.writes only below root.* seccomp=on programs=denied")
    assert status_of(tarn, "NoNewPrivs") == {"1"}
    assert status_of(tarn, "Seccomp") == {"2"}


def test_every_thread_is_confined_while_blobs_are_fetched(start, upstream, image):
    tarn = start(confine="require")
    held = upstream.fault("/blobs/", hold_after=1 * MIB)
    with tarn.download(f"/v2/org/app/blobs/{DIGEST}") as download:
        download.read(512 * KIB)
        assert len(list(pathlib.Path(f"/proc/{tarn.process.pid}/task").iterdir())) >= 5
        assert status_of(tarn, "Seccomp") == {"2"}
        held.gate.set()


def test_it_continues_and_ends_as_ever_when_confined(start, upstream, image):
    """Renames between folders, the lock, the admin socket: made and removed within the root."""
    tarn = start(confine="require")
    assert serves(tarn, image)
    tarn.restart()
    upstream.refuse()
    assert tarn.blob("org/app", DIGEST).body == BLOB
    tarn.stop()
    assert not (tarn.root / "tarn.sock").exists()


def test_off_confines_nothing_but_privileges(start, image):
    tarn = start(confine="off")
    assert serves(tarn, image)
    tarn.logged("not confined")
    assert status_of(tarn, "Seccomp") == {"0"}
    assert status_of(tarn, "NoNewPrivs") == {"1"}


def test_flag_and_variable(program, start, image):
    assert status_of(start(environment={"TARN_CONFINE": "off"}), "Seccomp") == {"0"}


# ---- reading goes on

def test_what_is_read_again_is_still_read(start, upstream, tmp_path, image):
    """A password file and the clients' htpasswd change while tarn is confined."""
    password, users = tmp_path / "password", tmp_path / "htpasswd"
    password.write_text("first\n")
    run(["htpasswd", "-Bbc", users, "ann", "first"])
    upstream.basic = ("robot", "first")
    tarn = start(confine="require", clients={"htpasswd": str(users)}, upstreams=[
        {"host": "fake.test", "url": upstream.url, "default": True, "tag_ttl": "0",
         "credentials": {"username": "robot", "password_file": str(password)}}])

    def asks(user_password):
        word = base64.b64encode(f"ann:{user_password}".encode()).decode()
        return tarn.get("/v2/org/app/manifests/1", {"Authorization": f"Basic {word}"})

    first = asks("first")
    assert first.status == 200, (first, tarn.log())
    upstream.basic = ("robot", "second")
    password.write_text("second\n")
    run(["htpasswd", "-Bb", users, "ann", "second"])
    wait_until(lambda: asks("second").status == 200, "the new password to be known", 30, pause=0.3)


# ---- helper programs

@pytest.fixture
def helper(upstream, tmp_path):
    """An environment with docker-credential-lake on PATH, which keeps a file of its own."""
    script = tmp_path / "bin" / "docker-credential-lake"
    script.parent.mkdir()
    script.write_text(f"#!/bin/sh\ncat >{tmp_path / 'kept'}\n"
                      """echo '{"Username": "robot", "Secret": "word"}'\n""")
    script.chmod(0o755)
    upstream.basic = ("robot", "word")
    return {"PATH": f"{script.parent}:{os.environ['PATH']}"}


def test_a_helper_program_still_runs_and_keeps_its_own_files(start, upstream, helper, tmp_path,
                                                             image):
    tarn = start(environment=helper, upstreams=[
        {"host": "fake.test", "url": upstream.url, "default": True,
         "credentials": {"helper": "lake"}}])
    assert serves(tarn, image)
    assert (tmp_path / "kept").read_text() == "fake.test"
    tarn.logged("confined in part .*landlock=.off: credentials .helper lake. may run programs.* "
                "seccomp=on programs=allowed")
    assert status_of(tarn, "Seccomp") == {"2"}


def test_a_helper_that_dockers_config_names_later_waits_for_a_restart(start, upstream, helper,
                                                                      image):
    tarn = start(environment=helper, upstreams=[
        {"host": "fake.test", "url": upstream.url, "default": True, "credentials": "docker"}])
    folder = tarn.directory / "home" / ".docker"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"credsStore": "lake"}))
    reply = tarn.manifest("org/app", "1")
    assert reply.status >= 400, reply
    tarn.logged("no credentials .*start it again")
    tarn.restart()
    assert tarn.manifest("org/app", "1").status == 200


# ---- kernels that offer nothing

def test_a_kernel_that_offers_neither_is_told_in_one_line(start, image):
    tarn = start(wrapped=OLD_KERNEL)
    assert serves(tarn, image)
    tarn.logged("warn +confined in part .*landlock=.off: .*seccomp=.off: .*programs=allowed")
    assert len(re.findall("confined", tarn.log())) == 1, tarn.log()


def test_require_refuses_there(program, tmp_path, settings):
    wrapper, config = tmp_path / "wrapper", tmp_path / "tarn.yaml"
    wrapper.write_text(OLD_KERNEL.replace("PROGRAM", program))
    wrapper.chmod(0o755)
    config.write_text(yaml_text({**settings, "listen": f"127.0.0.1:{free_port()}",
                                 "root": str(tmp_path / "root"), "confine": "require"}))
    done = serve_that_fails(str(wrapper), "--config", config, home=tmp_path)
    assert done.returncode == 1
    assert re.search("confine: require is not possible: landlock off: .*seccomp off: ", done.stderr)


# ---- an ordinary user, a system that cannot be written

def test_it_needs_nothing_but_its_root(program, settings, image):
    """The limits of a container with --read-only and a user of its own, without the container."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount the file system read-only for a process")
    # Outside of pytest's folder, which other users may not enter.
    place = pathlib.Path(tempfile.mkdtemp(prefix="tarn-read-only-", dir="/tmp"))
    try:
        place.chmod(0o755)
        shutil.copy(program, place / "tarn")
        directory = place / "run"
        root = directory / "root"
        root.mkdir(parents=True)
        os.chown(root, NOBODY, NOBODY)
        wrapper = place / "wrapper"
        wrapper.write_text(READ_ONLY.replace("PROGRAM", str(place / "tarn"))
                           .replace("ROOT", str(root)))
        wrapper.chmod(0o755)
        # LeakSanitizer cannot inspect a process of an ordinary user that is not dumpable.
        options = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
        tarn = Tarn(str(wrapper), directory, {**settings, "confine": "require"},
                    {"ASAN_OPTIONS": options})
        try:
            mounts = pathlib.Path(f"/proc/{tarn.process.pid}/mountinfo").read_text("ascii")
            states = {line.split()[4]: line.split()[5] for line in mounts.splitlines()}
            assert states["/"].startswith("ro") and states[str(root)].startswith("rw"), states
            assert status_of(tarn, "Uid") == {"\t".join([str(NOBODY)] * 4)}
            for name in ("CapEff", "CapPrm", "CapBnd"):
                assert status_of(tarn, name) == {"0" * 16}
            assert serves(tarn, image)
            tarn.restart()
            assert "hit" in tarn.blob("org/app", DIGEST).cache_status
            assert not SANITIZER_REPORT.search(tarn.log())
        finally:
            tarn.finish()
    finally:
        shutil.rmtree(place, ignore_errors=True)


# ---- the systemd unit

def test_the_unit_is_one_that_systemd_takes_and_calls_safe(program, tmp_path):
    """`systemd-analyze verify` and `security`, without a running systemd."""
    assert shutil.which("systemd-analyze"), "systemd-analyze (package systemd) is missing"
    unit = (TREE / "deploy" / "systemd" / "tarn.service").read_text("utf-8")
    copy = tmp_path / "tarn.service"
    copy.write_text(unit.replace("/usr/local/bin/tarn", program))
    verified = run(["systemd-analyze", "verify", "--man=no", copy], check=False)
    assert "tarn.service" not in verified.stderr, verified.stderr
    judged = run(["systemd-analyze", "security", "--no-pager", "--offline=true", copy])
    exposure = float(re.search(r"Overall exposure level for tarn.service: ([\d.]+)",
                               judged.stdout).group(1))
    assert exposure <= 1.3, judged.stdout


# Runs it with the allow list of system calls that systemd makes from the unit.
UNIT_FILTER = f"""#!{sys.executable}
import ctypes, errno, os, sys
seccomp = ctypes.CDLL("libseccomp.so.2", use_errno=True)
seccomp.seccomp_init.restype = ctypes.c_void_p
seccomp.seccomp_init.argtypes = [ctypes.c_uint32]
seccomp.seccomp_rule_add_array.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int,
                                           ctypes.c_uint, ctypes.c_void_p]
seccomp.seccomp_load.argtypes = [ctypes.c_void_p]
context = seccomp.seccomp_init(0x00050000 | errno.EPERM)
for name in CALLS:
    number = seccomp.seccomp_syscall_resolve_name(name.encode())
    if number != -1:
        assert seccomp.seccomp_rule_add_array(context, 0x7FFF0000, number, 0, None) == 0, name
assert seccomp.seccomp_load(context) == 0
os.execv("PROGRAM", ["PROGRAM"] + sys.argv[1:])
"""


def calls_of(word):
    """The system calls of a word of SystemCallFilter=."""
    if not word.startswith("@"):
        return {word}
    told = run(["systemd-analyze", "syscall-filter", "--no-pager", word]).stdout
    lines = [line.strip() for line in told.splitlines()[1:]]
    return set().union(*(calls_of(line) for line in lines if line and not line.startswith("#")))


def test_it_serves_and_confines_itself_under_the_units_system_call_filter(start, image):
    unit = (TREE / "deploy" / "systemd" / "tarn.service").read_text("utf-8")
    allowed = calls_of("@default")
    for words in re.findall(r"^SystemCallFilter=(.*)$", unit, re.M):
        if words.startswith("~"):
            allowed -= set().union(*map(calls_of, words[1:].split()))
        else:
            allowed |= set().union(*map(calls_of, words.split()))
    assert "ptrace" not in allowed and "mount" not in allowed and "chown" not in allowed
    options = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0" # that needs ptrace
    tarn = start(wrapped=UNIT_FILTER.replace("CALLS", repr(sorted(allowed))), confine="require",
                 environment={"ASAN_OPTIONS": options})
    assert serves(tarn, image)
    tarn.restart()
    assert "hit" in tarn.blob("org/app", DIGEST).cache_status


# ---- how the release was compiled

@pytest.fixture
def release(program):
    """The release build, to look into."""
    return release_build(program)


def test_the_release_is_hardened(release):
    def read(*options):
        return run(["readelf", "-W", *options, release]).stdout

    assert re.search(r"Type:\s+DYN", read("-h"))
    dynamic = read("-d")
    assert re.search(r"FLAGS_1\).*NOW.*PIE", dynamic), dynamic
    assert not re.search("TEXTREL|RPATH|RUNPATH", dynamic), dynamic

    segments = re.findall(r"^\s+(LOAD|GNU_STACK|GNU_RELRO)((?:\s+0x\w+){5})\s+([RWE ]+?)\s+0x",
                          read("-l"), re.M)
    kinds = {kind for kind, _, _ in segments}
    assert kinds == {"LOAD", "GNU_STACK", "GNU_RELRO"}
    flags = [letters.replace(" ", "") for kind, _, letters in segments if kind == "LOAD"]
    assert flags == ["R", "RE", "R", "RW"], flags  # code in a segment of its own, never written
    stack = [letters.strip() for kind, _, letters in segments if kind == "GNU_STACK"]
    assert stack == ["RW"]

    symbols = read("--dyn-syms")
    assert "__stack_chk_fail" in symbols
    assert {"__memcpy_chk", "__snprintf_chk"} <= set(re.findall(r"\b__\w+_chk\b", symbols)), symbols


def test_the_release_was_compiled_with_every_hardening_flag(release):
    """gcc writes into the debug information how each file was compiled; the macros it does not."""
    told = run(["readelf", "-W", "--debug-dump=info", "--dwarf-depth=1", release]).stdout
    if re.search(r"DW_AT_producer\s*: .*clang version", told):
        pytest.skip("clang does not write that down, and the release is built by gcc")
    producers = re.findall(r"DW_AT_producer\s*: (.*GNU C17.*)", told)
    assert len(producers) > 80, "the release build has no debug information of gcc's"
    for producer in producers:
        for flag in ("-O2", "-fstack-protector-strong", "-fstack-clash-protection",
                     "-ftrivial-auto-var-init=zero", "-fPI"):
            assert flag in producer, producer
        if "-march=x86-64" in producer:
            assert "-fcf-protection=full" in producer, producer
    commands = pathlib.Path(release).parent / "compile_commands.json"
    if commands.exists():
        for command in json.loads(commands.read_text("utf-8")):
            assert "-D_FORTIFY_SOURCE=3" in command["command"], command["file"]


def test_the_stripped_release_is_at_most_two_megabytes(release, tmp_path):
    """The cache alone was within one; listing images and keeping them on nodes came after it."""
    run(["strip", "-o", tmp_path / "tarn", release])
    assert (tmp_path / "tarn").stat().st_size <= 2 << 20
