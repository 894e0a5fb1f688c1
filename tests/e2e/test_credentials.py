"""Where credentials come from, and how they are used: Basic, Bearer, Docker's files, helpers."""

import base64
import json
import os
import pathlib
import re
import ssl
import time
from urllib.parse import parse_qs

import pytest

from kit.client import at_once
from kit.content import KIB, digest_of, noise
from kit.htpasswd import write_htpasswd
from kit.processes import wait_until
from kit.tokens import TokenService, basic

LAYER = noise(100 * KIB)
DIGEST = digest_of(LAYER)
USER, PASSWORD = "robot", "pass:wörd-of-the-robot"


@pytest.fixture
def image(upstream):
    return upstream.image("org/app", [LAYER], tag="1")


@pytest.fixture
def password_file(tmp_path):
    path = tmp_path / "password"
    path.write_text(PASSWORD + "\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def start(start_tarn, upstream):
    """A tarn whose upstream has these credentials."""
    def start(credentials, environment=None, host="fake.test", **more):
        return start_tarn([{"host": host, "url": upstream.url, "default": True, "tag_ttl": "0",
                            "credentials": credentials, **more}], environment)
    return start


@pytest.fixture
def static(start, password_file):
    return lambda **more: start({"username": USER, "password_file": str(password_file)}, **more)


def pulls(tarn):
    assert tarn.manifest("org/app", "1").status == 200, tarn.manifest("org/app", "1")
    assert tarn.blob("org/app", DIGEST).body == LAYER


# ---- Basic


def test_basic(static, upstream, image):
    upstream.basic = (USER, PASSWORD)
    tarn = static()
    pulls(tarn)
    assert PASSWORD not in tarn.log()
    assert basic(USER, PASSWORD).split()[1] not in tarn.log()


def test_a_password_file_that_changes_is_read_again(static, upstream, image, password_file):
    upstream.basic = (USER, PASSWORD)
    tarn = static()
    pulls(tarn)
    password_file.write_text("changed")
    upstream.basic = (USER, "changed")
    pulls(tarn)


def test_a_password_file_that_is_missing_is_named_in_the_log_alone(static, upstream, image,
                                                                   password_file):
    tarn = static()
    password_file.unlink()
    upstream.basic = (USER, PASSWORD)
    reply = tarn.manifest("org/app", "1")
    assert reply.status == 502 and "credentials for" in reply.message
    assert "/" not in reply.message.replace("org/app", "")
    tarn.logged(re.escape(str(password_file)))


def test_a_long_password(start, upstream, image, tmp_path):
    """Google's _json_key is a whole key file."""
    key = json.dumps({"private_key": "x" * 8000})
    (tmp_path / "key").write_text(key)
    upstream.basic = ("_json_key", key)
    pulls(start({"username": "_json_key", "password_file": str(tmp_path / "key")}))


# ---- Bearer


def test_bearer_anonymous(tarn, upstream, image):
    upstream.tokens = TokenService()
    pulls(tarn)
    asked = upstream.asked("^/token")
    assert len(asked) == 1
    assert "authorization" not in asked[0].headers
    assert "scope=repository%3Aorg%2Fapp%3Apull" in asked[0].query or \
        "scope=repository:org/app:pull" in asked[0].query
    assert "service=fake" in asked[0].query


def test_bearer_with_credentials(static, upstream, image):
    upstream.tokens = TokenService(anonymous=False, users={USER: PASSWORD})
    tarn = static()
    pulls(tarn)
    assert len(upstream.asked("^/token")) == 1
    for token in upstream.tokens.given:
        assert token not in tarn.log()


def test_a_token_for_each_repository(tarn, upstream, image):
    upstream.image("org/other", [LAYER], tag="1")
    upstream.tokens = TokenService()
    for _ in range(2):
        assert tarn.manifest("org/app", "1").status == 200
        assert tarn.manifest("org/other", "1").status == 200
    assert len(upstream.asked("^/token")) == 2


def test_a_token_is_renewed_shortly_before_its_end(tarn, upstream, image):
    upstream.tokens = TokenService(lifetime=3)
    pulls(tarn)
    time.sleep(3.2)
    upstream.forget_requests()
    pulls(tarn)
    assert len(upstream.asked("^/token")) <= 2
    assert tarn.manifest("org/app", "1").status == 200


def test_a_token_that_upstream_forgot_is_renewed_once(tarn, upstream, image):
    upstream.tokens = TokenService()
    pulls(tarn)
    upstream.tokens.forget()
    upstream.forget_requests()
    other = upstream.repository("org/app").add_blob(b"other")
    assert tarn.blob("org/app", other).body == b"other"
    assert len(upstream.asked("^/token")) == 1


def test_a_token_that_never_helps_is_not_asked_for_endlessly(tarn, upstream, image):
    upstream.tokens = TokenService(lifetime=0)
    reply = tarn.manifest("org/app", "1")
    assert (reply.status, reply.code) == (403, "DENIED")
    assert len(upstream.asked("^/token")) <= 4


def test_many_clients_at_the_end_of_a_token(tarn, upstream, image):
    upstream.tokens = TokenService()
    pulls(tarn)
    upstream.tokens.forget()
    upstream.forget_requests()
    blobs = [upstream.repository("org/app").add_blob(noise(2000, seed)) for seed in range(10)]
    for reply in at_once(*[lambda digest=digest: tarn.blob("org/app", digest)
                           for digest in blobs]):
        assert reply.status == 200
    assert len(upstream.asked("^/token")) <= 2


@pytest.mark.parametrize("member", ["token", "access_token"])
def test_the_token_may_be_called_either(tarn, upstream, image, member):
    upstream.tokens = TokenService(member=member)
    pulls(tarn)


def test_a_token_without_a_lifetime(tarn, upstream, image):
    upstream.tokens = TokenService(tell_lifetime=False)
    pulls(tarn)
    assert len(upstream.asked("^/token")) == 1


@pytest.mark.parametrize("challenge", [
    'Bearer realm="{url}/token"',                                   # GAR's, on /v2/
    'Bearer realm="{url}/token",service=fake',                      # gcr.io: not quoted
    'bearer Realm = "{url}/token" , scope="repository:org/app:pull"',
    'Bearer realm="{url}/token?a=b",service="fa,ke",scope="repository:org/app:pull,push"',
    'Basic realm="x", Bearer realm="{url}/token",service="fake"',
    'Negotiate, Bearer service="fake", realm="{url}/token"',
    'Bearer error="invalid_token",realm="{url}/token",service="f\\"ake"',
])
def test_challenges_of_all_kinds(tarn, upstream, image, challenge):
    upstream.tokens = TokenService()
    upstream.challenge = challenge.format(url=upstream.url)
    pulls(tarn)
    assert "repository" in upstream.asked("^/token")[0].query


@pytest.mark.parametrize("challenge", [
    "Bearer", ",", "Bearer realm=", 'Bearer realm="', "Digest realm=x", 'Bearer realm="/token"',
    "Bearer " + "a=b," * 5000, '=,=,"'])
def test_a_challenge_that_makes_no_sense_is_403(tarn, upstream, image, challenge):
    upstream.tokens = TokenService()
    upstream.challenge = challenge
    reply = tarn.manifest("org/app", "1")
    assert reply.status in (403, 502), reply
    assert "fake.test" in reply.message


@pytest.mark.parametrize("answer", [b"", b"{}", b"[]", b'{"token":5}', b'{"token":""}', b"<html>",
                                    b'{"token":"a\\r\\nX-Evil: 1"}', b'{"token":"x"'])
def test_a_token_answer_that_makes_no_sense(tarn, upstream, image, answer):
    upstream.tokens = TokenService()
    upstream.fault("^/token", status=200, headers={"Content-Type": "application/json"},
                   body=answer)
    reply = tarn.manifest("org/app", "1")
    assert reply.status in (403, 502), reply
    assert "fake.test" in reply.message
    assert all("x-evil" not in request.headers for request in upstream.asked())


# ---- Docker's config.json


def docker_environment(tmp_path, config):
    folder = tmp_path / "docker"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return {"DOCKER_CONFIG": str(folder)}


def encoded(username, password):
    return base64.b64encode(f"{username}:{password}".encode()).decode()


@pytest.mark.parametrize("key", ["fake.test", "https://fake.test", "https://fake.test/v2/",
                                 "http://fake.test/"])
def test_dockers_auths(start, upstream, image, tmp_path, key):
    upstream.basic = (USER, PASSWORD)
    pulls(start("docker", docker_environment(tmp_path, {
        "auths": {"else.test": {"auth": encoded("x", "y")},
                  key: {"auth": encoded(USER, PASSWORD)}}})))


def shown_for(upstream):
    """For each repository, the users whose credential its token requests carried; "": none."""
    users = {}
    for request in upstream.asked("^/token"):
        repository = parse_qs(request.query)["scope"][0].split(":")[1]
        value = request.headers.get("authorization", "Basic Og==").split()[1]
        users.setdefault(repository, set()).add(base64.b64decode(value).decode().split(":")[0])
    return users


def carries_its_own_tokens_alone(upstream):
    """Whether each request for content carried a token that was asked for for its repository."""
    for request in upstream.asked("^/v2/.+"):
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        repository = re.match("/v2/(.+?)/(manifests|blobs|tags|referrers)/", request.path).group(1)
        if kind and upstream.tokens.given[token][0] != f"repository:{repository}:pull":
            return False
    return True


NAMESPACES = {"org": {"org/one", "org/deep/er", "org/apple"}, "app": {"org/app", "org/app/below"},
              "all": {"organisation/x", "other/app"}}


def images_of_namespaces(upstream):
    upstream.tokens = TokenService(users={user: f"secret-{user}" for user in NAMESPACES},
                                   anonymous=False)
    for repositories in NAMESPACES.values():
        for repository in repositories:
            upstream.image(repository, [LAYER], tag="1")


def pull_all_at_once(tarn):
    """Pulls every repository twice, all at once, so that each could meet another's token."""
    names = sorted(name for names in NAMESPACES.values() for name in names)
    for _ in range(2):
        for reply in at_once(*[lambda name=name: tarn.manifest(name, "1") for name in names]):
            assert reply.status == 200, reply
    for name in names:
        assert tarn.blob(name, DIGEST).body == LAYER


@pytest.mark.parametrize("order", [1, -1])
def test_dockers_auths_by_namespace(start, upstream, tmp_path, order):
    """podman's auth.json: the longest key that the repository is in."""
    images_of_namespaces(upstream)
    keys = [("fake.test/org", "org"), ("fake.test", "all"), ("fake.test/org/app", "app"),
            ("fake.test/org/app/none", "org"), ("else.test/other", "org")][::order]
    tarn = start("docker", docker_environment(tmp_path, {
        "auths": {key: {"auth": encoded(user, f"secret-{user}")} for key, user in keys}}))
    pull_all_at_once(tarn)
    assert shown_for(upstream) == {name: {user} for user, names in NAMESPACES.items()
                                   for name in names}
    assert carries_its_own_tokens_alone(upstream)


def test_a_namespace_alone_says_nothing_about_the_host(start, upstream, tmp_path):
    upstream.tokens = TokenService(users={"org": "secret"}, public=("public/",))
    for name in ("org/app", "public/app"):
        upstream.image(name, [LAYER], tag="1")
    tarn = start("docker", docker_environment(tmp_path, {
        "auths": {"fake.test/org": {"auth": encoded("org", "secret")}}}))
    for name in ("public/app", "org/app"):
        assert tarn.manifest(name, "1").status == 200
    assert shown_for(upstream) == {"org/app": {"org"}, "public/app": {""}}


def test_a_namespace_is_known_by_the_name_that_clients_use(start, upstream, tmp_path):
    """Not by the name that a cache behind tarn wants."""
    upstream.tokens = TokenService(users={"org": "secret"}, anonymous=False)
    upstream.image("proj/org/app", [LAYER], tag="1")
    tarn = start("docker", docker_environment(tmp_path, {"auths": {
        "fake.test/org": {"auth": encoded("org", "secret")},
        "fake.test/proj": {"auth": encoded("proj", "wrong")}}}), prefix="proj")
    assert tarn.manifest("org/app", "1").status == 200
    assert shown_for(upstream) == {"proj/org/app": {"org"}}


def test_made_up_repositories_start_no_helpers(start, upstream, helper, tmp_path):
    """The helper is asked for the host, whatever repositories clients name."""
    upstream.tokens = TokenService(users={USER: PASSWORD}, anonymous=False)
    environment, asked = helper()
    environment.update(docker_environment(tmp_path, {
        "auths": {"fake.test": {}, "fake.test/org": {"auth": encoded(USER, PASSWORD)}},
        "credsStore": "lake"}))
    tarn = start("docker", environment)
    began = time.monotonic()
    for replies in at_once(*[lambda client=client: [
            tarn.manifest(f"made/up{client}x{number}", "1") for number in range(20)]
            for client in range(4)]):
        assert {reply.status for reply in replies} == {404}
    # A credential is believed for ten seconds.
    assert len(asked()) <= 1 + (time.monotonic() - began) // 10
    assert {line.split()[1] for line in asked()} == {"fake.test"}


def test_credentials_by_repositories(start_tarn, upstream, tmp_path):
    """Entries of one host: the longest pattern decides."""
    images_of_namespaces(upstream)
    patterns = {"org": ["org/**"], "all": None, "app": ["org/app", "org/app/**"]}
    entries = []
    for user, repositories in patterns.items():
        (tmp_path / user).write_text(f"secret-{user}")
        entries.append({"host": "fake.test", "url": upstream.url, "tag_ttl": "0",
                        "default": user == "all",
                        "credentials": {"username": user, "password_file": str(tmp_path / user)},
                        **({"repositories": repositories} if repositories else {})})
    tarn = start_tarn(entries)
    pull_all_at_once(tarn)
    assert shown_for(upstream) == {name: {user} for user, names in NAMESPACES.items()
                                   for name in names}
    assert carries_its_own_tokens_alone(upstream)
    served = [value for name, value in tarn.metrics().items()
              if name.startswith('tarn_requests_total{upstream="fake.test"')]
    assert sum(served) == 3 * sum(len(names) for names in NAMESPACES.values())


def test_a_repository_of_no_entry_is_refused(start_tarn, upstream):
    upstream.image("org/app", [LAYER], tag="1")
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "repositories": [pattern]}
                       for pattern in ("org/*", "other/*")])
    assert tarn.manifest("fake.test/org/app", "1").status == 200
    reply = tarn.manifest("fake.test/third/app", "1")
    assert (reply.status, reply.code) == (403, "DENIED")
    assert not upstream.asked("third")


