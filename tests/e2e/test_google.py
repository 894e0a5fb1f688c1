"""Google credentials: every source and every command, against services as strict as Google's."""

import base64
import io
import json
import os
import pathlib
import re
import resource
import signal
import stat
import subprocess
import tarfile
import tempfile
import time

import pytest

from google_emulator import AUDIENCE, CLOUD_PLATFORM, Google, Key, Refused, TlsFront, api_error, \
    oauth_error
from kit import pod
from kit.client import at_once
from kit.containers import needs
from kit.content import KIB, digest_of, noise
from kit.processes import wait_until
from kit.tarn import SANITIZER_REPORT, bare_environment

def tar_of(name, content):
    """A layer with one file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


REPOSITORY = "project/repo/app"
HOST = "us-docker.pkg.dev"
IMAGE = f"{HOST}/{REPOSITORY}:1"
LAYER = tar_of("noise", noise(300 * KIB))
CONFIG = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {
    "type": "layers", "diff_ids": [digest_of(LAYER)]}}).encode()
ACTOR = "actor@project.iam.gserviceaccount.com"
MIDDLE = "middle@project.iam.gserviceaccount.com"
SUBJECT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJwb2QifQ.c2lnbmF0dXJlLW9mLXRoZS1jbHVzdGVy"
NOT_FOUND = "credentials not found in native keychain"


# ---- fixtures


@pytest.fixture
def google(key):
    one = Google(key)
    one.subjects[SUBJECT] = "pod"
    one.may_act_as = {ACTOR: {"pod", one.account, "person@example.com", MIDDLE, one.node},
                      MIDDLE: {one.account}}
    one.add_image(REPOSITORY, "1", CONFIG, [LAYER])
    yield one
    one.stop()
    assert one.problems == []


class Machine:
    """An empty home directory; the commands run there."""

    def __init__(self, program, google, folder):
        self.program, self.google, self.folder = program, google, folder
        folder.mkdir()
        self.file = folder / "credentials.json"
        self.environment = bare_environment(folder)
        self.environment["ASAN_OPTIONS"] = self.environment.get("ASAN_OPTIONS", "")
        self.helper = folder / "bin" / "docker-credential-tarn"
        self.helper.parent.mkdir()
        self.helper.symlink_to(program)

    def has(self, document, path=None):
        """Gives the machine a credential file, in the first place of the search order."""
        path = path or self.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        path.chmod(0o600)
        if path == self.file:
            self.environment["GOOGLE_APPLICATION_CREDENTIALS"] = str(path)

    def has_metadata(self):
        self.environment["GCE_METADATA_HOST"] = self.google.host

    def run(self, *arguments, stdin="", program=None, secret=True):
        done = subprocess.run([str(program or self.program), *map(str, arguments)], input=stdin,
                              capture_output=True, text=True, env=self.environment, timeout=60,
                              check=False, cwd=self.folder)
        assert not SANITIZER_REPORT.search(done.stderr), done.stderr
        if secret:
            for one in self.google.all_secrets():
                assert one not in done.stderr, done.stderr
        return done

    def token(self, *arguments):
        return self.run("print-access-token", *arguments)

    def docker(self, action, stdin=""):
        return self.run(action, stdin=stdin, program=self.helper)

    def kubelet(self, image=IMAGE, version="v1", **more):
        return self.run("kubelet-credential-provider", stdin=json.dumps({
            "kind": "CredentialProviderRequest",
            "apiVersion": f"credentialprovider.kubelet.k8s.io/{version}", "image": image, **more}))


@pytest.fixture
def machine(program, google, tmp_path):
    return Machine(program, google, tmp_path / "machine")


@pytest.fixture
def serve(start_tarn, google, machine):
    """A tarn for the emulated registry, with the credentials of the machine."""
    def start(credentials="google", **more):
        environment = {name: value for name, value in machine.environment.items()
                       if name not in ("PATH", "ASAN_OPTIONS")}
        return start_tarn([{"host": HOST, "url": google.url, "default": True, "tag_ttl": "0",
                            "credentials": credentials, **more}], environment)
    return start


# ---- every source, and whom its token names

def user(machine, google):
    machine.has(google.authorized_user())
    return "person@example.com"


def workforce_user(machine, google):
    machine.has(google.workforce_user())
    return "person@example.com"


def well_known_file(machine, google):
    machine.has(google.authorized_user(), machine.folder / ".config" / "gcloud" /
                "application_default_credentials.json")
    return "person@example.com"


def gcloud_folder(machine, google):
    machine.environment["CLOUDSDK_CONFIG"] = str(machine.folder / "sdk")
    machine.has(google.service_account(), machine.folder / "sdk" /
                "application_default_credentials.json")
    return google.account


def service_account(machine, google):
    machine.has(google.service_account())
    return google.account


def metadata(machine, google):
    machine.has_metadata()
    return google.node


def subject_file(machine, content=SUBJECT + "\n"):
    path = machine.folder / "subject-token"
    path.write_text(content)
    return path


def federation_file(machine, google):
    machine.has(google.external_account({"file": str(subject_file(machine))}))
    return "pod"


def federation_json_file(machine, google):
    path = subject_file(machine, json.dumps({"access_token": SUBJECT}))
    machine.has(google.external_account({"file": str(path), "format": {
        "type": "json", "subject_token_field_name": "access_token"}}))
    return "pod"


def federation_saml(machine, google):
    machine.has(google.external_account({"file": str(subject_file(machine))}, subject_token_type=
                                        "urn:ietf:params:oauth:token-type:saml2"))
    return "pod"


def federation_url(machine, google):
    machine.has(google.external_account({
        "url": f"{google.url}/subject?audience=x", "headers":
            {"Authorization": "bearer the-key-of-the-job"},
        "format": {"type": "json", "subject_token_field_name": "value"}}))
    return "pod"


def program_file(machine, body):
    path = machine.folder / "identity"
    path.write_text("#!/bin/sh\n" + body)
    path.chmod(0o700)
    machine.environment["GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES"] = "1"
    return path


def program_answer(**more):
    return json.dumps({"version": 1, "success": True, "id_token": SUBJECT,
                       "token_type": "urn:ietf:params:oauth:token-type:id_token", **more})


def federation_program(machine, google):
    path = program_file(machine, f"""
