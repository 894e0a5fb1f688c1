"""Where AWS's credentials come from: the order of the sources, each source, what is broken, renewal."""

import json
import math
import pathlib
import textwrap
import threading
import time

import pytest

from kit.aws_services import ROLE, AwsServices, time_text
from kit.driver import Driven, build_driver
from kit.object_signature import Identity
from kit.processes import wait_until


@pytest.fixture(scope="module")
def aws_driver(program):
    return build_driver(program, "aws_driver")


@pytest.fixture
def services():
    one = AwsServices()
    yield one
    one.stop()


class Source(Driven):
    """A source of credentials, as a driver of src/auth/aws/ holds it."""

    def ask(self, what, **more):
        with self.changed:
            before = len(self.told)
        self.tell(what, **more)
        self.wait(lambda one: len(one.told) > before, what, 40)
        return self.told[before]

    def tell(self, what, **more):
        self.child.stdin.write(json.dumps({"do": what, **more}) + "\n")
        self.child.stdin.flush()

    def get(self, ms=20000):
        return self.ask("get", ms=ms)

    def key(self, ms=20000):
        got = self.get(ms)
        assert "error" not in got, got
        return got["key_id"]

    def error(self, ms=20000):
        got = self.get(ms)
        assert "error" in got, got
        assert got["kind"] == "unavailable", got
        return got["error"]

    def look(self):
        return self.ask("look")


