"""
Fixtures: one tarn for each test, one origin and one set of real images for each session.

Tests may run side by side, in processes of pytest-xdist (-n 4 --dist loadgroup), because most of
them wait most of the time. A test that measures time is marked `serial`: it runs after the others,
with the machine to itself. Tests that share a costly fixture are marked `xdist_group`: one process
runs them all.
"""

import fcntl
import functools
import os
import pathlib
import reprlib
import resource

import pytest

from google_emulator import Google, Key
from kit.agent import Agent
from kit.artifact_registry import ArtifactRegistry
from kit.bucket_report import bucket_report
from kit.builder import Builder
from kit.cloud_build import CloudBuild
from kit.containers import Containerd, Dockerd
from kit.driver import build_driver
from kit.htpasswd import write_htpasswd
from kit.images import build_platforms, build_runnable
from kit.kubernetes_api import KubernetesApi
from kit.object_store import ObjectStore
from kit.origin import Origin
from kit.processes import run
from kit.replicas import Cluster, Replica, ScriptedReplica, addresses, write_secret
from kit.scripted_registry import ScriptedRegistry
from kit.scripted_server import several
from kit.tarn import Tarn, finish_all

# How long tarn waits for an upstream: long enough for a busy machine of two cores, short enough for a
# test. A file that counts the upstream's bytes sets TIMEOUTS = {} and gets tarn's defaults, because
# on a busy machine the upstream of the test may stand still for longer than this.
SHORT = {"connect_timeout": "2s", "stall_timeout": "2s", "first_byte_timeout": "4s"}


def pytest_configure(config):
    config.addinivalue_line("markers", "serial: runs while no other test does, after them")
    config.addinivalue_line("markers", "slow: waits long, so it begins before others")
    config.addinivalue_line("markers", "thorough: long, so a short run (TARN_THOROUGH=0) leaves it out")
    config.addinivalue_line("markers", "xdist_group(name): run by one process, if there are many")


def chosen_for_a_short_run(items):
    """Of each parametrized test the first and the last case, and nothing that is marked `thorough`."""
    functions = {}
    for item in items:
        functions.setdefault((item.path, getattr(item, "originalname", item.name)), []).append(item)
    return {item for cases in functions.values() for item in (cases[0], cases[-1])
            if not item.get_closest_marker("thorough")}


def pytest_collection_modifyitems(config, items):
    # Who names a test or a file wants all of it.
    if os.environ.get("TARN_THOROUGH") == "0":
        chosen = chosen_for_a_short_run(items)
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = [item for item in items if item in chosen]
    items.sort(key=lambda item: (item.get_closest_marker("serial") is not None,
                                 item.get_closest_marker("slow") is None))


def first_difference(left, right):
    return next((at for at, (one, other) in enumerate(zip(left, right)) if one != other),
                min(len(left), len(right)))


def skips_too_many(session, reporter):
    """A run in which more tests were skipped than TARN_MOST_SKIPPED has failed, because a suite of
    which nothing can run must not look as if all were well."""
    most = os.environ.get("TARN_MOST_SKIPPED")
    skipped = reporter.stats.get("skipped", [])
    if not most or len(skipped) <= int(most):
        return False
    reasons = {report.longrepr[2] for report in skipped}
    reporter.write_line("")
    reporter.write_line(f"{len(skipped)} tests were skipped, more than TARN_MOST_SKIPPED="
                        f"{most} allows:")
    for reason in sorted(reasons):
        reporter.write_line(f"  {reason}")
    session.exitstatus = pytest.ExitCode.TESTS_FAILED
    return True