[ "$GOOGLE_EXTERNAL_ACCOUNT_AUDIENCE" = "{AUDIENCE}" ] || exit 3
[ "$GOOGLE_EXTERNAL_ACCOUNT_IMPERSONATED_EMAIL" = "{ACTOR}" ] || exit 4
echo '{program_answer()}'
""")
    machine.has(google.external_account({"executable": {"command": f"{path} a b"}}, ACTOR))
    return ACTOR


def federation_impersonated(machine, google):
    machine.has(google.external_account({"file": str(subject_file(machine))}, ACTOR))
    return ACTOR


def impersonated_user(machine, google):
    machine.has(google.impersonated(ACTOR, google.authorized_user()))
    return ACTOR


def impersonated_through_a_delegate(machine, google):
    google.may_act_as[ACTOR] = {MIDDLE}
    machine.has(google.impersonated(ACTOR, google.service_account(), delegates=[
        f"projects/-/serviceAccounts/{MIDDLE}"]))
    return ACTOR


SOURCES = [user, workforce_user, well_known_file, gcloud_folder, service_account, metadata,
           federation_file, federation_json_file, federation_saml, federation_url, federation_program,
           federation_impersonated, impersonated_user, impersonated_through_a_delegate]


def source_names(source):
    return source.__name__


every_source = pytest.mark.parametrize("source", SOURCES, ids=source_names)


@every_source
def test_each_source_by_the_commands(machine, google, source):
    who = source(machine, google)
    done = machine.token()
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.endswith("\n") and done.stdout.count("\n") == 1
    assert google.holder(done.stdout.strip())[0] == who

    done = machine.docker("get", f"https://{HOST}/\n")
    assert done.returncode == 0, done.stdout
    answer = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1
    assert list(answer) == ["ServerURL", "Username", "Secret"]
    assert answer["ServerURL"] == f"https://{HOST}/"
    assert answer["Username"] == "oauth2accesstoken"
    assert google.holder(answer["Secret"])[0] == who

    for version in ("v1", "v1beta1"):
        done = machine.kubelet(version=version)
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        assert answer["kind"] == "CredentialProviderResponse"
        assert answer["apiVersion"] == f"credentialprovider.kubelet.k8s.io/{version}"
        assert answer["cacheKeyType"] == "Registry"
        minutes, seconds = re.fullmatch(r"(\d+)m(\d+)s", answer["cacheDuration"]).groups()
        assert 3000 < int(minutes) * 60 + int(seconds) <= google.lifetime
        assert list(answer["auth"]) == [HOST]
        assert answer["auth"][HOST]["username"] == "oauth2accesstoken"
        assert google.holder(answer["auth"][HOST]["password"])[0] == who


@every_source
def test_each_source_through_serve(machine, google, serve, source):
    who = source(machine, google)
    google.readers = {who}
    tarn = serve()
    assert tarn.manifest(REPOSITORY, "1").status == 200, tarn.manifest(REPOSITORY, "1")
    assert tarn.blob(REPOSITORY, digest_of(LAYER)).body == LAYER
    pages = tarn.get("/metrics").body.decode() + tarn.log()
    for secret in google.all_secrets():
        assert secret not in pages


# ---- the search order

def test_the_first_present_source_decides_and_is_never_skipped(machine, google):
    metadata(machine, google)
    assert google.holder(machine.token().stdout.strip())[0] == google.node
    well_known_file(machine, google)
    assert google.holder(machine.token().stdout.strip())[0] == "person@example.com"
    service_account(machine, google)
    assert google.holder(machine.token().stdout.strip())[0] == google.account
    machine.file.write_text("{")
    done = machine.token()
    assert (done.returncode, done.stdout) == (1, "")
    assert str(machine.file) in done.stderr
    machine.file.unlink()
    assert str(machine.file) in machine.token().stderr
    machine.environment["GOOGLE_APPLICATION_CREDENTIALS"] = ""
    assert google.holder(machine.token().stdout.strip())[0] == "person@example.com"


def test_gcloud_when_it_is_named(machine, google, serve):
    token = google.give_access("person@example.com", [CLOUD_PLATFORM])
    end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3000))
    program = machine.folder / "bin" / "gcloud"
    program.write_text("#!/bin/sh\n[ \"$*\" = 'config config-helper --format=json' ] || exit 2\n"
                       f"echo '{json.dumps({'credential': {'access_token': token, 'token_expiry': end}})}'\n")
    program.chmod(0o700)
    machine.environment["PATH"] = f"{program.parent}:{machine.environment['PATH']}"
    os.environ["PATH"], old = machine.environment["PATH"], os.environ["PATH"]
    try:
        tarn = serve({"google": {"gcloud": True}})
    finally:
        os.environ["PATH"] = old
    assert tarn.manifest(REPOSITORY, "1").status == 200
    assert token not in tarn.log()


def test_a_configuration_names_a_source(machine, google, serve):
    machine.has_metadata()
    named = machine.folder / "named.json"
    machine.has(google.service_account(), named)
    machine.environment["CLOUDSDK_API_ENDPOINT_OVERRIDES_IAMCREDENTIALS"] = google.url + "/"
    google.readers = {ACTOR}
    tarn = serve({"google": {"file": str(named), "impersonate": ACTOR}})
    assert tarn.manifest(REPOSITORY, "1").status == 200
    assert google.count("metadata") == 0


# ---- print-access-token

def test_no_source_says_what_to_do(machine):
    done = machine.token()
    assert (done.returncode, done.stdout) == (1, "")
    assert "GOOGLE_APPLICATION_CREDENTIALS" in done.stderr
    assert "gcloud auth application-default login" in done.stderr
    assert done.stderr.count("\n") <= 3


@pytest.mark.parametrize("arguments", [["--nonsense"], ["operand"], ["--scopes="],
                                       ["--scopes=a,,b"], ["--impersonate-service-account="],
                                       ["--impersonate-service-account"]])
def test_bad_usage(machine, arguments):
    done = machine.token(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr


def test_impersonation_and_scopes_by_flag(machine, google):
    service_account(machine, google)
    machine.environment["CLOUDSDK_API_ENDPOINT_OVERRIDES_IAMCREDENTIALS"] = google.url + "/"
    done = machine.token(f"--impersonate-service-account={ACTOR}", "--scopes=a,b")
    assert done.returncode == 0, done.stderr
    assert google.holder(done.stdout.strip()) == (ACTOR, ["a", "b"])
    done = machine.token("--impersonate-service-account=other@p.iam.gserviceaccount.com")
    assert (done.returncode, done.stdout) == (1, "")
    assert "roles/iam.serviceAccountTokenCreator" in done.stderr
    done = machine.token("--scopes=c")
    assert google.holder(done.stdout.strip()) == (google.account, ["c"])


def test_the_quota_project_is_named_to_iam_alone(machine, google):
    machine.has(google.impersonated(ACTOR, google.authorized_user(quota_project_id="payer")))
    assert machine.token().returncode == 0
    assert google.last("iam")["headers"]["x-goog-user-project"] == "payer"
    assert "x-goog-user-project" not in google.last("oauth")["headers"]


FATAL = [
    ("oauth", lambda: oauth_error(400, "invalid_grant", "Invalid grant: account not found")),
    ("oauth", lambda: oauth_error(401, "unauthorized_client", "Client is unauthorized")),
    ("oauth", lambda: oauth_error(400, "invalid_scope", "Invalid scope")),
    ("oauth", lambda: Refused(403, "<html>proxy</html>")),
    ("oauth", lambda: Refused(404, "nowhere")),
]
RETRYABLE = [
    *[("oauth", lambda status=status: Refused(status, "<html>oops</html>"))
      for status in (408, 429, 500, 502, 503, 504)],
    *[("oauth", lambda word=word: oauth_error(400, word, "later"))
      for word in ("server_error", "temporarily_unavailable", "internal_failure")],
    ("oauth", lambda: Refused(400, {"error": "x", "error_description": "server_error"})),
]


@pytest.mark.parametrize("number", range(len(FATAL)))
def test_fatal_refusals_are_final(machine, google, number):
    kind, refusal = FATAL[number]
    service_account(machine, google)
    google.fail[kind] = [refusal()]
    done = machine.token()
    assert (done.returncode, done.stdout) == (1, "")
    assert str(machine.file) in done.stderr and done.stderr.count("\n") <= 3
    assert google.count(kind) == 1


@pytest.mark.parametrize("number", range(len(RETRYABLE)))
def test_passing_refusals_are_tried_again(machine, google, number):
    kind, refusal = RETRYABLE[number]
    service_account(machine, google)
    google.fail[kind] = [refusal(), refusal()]
    assert machine.token().returncode == 0
    assert google.count(kind) == 3
    google.fail[kind] = [refusal(), refusal(), refusal()]
    assert machine.token().returncode == 1
    assert google.count(kind) == 6


def test_the_metadata_server_is_tried_five_times(machine, google):
    metadata(machine, google)
    google.fail["metadata"] = [Refused(503, "starting")] * 4
    assert machine.token().returncode == 0
    assert google.count("metadata") == 5


def test_sts_and_iam_are_tried_again(machine, google):
    federation_impersonated(machine, google)
    google.fail["sts"] = [Refused(503, "")]
    google.fail["iam"] = [api_error(429, "RESOURCE_EXHAUSTED", "slow down")]
    assert machine.token().returncode == 0


def test_a_wrong_clock_is_told(machine, google):
    service_account(machine, google)
    google.clock_offset = 5  # within the bounds of both sides
    assert machine.token().returncode == 0
    google.clock_offset = -5  # ours is ahead
    assert machine.token().returncode == 0
    google.clock_offset = 7200
    assert "check this machine's clock" in machine.token().stderr


def test_a_wrong_clock_does_not_spoil_impersonation(machine, google):
    federation_impersonated(machine, google)
    for offset in (-7200, 7200):
        google.clock_offset = offset
        report = json.loads(machine.run("whoami", "--json", secret=False).stdout)
        assert 3000 < report["expires_in"] <= 3600


def test_a_wrong_key_is_told(machine, google, tmp_path_factory):
    other = Key(tmp_path_factory.mktemp("other"))
    machine.has(google.service_account(private_key=other.pem))
    assert "Invalid JWT Signature" in machine.token().stderr


def test_aws_is_refused_by_name(machine, google):
    machine.has(google.external_account(
        {"environment_id": "aws1", "region_url": "http://169.254.169.254/zone"},
        subject_token_type="urn:ietf:params:aws:token-type:aws4_request"))
    done = machine.token()
    assert done.returncode == 1 and "AWS" in done.stderr and str(machine.file) in done.stderr


def test_executables_need_permission(machine, google):
    federation_program(machine, google)
    del machine.environment["GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES"]
    done = machine.token()
    assert done.returncode == 1
    assert "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES=1" in done.stderr


def test_an_executables_output_file_is_used_until_its_end(machine, google):
    out = machine.folder / "cached"
    path = program_file(machine, f"""