class Machine:
    """A home folder and an environment, in which no metadata service of a cloud is asked."""

    def __init__(self, driver, services, folder):
        self.driver, self.services, self.folder = driver, services, folder
        (folder / ".aws").mkdir(parents=True)
        self.environment = {"AWS_REGION": "eu-central-1", "AWS_ENDPOINT_URL_STS": services.url,
                            "AWS_EC2_METADATA_DISABLED": "true"}
        self.started = []

    def write(self, name, text):
        path = self.folder / name
        path.write_text(textwrap.dedent(text))
        return path

    def credentials(self, text):
        return self.write(".aws/credentials", text)

    def config(self, text):
        return self.write(".aws/config", text)

    def has_keys(self):
        self.environment.update({"AWS_ACCESS_KEY_ID": "AKIAENV", "AWS_SECRET_ACCESS_KEY": "env-se"})

    def has_web_identity(self, token="web-token-1\n"):
        path = self.write("token", token)
        self.environment.update({"AWS_WEB_IDENTITY_TOKEN_FILE": str(path), "AWS_ROLE_ARN": ROLE})
        return path

    def has_container(self, token=None):
        self.environment["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = \
            f"{self.services.url}/v1/credentials"
        if token:
            self.environment["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = token

    def has_instance(self):
        del self.environment["AWS_EC2_METADATA_DISABLED"]
        self.environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = self.services.url

    def source(self, **settings):
        source = Source(self.driver, json.dumps(settings), self.folder,
                        environment=self.environment)
        self.started.append(source)
        return source


@pytest.fixture
def machine(aws_driver, services, tmp_path):
    one = Machine(aws_driver, services, tmp_path / "machine")
    yield one
    for source in one.started:
        source.stop()
        shown = source.log() + "".join(told.get("error", "") for told in source.told)
        for secret in services.all_secrets():
            assert secret not in shown, "a secret is in a log line or an error"


# ---- the order ----

def test_the_sources_are_looked_at_in_the_order_of_the_sdks(machine, services):
    machine.has_instance()
    assert machine.source().get() and machine.started[-1].look()["from"].startswith("instance ")
    machine.has_container()
    source = machine.source()
    assert source.key() == services.given[-1]["AccessKeyId"]
    assert source.look()["from"] == f"container 127.0.0.1:{services.server.server_port}"
    path = machine.credentials("[default]\naws_access_key_id = AKIAFILE\n"
                               "aws_secret_access_key = file-secret\n")
    source = machine.source()
    assert source.key() == "AKIAFILE"
    assert source.look()["from"] == f"profile default of {path}"
    token = machine.has_web_identity()
    source = machine.source()
    assert source.key() == services.given[-1]["AccessKeyId"]
    assert source.look()["from"] == f"web identity {token}"
    machine.has_keys()
    source = machine.source()
    assert source.key() == "AKIAENV" and source.look()["from"] == "environment"
    secret = machine.write("secret", "\n the-secret \n")
    source = machine.source(key_id="AKIAOWN", secret_file=str(secret))
    got = source.get()
    assert (got["key_id"], got["secret"], got["lives_ms"]) == ("AKIAOWN", "the-secret", -1)
    assert got["token"] is None


def break_environment(machine):
    machine.has_keys()
    del machine.environment["AWS_SECRET_ACCESS_KEY"]
    return ["AWS_ACCESS_KEY_ID is set, but AWS_SECRET_ACCESS_KEY is not"]


def break_web_identity_file(machine):
    path = machine.has_web_identity()
    path.unlink()
    return [str(path), "No such file"]


def break_web_identity_role(machine):
    machine.has_web_identity()
    del machine.environment["AWS_ROLE_ARN"]
    return ["AWS_ROLE_ARN is not"]


def break_web_identity_token(machine):
    path = machine.has_web_identity("another-token")
    return [f"web identity {path}", "400 InvalidIdentityToken"]


def break_web_identity_rights(machine):
    machine.has_web_identity()
    machine.environment["AWS_ROLE_ARN"] = "arn:aws:sts::1:role/other"
    return [machine.services.url, "403 AccessDenied: not authorized to perform"]


def break_web_identity_empty(machine):
    return [str(machine.has_web_identity("\n")), "empty"]


def break_shared_line(machine):
    return [str(machine.config("[default]\nregion = eu-west-1\nwhat is this\n")), "line 3"]


def break_shared_section(machine):
    return [str(machine.credentials("[default\n")), "line 1", "]"]


def break_shared_half(machine):
    path = machine.credentials("[default]\naws_access_key_id = AKIAFILE\n")
    return [str(path), "aws_secret_access_key is missing"]


def break_shared_profile(machine):
    machine.credentials("[default]\naws_access_key_id = A\naws_secret_access_key = B\n")
    machine.environment["AWS_PROFILE"] = "missing"
    return ['profile "missing" is neither in']


def break_shared_named(machine):
    machine.environment["AWS_SHARED_CREDENTIALS_FILE"] = str(machine.folder / "nowhere")
    return [str(machine.folder / "nowhere"), "no such file"]


def break_shared_sso(machine):
    path = machine.config("[default]\nsso_session = me\nsso_account_id = 1\nsso_role_name = r\n")
    return [str(path), "SSO"]


def break_shared_old_sso(machine):
    path = machine.config("[profile old]\nsso_start_url = https://me\nsso_region = eu-west-1\n")
    machine.environment["AWS_PROFILE"] = "old"
    return ["profile old of " + str(path), "SSO"]


def break_shared_role(machine):
    machine.config(f"[default]\nrole_arn = {ROLE}\n")
    return ["role_arn needs source_profile"]


def break_shared_circle(machine):
    machine.config(f"[default]\nrole_arn = {ROLE}\nsource_profile = a\n"
                   f"[profile a]\nrole_arn = {ROLE}\nsource_profile = default\n")
    return ["circle"]


def break_shared_self(machine):
    machine.config(f"[default]\nrole_arn = {ROLE}\nsource_profile = default\n")
    return ["leads to itself"]


def break_shared_source(machine):
    machine.config(f"[default]\nrole_arn = {ROLE}\nsource_profile = a\n")
    return ['profile "a"']


def break_shared_mfa(machine):
    machine.config(f"[default]\nrole_arn = {ROLE}\nsource_profile = a\nmfa_serial = 1\n"
                   "[profile a]\naws_access_key_id = A\naws_secret_access_key = B\n")
    return ["mfa_serial"]


def break_shared_signature(machine):
    machine.config(f"[default]\nrole_arn = {ROLE}\nsource_profile = a\n"
                   "[profile a]\naws_access_key_id = A\naws_secret_access_key = B\n")
    machine.services.known["A"] = ("C", None)
    return ["profile default of", machine.services.url, "403 SignatureDoesNotMatch"]


def break_process_missing(machine):
    machine.config("[default]\ncredential_process = /no/such/program --now\n")
    return ["credential_process /no/such/program"]


def break_process_exit(machine):
    machine.config("[default]\ncredential_process = sh -c 'echo log in first >&2; exit 3'\n")
    return ["credential_process sh: exit 3: log in first"]


def break_process_output(machine):
    machine.config("""[default]\ncredential_process = echo '{"Version": 2}'\n""")
    return ["what credential_process echo printed: Version is not 1"]


def break_process_quote(machine):
    machine.config("[default]\ncredential_process = echo 'one\n")
    return ["a quote in it does not end"]


def break_container_host(machine):
    machine.environment["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = "http://10.1.2.3/v1/credentials"
    return ["http://10.1.2.3/v1/credentials: http is allowed for this machine"]


def break_container_token(machine):
    machine.has_container("wrong-token")
    machine.services.container_token = "right-token"
    return [f"container 127.0.0.1:{machine.services.server.server_port}",
            "403 AccessDeniedException: token *********** is not known"]


def break_container_file(machine):
    machine.has_container()
    machine.environment["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] = str(machine.folder / "gone")
    return [str(machine.folder / "gone")]


def break_container_line(machine):
    machine.has_container()
    path = machine.write("container-token", "one\r\nX-Other: two")
    machine.environment["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] = str(path)
    return [str(path), "line break"]


def break_container_answer(machine):
    machine.has_container()
    machine.services.answers = [(200, {}, b"{\"AccessKeyId\": \"A\"}")]
    return ["there is no secret key"]


BROKEN = [value for name, value in sorted(globals().items()) if name.startswith("break_")]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda one: one.__name__)
def test_a_source_that_is_configured_and_broken_is_named_and_no_later_one_is_asked(
        machine, services, broken):
    machine.has_instance()
    for text in broken(machine):
        error = (machine.started or [machine.source()])[0].error()
        assert text in error, error
    assert error.startswith("aws credentials: ")
    assert services.count("/latest/") == 0
    assert "no aws credentials" in machine.started[0].log()


@pytest.mark.parametrize("broken, text", [
    ({"Code": "AssumeRoleUnauthorizedAccess", "Message": "EC2 cannot assume the role"},
     "it failed with AssumeRoleUnauthorizedAccess: EC2 cannot"),
    ({"Code": "Success", "AccessKeyId": "A", "SecretAccessKey": "B",
      "Expiration": "2001-01-01T00:00:00Z"}, "have ended at 2001-01-01"),
    ({"Code": "Success", "AccessKeyId": "A", "SecretAccessKey": "B", "Expiration": "soon"},
     "Expiration is no time"),
    ({"Code": "Success", "AccessKeyId": "A\r\nX: y", "SecretAccessKey": "B"}, "key id has a blank"),
    ({"Code": "Success", "AccessKeyId": 7, "SecretAccessKey": "B"}, "AccessKeyId is no string"),
    ([], "what came is no object in JSON")])
def test_an_instance_that_gives_no_credentials_says_why(machine, services, broken, text):
    machine.has_instance()
    services.instance_document = broken or [1]
    error = machine.source().error()
    assert services.url in error and "role tarn-node" in error and text in error, error


def test_an_instance_without_a_role_or_without_imdsv2_is_an_error(machine, services):
    machine.has_instance()
    services.instance_role = None
    assert "the instance has no role (404)" in machine.source().error()
    services.answers = [(405, {}, b"")]
    assert "IMDSv2 is needed" in machine.source().error()
    assert not any(request.method == "GET" and not request.headers["X-aws-ec2-metadata-token"]
                   for request in services.requests)


def test_an_instance_service_that_is_silent_is_asked_twice_for_a_second(machine, services):
    machine.has_instance()
    gate = threading.Event()
    services.before = lambda request: gate.wait(30)
    source = machine.source()
    got = source.get()
    gate.set()
    assert "instance" in got["error"] and 2000 <= got["ms"] < 9000, got
    assert services.paths() == ["PUT /latest/api/token"] * 2


def test_no_source_at_all_is_an_error_that_lists_where_they_were_looked_for(machine, services):
    error = machine.source().error()
    assert "environment, web identity, shared files, container and instance" in error
    assert services.requests == []


def test_an_empty_variable_is_one_that_is_not_set(machine):
    machine.has_keys()
    machine.environment.update({"AWS_SESSION_TOKEN": "", "AWS_PROFILE": "", "AWS_REGION": "",
                                "AWS_DEFAULT_REGION": "us-west-2"})
    source = machine.source()
    assert source.get()["token"] is None and source.look()["region"] == "us-west-2"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_WEB_IDENTITY_TOKEN_FILE",
                 "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_SHARED_CREDENTIALS_FILE"):
        machine.environment[name] = ""
    assert "there are none in environment" in machine.source().error()


# ---- each source ----

def test_the_environment_has_a_session_token(machine):
    machine.has_keys()
    machine.environment["AWS_SESSION_TOKEN"] = "env-token"
    assert machine.source().get()["token"] == "env-token"


def test_a_web_identity_is_sent_unsigned_and_its_file_is_read_each_time(machine, services):
    path = machine.has_web_identity()
    machine.environment["AWS_ROLE_SESSION_NAME"] = "me"
    source = machine.source()
    first = source.get()
    assert first["token"] == services.given[0]["Token"]
    assert 3500000 < first["lives_ms"] <= 3600000
    form = services.requests[0].form
    assert form == {"Action": "AssumeRoleWithWebIdentity", "Version": "2011-06-15",
                    "RoleArn": ROLE, "RoleSessionName": "me", "WebIdentityToken": "web-token-1"}
    services.web_tokens = {"web-token-2"}
    path.write_text("web-token-2")
    source.tell("renew", number=first["number"])
    assert source.key() == services.given[1]["AccessKeyId"]


def test_the_files_of_aws_are_read_as_its_tools_read_them(machine):
    machine.credentials("\ufeff# mine\r\n[other]\r\naws_access_key_id=AKIAOTHER\r\n"
                        "AWS_Secret_Access_Key = secret=with=signs  \r\n"
                        "aws_session_token = tok\r\n")
    machine.config("""\
        ; comment
        [profile other]
        region = ap-south-1
        s3 =
          max_concurrent_requests = 20
          signature_version
        [profile "with blank"]
        aws_access_key_id = AKIABLANK
        aws_secret_access_key = blank-secret
        [sso-session default]
        aws_access_key_id = never
        """)
    del machine.environment["AWS_REGION"]
    machine.environment["AWS_PROFILE"] = "other"
    source = machine.source()
    got = source.get()
    assert (got["key_id"], got["secret"], got["token"]) == ("AKIAOTHER", "secret=with=signs", "tok")
    assert source.look()["region"] == "ap-south-1"
    assert machine.source(profile="with blank").key() == "AKIABLANK"
    assert 'profile "default" is' not in machine.source(profile="other").key()


def test_the_files_have_the_places_that_settings_and_environment_say(machine):
    mine = machine.write("mine", "[p]\naws_access_key_id = AKIAMINE\naws_secret_access_key = s1\n")
    config = machine.write("conf", "[profile p]\nregion = sa-east-1\n")
    machine.environment.update({"AWS_SHARED_CREDENTIALS_FILE": str(mine), "AWS_PROFILE": "p",
                                "AWS_CONFIG_FILE": str(config)})
    del machine.environment["AWS_REGION"]
    source = machine.source()
    assert source.key() == "AKIAMINE" and source.look()["region"] == "sa-east-1"
    other = machine.write("other", "[p]\naws_access_key_id = AKIAOTHER\naws_secret_access_key = s\n")
    machine.has_keys()  # the settings name a source, so the environment does not count
    assert machine.source(file=str(other)).key() == "AKIAOTHER"
    machine.environment["AWS_CONFIG_FILE"] = "/dev/null"
    assert machine.source(file=str(other)).key() == "AKIAOTHER"


def test_a_role_is_taken_with_the_credentials_of_its_source_profile(machine, services):
    machine.credentials("[base]\naws_access_key_id = AKIABASE\naws_secret_access_key = base-secret\n")
    services.known["AKIABASE"] = ("base-secret", None)
    machine.config(f"""\
        [default]
        role_arn = {ROLE}
        source_profile = middle
        external_id = out/side
        role_session_name = mine
        duration_seconds = 900
        [profile middle]
        role_arn = {ROLE}-middle
        source_profile = base
        """)
    source = machine.source()
    assert source.key() == services.given[1]["AccessKeyId"]
    middle, last = (request.form for request in services.requests)
    assert middle["RoleArn"] == ROLE + "-middle" and middle["RoleSessionName"] == "tarn"
    assert (last["ExternalId"], last["RoleSessionName"], last["DurationSeconds"]) == \
        ("out/side", "mine", "900")


def test_a_profile_may_be_the_source_of_its_own_role(machine, services):
    machine.config(f"[default]\naws_access_key_id = AKIABASE\naws_secret_access_key = base-secret\n"
                   f"role_arn = {ROLE}\nsource_profile = default\n")
    services.known["AKIABASE"] = ("base-secret", None)
    assert machine.source().key() == services.given[0]["AccessKeyId"]


@pytest.mark.parametrize("origin", ["Environment", "EcsContainer", "Ec2InstanceMetadata"])
def test_a_role_is_taken_with_the_credentials_of_the_machine(machine, services, origin):
    machine.config(f"[profile p]\nrole_arn = {ROLE}\ncredential_source = {origin}\n")
    machine.has_keys()
    services.known["AKIAENV"] = ("env-se", None)
    machine.has_container()
    machine.has_instance()
    source = machine.source(profile="p")
    assert source.key() == services.given[-1]["AccessKeyId"]
    assert services.requests[-1].form["Action"] == "AssumeRole"


def test_a_profile_may_hold_a_web_identity(machine, services):
    token = machine.write("token", "web-token-1")
    machine.config(f"[default]\nrole_arn = {ROLE}\nweb_identity_token_file = {token}\n")
    assert machine.source().key() == services.given[0]["AccessKeyId"]
    assert services.requests[0].form["Action"] == "AssumeRoleWithWebIdentity"


def test_a_clock_that_is_off_is_corrected_for_a_role(machine, services):
    services.date_offset = 3600
    services.known["AKIABASE"] = ("base-secret", None)
    machine.config(f"[default]\naws_access_key_id = AKIABASE\naws_secret_access_key = base-secret\n"
                   f"role_arn = {ROLE}\nsource_profile = default\n")
    got = machine.source().get()
    assert got["key_id"] == services.given[0]["AccessKeyId"]
    assert 3500000 < got["lives_ms"] <= 3600000  # counted by the service's clock, too
    assert len(services.requests) == 2


def test_a_program_prints_credentials(machine):
    made = {"Version": 1, "AccessKeyId": "AKIAPROG", "SecretAccessKey": "prog-secret",
            "SessionToken": "prog-token", "Expiration": time_text(time.time() + 1800)}
    answer = machine.write("an answer.json", json.dumps(made))
    machine.config(f"[default]\ncredential_process = cat \"{answer}\"\n")
    source = machine.source()
    got = source.get()
    assert (got["key_id"], got["secret"], got["token"]) == ("AKIAPROG", "prog-secret", "prog-token")
    assert 1700000 < got["lives_ms"] <= 1800000
    assert source.look()["may_run"] is True
    machine.has_keys()
    assert machine.source().look()["may_run"] is False


def test_a_container_sends_its_token_which_a_file_gives_first(machine, services):
    services.container_token = "from the file"
    machine.has_container("from the variable")
    path = machine.write("container-token", "from the file\n")
    machine.environment["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] = str(path)
    source = machine.source()
    first = source.get()
    assert first["token"] == services.given[0]["Token"]
    services.container_token = "rotated"
    path.write_text("rotated")
    source.tell("renew", number=first["number"])
    assert source.key() == services.given[1]["AccessKeyId"]


def test_a_redirect_is_not_followed_with_secrets(machine, services):
    other = AwsServices()
    try:
        machine.has_container("my-container-token")
        services.container_token = "my-container-token"
        services.answers = [(307, {"Location": other.url + "/v1/credentials"}, b"")]
        assert "307" in machine.source().error()
        machine.has_web_identity()
        services.answers = [(308, {"Location": other.url + "/"}, b"")]
        assert "308" in machine.source().error()
        assert other.requests == []
    finally:
        other.stop()


def test_an_instance_gives_its_region_when_nothing_else_does(machine):
    machine.has_instance()
    del machine.environment["AWS_REGION"]
    source = machine.source()
    source.get()
    assert source.look()["region"] == "eu-north-1"
    machine.environment["AWS_REGION"] = "us.evil.example/"
    source = machine.source()
    source.get()
    assert source.look()["region"] == "eu-north-1"
    assert machine.source(region="me-south-1").look()["region"] == "me-south-1"


@pytest.mark.parametrize("url", ["http://sts.example", "ftp://127.0.0.1", "http://127.0.0.1/path",
                                 "http://user:word@127.0.0.1", "http://127.0.0.1.example",
                                 "http://localhost.example"])
def test_where_credentials_are_asked_is_checked(machine, services, url):
    machine.has_web_identity()
    machine.environment["AWS_ENDPOINT_URL_STS"] = url
    error = machine.source().error()
    assert "AWS_ENDPOINT_URL_STS" in error and "word" not in error, error
    assert services.requests == []


# ---- what fails for a while ----

@pytest.mark.parametrize("fault", [(500, {}, b""), (503, {}, b"<a"), (429, {}, b""),
                                   AwsServices.sts_error(400, "IDPCommunicationError", "later"),
                                   AwsServices.sts_error(400, "Throttling", "later")])
def test_a_passing_fault_is_asked_again(machine, services, fault):
    machine.has_web_identity()
    services.answers = [fault, fault]
    assert machine.source().key() == services.given[0]["AccessKeyId"]
    assert len(services.requests) == 3


@pytest.mark.parametrize("answer, text", [
    (b"", "XML, line 1"), (b"<a>", "XML, line 1"),
    (b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "document type declaration"),
    (b"<a>" * 20 + b"</a>" * 20, "too deeply"), (b"<a/>", "there is no key id"),
    (b"x" * 300000, "")])
def test_a_hostile_token_service_is_refused(machine, services, answer, text):
    machine.has_web_identity()
    services.answers = [(200, {}, answer)] * 3
    error = machine.source().error()
    assert services.url in error and text in error, error


def test_what_the_token_service_says_holds_no_secret(machine, services):
    machine.has_web_identity("a-very-secret-token")
    error = machine.source().error()  # the service repeats the token in its sentence
    assert "InvalidIdentityToken: not valid: *******************" in error


def test_a_caller_waits_no_longer_than_it_wants(machine, services):
    machine.has_web_identity()
    gate = threading.Event()
    services.before = lambda request: gate.wait(30)
    source = machine.source()
    got = source.get(ms=200)
    assert got["kind"] == "timeout" and 200 <= got["ms"] < 3000, got
    gate.set()
    assert source.key() == services.given[0]["AccessKeyId"]
    assert len(services.requests) == 1  # the question that was under way


def test_many_callers_cause_one_question(machine, services):
    machine.has_web_identity()
    services.before = lambda request: time.sleep(0.3)
    source = machine.source()
    all_got = source.ask("gets", count=32)["all"]
    assert {got["key_id"] for got in all_got} == {services.given[0]["AccessKeyId"]}
    assert len(services.requests) == 1


def test_a_failure_is_shared_for_a_while_and_then_asked_anew(machine, services):
    path = machine.has_web_identity("another-token")
    source = machine.source()
    assert "InvalidIdentityToken" in source.error()
    asked = len(services.requests)
    assert all("InvalidIdentityToken" in got["error"]
               for got in source.ask("gets", count=16)["all"])
    assert len(services.requests) == asked
    path.write_text("web-token-1")
    wait_until(lambda: "key_id" in source.get(), "the source works again")
    assert source.log().count("no aws credentials") == 1


# ---- renewal ----

def test_credentials_that_live_shortly_are_renewed_at_half_their_life(machine, services):
    machine.has_web_identity()
    services.life = 8
    source = machine.source()
    assert source.key() == services.given[0]["AccessKeyId"]
    began = time.monotonic()
    wait_until(lambda: len(services.given) == 2, "the second ones")  # nobody asks meanwhile
    assert 2 < time.monotonic() - began < 7.9
    wait_until(lambda: source.key() == services.given[-1]["AccessKeyId"], "they are given")


def test_old_credentials_are_given_while_they_are_valid_and_no_new_ones_come(machine, services):
    machine.has_web_identity()
    services.life = 6
    source = machine.source()
    first, began = source.key(), time.monotonic()
    services.web_tokens = set()
    wait_until(lambda: services.count("AssumeRoleWithWebIdentity") > 1, "another question")
    if time.monotonic() - began < 4.5:
        assert source.key() == first
    wait_until(lambda: "InvalidIdentityToken" in source.get().get("error", ""), "they have ended")
    assert time.monotonic() - began > 4.5


def test_refused_credentials_are_replaced_once_and_the_file_is_read_again(machine):
    machine.credentials("[default]\naws_access_key_id = AKIAONE\naws_secret_access_key = s1\n")
    source = machine.source()
    first = source.get()
    machine.credentials("[default]\naws_access_key_id = AKIATWO\naws_secret_access_key = s2\n")
    assert source.key() == "AKIAONE"
    source.tell("renew", number=first["number"])
    second = source.get()
    assert second["key_id"] == "AKIATWO"
    machine.credentials("[default]\naws_access_key_id = AKIATHREE\naws_secret_access_key = s3\n")
    source.tell("renew", number=first["number"])  # these are gone already
    assert source.key() == "AKIATWO"
    source.tell("renew", number=second["number"])
    assert source.key() == "AKIATHREE"


def test_a_bucket_that_refuses_everything_does_not_cause_a_question_with_each_request(machine):
    machine.has_keys()
    source = machine.source()
    began = time.monotonic()
    for _ in range(30):
        source.tell("renew", number=source.get()["number"])
    allowed = 3 + math.log2(2 + time.monotonic() - began)
    assert 3 <= source.get()["number"] <= 1 + allowed


def test_a_source_ends_while_it_is_asking(machine, services):
    machine.has_web_identity()
    gate = threading.Event()
    services.before = lambda request: gate.wait(30)
    source = machine.source()
    source.get(ms=100)
    machine.started.remove(source)
    began = time.monotonic()
    source.stop()
    gate.set()
    assert time.monotonic() - began < 10


def test_every_row_of_the_table_of_broken_sources_is_tried():
    text = pathlib.Path(__file__).read_text(encoding="utf-8")
    assert len(BROKEN) == text.count("\ndef break_") > 20


# ---- with a bucket ----

@pytest.fixture
def trusted(services, object_store):
    """A store that knows the credentials that the services give, and no others."""
    def learn(made):
        object_store.identities[made["AccessKeyId"]] = Identity(made["SecretAccessKey"],
                                                                made["Token"])

    object_store.identities.clear()
    services.on_made = learn
    return object_store


@pytest.mark.parametrize("has, words", [
    (Machine.has_web_identity, "web identity "), (Machine.has_container, "container 127.0.0.1:"),
    (Machine.has_instance, "instance http://127.0.0.1:")])
def test_a_bucket_is_asked_with_what_a_source_gives(machine, trusted, check_bucket, has, words):
    has(machine)
    status, report, _ = check_bucket(trusted, environment=machine.environment)
    assert status == 0 and report["reads"] and report["writes"], report
    assert report["credentials"].startswith(words)
    used = {request.identity for request in trusted.requests}
    assert used == {machine.services.given[0]["AccessKeyId"]}


def test_nothing_is_sent_to_the_bucket_while_the_source_is_broken(machine, trusted, start_tarn,
                                                                  services):
    path = machine.has_web_identity("another-token")
    tarn = start_tarn([], bucket=trusted.settings(), environment=machine.environment)
    tarn.logged("no aws credentials")  # the janitor's first look
    assert f"web identity {path}" in tarn.log() and "InvalidIdentityToken" in tarn.log()
    assert trusted.requests == [] and services.count("/latest/") == 0
    assert tarn.get("/readyz").status == 200
    for secret in services.all_secrets():
        assert secret not in tarn.log()