def test_dockers_auths_with_username_and_password(start, upstream, image, tmp_path):
    upstream.basic = (USER, PASSWORD)
    pulls(start("docker", docker_environment(tmp_path, {
        "auths": {"fake.test": {"username": USER, "password": PASSWORD}}})))


def test_dockers_config_below_home(start, upstream, image, tmp_path):
    upstream.basic = (USER, PASSWORD)
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker" / "config.json").write_text(json.dumps(
        {"auths": {"fake.test": {"auth": encoded(USER, PASSWORD)}}}))
    pulls(start("docker", {"HOME": str(tmp_path)}))


def test_dockers_identity_token(start, upstream, image, tmp_path):
    upstream.tokens = TokenService(anonymous=False, refresh_tokens={"refresh-me"})
    pulls(start("docker", docker_environment(tmp_path, {
        "auths": {"fake.test": {"auth": encoded("00000000", ""),
                                "identitytoken": "refresh-me"}}})))
    asked = upstream.asked("^/token")
    assert [request.method for request in asked] == ["POST"]


def test_docker_hubs_old_key(start, upstream, image, tmp_path):
    upstream.image("library/app", [LAYER], tag="1")
    upstream.basic = (USER, PASSWORD)
    tarn = start("docker", docker_environment(tmp_path, {
        "auths": {"https://index.docker.io/v1/": {"auth": encoded(USER, PASSWORD)}}}),
        host="docker.io")
    pulls(tarn)
    assert tarn.manifest("docker.io/app", "1").status == 200