echo '{program_answer(expiration_time=int(time.time()) + 600)}' | tee "$GOOGLE_EXTERNAL_ACCOUNT_OUTPUT_FILE"
echo ran >> {machine.folder}/runs
""")
    machine.has(google.external_account({"executable": {"command": str(path), "output_file":
                                                        str(out)}}))
    runs = machine.folder / "runs"
    assert machine.token().returncode == 0
    assert machine.token().returncode == 0
    assert runs.read_text() == "ran\n"
    out.write_text(program_answer(expiration_time=int(time.time()) - 1))
    assert machine.token().returncode == 0
    out.write_text("nonsense")
    assert machine.token().returncode == 0
    assert runs.read_text() == "ran\n" * 3


def test_an_executable_that_fails_or_hangs_is_ended(machine, google):
    path = program_file(machine, "echo 'no identity today' >&2; exit 7\n")
    machine.has(google.external_account({"executable": {"command": str(path), "timeout_millis":
                                                        5000}}))
    done = machine.token()
    assert done.returncode == 1 and "no identity today" in done.stderr and "exit 7" in done.stderr
    program_file(machine, "sleep 100\n")
    started = time.monotonic()
    assert machine.token().returncode == 1
    assert time.monotonic() - started < 15


@pytest.mark.parametrize("change", [
    {"token_uri": "https://oauth2.googleapis.com.evil.example/token"},
    {"token_uri": "http://oauth2.googleapis.com/token"}, {"token_uri": "ftp://127.0.0.1/"}])
def test_credentials_go_to_google_alone(machine, google, change):
    machine.has(google.service_account(**change))
    done = machine.token()
    assert done.returncode == 1 and "token_uri" in done.stderr


def test_a_readable_key_file_gets_a_warning(machine, google):
    service_account(machine, google)
    machine.file.chmod(0o644)
    done = machine.token()
    assert done.returncode == 0 and str(machine.file) in done.stderr and "chmod" in done.stderr
    federation_file(machine, google)
    machine.file.chmod(0o644)
    assert machine.token().stderr == ""


def test_help_shows_no_secret(machine, google):
    service_account(machine, google)
    for command in ("print-access-token", "whoami", "configure-docker",
                    "kubelet-credential-provider"):
        done = machine.run(command, "--help")
        assert done.returncode == 0 and command in done.stdout and done.stderr == ""


def dumps_core(program, arguments, environment, ready):
    """Whether the program leaves a core dump when it is killed by a signal that makes one."""
    def no_limit():
        resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)

    child = subprocess.Popen([program, *arguments], env=environment, stdout=subprocess.DEVNULL,
                             stdin=subprocess.DEVNULL, preexec_fn=no_limit,
                             cwd=environment["HOME"])
    wait_until(ready, "the program at work")
    child.send_signal(signal.SIGABRT)  # a job in the background may ignore SIGQUIT
    _, status = os.waitpid(child.pid, 0)
    child.returncode = status
    return os.WCOREDUMP(status)


def test_no_core_dump_holds_a_secret(machine, google):
    service_account(machine, google)
    try:
        if not dumps_core("/bin/sleep", ["100"], machine.environment,
                          lambda: time.sleep(0.3) or True):
            pytest.skip("this machine writes no core dumps")
    except (OSError, ValueError):
        pytest.skip("core dumps are limited here")
    google.delay["oauth"] = 3
    assert not dumps_core(machine.program, ["print-access-token"], machine.environment,
                          lambda: google.count("oauth"))


# ---- whoami

def test_whoami_tells_the_whole_way(machine, google):
    metadata(machine, google)
    done = machine.run("whoami", google.host)
    assert done.returncode == 0, done.stdout
    for words in ("metadata", google.node, "GOOGLE_APPLICATION_CREDENTIALS: not set",
                  "application_default_credentials.json: no such file", "GCE_METADATA_HOST: used",
                  "accepts it"):
        assert words in done.stdout
    for secret in google.all_secrets():
        assert secret not in done.stdout
    report = json.loads(machine.run("whoami", "--json", google.host).stdout)
    assert report["source"] == "metadata"
    assert report["account"] == google.node
    assert 3500 < report["expires_in"] <= 3599
    assert [step["finding"] for step in report["looked_at"]] == ["not set", "no such file", "used"]
    assert report["registry"] == {"host": google.host, "accepted": True, "message": "status 200"}


def test_whoami_tells_what_is_wrong(machine, google):
    report = json.loads(machine.run("whoami", "--json").stdout)
    assert report["source"] is None and "error" not in report
    machine.has({"type": "nonsense"})
    done = machine.run("whoami", "--json")
    assert done.returncode == 1
    assert str(machine.file) in json.loads(done.stdout)["error"]
    service_account(machine, google)
    done = machine.run("whoami", "evil.example")
    assert done.returncode == 1 and "is not a registry of Google" in done.stdout
    assert machine.run("whoami", "a", "b").returncode == 2
    assert machine.run("whoami", "--nonsense").returncode == 2


def test_whoami_without_a_service_account(machine, google):
    google.metadata_account = False
    metadata(machine, google)
    done = machine.run("whoami")
    assert done.returncode == 1
    assert "it responds, but has no service account" in done.stdout


# ---- docker-credential-tarn

@pytest.mark.parametrize("host", ["gcr.io", "eu.gcr.io", "US-docker.pkg.dev:443",
                                  "https://us-central1-docker.pkg.dev/v2/",
                                  "docker.us-east1.rep.pkg.dev"])
def test_the_helper_knows_googles_hosts(machine, google, host):
    user(machine, google)
    answer = json.loads(machine.docker("get", host).stdout)
    assert answer["ServerURL"] == host


@pytest.mark.parametrize("host", ["https://index.docker.io/v1/", "ghcr.io", "evilgcr.io",
                                  "us-npm.pkg.dev", "gcr.io.evil.com", "gcr.io:5000"])
def test_the_helper_has_nothing_for_others(machine, google, host):
    user(machine, google)
    done = machine.docker("get", host)
    assert (done.returncode, done.stdout) == (1, NOT_FOUND + "\n")
    assert google.requests == []


def test_the_helper_without_a_source_or_with_a_broken_one(machine, google):
    done = machine.docker("get", HOST)
    assert (done.returncode, done.stdout) == (1, NOT_FOUND + "\n")
    done = machine.docker("get", " \n")
    assert (done.returncode, done.stdout) == (1, "no credentials server URL\n")
    machine.has("{")
    done = machine.docker("get", HOST)
    assert done.returncode == 1 and str(machine.file) in done.stdout and done.stderr == ""


def test_the_helpers_other_actions(machine):
    assert machine.docker("list", "unused").stdout == "{}\n"
    stored = machine.docker("store", '{"ServerURL":"a","Username":"b","Secret":"c-secret"}')
    assert stored.returncode == 1 and stored.stdout and "c-secret" not in stored.stdout
    erased = machine.docker("erase", HOST)
    assert (erased.returncode, erased.stdout, erased.stderr) == (0, "", "")
    assert re.fullmatch(r"docker-credential-tarn \(tarn\) \d+\.\d+\.\d+\n",
                        machine.docker("version").stdout)
    done = machine.docker("dance")
    assert (done.returncode, done.stdout) == (1, "docker-credential-tarn: unknown action: dance\n")
    done = machine.run(program=machine.helper)
    assert done.returncode == 1 and "Usage" in done.stdout


# ---- the kubelet

def test_the_kubelet_gets_nothing_for_others_or_without_a_source(machine, google):
    for image in ("ghcr.io/a/b:1", "busybox", "localhost:5000/a"):
        user(machine, google)
        done = machine.kubelet(image)
        assert json.loads(done.stdout)["auth"] == {} and done.returncode == 0
        assert json.loads(done.stdout)["cacheDuration"] == "0s"
    del machine.environment["GOOGLE_APPLICATION_CREDENTIALS"]
    done = machine.kubelet()
    assert json.loads(done.stdout)["auth"] == {} and done.returncode == 0
    assert google.requests == []


def test_the_kubelet_never_caches_past_the_end(machine, google):
    user(machine, google)
    google.lifetime = 200
    answer = json.loads(machine.kubelet().stdout)
    assert answer["cacheDuration"] == "0s" and HOST in answer["auth"]


@pytest.mark.parametrize("request_text", [
    "", "nonsense", "[]", "{}", '{"kind":"CredentialProviderRequest"}',
    '{"kind":"Other","apiVersion":"credentialprovider.kubelet.k8s.io/v1","image":"gcr.io/a/b"}',
    '{"kind":"CredentialProviderRequest","apiVersion":"credentialprovider.kubelet.k8s.io/v2",'
    '"image":"gcr.io/a/b"}',
    '{"kind":"CredentialProviderRequest","apiVersion":"credentialprovider.kubelet.k8s.io/v1"}',
    '{"kind":"CredentialProviderRequest","apiVersion":"credentialprovider.kubelet.k8s.io/v1",'
    '"image":""}'])
def test_the_kubelets_bad_requests(machine, google, request_text):
    user(machine, google)
    done = machine.run("kubelet-credential-provider", stdin=request_text)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr and google.requests == []


def test_the_kubelets_broken_source(machine):
    machine.has({"type": "service_account"})
    done = machine.kubelet()
    assert (done.returncode, done.stdout) == (1, "")
    assert str(machine.file) in done.stderr


def test_a_pods_own_token_is_the_subject(machine, google):
    """KEP-4412: only if the pod opts in, and then never the node's credentials instead."""
    machine.has(google.external_account({"file": "/nonexistent"}, ACTOR))
    opted = {"iam.gke.io/enable-wi-image-pull": "true"}
    done = machine.kubelet(serviceAccountToken=SUBJECT, serviceAccountAnnotations=opted)
    assert done.returncode == 0, done.stderr
    password = json.loads(done.stdout)["auth"][HOST]["password"]
    assert google.holder(password)[0] == ACTOR
    assert machine.kubelet(serviceAccountToken=SUBJECT).returncode == 1  # the file's own, then
    assert machine.kubelet(serviceAccountToken="forged", serviceAccountAnnotations=opted
                           ).returncode == 1
    assert machine.kubelet(serviceAccountAnnotations=opted).returncode == 1
    service_account(machine, google)
    done = machine.kubelet(serviceAccountToken=SUBJECT, serviceAccountAnnotations=opted)
    assert (done.returncode, done.stdout) == (1, "")
    assert "external_account" in done.stderr