def pytest_sessionfinish(session):
    """TARN_FAILED_LIST is a file that gets the names of the tests that failed, one a line."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not reporter or hasattr(session.config, "workerinput"):
        return
    failed = os.environ.get("TARN_FAILED_LIST")
    if skips_too_many(session, reporter) or not failed:
        return
    reports = reporter.stats.get("failed", []) + reporter.stats.get("error", [])
    pathlib.Path(failed).write_text("".join(f"{name}\n" for name in
                                            sorted({report.nodeid for report in reports})))


def pytest_assertrepr_compare(op, left, right):
    """Says in a few lines where two bodies differ: whole ones would bury which tests failed."""
    if len(repr(left)) + len(repr(right)) < 4000:
        return None
    short = reprlib.Repr()
    short.maxother = short.maxstring = 200
    lines = [f"{short.repr(left)} {op} {short.repr(right)}"]
    both_are_lists = isinstance(left, (tuple, list)) and isinstance(right, (tuple, list))
    for one, other in zip(left, right) if both_are_lists else [(left, right)]:
        if isinstance(one, bytes) and isinstance(other, bytes) and one != other:
            lines.append(f"{len(one)} and {len(other)} bytes, "
                         f"which differ from byte {first_difference(one, other)} on")
    return lines


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    """This folder is the lock of all processes: a serial test holds it alone, others share it."""
    if not hasattr(item.config, "workerinput"):
        yield
        return
    alone = item.get_closest_marker("serial") is not None
    folder = os.open(pathlib.Path(__file__).parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
    finally:
        os.close(folder)


@pytest.fixture(scope="session")
def program():
    """The tarn under test: $TARN, else build/tarn of this tree."""
    tree = pathlib.Path(__file__).resolve().parents[2]
    path = pathlib.Path(os.environ.get("TARN") or tree / "build" / "tarn").resolve()
    if not path.exists():
        pytest.exit(f"{path} does not exist: script/build makes it, or say TARN=PATH", 3)
    return str(path)


@pytest.fixture
def make_upstream():
    """Starts any number of fake upstreams: make_upstream(host=…, tls=…)."""
    yield from several(ScriptedRegistry)


@pytest.fixture
def upstream(make_upstream):
    """The fake upstream that tarn knows as fake.test."""
    return make_upstream()


@pytest.fixture
def repository(request, upstream):
    """org/app of the upstream, with the blob that the test's file calls BLOB."""
    one = upstream.repository("org/app")
    one.add_blob(request.module.BLOB)
    return one


@pytest.fixture
def start_tarn(request, program, tmp_path):
    """
    Starts a tarn: start_tarn([{"host": …}, …], **top_level_settings). Every upstream gets short
    timeouts unless it sets its own; `program` may be another one, and `stderr` a descriptor for
    the log. At the end each tarn is stopped, and the test fails if one had died, did not exit with
    0, or wrote a sanitizer's report.
    """
    started = []
    timeouts = getattr(request.module, "TIMEOUTS", SHORT)

    def start(upstreams=(), environment=None, flags=(), stderr=None, **settings):
        if upstreams:
            settings["upstreams"] = [{**timeouts, **upstream} for upstream in upstreams]
        started.append(Tarn(settings.pop("program", program), tmp_path / f"tarn-{len(started)}",
                            settings, environment, flags, stderr))
        return started[-1]

    yield start
    finish_all(started)


@pytest.fixture
def start_agent(program, tmp_path):
    """Starts a tarn node: start_agent(URL…, **settings). At the end each is stopped, and what it has
    mounted is unmounted."""
    agents = []

    def start(*sources, **settings):
        agents.append(Agent(program, tmp_path / f"node-{len(agents)}", sources, **settings))
        return agents[-1]

    yield start
    for agent in agents:
        agent.finish()


@pytest.fixture
def make_replica(request, program, tmp_path, upstream):
    """
    Starts a replica: make_replica(member, peers, upstream={…}, **top_level_settings). At the end
    each is stopped as a tarn of start_tarn() is.
    """
    started = []
    timeouts = getattr(request.module, "TIMEOUTS", SHORT)
    secret = write_secret(tmp_path)

    def make(member, peers, upstreams=None, environment=None, **settings):
        fake = {"host": "fake.test", "url": upstream.url, "default": True, "tag_ttl": "0"}
        settings["upstreams"] = [{**timeouts, **fake, **one} for one in upstreams or [{}]]
        settings["listen"] = [member]
        settings["replicas"] = {"peers": list(peers), "secret_file": str(secret),
                                **settings.pop("replicas", {})}
        started.append(Replica(member, settings.pop("program", program),
                               tmp_path / f"replica-{len(started)}", settings, environment))
        return started[-1]

    yield make
    finish_all(started)


@pytest.fixture
def cluster(make_replica):
    """Three replicas that know each other."""
    three = Cluster(make_replica, addresses(3))
    for member in three.members:
        three.start(member)
    return three


@pytest.fixture
def make_scripted_replica():
    """Starts any number of scripted members: make_scripted_replica(member)."""
    made = []

    def make(member):
        made.append(ScriptedReplica(member))
        return made[-1]

    yield make
    for one in made:
        one.stop()
    assert [one.problems for one in made] == [[]] * len(made)


