"""`tarn keep` on a cluster of stand-ins: images come onto the nodes, and stay known there."""

import json

import pytest

from kit.kubelets import Keeper, Kubelets, listed, succeeded, waiting
from kit.kubernetes_api import ALL_RIGHTS, Fault, KubernetesApi
from kit.processes import wait_until


@pytest.fixture
def api(tmp_path):
    api = KubernetesApi(tmp_path / "api")
    yield api
    api.stop()


@pytest.fixture
def kubelets(api):
    return Kubelets(api)


@pytest.fixture
def registry(upstream):
    """An upstream with three weeklies of lab, of which the newest is the recommended one."""
    for tag in ("w_2024_01", "w_2024_02", "w_2024_03"):
        upstream.image("org/lab", [tag.encode()], tag=tag)
    lab = upstream.repository("org/lab")
    lab.tags["recommended"] = lab.tags["w_2024_03"]
    return upstream


@pytest.fixture
def keeper(program, tmp_path, api, registry):
    """Makes a `tarn keep`, which is not started."""
    made = []
    def make(images=None, name="one", settings=None, environment=None, machines=None, **keep):
        images = images or [{"repository": "fake.test/org/lab",
                             "rubin": {"weeklies": 2, "recommended": "recommended"}}]
        one = {"name": "labs", "images": images}
        for key in ("pull", "nodes"):
            if key in keep:
                one[key] = keep.pop(key)
        section = {"keeps": [one], "machines": str(machines or tmp_path / "machines"), **keep}
        (tmp_path / "machines").mkdir(exist_ok=True)
        made.append(Keeper(program, tmp_path / name, api, section, {
            "upstreams": [{"host": "fake.test", "url": registry.url, "tag_ttl": "0",
                           "default": True}], **(settings or {})}, environment))
        return made[-1]
    yield make
    for one in made:
        one.finish()


LAB = "fake.test/org/lab"


def digest(registry, tag):
    return registry.repository("org/lab").tags[tag]


def test_missing_images_are_pulled_once_and_their_pods_are_gone(keeper, kubelets, registry):
    kubelets.node("n1")
    done = keeper().once()
    assert (done.returncode, done.stderr) == (0, "")
    assert kubelets.pulls == [("n1", f"{LAB}:recommended"), ("n1", f"{LAB}:w_2024_02")]
    assert not kubelets.pods()
    assert keeper(name="two").once().returncode == 0
    assert len(kubelets.pulls) == 2


def test_a_kept_image_stays_known_while_tarn_serves(keeper, kubelets, registry):
    kubelets.node("n1")
    kubelets.node("n2")
    one = keeper().start()
    one.wait_all(count=4)
    kubelets.wait_no_pods()
    assert len(kubelets.pulls) == 4
    image = one.json("/tarn/v1/keeps/labs")["images"][0]
    assert image["image"] == f"{LAB}:recommended"
    assert image["digest"] == digest(registry, "recommended")
    assert image["tags"] == ["recommended", "w_2024_03"]
    assert image["display"] == "Recommended (Weekly 2024_03)"
    assert (image["kept"], image["pending"], image["failed"]) == (2, 0, 0)
    kubelets.node("n3")
    one.wait_all(count=6)
    assert sorted(kubelets.pulls)[4:] == [("n3", f"{LAB}:recommended"), ("n3", f"{LAB}:w_2024_02")]


def test_cachemachines_pages_tell_before_and_after(keeper, kubelets, registry):
    kubelets.node("n1", images=[listed("registry.k8s.io/pause@sha256:1", "registry.k8s.io/pause:3.9")])
    kubelets.outcomes.append(("", lambda pod, node: None))
    one = keeper().start()
    wait_until(lambda: len(kubelets.pulls) == 1, "a pull")
    recommended, second = digest(registry, "recommended"), digest(registry, "w_2024_02")
    def element(tag, name, hash_of):
        return {"image_url": f"{LAB}:{tag}", "image_hash": hash_of, "name": name}
    before = one.get("/cachemachine/labs")
    assert before.headers["Content-Type"] == "application/json; charset=utf-8"
    pause = {"image_url": "registry.k8s.io/pause:3.9", "image_hash": "sha256:1", "tags": []}
    everything = [element(tag, tag, digest(registry, tag))
                  for tag in ("w_2024_03", "w_2024_02", "w_2024_01", "recommended")]
    desired = [element("recommended", "Recommended", recommended),
               element("w_2024_03", "Weekly 2024_03", recommended),
               element("w_2024_02", "Weekly 2024_02", second)]
    assert before.body.decode() == json.dumps(
        {"name": "labs", "labels": {}, "common_cache": [pause], "all_images": everything,
         "available_images": [], "desired_images": desired, "images_to_cache": desired})
    kubelets.outcomes.clear()
    pod = kubelets.pods()[0]
    kubelets._list("n1", f"{LAB}:recommended", recommended)
    kubelets.set_status(pod, succeeded(f"{LAB}:recommended", recommended))
    one.wait_all(count=2)
    desired[0]["name"] = "Recommended (Weekly 2024_03)"
    after = one.json("/cachemachine/labs")
    assert after["available_images"] == after["desired_images"] == desired
    assert after["images_to_cache"] == []
    assert {"image_url": f"{LAB}:recommended", "image_hash": recommended, "tags": []} \
        in after["common_cache"]
    assert one.get("/cachemachine/labs/available").body.decode() == json.dumps(
        {"images": desired, "all": everything})
    assert one.get("/cachemachine/labs/desired").body.decode() == json.dumps(
        {"images": desired, "all": everything})
    assert one.get("/cachemachine/").body == b'["labs"]'


