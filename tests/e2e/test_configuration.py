"""File, flags and environment; a mistake is reported with file, line, key and the right form."""

import json
import os
import re

import pytest

from kit.client import fetch
from kit.content import KIB, noise
from kit.processes import Program, free_port, wait_until
from kit.tarn import bare_environment, serve_that_fails, tarn_command
from kit.yaml_text import yaml_text

GOOD = """\
listen: 127.0.0.1:0
root: /tmp/nowhere
max_size: 10GiB
upstreams:
  - host: fake.test
    url: http://127.0.0.1:1
    default: true
    credentials: anonymous
    repositories: ["org/**"]
    tag_ttl: 1m
    connections: 4
  - host: "*.pkg.dev"
    credentials: docker
log: {level: info, format: json}
"""

# The mistake, its line, and words of the message.
MISTAKES = [
    ("unknown key", GOOD + "max_sise: 1GiB\n", 15, ["max_sise", "max_size"]),
    ("unknown key of an upstream", GOOD.replace("tag_ttl", "tag_tll"), 10, ["tag_tll", "tag_ttl"]),
    ("wrong type", GOOD.replace("connections: 4", "connections: [4]"), 11, ["connections"]),
    ("no number", GOOD.replace("connections: 4", "connections: four"), 11, ["four"]),
    ("too many", GOOD.replace("connections: 4", "connections: 4000"), 11, ["connections"]),
    ("none at all", GOOD.replace("connections: 4", "connections: 0"), 11, ["connections"]),
    ("no duration", GOOD.replace("tag_ttl: 1m", "tag_ttl: 5 parsecs"), 10, ["5 parsecs", "30s"]),
    ("a bare number as duration", GOOD.replace("tag_ttl: 1m", "tag_ttl: 60"), 10, ["60"]),
    ("no size", GOOD.replace("10GiB", "much"), 3, ["max_size", "much"]),
    ("negative size", GOOD.replace("10GiB", "-1"), 3, ["max_size"]),
    ("no boolean", GOOD.replace("default: true", "default: perhaps"), 7, ["default", "perhaps"]),
    ("no choice", GOOD.replace("level: info", "level: loud"), 14, ["loud", "debug"]),
    ("no url", GOOD.replace("http://127.0.0.1:1", "127.0.0.1"), 6, ["url"]),
    ("no such scheme", GOOD.replace("http://127.0.0.1:1", "ftp://127.0.0.1"), 6, ["url"]),
    ("password in a url", GOOD.replace("http://", "http://user:password@"), 6, ["url"]),
    ("no host", GOOD.replace("host: fake.test", "host: not a host"), 5, ["host"]),
    ("host missing", GOOD.replace('host: "*.pkg.dev"\n    credentials', "credentials"), 12,
     ["host"]),
    ("no prefix", GOOD.replace("default: true", "prefix: /Up"), 7, ["prefix", "/Up"]),
    ("everybody's hosts", GOOD.replace("*.pkg.dev", "*.co.uk"), 12, ["co.uk", "everybody"]),
    ("host twice", GOOD.replace('"*.pkg.dev"', "FAKE.test").replace(
        '    repositories: ["org/**"]\n', ""), 11, ["fake.test"]),
    ("host twice for the same repositories", GOOD.replace(
        '"*.pkg.dev"', 'FAKE.test\n    repositories: ["org/**"]'), 12, ["fake.test", "repositories"]),
    ("two defaults", GOOD.replace('"*.pkg.dev"', "b.test\n    default: true"), 13, ["default"]),
    ("no address", GOOD.replace("127.0.0.1:0", "everywhere"), 1, ["listen"]),
    ("no credentials", GOOD.replace("credentials: docker", "credentials: magic"), 13, ["magic"]),
    ("a user without a password file", GOOD.replace(
        "credentials: docker", "credentials: {username: u}"), 13, ["password_file"]),
    ("certificate without key", GOOD + "tls: {certificate: /etc/hostname}\n", 15, ["key"]),
    ("not yaml", GOOD + "  : [\n", None, []),
    ("a tab", GOOD + "log2:\n\t- x\n", 16, []),
    ("a key twice", GOOD + "root: /tmp/again\n", 15, ["root"]),
    ("a list", "- a\n- b\n", 1, []),
]