# ---- configure-docker

@pytest.fixture
def docker_config(machine):
    return machine.folder / ".docker" / "config.json"


def test_configure_docker_makes_a_config(machine, docker_config):
    done = machine.run("configure-docker")
    assert done.returncode == 0 and done.stdout == f"{docker_config}\n"
    helpers = json.loads(docker_config.read_text())["credHelpers"]
    assert set(helpers.values()) == {"tarn"}
    for host in ("gcr.io", "marketplace.gcr.io", "us-docker.pkg.dev", "us-west8-docker.pkg.dev",
                 "docker.us-west8.rep.pkg.dev", "europe-north2-docker.pkg.dev"):
        assert host in helpers
    assert "docker.europe-north2.rep.pkg.dev" not in helpers
    assert stat.S_IMODE(docker_config.stat().st_mode) == 0o600
    assert stat.S_IMODE(docker_config.parent.stat().st_mode) == 0o700


OLD = ('{"zeta": [1, 2.5, {"é": "\\u00e9\\n"}], "auths": {"b": {"auth": "eDp5"}, "a": {}}, '
       '"credHelpers": {"ghcr.io": "x", "gcr.io": "gcr"}, "HttpHeaders": {}, "alpha": null}')


def test_configure_docker_keeps_everything_else(machine, docker_config):
    docker_config.parent.mkdir()
    docker_config.write_text(OLD)
    docker_config.chmod(0o640)
    done = machine.run("configure-docker", "--registries=gcr.io,us-docker.pkg.dev")
    assert done.returncode == 0
    new = json.loads(docker_config.read_text())
    old = json.loads(OLD)
    assert list(new) == list(old) and list(new["auths"]) == ["b", "a"]
    assert new.pop("credHelpers") == {"ghcr.io": "x", "gcr.io": "tarn", HOST: "tarn"}
    old.pop("credHelpers")
    assert new == old
    assert stat.S_IMODE(docker_config.stat().st_mode) == 0o640
    assert os.listdir(docker_config.parent) == ["config.json"]

    before = docker_config.stat()
    done = machine.run("configure-docker", "--registries=us-docker.pkg.dev")
    assert done.returncode == 0 and done.stdout == f"{docker_config}\n"
    after = docker_config.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_configure_docker_follows_a_link(machine, docker_config):
    real = machine.folder / "dotfiles" / "docker.json"
    real.parent.mkdir()
    docker_config.parent.mkdir()
    docker_config.symlink_to("../dotfiles/docker.json")
    for content in (None, "{}"):
        if content:
            real.write_text(content)
        assert machine.run("configure-docker", "--registries=gcr.io").returncode == 0
        assert docker_config.is_symlink()
        assert json.loads(real.read_text())["credHelpers"] == {"gcr.io": "tarn"}