def test_no_docker_config_is_anonymous(start, upstream, image):
    pulls(start("docker"))
    assert all("authorization" not in request.headers for request in upstream.asked())


def test_no_entry_for_the_host_is_anonymous(start, upstream, image, tmp_path):
    pulls(start("docker", docker_environment(tmp_path, {
        "auths": {"fake.test.evil.test": {"auth": encoded(USER, PASSWORD)},
                  "test": {"auth": encoded(USER, PASSWORD)}}})))
    assert all("authorization" not in request.headers for request in upstream.asked())


def test_a_helper_that_hangs_does_not_hold_requests(start, upstream, image, helper):
    environment, _ = helper(script="#!/bin/sh\nexec sleep 60\n")
    upstream.basic = (USER, PASSWORD)
    tarn = start({"helper": "lake"}, environment)
    replies = at_once(*[lambda: tarn.manifest("org/app", "1")] * 10)
    for reply in replies:
        assert reply.status == 504 and "no answer in time" in reply.message
        assert reply.seconds < 10


def test_a_config_that_is_a_pipe_does_not_hold_requests(start, upstream, image, tmp_path):
    environment = docker_environment(tmp_path, {})
    path = tmp_path / "docker" / "config.json"
    path.unlink()
    upstream.basic = (USER, PASSWORD)
    os.mkfifo(path)
    tarn = start("docker", environment)
    for reply in at_once(*[lambda: tarn.manifest("org/app", "1")] * 10):
        assert reply.status == 502
        assert reply.seconds < 5
    tarn.logged("is no regular file")