@pytest.mark.parametrize("method, path, status, body", [
    ("GET", "/cachemachine/none", 404, "404: Not Found"),
    ("GET", "/cachemachine/none/available", 404, "404: Not Found"),
    ("GET", "/cachemachine/labs/else", 404, "404: Not Found"),
    ("GET", "/cachemachine", 404, "404: Not Found"),
    ("POST", "/cachemachine", 404, "404: Not Found"),
    ("PUT", "/cachemachine/", 405, "405: Method Not Allowed"),
    ("DELETE", "/cachemachine/", 405, "405: Method Not Allowed"),
    ("POST", "/cachemachine/labs", 405, "405: Method Not Allowed"),
    ("DELETE", "/cachemachine/none", 200, "200: OK"),
])
def test_cachemachines_errors_are_plain_text(keeper, kubelets, method, path, status, body):
    one = keeper(operators="anyone").start()
    response = one.get(path, method=method)
    assert (response.status, response.body.decode()) == (status, body)
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"


def test_the_root_is_metadata_for_programs_and_a_page_for_browsers(keeper, kubelets):
    kubelets.node("<b>n1")
    one = keeper().start()
    assert list(one.json("/")) == ["name", "version", "description", "repository_url",
                                   "documentation_url"]
    assert one.json("/")["name"] == "cachemachine"
    one.wait_all(count=2)
    page = one.get("/", {"Accept": "text/html,*/*"})
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert b"&#60;b&#62;n1" in page.body and b"<b>" not in page.body
    assert b'class="kept"' in page.body


def test_nublados_pages(keeper, kubelets, registry):
    kubelets.node("n1")
    kubelets.node("n2", taints=[{"key": "some-taint", "value": "other-value",
                                 "effect": "NoSchedule"}])
    one = keeper().start()
    one.wait_all(count=2)
    images = one.json("/nublado/spawner/v1/images")
    newest = digest(registry, "w_2024_03")
    weekly = {"reference": f"{LAB}:w_2024_03", "tag": "w_2024_03", "name": "Weekly 2024_03",
              "digest": newest, "aliases": ["recommended"], "prepulled": True}
    assert images["latest_weekly"] == weekly
    assert images["recommended"] == {
        "reference": f"{LAB}:recommended", "tag": "recommended",
        "name": "Recommended (Weekly 2024_03)", "digest": newest, "aliases": ["w_2024_03"],
        "prepulled": True}
    assert images["latest_daily"] is None and images["latest_release"] is None
    assert [image["tag"] for image in images["all"]] == ["recommended", "w_2024_03", "w_2024_02",
                                                         "w_2024_01"]
    assert images["all"][3]["prepulled"] is False
    prepulls = one.json("/nublado/spawner/v1/prepulls")
    assert prepulls["config"] == {
        "source": {"type": "docker", "registry": "fake.test", "repository": "org/lab"},
        "refresh_interval": 300.0, "prepull_timeout": 1200.0, "recommended_tag": "recommended",
        "num_releases": 0, "num_weeklies": 2, "num_dailies": 0, "cycle": None, "pin": [],
        "alias_tags": []}
    assert prepulls["images"]["pending"] == []
    assert prepulls["images"]["prepulled"][0] == {
        "reference": f"{LAB}:w_2024_03", "tag": "w_2024_03", "name": "Weekly 2024_03",
        "digest": newest, "size": 1000, "nodes": ["n1"], "missing": []}
    assert prepulls["nodes"][0]["name"] == "n1"
    assert sorted(prepulls["nodes"][0]["cached"]) == [f"{LAB}:w_2024_02", f"{LAB}:w_2024_03"]
    assert prepulls["nodes"][1] == {
        "name": "n2", "eligible": False, "cached": [],
        "comment": "Node is tainted (NoSchedule, some-taint = other-value)"}
