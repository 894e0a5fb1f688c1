"""The objects of the cache as plain values, the same as those of deploy/helm/tarn. Pure.

tests/optional/pulumi compares them with what the chart renders.
"""

import base64
import hashlib
import re
from dataclasses import dataclass, field

NAME = "tarn"
NAMESPACE = "tarn"
SELECTOR = {
    "app.kubernetes.io/name": "tarn",
    "app.kubernetes.io/instance": NAME,
    "app.kubernetes.io/component": "cache",
}
UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 10**3, "M": 10**6, "G": 10**9,
         "T": 10**12, "": 1}


class Wrong(ValueError):
    """A value of the stack's configuration that cannot work; the text begins with its key."""


@dataclass(frozen=True)
class Settings:
    """What the objects depend on. Secrets are not here: they may be values of Pulumi's."""

    image: str
    node_port: int
    upstream: str = "docker.io"
    replicas: int = 1
    storage_size: str = "200Gi"
    has_users: bool = False
    has_replication: bool = False  # the replicas fetch each blob once
    annotations: dict = field(default_factory=dict)  # of the ServiceAccount

    def check(self):
        """Raises Wrong."""
        if not re.fullmatch(r"[^\s@]+/[^\s@/:]+(:[\w.-]+|(:[\w.-]+)?@sha256:[0-9a-f]{64})",
                            self.image):
            raise Wrong(f"image: {self.image!r} is no image with a registry and a tag or digest, "
                        "as in us-central1-docker.pkg.dev/PROJECT/REPOSITORY/tarn:0.1.0")
        if not 30000 <= self.node_port <= 32767:
            raise Wrong(f"registryNodePort: {self.node_port} is not within 30000 to 32767")
        if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]+)?", self.upstream):
            raise Wrong(f"upstream: {self.upstream!r} is no host, as in us-central1-docker.pkg.dev")
        if self.replicas < 1:
            raise Wrong(f"replicas: {self.replicas} is less than 1")
        if self.storage_size and not most_of(self.storage_size):
            raise Wrong(f"storageSize: {self.storage_size!r} is no size, as in 200Gi")


def host_of(upstream):
    """The host of a registry that is given as a host or, as to the CNCF registry, as a URL."""
    return re.sub(r"^https://|/+$", "", upstream)


def check_htpasswd(text):
    """Raises Wrong for what is no list of users. The error does not show the text."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("#") and not re.match(r"[^:\s]+:\S+$", line):
            raise Wrong(f"registryHtpasswd: line {number} is not NAME:HASH, as `htpasswd -nB NAME` "
                        "prints it")
    return text


def check_secrets(text):
    """Raises Wrong for what tarn would not take as the replicas' secrets. The error does not show
    the text."""
    lines = text.rstrip("\n").split("\n")
    for number, line in enumerate(lines, 1):
        if len(line.encode()) < 32:
            raise Wrong(f"replicationSecret: line {number} has fewer than 32 bytes; write one with "
                        "openssl rand -hex 32")
    return text


def most_of(size):
    """90 % of a size of Kubernetes in the words of tarn; None: it is no size."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(Ki|Mi|Gi|Ti|k|M|G|T|)", size)
    if not match or not float(match[1]):
        return None
    return f"{max(int(float(match[1]) * UNITS[match[2]] * 0.9 / 2**20), 1)}MiB"


def metadata(name=NAME, labels=None, **more):
    return {"name": name, "namespace": NAMESPACE, "labels": {**SELECTOR, **(labels or {})}, **more}


def tarn_yaml(settings):
    """tarn's configuration."""
    lines = []
    if settings.has_users:
        lines += ["clients:", "  htpasswd: /etc/tarn/clients/htpasswd"]
    lines += ["listen: :5000"]
    if settings.storage_size:
        lines += [f"max_size: {most_of(settings.storage_size)}"]
    if settings.has_replication:
        lines += ["replicas:", f"  dns: {NAME}-replicas.{NAMESPACE}.svc", "  port: 5000",
                  "  secret_file: /etc/tarn/replicas/secrets"]
    lines += ["metrics_listen: :5001", "root: /var/lib/tarn/cache",
              "upstreams:", "- default: true", f"  host: {settings.upstream}"]
    return "\n".join(lines) + "\n"


def namespace():
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {
        "name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}


def service_account(settings):
    more = {"annotations": settings.annotations} if settings.annotations else {}
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(**more),
            "automountServiceAccountToken": False}


def encode(text):
    return base64.b64encode(text.encode()).decode()


def secret(encoded):
    """`encoded` is what encode() gives of the users' lines."""
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata(f"{NAME}-clients"),
            "type": "Opaque", "data": {"htpasswd": encoded}}


def replicas_secret(encoded):
    """`encoded` is what encode() gives of the secrets' lines."""
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata(f"{NAME}-replicas"),
            "type": "Opaque", "data": {"secrets": encoded}}


def config_map(settings):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(),
            "data": {"tarn.yaml": tarn_yaml(settings)}}


def port(name, number, **more):
    return {"name": name, "port": number, "targetPort": name, "protocol": "TCP", **more}