@pytest.mark.parametrize("content", ["", "{", "[]", '"x"', '{"credHelpers": []}',
                                     '{"credHelpers": "gcr", "auths": {"a": {"auth": "c2VjcmV0"'])
def test_configure_docker_leaves_what_it_cannot_read(machine, docker_config, content):
    docker_config.parent.mkdir()
    docker_config.write_text(content)
    done = machine.run("configure-docker")
    assert (done.returncode, done.stdout) == (1, "")
    assert str(docker_config) in done.stderr and "c2VjcmV0" not in done.stderr
    assert docker_config.read_text() == content


def test_configure_docker_dry_run_makes_nothing(machine, docker_config):
    done = machine.run("configure-docker", "--dry-run", "--registries=gcr.io")
    assert done.returncode == 0
    assert json.loads(done.stdout) == {"credHelpers": {"gcr.io": "tarn"}}
    assert not docker_config.parent.exists()
    machine.environment["DOCKER_CONFIG"] = str(machine.folder / "elsewhere")
    assert machine.run("configure-docker", "--registries=gcr.io").stdout == \
        f"{machine.folder}/elsewhere/config.json\n"
    assert machine.run("configure-docker", "--registries=a,,b").returncode == 2
    assert machine.run("configure-docker", "operand").returncode == 2


