"""A kube-apiserver with etcd for each session, and the fixtures of the end-to-end tests."""

import base64
import importlib.util
import json
import os
import pathlib
import ssl
import urllib.error
import urllib.request

import pytest

from kit.driver import build_driver
from kit.processes import Program, free_port, run, wait_until
from real_kubelets import RealApi, RealKubelets

PLACE = pathlib.Path(__file__).parents[2] / "e2e" / "conftest.py"
SPECIFICATION = importlib.util.spec_from_file_location("e2e_fixtures", PLACE)
FIXTURES = importlib.util.module_from_spec(SPECIFICATION)
SPECIFICATION.loader.exec_module(FIXTURES)

program = FIXTURES.program
make_upstream = FIXTURES.make_upstream
upstream = FIXTURES.upstream
ASSETS = pathlib.Path(os.environ["KUBEBUILDER_ASSETS"])
RBAC = "/apis/rbac.authorization.k8s.io/v1"
NODE_RULES = [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]}]
RULES = [
    {"apiGroups": [""], "resources": ["pods"],
     "verbs": ["get", "list", "watch", "create", "delete"]},
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": ["tarn-keep"],
     "verbs": ["get", "update"]},
    {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]},
    {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["tarn-keep"],
     "verbs": ["get", "update"]}]


class Cluster:
    """etcd and kube-apiserver on loopback: RBAC, users by token and by certificate."""

    def __init__(self, directory):
        self.directory = directory
        self.etcd_port, self.port = free_port(), free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self._make_keys()
        peers = f"http://127.0.0.1:{free_port()}"
        self.etcd = Program(
            [ASSETS / "etcd", "--data-dir", directory / "etcd", "--unsafe-no-fsync",
             "--listen-client-urls", f"http://127.0.0.1:{self.etcd_port}",
             "--advertise-client-urls", f"http://127.0.0.1:{self.etcd_port}",
             "--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers,
             "--initial-cluster", f"default={peers}"], directory / "etcd.log")
        self.start()

    def _make_keys(self):
        self.authority, self.authority_key = (self.directory / name for name in ("ca.crt", "ca.key"))
        run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout",
             self.authority_key, "-out", self.authority, "-days", "2", "-subj", "/CN=clients",
             "-addext", "basicConstraints=critical,CA:TRUE"])
        run(["openssl", "genrsa", "-out", self.directory / "sa.key", "2048"])
        (self.directory / "tokens.csv").write_text(
            'admin-token,admin,1,"system:masters"\nkeeper-token,keeper,2\nsecret-token,keeper,2\nother-token,other,3\n')

    def issue(self, name):
        """The files of a client's certificate and its key."""
        request, certificate, key = (self.directory / f"{name}.{end}" for end in
                                     ("csr", "crt", "key"))
        run(["openssl", "req", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", request,
             "-subj", f"/CN={name}"])
        run(["openssl", "x509", "-req", "-in", request, "-CA", self.authority, "-CAkey",
             self.authority_key, "-CAcreateserial", "-days", "2", "-out", certificate])
        return certificate, key

    def start(self):
        self.server = Program(
            [ASSETS / "kube-apiserver", "--etcd-servers", f"http://127.0.0.1:{self.etcd_port}",
             "--bind-address", "127.0.0.1", "--secure-port", self.port, "--cert-dir",
             self.directory / "serving", "--token-auth-file", self.directory / "tokens.csv",
             "--client-ca-file", self.authority, "--authorization-mode", "RBAC",
             "--service-account-issuer", "https://kubernetes.default.svc",
             "--service-account-key-file", self.directory / "sa.key",
             "--service-account-signing-key-file", self.directory / "sa.key",
             "--service-cluster-ip-range", "10.0.0.0/24", "--watch-cache=true",
             # Each pod would want an account that only a controller manager makes.
             "--disable-admission-plugins", "ServiceAccount"],
            self.directory / "apiserver.log")
        self.server.wait_ready(self._is_ready, 120)

    def _is_ready(self):
        try:
            return self.ask("GET", "/readyz", parse=False)[0] == 200
        except OSError:
            return False

    def stop(self):
        self.server.stop(60)
        self.etcd.stop()

    def ask(self, method, path, body=None, token="admin-token", parse=True,
            kind="application/json"):
        """Status and object of a request, by default as the administrator."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        request = urllib.request.Request(
            self.url + path, method=method, data=json.dumps(body).encode() if body else None,
            headers={"Authorization": f"Bearer {token}", "Content-Type": kind})
        try:
            with urllib.request.urlopen(request, context=context, timeout=60) as response:
                return response.status, json.load(response) if parse else response.read()
        except urllib.error.HTTPError as error:
            return error.code, json.load(error) if parse else error.read()

    def make(self, path, body):
        status, answer = self.ask("POST", path, body)
        assert status in (201, 409), answer

    def serving_authority(self):
        """The server's own certificate, which it made and signed itself."""
        return self.directory / "serving" / "apiserver.crt"

    def _ask_etcd(self, path, body):
        request = urllib.request.Request(f"http://127.0.0.1:{self.etcd_port}{path}",
                                         data=json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)

    def forget(self):
        """While the server is stopped: makes versions that nobody has seen, and forgets all until
        then. A server that starts afterwards has no events of before."""
        key = base64.b64encode(b"/test").decode()
        for _ in range(3):
            self._ask_etcd("/v3/kv/put", {"key": key, "value": key})
        revision = self._ask_etcd("/v3/kv/range", {"key": key})["header"]["revision"]
        self._ask_etcd("/v3/kv/compaction", {"revision": revision, "physical": True})


