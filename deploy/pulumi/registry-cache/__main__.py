"""A cache for container registries on Kubernetes: tarn, which nodes reach at localhost:NODEPORT."""

import pulumi
import pulumi_kubernetes as kubernetes

import objects
import workload_identity

KINDS = {
    ("v1", "Namespace"): kubernetes.core.v1.Namespace,
    ("v1", "ServiceAccount"): kubernetes.core.v1.ServiceAccount,
    ("v1", "ConfigMap"): kubernetes.core.v1.ConfigMap,
    ("v1", "Secret"): kubernetes.core.v1.Secret,
    ("v1", "Service"): kubernetes.core.v1.Service,
    ("apps/v1", "StatefulSet"): kubernetes.apps.v1.StatefulSet,
    ("apps/v1", "Deployment"): kubernetes.apps.v1.Deployment,
    ("policy/v1", "PodDisruptionBudget"): kubernetes.policy.v1.PodDisruptionBudget,
}


def number(config, key, otherwise=None):
    value = config.get(key)
    if value is None and otherwise is not None:
        return otherwise
    try:
        return int(value or "")
    except ValueError:
        raise objects.Wrong(f"{key}: {value!r} is no number") from None


def text(config, key, otherwise):
    value = config.get(key)
    return otherwise if value is None else value


def make(config):
    """Makes all resources of the stack."""
    users = config.get_secret("registryHtpasswd")
    secrets = config.get_secret("replicationSecret")
    account = workload_identity.make(config.get_object("gcp") or {},
                                     config.get("gcpServiceAccount"))
    settings = objects.Settings(
        image=config.require("image"),
        node_port=number(config, "registryNodePort"),
        upstream=objects.host_of(text(config, "upstream", "docker.io")),
        replicas=number(config, "replicas", 1),
        storage_size=text(config, "storageSize", "200Gi"),
        has_users=users is not None,
        has_replication=secrets is not None,
        annotations={"iam.gke.io/gcp-service-account": account} if account else {},
    )
    encoded = users and users.apply(lambda lines: objects.encode(objects.check_htpasswd(lines)))
    encoded_secrets = secrets and secrets.apply(
        lambda lines: objects.encode(objects.check_secrets(lines)))
    made = []
    for thing in objects.all_objects(settings, encoded, encoded_secrets):
        # Everything but the namespace is in the namespace.
        options = pulumi.ResourceOptions(depends_on=made[:1])
        members = {key: value for key, value in thing.items() if key not in ("apiVersion", "kind")}
        members = {"automount_service_account_token" if key == "automountServiceAccountToken"
                   else key: value for key, value in members.items()}
        make_one = KINDS[thing["apiVersion"], thing["kind"]]
        made.append(make_one(f"{thing['kind'].lower()}-{thing['metadata']['name']}",
                             opts=options, **members))
    pulumi.export("address", f"localhost:{settings.node_port}")
    pulumi.export("namespace", objects.NAMESPACE)


try:
    make(pulumi.Config("registry-cache"))
except objects.Wrong as wrong:
    raise pulumi.RunError(f"registry-cache:{wrong}") from None
