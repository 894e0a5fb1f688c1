"""How the cluster is found, as whom it is asked, and what `tarn keep --whoami` says about it."""

import base64
import http.server
import json
import re
import shutil
import socket
import subprocess
import threading

import pytest

from kit.kubernetes_api import ALL_RIGHTS, Fault, Kubeconfig, KubernetesApi
from kit.processes import run
from kit.relay import relay
from kit.tarn import bare_environment


@pytest.fixture
def whoami(program, tmp_path):
    """Runs `tarn keep --whoami`; gives its exit status, its output and its errors."""
    secrets = re.compile("[a-z]-secret|secret-token|QUJD")
    def ask(*arguments, **environment):
        done = run([program, "keep", "--whoami", *arguments], check=False,
                   environment=bare_environment(tmp_path, **environment))
        assert not secrets.search(done.stdout + done.stderr)
        return done
    return ask


@pytest.fixture
def config(api, tmp_path):
    """Writes a kubeconfig file for the API."""
    def write(user=None, cluster=None, name="config"):
        return Kubeconfig(api).write(tmp_path / name, user, cluster)
    return write


def users(api):
    return {request.user for request in api.requests}


def encoded(path):
    return base64.b64encode(path.read_bytes()).decode()


# ---- the report

def test_whoami_says_which_cluster_is_asked_as_whom(api, whoami, config):
    done = whoami("--kubeconfig", config())
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"cluster:    {api.url}", f"source:     kubeconfig {config()}, context test",
        "user:       tester", "credential: a token of the kubeconfig", "namespace:  tarn",
        "rights:     all that tarn keep uses"]
    asked = [request.body["spec"]["resourceAttributes"]
             for request in api.asked("create", "selfsubjectaccessreviews")]
    assert {"group": "", "resource": "pods", "verb": "delete", "namespace": "tarn"} in asked
    assert {"group": "", "resource": "nodes", "verb": "list"} in asked
    assert {"group": "coordination.k8s.io", "resource": "leases", "verb": "update",
            "namespace": "tarn", "name": "tarn-keep"} in asked


@pytest.mark.parametrize("verb,resource", [("list", "nodes"), ("list", "pods"), ("create", "pods"),
                                           ("delete", "pods")])
def test_without_one_of_the_least_rights_whoami_fails(api, whoami, config, verb, resource):
    api.rights["tester"] = ALL_RIGHTS - {(verb, resource)}
    done = whoami("--kubeconfig", config())
    assert done.returncode == 1
    missing = [line for line in done.stdout.splitlines() if line.startswith("missing:")]
    assert len(missing) == 1 and f"{verb} {resource}" in missing[0] and "needed" in missing[0]


def test_other_missing_rights_have_a_line_each(api, whoami, config):
    missing = {("watch", "nodes"), ("update", "leases"), ("create", "configmaps")}
    api.rights["tester"] = ALL_RIGHTS - missing
    done = whoami("--kubeconfig", config())
    assert done.returncode == 0
    lines = [line.split()[1:3] for line in done.stdout.splitlines() if line.startswith("missing:")]
    assert {tuple(words) for words in lines} == missing
    report = json.loads(whoami("--json", "--kubeconfig", config()).stdout)
    assert {(right["verb"], right["resource"]) for right in report["rights"]
            if not right["allowed"]} == missing
    assert not any(right["needed"] for right in report["rights"] if not right["allowed"])


def test_a_cluster_that_does_not_know_self_reviews_is_fine(api, whoami, config):
    api.knows_self_review = False
    done = whoami("--kubeconfig", config())
    assert done.returncode == 0 and "user:       me" in done.stdout


def test_the_namespace_may_be_another(api, whoami, config):
    done = whoami("--kubeconfig", config(), "--namespace", "pullers")
    assert done.returncode == 0 and "namespace:  pullers" in done.stdout
    asked = [request.body["spec"]["resourceAttributes"].get("namespace")
             for request in api.asked("create", "selfsubjectaccessreviews")]
    assert set(asked) == {None, "pullers", "tarn"}


def test_the_configuration_names_cluster_namespace_and_lease(api, whoami, config, tmp_path):
    api.rights["tester"] = ALL_RIGHTS - {("get", "leases")}
    tarn = tmp_path / "tarn.yaml"
    tarn.write_text(f"keep: {{kubeconfig: {config()}, namespace: pullers, lease: one}}\n")
    done = whoami("--config", tarn)
    assert done.returncode == 0, done.stderr
    assert "missing:    get leases one in tarn (" in done.stdout
    asked = [request.body["spec"]["resourceAttributes"]
             for request in api.asked("create", "selfsubjectaccessreviews")]
    assert {attributes["namespace"] for attributes in asked
            if attributes["resource"] == "pods"} == {"pullers"}
    tarn.write_text(f"keep: {{kubeconfig: {config()}, lease: none}}\n")
    assert "rights:     all that tarn keep uses" in whoami("--config", tarn).stdout