def service(settings):
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata(), "spec": {
        "type": "NodePort", "selector": SELECTOR,
        "ports": [port("registry", 5000, nodePort=settings.node_port)],
        "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
        "externalTrafficPolicy": "Cluster"}}


def headless_service():
    """The pods by their own names, and their metrics."""
    return {"apiVersion": "v1", "kind": "Service",
            "metadata": metadata(f"{NAME}-headless", {"tarn/service": "headless"}),
            "spec": {"type": "ClusterIP", "clusterIP": "None", "publishNotReadyAddresses": True,
                     "selector": SELECTOR,
                     "ports": [port("registry", 5000), port("metrics", 5001)]}}


def replicas_service():
    """The pods that are ready: the replicas find each other by it."""
    return {"apiVersion": "v1", "kind": "Service",
            "metadata": metadata(f"{NAME}-replicas", {"tarn/service": "replicas"}),
            "spec": {"type": "ClusterIP", "clusterIP": "None", "ipFamilyPolicy": "SingleStack",
                     "selector": SELECTOR, "ports": [port("registry", 5000)]}}


def disruption_budget():
    return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata(),
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": SELECTOR}}}


def probe(path, period, failures, timeout=None):
    return {"httpGet": {"path": path, "port": "registry", "scheme": "HTTP"},
            "periodSeconds": period, "failureThreshold": failures,
            **({"timeoutSeconds": timeout} if timeout else {})}


def container(settings):
    mounts = [{"name": "cache", "mountPath": "/var/lib/tarn"},
              {"name": "config", "mountPath": "/etc/tarn/config", "readOnly": True}]
    if settings.has_users:
        mounts.append({"name": "clients", "mountPath": "/etc/tarn/clients", "readOnly": True})
    if settings.has_replication:
        mounts.append({"name": "replicas", "mountPath": "/etc/tarn/replicas", "readOnly": True})
    return {
        "name": "tarn", "image": settings.image, "imagePullPolicy": "IfNotPresent",
        "args": ["serve"],
        "env": [{"name": "TARN_CONFIG", "value": "/etc/tarn/config/tarn.yaml"}],
        "ports": [{"name": name, "containerPort": number, "protocol": "TCP"}
                  for name, number in (("registry", 5000), ("metrics", 5001))],
        "startupProbe": probe("/livez", 1, 60),
        "livenessProbe": probe("/livez", 10, 6, 5),
        "readinessProbe": probe("/readyz", 5, 3, 3),
        # Until no more clients are sent here.
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", "5"]}}},
        "securityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                            "capabilities": {"drop": ["ALL"]}},
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"},
                      "limits": {"memory": "1536Mi"}},
        "volumeMounts": mounts,
    }


def volumes(settings):
    found = [] if settings.storage_size else [{"name": "cache", "emptyDir": {}}]
    found.append({"name": "config", "configMap": {"name": NAME}})
    if settings.has_users:
        found.append({"name": "clients", "secret": {
            "secretName": f"{NAME}-clients", "defaultMode": 0o440,
            "items": [{"key": "htpasswd", "path": "htpasswd"}]}})
    if settings.has_replication:
        found.append({"name": "replicas", "secret": {
            "secretName": f"{NAME}-replicas", "defaultMode": 0o440,
            "items": [{"key": "secrets", "path": "secrets"}]}})
    return found


def pod_template(settings):
    checksum = hashlib.sha256(tarn_yaml(settings).encode()).hexdigest()
    return {
        "metadata": {"labels": SELECTOR, "annotations": {"checksum/config": checksum}},
        "spec": {
            "serviceAccountName": NAME, "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 45,  # tarn's `grace` is 30 s
            "securityContext": {
                "runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container(settings)],
            "volumes": volumes(settings),
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "topologySpreadConstraints": [
                {"labelSelector": {"matchLabels": SELECTOR}, "maxSkew": 1, "topologyKey": key,
                 "whenUnsatisfiable": "ScheduleAnyway"}
                for key in ("kubernetes.io/hostname", "topology.kubernetes.io/zone")],
        },
    }


def workload(settings):
    """A StatefulSet with a volume for each replica, or a Deployment on the nodes' own disks."""
    spec = {"replicas": settings.replicas, "selector": {"matchLabels": SELECTOR},
            "template": pod_template(settings)}
    if not settings.storage_size:
        return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata(), "spec": {
            **spec, "strategy": {"type": "RollingUpdate", "rollingUpdate": {
                "maxSurge": "25%", "maxUnavailable": "25%"}}}}
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata(), "spec": {
        **spec,
        "serviceName": f"{NAME}-headless", "podManagementPolicy": "Parallel",
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
        "volumeClaimTemplates": [{
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": "cache", "labels": SELECTOR},
            "spec": {"accessModes": ["ReadWriteOnce"],
                     "resources": {"requests": {"storage": settings.storage_size}}}}]}}


def all_objects(settings, encoded=None, encoded_replicas=None):
    """In the order in which they are made."""
    settings.check()
    found = [namespace(), service_account(settings), config_map(settings)]
    if settings.has_users:
        found.append(secret(encoded))
    if settings.has_replication:
        found += [replicas_secret(encoded_replicas), replicas_service()]
    found += [service(settings), headless_service(), workload(settings)]
    if settings.replicas > 1:
        found.append(disruption_budget())
    return found