# ---- serving

def pulls(tarn):
    assert tarn.manifest(REPOSITORY, "1").status == 200, tarn.manifest(REPOSITORY, "1")


def test_a_crowd_causes_one_request_of_each_kind(machine, google, serve):
    federation_impersonated(machine, google)
    for kind in ("sts", "iam", "registry token"):
        google.delay[kind] = 0.3
    tarn = serve()
    replies = at_once(*[lambda: tarn.manifest(REPOSITORY, "1")] * 50)
    assert [reply.status for reply in replies] == [200] * 50
    assert {kind: google.count(kind) for kind in ("sts", "iam", "registry token")} == \
        {"sts": 1, "iam": 1, "registry token": 1}


def test_the_exchange_is_googles(machine, google, serve):
    user(machine, google)
    pulls(serve())
    request = google.last("registry token")
    assert f"scope=repository%3A{REPOSITORY.replace('/', '%2F')}%3Apull" in request["path"] or \
        f"scope=repository:{REPOSITORY}:pull" in request["path"]
    assert re.search(rf"service=({HOST}|{re.escape(google.host)}|{google.host.replace(':', '%3A')})",
                     request["path"])
    scheme, _, encoded = request["headers"]["Authorization"].partition(" ")
    assert scheme == "Basic"
    assert base64.b64decode(encoded).startswith(b"oauth2accesstoken:ya29.")