# ---- where the cluster is found

def test_the_first_file_that_mentions_a_name_decides(api, whoami, config, tmp_path):
    first, second = config(), config(user={"token": "another-secret"}, name="second")
    content = json.loads(first.read_text())
    del content["clusters"], content["contexts"]
    first.write_text(json.dumps(content))
    done = whoami(KUBECONFIG=f"{tmp_path}/absent:{first}:{second}")
    assert done.returncode == 0, done.stderr
    assert users(api) == {"tester"}
    assert whoami(KUBECONFIG=f"{second}:{first}").returncode == 1


def test_the_file_of_the_home_folder_comes_last(api, whoami, config, tmp_path):
    (tmp_path / ".kube").mkdir()
    shutil.move(config(), tmp_path / ".kube" / "config")
    done = whoami()
    assert done.returncode == 0 and f"kubeconfig {tmp_path}/.kube/config" in done.stdout
    assert "refused" in whoami(
        "--kubeconfig", config(cluster={"server": f"https://127.0.0.1:{free()}"})).stderr


def free():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_without_any_cluster_whoami_says_where_it_looked(whoami, tmp_path):
    done = whoami()
    assert done.returncode == 1
    for place in ("--kubeconfig", "KUBECONFIG", "KUBERNETES_SERVICE_HOST", "serviceaccount/token",
                  f"{tmp_path}/.kube/config"):
        assert place in done.stderr
    assert "KUBECONFIG names no file" in whoami(KUBECONFIG="/absent").stderr
    assert "/absent" in whoami("--kubeconfig", "/absent").stderr


IN_A_POD = """
mount -t tmpfs none /run && mkdir -p /run/secrets/kubernetes.io/serviceaccount &&
cp "$1"/* /run/secrets/kubernetes.io/serviceaccount/ && shift && exec "$@"
"""


def test_in_a_pod_the_service_account_is_taken(api, program, tmp_path):
    if subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/run"],
                      capture_output=True, check=False).returncode != 0:
        pytest.skip("no mount namespaces here")
    account = tmp_path / "account"
    account.mkdir()
    (account / "token").write_text("pod-secret\n")
    (account / "namespace").write_text("keepers")
    shutil.copy(api.authority, account / "ca.crt")
    api.tokens["pod-secret"] = "system:serviceaccount:keepers:tarn-keep"
    done = run(["unshare", "-rm", "sh", "-c", IN_A_POD, "sh", account, program, "keep", "--whoami"],
               check=False, environment=bare_environment(
                   tmp_path, KUBERNETES_SERVICE_HOST="127.0.0.1",
                   KUBERNETES_SERVICE_PORT=str(api.port)))
    assert done.returncode == 0, done.stderr
    assert "source:     the service account of this pod" in done.stdout
    assert "user:       system:serviceaccount:keepers:tarn-keep" in done.stdout
    assert "namespace:  keepers" in done.stdout


# ---- who we are

def certificate_files(api, _tmp_path):
    certificate, key = api.issue("/CN=tester")
    return {"client-certificate": str(certificate), "client-key": str(key)}


def certificate_data(api, _tmp_path):
    certificate, key = api.issue("/CN=tester")
    return {"client-certificate-data": encoded(certificate), "client-key-data": encoded(key)}


def password(api, _tmp_path):
    api.passwords["anna:pass-secret"] = "tester"
    return {"username": "anna", "password": "pass-secret"}


def token_file(_api, tmp_path):
    (tmp_path / "token").write_text("secret-token\n")
    return {"tokenFile": "token"}    # beside the kubeconfig


def token_and_file(_api, tmp_path):
    (tmp_path / "token").write_text("secret-token")
    return {"tokenFile": str(tmp_path / "token"), "token": "old-secret"}


def plugin(tmp_path, credential, version="v1", more=""):
    script = tmp_path / "plugin"
    body = {"kind": "ExecCredential", "apiVersion": f"client.authentication.k8s.io/{version}",
            "status": credential}
    script.write_text(f"#!/bin/sh\necho run >>{tmp_path}/runs\nenv >{tmp_path}/environment\n"
                      f"echo \"$@\" >{tmp_path}/arguments\n{more}\n"
                      f"cat <<'END'\n{json.dumps(body)}\nEND\n")
    script.chmod(0o755)
    return {"exec": {"apiVersion": f"client.authentication.k8s.io/{version}",
                     "command": "./plugin", "interactiveMode": "IfAvailable"}}