def test_a_broken_docker_config_is_named_in_the_log_alone(start, upstream, image, tmp_path):
    environment = docker_environment(tmp_path, {})
    path = tmp_path / "docker" / "config.json"
    path.write_text("{broken")
    upstream.basic = (USER, PASSWORD)
    tarn = start("docker", environment)
    reply = tarn.manifest("org/app", "1")
    assert reply.status == 502, reply
    assert "credentials for fake.test (docker)" in reply.message
    assert str(tmp_path) not in reply.message
    tarn.logged(re.escape(str(path)))


def test_a_docker_config_that_changes_is_read_again(start, upstream, image, tmp_path):
    upstream.basic = (USER, PASSWORD)
    environment = docker_environment(tmp_path, {"auths": {}})
    tarn = start("docker", environment)
    assert tarn.manifest("org/app", "1").status == 403
    docker_environment(tmp_path, {"auths": {"fake.test": {"auth": encoded(USER, PASSWORD)}}})
    wait_until(lambda: tarn.manifest("org/app", "1").status == 200, "the new credentials", 15, 0.5)
    pulls(tarn)


# ---- helper programs


HELPER = """#!/bin/sh
read host
echo "$1 $host" >> {log}
case $host in
*fake.test*) printf '{answer}' ;;
*) echo "credentials not found in native keychain"; exit 1 ;;
esac
"""