@pytest.fixture
def write(tmp_path):
    def write(text, name="tarn.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return str(path)
    return write


@pytest.fixture
def tarn_says(program, tmp_path):
    return lambda *arguments, **more: tarn_command(program, *arguments, home=tmp_path, **more)


def test_check_config_prints_warnings(write, tarn_says):
    text = GOOD.replace("*.pkg.dev", "registry.example").replace("docker", "google")
    done = tarn_says("check-config", write(text))
    assert done.returncode == 0 and done.stdout.endswith(": ok\n")
    assert "warning: upstream registry.example: Google's access token" in done.stderr


@pytest.fixture
def serve(program, tmp_path):
    """Starts `tarn serve` with these arguments alone; returns the running program."""
    started = []

    def serve(port, *arguments, environment=None):
        started.append(Program([program, "serve", *arguments], tmp_path / "serve.log",
                               bare_environment(tmp_path, **(environment or {})), tmp_path))

        def ready():
            try:
                return fetch(f"http://127.0.0.1:{port}/readyz", timeout=2).status == 200
            except OSError:
                return False

        started[-1].wait_ready(ready)
        return started[-1]

    yield serve
    for one in started:
        assert one.stop() == 0, one.log()


def test_a_good_file_is_good(tarn_says, write):
    path = write(GOOD)
    good = tarn_says("check-config", path)
    assert (good.returncode, good.stderr) == (0, "")
    assert path in good.stdout


@pytest.mark.parametrize("text,line,words", [mistake[1:] for mistake in MISTAKES],
                         ids=[mistake[0] for mistake in MISTAKES])
def test_a_mistake_is_reported_with_file_line_and_key(tarn_says, write, text, line, words):
    path = write(text)
    bad = tarn_says("check-config", path)
    assert bad.returncode == 1, bad
    assert bad.stdout == ""
    place = re.match(re.escape(path) + r":(\d+)(:\d+)?: ", bad.stderr)
    assert place, bad.stderr
    if line:
        assert int(place.group(1)) == line, bad.stderr
    for word in words:
        assert word in bad.stderr


@pytest.mark.parametrize("text", [mistake[1] for mistake in MISTAKES[:4]])
def test_a_mistake_stops_the_start(program, write, tmp_path, text):
    path = write(text)
    refused = serve_that_fails(program, "--config", path, home=tmp_path)
    assert refused.returncode == 1
    assert refused.stderr.startswith(path + ":")


def test_several_mistakes_are_reported_at_once(tarn_says, write):
    bad = tarn_says("check-config", write(GOOD.replace("10GiB", "much").replace("1m", "soon")
                                          + "wrong: 1\n"))
    assert len(bad.stderr.splitlines()) == 3
    for word in ("much", "soon", "wrong"):
        assert word in bad.stderr


def test_a_file_that_is_missing(tarn_says, tmp_path):
    missing = str(tmp_path / "missing.yaml")
    bad = tarn_says("check-config", missing)
    assert bad.returncode == 1
    assert missing in bad.stderr


def test_an_empty_file_is_all_defaults(tarn_says, write):
    assert tarn_says("check-config", write("")).returncode == 0
    assert tarn_says("check-config", write("# nothing\n")).returncode == 0


@pytest.mark.parametrize("size", ["4096", "500MB", "10GiB", "1.5TiB"])
@pytest.mark.parametrize("duration", ["0", "30s", "5m", "168h", "250ms"])
def test_sizes_and_durations(tarn_says, write, size, duration):
    text = GOOD.replace("10GiB", size).replace("tag_ttl: 1m", f"tag_ttl: {duration}")
    assert tarn_says("check-config", write(text)).returncode == 0


def test_the_words_of_the_design_are_all_understood(tarn_says, write, tmp_path):
    (tmp_path / "password").write_text("x")
    text = yaml_text({
        "listen": "0.0.0.0:5000", "root": str(tmp_path), "max_size": "200GiB",
        "upstreams": [
            {"host": "us-central1-docker.pkg.dev", "default": True, "credentials": "google",
             "repositories": ["my-project/**"], "tag_ttl": "1m", "connections": 4},
            {"host": "*.pkg.dev", "credentials": "google"},
            {"host": "origin.example", "url": "http://127.0.0.1:5001", "credentials": {
                "username": "u", "password_file": str(tmp_path / "password")}},
            {"host": "helped.example", "credentials": {"helper": "gcr"},
             "connect_timeout": "5s", "stall_timeout": "10s", "fallbacks": ["https://a.example"],
             "token_hosts": ["auth.example", "auth.example:8443"], "range_fill": False,
             "keep_deleted": True, "prefetch": True}],
        "log": {"level": "info", "format": "json"}})
    checked = tarn_says("check-config", write(text))
    assert checked.returncode == 0, checked.stderr


# ---- flags and environment


def test_serve_works_without_any_file(serve, tmp_path):
    port = free_port()
    serve(port, "--listen", f"127.0.0.1:{port}", "--root", str(tmp_path / "cache"))
    page = fetch(f"http://127.0.0.1:{port}/").body.decode()
    for host in ("docker.io", "ghcr.io", "pkg.dev"):
        assert host in page


@pytest.mark.skipif(os.geteuid() == 0, reason="root's cache is /var/lib/tarn: not for a test")
def test_the_cache_is_where_the_desktop_says(tmp_path, serve):
    port = free_port()
    serve(port, "--listen", f"127.0.0.1:{port}",
          environment={"XDG_CACHE_HOME": str(tmp_path / "xdg")})
    assert (tmp_path / "xdg" / "tarn" / "lock").exists()


def test_flags_and_environment_are_twins(serve, upstream, tmp_path):
    upstream.image("org/app", [noise(KIB)], tag="1")
    port = free_port()
    serve(port, "--upstream", f"fake.test={upstream.url}", environment={
        "TARN_LISTEN": f"127.0.0.1:{port}", "TARN_ROOT": str(tmp_path / "cache"),
        "TARN_DEFAULT_UPSTREAM": "fake.test", "TARN_LOG_FORMAT": "json"})
    assert fetch(f"http://127.0.0.1:{port}/v2/org/app/manifests/1").status == 200
    assert (tmp_path / "cache").exists()


def test_flags_win_over_environment_and_environment_over_file(serve, write, tmp_path):
    from_file, from_environment, from_flag = free_port(), free_port(), free_port()
    path = write(f"listen: 127.0.0.1:{from_file}\nroot: {tmp_path}/file\n")
    serve(from_flag, "--config", path, f"--listen=127.0.0.1:{from_flag}", environment={
        "TARN_LISTEN": f"127.0.0.1:{from_environment}", "TARN_ROOT": f"{tmp_path}/environment"})
    assert (tmp_path / "environment").exists()
    assert not (tmp_path / "file").exists()


def test_the_file_may_be_named_by_the_environment(serve, write, tmp_path):
    port = free_port()
    path = write(f"listen: 127.0.0.1:{port}\nroot: {tmp_path}/cache\n")
    serve(port, environment={"TARN_CONFIG": path})


@pytest.mark.parametrize("arguments,environment,word", [
    (["--tag-ttl", "soon"], {}, "--tag-ttl"),
    (["--max-size=lots"], {}, "--max-size"),
    ([], {"TARN_TAG_TTL": "soon"}, "TARN_TAG_TTL"),
    ([], {"TARN_LOG_LEVEL": "loud"}, "TARN_LOG_LEVEL"),
])
def test_a_bad_value_names_its_flag_or_variable(program, tmp_path, arguments, environment, word):
    refused = serve_that_fails(program, "--listen", "127.0.0.1:0", "--root",
                               str(tmp_path / "cache"), *arguments, home=tmp_path,
                               environment=environment)
    assert refused.returncode == 1
    assert word in refused.stderr


@pytest.mark.parametrize("arguments", [["--unknown"], ["--tag-ttl"], ["extra"], ["--config"]])
def test_bad_usage_is_exit_2(program, tmp_path, arguments):
    refused = serve_that_fails(program, *arguments, home=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr
    assert refused.stdout == ""


# ---- help


def test_help(tarn_says):
    for arguments in (["--help"], ["-h"], ["help"]):
        said = tarn_says(*arguments)
        assert (said.returncode, said.stderr) == (0, "")
        for command in ("serve", "check-config", "version"):
            assert command in said.stdout


def test_help_of_a_command(tarn_says):
    said = tarn_says("serve", "--help")
    assert (said.returncode, said.stderr) == (0, "")
    for flag in ("--config", "--listen", "--root", "--max-size", "--tag-ttl", "TARN_"):
        assert flag in said.stdout
    assert tarn_says("check-config", "--help").returncode == 0
    assert tarn_says("version", "--help").returncode == 0


def test_version(tarn_says):
    said = tarn_says("version")
    assert said.returncode == 0
    assert re.fullmatch(r"tarn \d+\.\d+\.\d+\S*\n", said.stdout)
    assert tarn_says("--version").stdout == said.stdout


@pytest.mark.parametrize("arguments", [[], ["frobnicate"], ["check-config"],
                                       ["check-config", "a", "b"]])
def test_what_is_no_command_is_exit_2(tarn_says, arguments):
    said = tarn_says(*arguments)
    assert said.returncode == 2
    assert said.stdout == ""
    assert "tarn" in said.stderr


def test_a_root_that_cannot_be_made_is_an_error_that_names_it(program, tmp_path):
    (tmp_path / "file").write_text("in the way")
    refused = serve_that_fails(program, "--listen", "127.0.0.1:0", "--root",
                               str(tmp_path / "file" / "cache"), home=tmp_path)
    assert refused.returncode == 1
    assert str(tmp_path / "file") in refused.stderr


def test_json_log_lines_are_json(start_tarn, upstream):
    upstream.image("org/app", [noise(KIB)], tag="1")
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}],
                      log={"level": "info", "format": "json"})
    tarn.manifest("org/app", "1")
    wait_until(lambda: "org/app" in tarn.log(), "the access log")
    for line in tarn.log().splitlines():
        json.loads(line)