def program_token(_api, tmp_path):
    return plugin(tmp_path, {"token": "secret-token"})


def program_certificate(api, tmp_path):
    certificate, key = api.issue("/CN=tester")
    return plugin(tmp_path, {"clientCertificateData": certificate.read_text(),
                             "clientKeyData": key.read_text()}, "v1beta1")


@pytest.mark.parametrize("user", [certificate_files, certificate_data, password, token_file,
                                  token_and_file, program_token, program_certificate])
def test_each_kind_of_user_is_known(api, whoami, config, tmp_path, user):
    done = whoami("--kubeconfig", config(user(api, tmp_path)))
    assert done.returncode == 0, done.stderr
    assert users(api) == {"tester"}


def test_a_program_is_told_what_it_needs_and_asked_once(api, whoami, config, tmp_path):
    user = plugin(tmp_path, {"token": "secret-token", "expirationTimestamp": "2999-01-01T00:00:00Z"})
    user["exec"].update(args=["get", "a token"], provideClusterInfo=True,
                        env=[{"name": "FLAVOR", "value": "sweet=1"}])
    cluster = {"extensions": [{"name": "client.authentication.k8s.io/exec",
                               "extension": {"audience": "06f6", "number": 7, "on": True}}]}
    done = whoami("--kubeconfig", config(user, cluster))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs").read_text() == "run\n"
    assert (tmp_path / "arguments").read_text() == "get a token\n"
    environment = dict(line.split("=", 1) for line in
                       (tmp_path / "environment").read_text().splitlines() if "=" in line)
    assert environment["FLAVOR"] == "sweet=1"
    info = json.loads(environment["KUBERNETES_EXEC_INFO"])
    assert (info["kind"], info["apiVersion"]) == ("ExecCredential",
                                                  "client.authentication.k8s.io/v1")
    assert info["spec"] == {"interactive": False, "cluster": {
        "server": api.url, "certificate-authority-data": encoded(api.authority),
        "config": {"audience": "06f6", "number": 7, "on": True}}}


def test_a_program_is_asked_again_when_what_it_printed_has_expired(api, whoami, config, tmp_path):
    user = plugin(tmp_path, {"token": "secret-token", "expirationTimestamp": "2001-01-01T00:00:00Z"})
    assert whoami("--kubeconfig", config(user)).returncode == 0
    assert (tmp_path / "runs").read_text().count("run") == len(api.requests)


def test_a_program_that_fails_says_why(whoami, config, tmp_path):
    user = plugin(tmp_path, {"token": "secret-token"}, more="echo log in first >&2; exit 3")
    done = whoami("--kubeconfig", config(user))
    assert done.returncode == 1
    assert "exit status 3" in done.stderr and "log in first" in done.stderr
    user["exec"].update(command="no-such-plugin", installHint="apt install plugin")
    assert "apt install plugin" in whoami("--kubeconfig", config(user)).stderr
    (tmp_path / "plugin").write_text("#!/bin/sh\necho '{\"token\":\"plain-secret\"}'\n")
    user["exec"].update(command="./plugin")
    assert "ExecCredential" in whoami("--kubeconfig", config(user)).stderr


class Metadata(http.server.BaseHTTPRequestHandler):
    """Google's metadata server: its token is one that the cluster knows."""

    def do_GET(self):
        body = json.dumps({"access_token": "google-secret", "expires_in": 3000,
                           "token_type": "Bearer"}) if "token" in self.path else "anna@example.com"
        self.send_response(200)
        self.send_header("Metadata-Flavor", "Google")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *arguments):
        pass


def test_gke_is_asked_with_our_own_google_credentials(api, whoami, config):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    api.tokens["google-secret"] = "anna@example.com"
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1beta1",
                     "command": "gke-gcloud-auth-plugin", "provideClusterInfo": True}}
    done = whoami("--kubeconfig", config(user), PATH="/absent",
                  GCE_METADATA_HOST=f"127.0.0.1:{server.server_address[1]}")
    server.shutdown()
    assert done.returncode == 0, done.stderr
    assert "user:       anna@example.com" in done.stdout


@pytest.mark.parametrize("user,words", [
    ({"auth-provider": {"name": "gcp"}}, "gke-gcloud-auth-plugin"),
    ({"auth-provider": {"name": "oidc"}}, "exec"),
    ({"token": "secret", "username": "a", "password": "secret"}, "several of token, username"),
    ({"client-certificate-data": "QUJD"}, "client-key"),
    ({"client-certificate-data": "%%", "client-key-data": "QUJD"}, "base64"),
    ({"token": "secret", "as": "admin"}, "as: acting as another user"),
    ({"token": "se cret"}, "no token"),
    ({"exec": {"command": "x", "apiVersion": "client.authentication.k8s.io/v1alpha1"}},
     "client.authentication.k8s.io/v1beta1"),
    ({"exec": {"command": "x", "apiVersion": "client.authentication.k8s.io/v1",
               "interactiveMode": "Always"}}, "terminal"),
])
def test_what_is_not_supported_says_what_to_write(api, whoami, config, user, words):
    done = whoami("--kubeconfig", config(user))
    assert done.returncode == 1 and words in done.stderr
    assert api.requests == []