@pytest.fixture
def helper(tmp_path):
    """Puts docker-credential-lake on PATH; returns (environment, what it was asked)."""
    folder = tmp_path / "programs"
    folder.mkdir()
    log = tmp_path / "asked"
    log.write_text("")
    path = folder / "docker-credential-lake"

    def make(answer=None, script=None):
        answer = answer or json.dumps(
            {"ServerURL": "fake.test", "Username": USER, "Secret": PASSWORD}, ensure_ascii=False)
        path.write_text(script or HELPER.format(log=log, answer=answer))
        path.chmod(0o755)
        return {"PATH": f"{folder}:{os.environ['PATH']}"}, lambda: log.read_text().splitlines()

    return make


def test_a_helper_program(start, upstream, image, helper):
    upstream.basic = (USER, PASSWORD)
    environment, asked = helper()
    pulls(start({"helper": "lake"}, environment))
    assert asked()[0].split()[0] == "get"
    assert "fake.test" in asked()[0]


def test_dockers_cred_helpers(start, upstream, image, helper, tmp_path):
    upstream.basic = (USER, PASSWORD)
    environment, _ = helper()
    environment.update(docker_environment(tmp_path, {
        "auths": {"fake.test": {}}, "credHelpers": {"fake.test": "lake"},
        "credsStore": "missing"}))
    pulls(start("docker", environment))


def test_dockers_creds_store(start, upstream, image, helper, tmp_path):
    upstream.basic = (USER, PASSWORD)
    environment, _ = helper()
    environment.update(docker_environment(tmp_path, {
        "auths": {"fake.test": {}}, "credsStore": "lake"}))
    pulls(start("docker", environment))


def test_a_helpers_token_user_is_an_identity_token(start, upstream, image, helper):
    upstream.tokens = TokenService(anonymous=False, refresh_tokens={"refresh-me"})
    environment, _ = helper(json.dumps(
        {"ServerURL": "fake.test", "Username": "<token>", "Secret": "refresh-me"}))
    pulls(start({"helper": "lake"}, environment))


def test_credentials_not_found_is_anonymous(start, upstream, image, helper):
    environment, _ = helper(script='#!/bin/sh\necho "credentials not found in native keychain"\n'
                                   "exit 1\n")
    pulls(start({"helper": "lake"}, environment))
    assert all("authorization" not in request.headers for request in upstream.asked())


@pytest.mark.parametrize("script", [
    "#!/bin/sh\necho 'the keyring is locked' >&2\nexit 1\n",
    "#!/bin/sh\necho 'no json'\n",
    "#!/bin/sh\nexit 0\n",
    "#!/bin/sh\nkill -9 $$\n",
    "#!/bin/sh\nhead -c 10000000 /dev/zero\n",
], ids=["says why", "no json", "nothing", "killed", "endless"])
def test_a_broken_helper_is_an_error_that_names_it(start, upstream, image, helper, script):
    environment, _ = helper(script=script)
    upstream.basic = (USER, PASSWORD)
    reply = start({"helper": "lake"}, environment).manifest("org/app", "1")
    assert reply.status == 502, reply
    assert "docker-credential-lake" in reply.message