@pytest.fixture
def tarn(start_tarn, upstream):
    """A tarn whose default upstream is the fake one; it asks upstream about a tag each time."""
    return start_tarn([{"host": "fake.test", "url": upstream.url, "default": True,
                        "tag_ttl": "0"}])


@pytest.fixture(scope="session")
def key(tmp_path_factory):
    """The key of a Google service account."""
    return Key(tmp_path_factory.mktemp("key"))


@pytest.fixture
def google(key):
    """Google's services that give tokens."""
    one = Google(key)
    yield one
    one.stop()
    assert one.problems == []


@pytest.fixture
def artifact_registry(google):
    """The REST API of Artifact Registry, which knows the tokens that `google` gives."""
    one = ArtifactRegistry(google)
    yield one
    one.stop()
    assert one.problems == []


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    """A certificate for 127.0.0.1 that no system trusts: (certificate, key)."""
    folder = tmp_path_factory.mktemp("authority")
    run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", folder / "key.pem", "-out", folder / "cert.pem"])
    return str(folder / "cert.pem"), str(folder / "key.pem")


@pytest.fixture
def check_bucket(program, tmp_path):
    """check_bucket(store, environment=…, **settings): what `tarn check-bucket` says of a store."""
    return functools.partial(bucket_report, program, tmp_path)


@pytest.fixture
def make_object_store():
    """
    Starts any number of object stores: make_object_store("gcs", bucket=…). The test fails if a
    client sent one what it must never send, unless the test clears `problems`.
    """
    made = []

    def make(*arguments, **options):
        made.append(ObjectStore(*arguments, **options))
        return made[-1]

    yield make
    for store in made:
        store.stop()
    assert [store.problems for store in made] == [[]] * len(made)


@pytest.fixture
def object_store(make_object_store):
    """An object store that speaks S3, with the empty bucket `cache`."""
    return make_object_store()


@pytest.fixture(scope="session")
def origin(tmp_path_factory):
    """A real registry."""
    registry = Origin(tmp_path_factory.mktemp("origin"))
    yield registry
    registry.stop()


@pytest.fixture(scope="session")
def images(origin, tmp_path_factory):
    """The origin with lake/app:1 (four layers, runnable) and lake/platforms:1 (an index)."""
    directory = tmp_path_factory.mktemp("images")
    runnable = build_runnable(directory)
    platforms, _ = build_platforms(directory, runnable)
    origin.push_image(runnable, "lake/app:1")
    origin.push_image(platforms, "lake/platforms:1")
    return origin


@pytest.fixture
def users(tmp_path):
    """The file of alice and bob, whose password is "secret"."""
    return write_htpasswd(tmp_path / "htpasswd", "alice", "bob")


@pytest.fixture(scope="module")
def containerd(tmp_path_factory):
    """Short paths: a socket's may have 107 bytes."""
    daemon = Containerd(tmp_path_factory.mktemp("c") / "d")
    yield daemon
    daemon.stop()


@pytest.fixture(scope="module")
def dockerd(containerd, tmp_path_factory):
    daemon = Dockerd(tmp_path_factory.mktemp("d") / "d", containerd,
                     ["--insecure-registry", "127.0.0.0/8"])
    yield daemon
    daemon.stop()


@pytest.fixture
def enough_descriptors():
    """For tests that open thousands of connections, and for the programs that they start."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@pytest.fixture(scope="session")
def driver(program):
    """The program that follows a cluster, or wants a lease, as a test tells it."""
    return build_driver(program, "kubernetes_driver")


@pytest.fixture
def api(request, tmp_path):
    """A stand-in for the API server; without TLS in a file that sets API_TLS = False."""
    api = KubernetesApi(tmp_path / "api", tls=getattr(request.module, "API_TLS", True))
    yield api
    api.stop()


@pytest.fixture
def cloud_build(google):
    """Cloud Build and what it needs, which know the tokens that `google` gives."""
    def tokens():
        with google.lock:
            return set(google.access)
    one = CloudBuild(tokens)
    yield one
    one.stop()


@pytest.fixture
def builder(program, tmp_path, google, cloud_build):
    """A folder with a Dockerfile, Google credentials, and tarn build."""
    return Builder(program, tmp_path, google, cloud_build)
