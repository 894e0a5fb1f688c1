"""The Google side of Workload Identity: as whom the cache asks Artifact Registry."""

import pulumi_gcp as gcp

import objects


def make(settings, account):
    """Makes what `gcp.enabled` asks for. Returns the service account's address, or None."""
    if not isinstance(settings, dict) or not settings.keys() <= {"enabled", "project", "location",
                                                                 "repository"}:
        raise objects.Wrong("gcp: is no mapping with enabled, project, location and repository "
                            "alone")
    if not settings.get("enabled"):
        return account
    for key in ("project", "location", "repository"):
        if not settings.get(key):
            raise objects.Wrong(f"gcp.{key}: is missing, because gcp.enabled is true")
    project = settings["project"]
    name, _, domain = (account or f"{objects.NAME}@").partition("@")
    if domain not in ("", f"{project}.iam.gserviceaccount.com"):
        raise objects.Wrong(f"gcpServiceAccount: {account} is not of the project {project}, in "
                            "which gcp.enabled makes it")
    made = gcp.serviceaccount.Account(
        "account", account_id=name, project=project, display_name="tarn, a cache for registries")
    gcp.artifactregistry.RepositoryIamMember(
        "reader", project=project, location=settings["location"],
        repository=settings["repository"], role="roles/artifactregistry.reader",
        member=made.email.apply(lambda email: f"serviceAccount:{email}"))
    gcp.serviceaccount.IAMMember(
        "workload-identity", service_account_id=made.name, role="roles/iam.workloadIdentityUser",
        member=f"serviceAccount:{project}.svc.id.goog[{objects.NAMESPACE}/{objects.NAME}]")
    return made.email
