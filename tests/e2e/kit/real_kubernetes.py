"""A real kube-apiserver with etcd on loopback, and if asked a controller manager."""

import base64
import json
import ssl
import urllib.error
import urllib.request

from kit.processes import Program, free_port, run


class Cluster:
    """
    etcd and kube-apiserver from the folder `assets`: RBAC, users by token and by certificate. With
    `manager`, the path of a kube-controller-manager, what it controls comes and goes; without it each
    pod would want an account that nobody makes, so that pods need none.
    """

    def __init__(self, directory, assets, manager=None):
        self.directory, self.assets, self.manager = directory, assets, manager
        self.etcd_port, self.port = free_port(), free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self._make_keys()
        peers = f"http://127.0.0.1:{free_port()}"
        self.etcd = Program(
            [self.assets / "etcd", "--data-dir", directory / "etcd", "--unsafe-no-fsync",
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
            'admin-token,admin,1,"system:masters"\nkeeper-token,keeper,2\nsecret-token,keeper,2\n'
            'other-token,other,3\n')

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
            [self.assets / "kube-apiserver", "--etcd-servers", f"http://127.0.0.1:{self.etcd_port}",
             "--bind-address", "127.0.0.1", "--secure-port", self.port, "--cert-dir",
             self.directory / "serving", "--token-auth-file", self.directory / "tokens.csv",
             "--client-ca-file", self.authority, "--authorization-mode", "RBAC",
             "--service-account-issuer", "https://kubernetes.default.svc",
             "--service-account-key-file", self.directory / "sa.key",
             "--service-account-signing-key-file", self.directory / "sa.key",
             "--service-cluster-ip-range", "10.0.0.0/24", "--watch-cache=true",
             *([] if self.manager else ["--disable-admission-plugins", "ServiceAccount"])],
            self.directory / "apiserver.log")
        self.server.wait_ready(self._is_ready, 120)
        if self.manager:
            self.controllers = Program(
                [self.manager, "--kubeconfig", self.kubeconfig(), "--leader-elect=false",
                 "--bind-address", "127.0.0.1", "--secure-port", free_port(),
                 "--cert-dir", self.directory / "manager",
                 "--service-account-private-key-file", self.directory / "sa.key",
                 "--root-ca-file", self.serving_authority()], self.directory / "manager.log")

    def kubeconfig(self, token="admin-token", namespace="default"):
        """The path of a kubeconfig file for the holder of a token."""
        path = self.directory / f"kubeconfig-{abs(hash((token, namespace)))}"
        path.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "real",
            "contexts": [{"name": "real", "context": {"cluster": "real", "user": "user",
                                                      "namespace": namespace}}],
            "clusters": [{"name": "real", "cluster": {
                "server": self.url, "certificate-authority": str(self.serving_authority())}}],
            "users": [{"name": "user", "user": {"token": token}}]}))
        return path

    def _is_ready(self):
        try:
            return self.ask("GET", "/readyz", parse=False)[0] == 200
        except OSError:
            return False

    def stop(self):
        if self.manager:
            self.controllers.stop(60)
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