def make_rights(cluster):
    cluster.make("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace",
                                        "metadata": {"name": "tarn", "labels": {
                                            "pod-security.kubernetes.io/enforce": "restricted"}}})
    user = [{"kind": "User", "name": "keeper", "apiGroup": "rbac.authorization.k8s.io"}]
    for kind, folder, rules in (("ClusterRole", "", NODE_RULES),
                                ("Role", "/namespaces/tarn", RULES)):
        cluster.make(f"{RBAC}{folder}/{kind.lower()}s", {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
            "metadata": {"name": "tarn-keep"}, "rules": rules})
        cluster.make(f"{RBAC}{folder}/{kind.lower()}bindings", {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind + "Binding",
            "metadata": {"name": "tarn-keep"}, "subjects": user,
            "roleRef": {"kind": kind, "name": "tarn-keep", "apiGroup": "rbac.authorization.k8s.io"}})


class Rights:
    """The rules of user `keeper`, which a test takes away one by one."""

    PLACES = (("nodes", f"{RBAC}/clusterroles/tarn-keep", NODE_RULES),
              ("", f"{RBAC}/namespaces/tarn/roles/tarn-keep", RULES))

    def __init__(self, cluster):
        self.cluster = cluster

    def _write(self, path, rules):
        role = self.cluster.ask("GET", path)[1]
        status, answer = self.cluster.ask("PUT", path, {**role, "rules": rules})
        assert status == 200, answer

    def take_away(self, resource, verb):
        _, path, rules = self.PLACES[0 if resource == "nodes" else 1]
        self._write(path, [{**rule, "verbs": [one for one in rule["verbs"] if one != verb
                                              or rule["resources"] != [resource]]}
                           for rule in rules
                           if rule["verbs"] != [verb] or rule["resources"] != [resource]])

    def _is_denied(self, resource, verb):
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
                  "spec": {"resourceAttributes": {"resource": resource, "verb": verb,
                                                  "namespace": "tarn"}}}
        status, answer = self.cluster.ask(
            "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review, "keeper-token")
        assert status == 201, answer
        return not answer["status"]["allowed"]

    def wait_denied(self, resource, verb):
        """The server reads rules some time after they were written."""
        wait_until(lambda: self._is_denied(resource, verb), "the right to be gone", 60)

    def restore(self):
        for _, path, rules in self.PLACES:
            self._write(path, rules)
        wait_until(lambda: not any(self._is_denied("pods", verb) for verb in RULES[0]["verbs"])
                   and not any(self._is_denied("nodes", verb) for verb in NODE_RULES[0]["verbs"]),
                   "the rights to be back", 60)


@pytest.fixture
def rights(cluster):
    rights = Rights(cluster)
    yield rights
    rights.restore()


@pytest.fixture
def api(cluster):
    return RealApi(cluster)


@pytest.fixture
def kubelets(cluster):
    for node in cluster.ask("GET", "/api/v1/nodes")[1]["items"]:
        cluster.ask("DELETE", f"/api/v1/nodes/{node['metadata']['name']}")
    kubelets = RealKubelets(cluster)
    yield kubelets
    kubelets.finish()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    make_rights(cluster)
    yield cluster
    cluster.stop()


@pytest.fixture(scope="session")
def driver(program):
    return build_driver(program, "kubernetes_driver")


@pytest.fixture
def config(cluster, tmp_path):
    """Writes a kubeconfig file."""
    def write(user=None, namespace="tarn"):
        path = tmp_path / "config"
        path.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "real",
            "contexts": [{"name": "real", "context": {"cluster": "real", "user": "keeper",
                                                      "namespace": namespace}}],
            "clusters": [{"name": "real", "cluster": {
                "server": cluster.url, "certificate-authority": str(cluster.serving_authority())}}],
            "users": [{"name": "keeper", "user": user or {"token": "keeper-token"}}]}))
        return path
    return write