def test_without_a_source_public_repositories_work(google, serve):
    google.public = True
    pulls(serve())
    assert "Authorization" not in google.last("registry token")["headers"]


def test_without_a_source_private_ones_say_what_to_do(google, serve):
    reply = serve().manifest(REPOSITORY, "1")
    assert (reply.status, reply.code) == (403, "DENIED")
    assert "set credentials for" in reply.message


def test_a_refusal_by_the_registry_is_403_with_its_words(machine, google, serve):
    user(machine, google)
    google.readers = set()
    reply = serve().manifest(REPOSITORY, "1")
    assert (reply.status, reply.code) == (403, "DENIED")
    assert "artifactregistry.repositories.downloadArtifacts" in reply.message


def test_a_broken_source_is_502_and_cached_content_is_served(machine, google, serve):
    service_account(machine, google)
    tarn = serve()
    pulls(tarn)
    assert tarn.blob(REPOSITORY, digest_of(LAYER)).body == LAYER
    machine.file.write_text("{")
    google.revoke_registry_tokens()
    google.revoke_access()
    tarn.restart()
    pulls(tarn)
    assert tarn.blob(REPOSITORY, digest_of(LAYER)).body == LAYER
    reply = tarn.manifest(REPOSITORY, "other")
    assert (reply.status, reply.code) == (502, "UNAVAILABLE")
    assert f"credentials for {HOST} (google)" in reply.message
    assert str(machine.folder) not in reply.message
    tarn.logged(f"{re.escape(str(machine.file))}.*is no JSON")


@pytest.mark.parametrize("indent", [None, 2])
def test_a_credential_in_place_of_its_path_is_shown_to_nobody(machine, google, serve, indent):
    document = google.authorized_user()
    value = json.dumps(document, indent=indent)
    machine.environment["GOOGLE_APPLICATION_CREDENTIALS"] = value
    tarn = serve()
    reply = tarn.manifest(REPOSITORY, "1")
    assert (reply.status, reply.code) == (502, "UNAVAILABLE")
    tarn.logged("the path of a file is wanted")
    said = [tarn.log(), reply.body.decode(), tarn.get("/").body.decode()]
    for command in ("whoami", "print-access-token"):
        done = machine.run(command, *([HOST] if command == "whoami" else []), secret=False)
        said += [done.stdout, done.stderr]
    said += [machine.docker("get", HOST).stdout]
    for text in said:
        for secret in (document["client_secret"], document["refresh_token"], "client_secret"):
            assert secret not in text, text


def test_a_registry_token_refused_in_mid_flight_is_replaced(machine, google, serve):
    user(machine, google)
    tarn = serve()
    pulls(tarn)
    google.revoke_registry_tokens()
    pulls(tarn)
    assert (google.count("registry token"), google.count("oauth")) == (2, 1)


def test_an_access_token_refused_in_mid_flight_is_replaced(machine, google, serve):
    user(machine, google)
    tarn = serve()
    pulls(tarn)
    google.revoke_registry_tokens()
    google.revoke_access()
    pulls(tarn)
    assert google.count("oauth") == 2


def test_the_registrys_429_reaches_the_client(machine, google, serve):
    user(machine, google)
    google.fail["manifest"] = [Refused(429, {"errors": [{
        "code": "TOOMANYREQUESTS", "message": "Quota exceeded for quota metric"}]})] * 20
    google.fail["ping"] = list(google.fail["manifest"])
    reply = serve().manifest(REPOSITORY, "1")
    assert (reply.status, reply.code) == (429, "TOOMANYREQUESTS")
    assert reply["Retry-After"] == "1"


@pytest.mark.slow
def test_a_short_token_is_used_and_replaced_behind_the_clients_back(machine, google, serve):
    """A token that is stale from the start is used and renewed every 10 s; no client waits."""
    user(machine, google)
    google.lifetime = 60
    tarn = serve()
    pulls(tarn)
    google.delay["oauth"] = 2
    deadline = time.monotonic() + 16
    while google.count("oauth") < 2:
        assert time.monotonic() < deadline
        started = time.monotonic()
        pulls(tarn)
        assert time.monotonic() - started < 1.5
        time.sleep(0.5)
    assert google.count("oauth") == 2


def test_a_token_is_never_used_past_its_end(machine, google, serve):
    user(machine, google)
    google.lifetime = 3
    google.registry_lifetime = 1
    tarn = serve()
    for _ in range(6):
        pulls(tarn)
        time.sleep(1)
    assert google.count("oauth") >= 2


