"""Fixtures for tests of `tarn keep`: kubelets, a registry, and what keeps its images on them."""

import pytest

from kit.kubelets import Keeper, Kubelets

LAB = "fake.test/org/lab"


def digest(registry, tag):
    return registry.repository("org/lab").tags[tag]


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
    def make(images=None, name="one", settings=None, environment=None, machines=None,
             token="secret-token", **keep):
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
                           "default": True}], **(settings or {})}, environment, token))
        return made[-1]
    yield make
    for one in made:
        one.finish()
