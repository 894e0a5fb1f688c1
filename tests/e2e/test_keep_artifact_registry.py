"""`tarn keep` of a repository of Artifact Registry: its list comes from the REST API."""

import json

import pytest

from kit.artifact_registry import unavailable
from kit.content import OCI_INDEX, OCI_MANIFEST
from kit.keeps import keeper, kubelets, registry  # noqa: F401  (fixtures)
from kit.kubelets import listed, succeeded
from kit.processes import wait_until

HOST = "us-docker.pkg.dev"
LAB = f"{HOST}/project/repo/sciplat-lab"
MACHINE = {"name": "jupyter", "labels": {}, "repomen": [
    {"type": "RubinRepoGar", "project_id": "project", "location": "us", "gar_repository": "repo",
     "gar_image": "sciplat-lab", "recommended_tag": "recommended", "alias_tags": ["latest_weekly"],
     "num_releases": 0, "num_weeklies": 2, "num_dailies": 0}]}


@pytest.fixture
def contents(artifact_registry):
    """The repository of nublado's tests, with another image beside."""
    repository = artifact_registry.repository()
    repository.add("sciplat-lab", ["w_2077_44-amd64"])
    repository.add("sciplat-lab", ["w_2077_43", "recommended", "latest_weekly"])
    repository.add("sciplat-lab", ["w_2077_42"])
    repository.add("sciplat-lab", ["w_2077_41"])
    repository.add("sciplat-lab", ["exp_w_2077_41_testing"])
    repository.add("other", ["bogus", "0.14"])
    return repository


@pytest.fixture
def gar(keeper, google, artifact_registry, registry):
    """Makes a keeper that asks the stand-ins for Artifact Registry."""
    def make(**more):
        return keeper(settings={"upstreams": [
            {"host": HOST, "url": registry.url, "credentials": "google", "default": True}]},
            environment={"GCE_METADATA_HOST": google.host,
                         "CLOUDSDK_API_ENDPOINT_OVERRIDES_ARTIFACTREGISTRY":
                             artifact_registry.url + "/"}, **more)
    return make


def digest_of(contents, tag):
    return next(entry["uri"].partition("@")[2] for entry in contents.entries
                if tag in entry.get("tags", ()))


def test_a_machine_of_artifact_registry_is_kept(gar, kubelets, contents, registry):
    for name in ("n1", "n2"):
        kubelets.node(name)
    kubelets.outcomes.append(("", lambda pod, node: None))
    one = gar(operators="anyone", nodes={"labels": {"pool": "none"}},
              images=[{"repository": LAB, "rubin": {"weeklies": 1}}]).start()
    assert one.get("/cachemachine/", method="POST", body=json.dumps(MACHINE).encode()).status == 200
    wait_until(lambda: one.json("/cachemachine/jupyter")["desired_images"], "the list")
    page = one.json("/cachemachine/jupyter")
    newest, older = digest_of(contents, "w_2077_43"), digest_of(contents, "w_2077_42")
    def element(tag, name, of):
        return {"image_url": f"{LAB}:{tag}", "image_hash": of, "name": name}
    # Each alias says what it stands for before any node has it.
    assert page["desired_images"] == page["images_to_cache"] == [
        element("recommended", "Recommended (Weekly 2077_43)", newest),
        element("latest_weekly", "Latest Weekly (Weekly 2077_43)", newest),
        element("w_2077_43", "Weekly 2077_43", newest),
        element("w_2077_42", "Weekly 2077_42", older)]
    tags = [image["name"] for image in page["all_images"]]
    assert tags == sorted(tags, reverse=True)
    assert "bogus" not in tags and "w_2077_41" in tags
    wait_until(lambda: len(kubelets.pods()) == 2, "a pod on each node")
    kubelets.outcomes.clear()
    for pod in kubelets.pods():
        image = pod["spec"]["containers"][0]["image"]
        kubelets._list(pod["spec"]["nodeName"], image, newest)
        kubelets.set_status(pod, succeeded(image, newest))
    one.wait_all(keep="jupyter", count=4)
    kubelets.wait_no_pods()
    page = one.json("/cachemachine/jupyter")
    assert page["available_images"] == page["desired_images"]
    assert page["images_to_cache"] == []
    image = one.json("/tarn/v1/keeps/jupyter")["images"][0]
    assert sorted(image["tags"]) == ["latest_weekly", "recommended", "w_2077_43"]
    assert registry.requests == []


def add_index(contents, registry, tag):
    """An index in the registry and in the API's list; its digest, and those of its images."""
    repository, children = registry.repository("project/repo/sciplat-lab"), {}
    for architecture in ("amd64", "arm64"):
        children[architecture] = registry.image("project/repo/sciplat-lab",
                                                [architecture.encode() * 100], tag=None)
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [
        {"mediaType": OCI_MANIFEST, "digest": of, "size": len(repository.manifests[of][0]),
         "platform": {"os": "linux", "architecture": architecture}}
        for architecture, of in children.items()]}).encode()
    digest = repository.add_manifest(index, OCI_INDEX, tag)
    contents.add("sciplat-lab", [tag], digest=digest, mediaType=OCI_INDEX)
    return digest, children


def test_an_index_is_there_by_its_image_for_the_node(gar, kubelets, contents, registry):
    digest, children = add_index(contents, registry, "w_2077_45")
    names = [f"{LAB}@{children['amd64']}", f"{LAB}:w_2077_45"]
    kubelets.node("n1", images=[listed(*names)])
    kubelets.node("n2", status={"nodeInfo": {"architecture": "arm64", "operatingSystem": "linux"},
                                "images": [listed(*names)]})
    one = gar(refresh="1s", images=[{"repository": LAB, "rubin": {"weeklies": 1}}]).start()
    one.wait_all(count=2)
    assert kubelets.pulls == [("n2", f"{LAB}:w_2077_45")]
    image = one.json("/tarn/v1/keeps/labs")["images"][0]
    assert (image["digest"], image["platforms"]) == (digest, ["linux/amd64", "linux/arm64"])
    def lists():
        return one.json("/tarn/v1/keeps/labs")["source"]["listed_at"]
    first = lists()
    wait_until(lambda: lists() != first, "another list")
    assert len(registry.asked(f"/manifests/{digest}", "GET")) == 1


def test_a_manifest_that_cannot_be_had_keeps_nothing_from_its_node(gar, kubelets, contents, registry):
    digest, _ = add_index(contents, registry, "w_2077_45")
    registry.fault("/manifests/", status=404)
    kubelets.node("n1")
    one = gar(images=[{"repository": LAB, "rubin": {"weeklies": 1}}]).start()
    one.wait_all()
    assert kubelets.pulls == [("n1", f"{LAB}:w_2077_45")]
    assert one.json("/tarn/v1/keeps/labs")["images"][0]["digest"] == digest


def test_while_the_api_fails_what_was_listed_stays(gar, kubelets, contents, artifact_registry):
    kubelets.node("n1")
    one = gar(refresh="1s", images=[{"repository": LAB, "rubin": {"weeklies": 2}}]).start()
    one.wait_all(count=2)
    artifact_registry.always = unavailable()
    wait_until(lambda: one.json("/tarn/v1/keeps/labs")["source"]["error"], "the failure", 60)
    assert len(one.states()) == 2
    artifact_registry.always = None
    wait_until(lambda: not one.json("/tarn/v1/keeps/labs")["source"]["error"], "a fresh list", 60)
    assert len(kubelets.pulls) == 2