def test_files_are_read_again(machine, google, serve):
    federation_file(machine, google)
    google.lifetime = 2
    google.registry_lifetime = 1
    tarn = serve()
    pulls(tarn)
    google.subjects = {"rotated-token-of-the-cluster": "pod"}
    subject_file(machine, "rotated-token-of-the-cluster")

    def is_read_again():
        pulls(tarn)
        return google.count("sts") >= 2

    wait_until(is_read_again, "the token's end", 30, pause=0.3)


def test_json_keys_work_as_plain_passwords(machine, google, serve):
    text = json.dumps(google.service_account())
    for username, secret in (("_json_key", text),
                             ("_json_key_base64", base64.b64encode(text.encode()).decode())):
        path = machine.folder / username
        path.write_text(secret + "\n")
        path.chmod(0o600)
        pulls(serve({"username": username, "password_file": str(path)}))
    assert google.count("oauth") == 0


def test_googles_registries_use_google_by_default(machine, google, start_tarn):
    user(machine, google)
    tarn = start_tarn([{"host": HOST, "url": google.url, "default": True, "tag_ttl": "0"}],
                      {"GOOGLE_APPLICATION_CREDENTIALS": str(machine.file)})
    pulls(tarn)
    assert google.count("oauth") == 1


# ---- a pod whose metadata server needs some seconds

@pytest.mark.slow
@pytest.mark.parametrize("refusal", [None, 401, 403])
def test_a_metadata_server_that_comes_late_is_used(machine, google, serve, request, refusal):
    """GKE: it refuses connections in a pod's first seconds, and a refused pull proves nothing."""
    if not pod.is_here(request):
        return
    google.tokens_for_all = refusal  # the token service gives all a token that lives an hour
    google.add_image("project/repo/other", "1", CONFIG, [LAYER])
    machine.environment["NO_GCE_CHECK"] = "false"
    tarn = serve()
    down_until = time.monotonic() + 5
    statuses = set()
    while time.monotonic() < down_until:
        statuses.add(tarn.manifest(REPOSITORY, "1").status)
    assert statuses <= {502, 503, 504}
    google.listen_at(pod.METADATA_ADDRESS, 80)
    # a request that began before it listened may still end
    wait_until(lambda: tarn.manifest(REPOSITORY, "1").status == 200, "a pull")
    pulls(tarn)
    assert tarn.manifest("project/repo/other", "1").status == 200
    assert google.count("metadata") >= 2


@pytest.mark.slow
def test_without_a_metadata_server_public_images_do_not_wait(machine, google, serve, request):
    if not pod.is_here(request):
        return
    google.public = True
    machine.environment["NO_GCE_CHECK"] = "false"
    pulls(serve())


def test_a_metadata_server_whose_account_comes_late_is_used(machine, google, serve):
    google.metadata_account = False
    machine.has_metadata()
    tarn = serve()
    assert tarn.manifest(REPOSITORY, "1").status in (502, 503, 504)
    google.metadata_account = True
    wait_until(lambda: tarn.manifest(REPOSITORY, "1").status == 200, "the account", 12)


# ---- real clients with the helper

@pytest.fixture
def front(google, tmp_path):
    one = TlsFront(google, tmp_path)
    yield one
    one.stop()


@pytest.fixture
def client(machine, google, front):
    """A machine whose Docker configuration names the helper and which reaches the proxy."""
    service_account(machine, google)
    machine.environment["PATH"] = f"{machine.helper.parent}:{os.environ['PATH']}:/usr/sbin"
    machine.environment["XDG_RUNTIME_DIR"] = str(machine.folder)
    machine.environment["TMPDIR"] = str(machine.folder)
    machine.environment["HTTPS_PROXY"] = front.proxy
    machine.environment["SSL_CERT_FILE"] = str(front.certificate)
    assert machine.run("configure-docker").returncode == 0
    policy = machine.folder / ".config" / "containers" / "policy.json"
    policy.parent.mkdir(parents=True)
    policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    google.readers = {google.account}
    return machine


@needs("skopeo")
def test_skopeo_uses_the_helper(client, google, tmp_path):
    done = client.run("copy", f"docker://{IMAGE}", f"oci:{tmp_path}/copy:1",
                      program=pathlib.Path("/usr/bin/skopeo"))
    assert done.returncode == 0, done.stderr
    assert google.count("oauth") >= 1


@needs("podman")
def test_podman_uses_the_helper(client, google):
    with tempfile.TemporaryDirectory(prefix="p") as short:  # podman takes 50 characters
        podman_uses_the_helper(client, google, pathlib.Path(short))


def podman_uses_the_helper(client, google, folder):
    arguments = ["--root", folder / "root", "--runroot", folder / "run", "--tmpdir",
                 folder / "tmp", "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs",
                 "--events-backend", "file"]
    done = client.run(*arguments, "login", "--get-login", HOST,
                      program=pathlib.Path("/usr/bin/podman"))
    assert done.stdout.strip() == "oauth2accesstoken", done.stderr
    done = client.run(*arguments, "pull", "--quiet", IMAGE, program=pathlib.Path("/usr/bin/podman"))
    assert done.returncode == 0, done.stderr
    client.run(*arguments, "rmi", "--all", "--force", program=pathlib.Path("/usr/bin/podman"))
    assert google.count("registry token") >= 1