def test_what_is_cached_is_served_while_credentials_are_broken(start, upstream, image, helper):
    upstream.basic = (USER, PASSWORD)
    environment, _ = helper()
    tarn = start({"helper": "lake"}, environment)
    pulls(tarn)
    tarn.wait_cached("org/app", DIGEST)
    helper(script="#!/bin/sh\nexit 1\n")
    tarn.restart()
    assert tarn.manifest("org/app", image).status == 200
    assert tarn.manifest("org/app", "1").status == 200
    assert tarn.blob("org/app", DIGEST).body == LAYER


# ---- TLS to the upstream


@pytest.fixture
def secure(make_upstream, authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority)
    secure = make_upstream(tls=context)
    secure.image("org/app", [LAYER], tag="1")
    return secure


def test_a_ca_of_ones_own(start_tarn, secure, authority):
    tarn = start_tarn([{"host": "fake.test", "url": secure.url, "default": True,
                        "ca": authority[0]}])
    pulls(tarn)


@pytest.mark.parametrize("where", ["ca", "system"])
def test_a_ca_that_is_a_pipe_does_not_hold_requests(start_tarn, secure, authority, tmp_path, where):
    path = tmp_path / "ca.pem"
    os.mkfifo(path)
    entry = {"host": "fake.test", "url": secure.url, "default": True}
    tarn = start_tarn([{**entry, "ca": str(path)}] if where == "ca" else [entry],
                      {} if where == "ca" else {"SSL_CERT_FILE": str(path)})
    for reply in at_once(*[lambda: tarn.manifest("org/app", "1")] * 10):
        assert reply.status == 502
        assert "trusted certificates" in reply.message
        assert str(path) not in reply.message
        assert reply.seconds < 8
    if where == "ca":
        tarn.logged("is no regular file")
    path.unlink()
    path.write_bytes(pathlib.Path(authority[0]).read_bytes())
    pulls(tarn)


def test_a_ca_that_changes_is_read_again(start_tarn, secure, authority, tmp_path):
    path = tmp_path / "ca.pem"
    path.write_text("no certificate\n")
    tarn = start_tarn([{"host": "fake.test", "url": secure.url, "default": True, "tag_ttl": "0",
                        "ca": str(path)}])
    assert tarn.manifest("org/app", "1").status == 502
    path.write_bytes(pathlib.Path(authority[0]).read_bytes())
    pulls(tarn)


def test_an_untrusted_certificate_is_502(start_tarn, secure):
    tarn = start_tarn([{"host": "fake.test", "url": secure.url, "default": True}])
    reply = tarn.manifest("org/app", "1")
    assert (reply.status, reply.code) == (502, "UNAVAILABLE")
    assert "certificate" in reply.message.lower()
    assert secure.asked() == []


# ---- tarn's own clients


@pytest.fixture
def htpasswd(tmp_path):
    """A file with reader:secret in bcrypt, as htpasswd -B writes it."""
    return str(write_htpasswd(tmp_path / "htpasswd", "reader"))


def test_htpasswd_keeps_others_out(start_tarn, upstream, image, htpasswd):
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}],
                      clients={"htpasswd": htpasswd})
    for path in ("/v2/", "/v2/org/app/manifests/1", f"/v2/org/app/blobs/{DIGEST}"):
        refused = tarn.get(path)
        assert (refused.status, refused.code) == (401, "UNAUTHORIZED")
        assert refused["WWW-Authenticate"].startswith("Basic realm=")
        for wrong in (basic("reader", "wrong"), basic("other", "secret"), "Basic !", "Bearer x",
                      "Basic " + "A" * 4000):
            assert tarn.get(path, {"Authorization": wrong}).status == 401
        right = tarn.get(path, {"Authorization": basic("reader", "secret")})
        assert right.status == 200
    assert tarn.get("/livez").status == 200
    assert "secret" not in tarn.log()


def test_a_user_who_is_removed_is_soon_refused(start_tarn, upstream, image, htpasswd):
    """Also while every response comes from memory."""
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}],
                      clients={"htpasswd": htpasswd})

    def status():
        return tarn.get("/v2/org/app/manifests/1",
                        {"Authorization": basic("reader", "secret")}).status

    for _ in range(50):
        assert status() == 200
    others = pathlib.Path(htpasswd).read_text().replace("reader:", "other:")
    pathlib.Path(htpasswd).write_text(others)
    wait_until(lambda: status() == 401, "the removed user to be refused", 10, pause=0.01)
    assert status() == 401