# ---- whom we trust

def test_an_authority_may_stand_in_the_file_itself(api, whoami, config):
    cluster = {"certificate-authority": None, "certificate-authority-data": encoded(api.authority)}
    assert whoami("--kubeconfig", config(cluster=cluster)).returncode == 0


def test_a_server_that_nobody_trusts_is_told_nothing(api, whoami, config):
    done = whoami("--kubeconfig", config(cluster={"certificate-authority": None}))
    assert done.returncode == 1 and "TLS" in done.stderr
    assert api.requests == []
    insecure = {"certificate-authority": None, "insecure-skip-tls-verify": True}
    assert whoami("--kubeconfig", config(cluster=insecure)).returncode == 0
    both = {"insecure-skip-tls-verify": True}
    assert "certificate-authority" in whoami("--kubeconfig", config(cluster=both)).stderr


def test_the_certificate_may_be_for_another_name(whoami, tmp_path):
    api = KubernetesApi(tmp_path / "named", name="kubernetes.default")
    path = tmp_path / "config"
    Kubeconfig(api).write(path)
    assert whoami("--kubeconfig", path).returncode == 1
    Kubeconfig(api).write(path, cluster={"tls-server-name": "kubernetes.default"})
    done = whoami("--kubeconfig", path)
    assert done.returncode == 0, done.stderr
    assert {request.headers["host"] for request in api.requests} == {f"127.0.0.1:{api.port}"}
    api.stop()


def test_plain_http_is_for_this_machine_only(whoami, tmp_path):
    api = KubernetesApi(tmp_path / "plain", tls=False)
    path = Kubeconfig(api).write(tmp_path / "config")
    assert whoami("--kubeconfig", path).returncode == 0
    Kubeconfig(api).write(path, cluster={"server": "http://10.0.0.1:8080"})
    assert "https://" in whoami("--kubeconfig", path).stderr
    api.stop()


class Proxy:
    """Connects for whoever asks with CONNECT, and remembers where to."""

    def __init__(self):
        self.targets = []
        self.server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        target = head.split()[1].decode()
        self.targets.append(target)
        host, port = target.rsplit(":", 1)
        other = socket.create_connection((host, int(port)))
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        relay(client, other)


def test_the_proxy_of_the_cluster_is_used(api, whoami, config):
    proxy = Proxy()
    done = whoami("--kubeconfig", config(cluster={"proxy-url": proxy.url}))
    assert done.returncode == 0, done.stderr
    assert set(proxy.targets) == {f"127.0.0.1:{api.port}"}
    proxy.server.close()


# ---- what the server refuses

def test_a_wrong_token_is_asked_with_once_more_and_no_further(api, whoami, config, tmp_path):
    (tmp_path / "token").write_text("wrong-secret")
    done = whoami("--kubeconfig", config({"tokenFile": "token"}))
    assert done.returncode == 1 and "401" in done.stderr
    assert len(api.requests) == 2


def test_after_401_the_credential_is_read_again(api, whoami, config, tmp_path):
    api.faults = [Fault("create", "selfsubjectreviews", 401)]
    user = plugin(tmp_path, {"token": "secret-token"})
    assert whoami("--kubeconfig", config(user)).returncode == 0
    assert (tmp_path / "runs").read_text() == "run\nrun\n"


def test_no_redirect_is_followed(api, whoami, config, tmp_path):
    other = KubernetesApi(tmp_path / "other", tls=False)
    api.faults = [Fault("create", "selfsubjectreviews", status,
                        headers={"Location": other.url + "/apis/x"}, times=1)
                  for status in (301, 302, 307, 308)]
    for status in (301, 302, 307, 308):
        done = whoami("--kubeconfig", config())
        assert done.returncode == 1 and str(status) in done.stderr and "redirect" in done.stderr
    assert other.requests == []
    other.stop()


def test_the_servers_own_words_are_passed_on(api, whoami, config):
    api.faults = [Fault("create", "selfsubjectaccessreviews", 503, "ServiceUnavailable")]
    done = whoami("--kubeconfig", config())
    assert done.returncode == 1
    assert "ServiceUnavailable" in done.stderr and "the test says 503" in done.stderr
