"""What a real registry passes of the distribution-spec's conformance tests, it passes through tarn."""

import collections
import re

import pytest

from kit.containers import environment
from kit.processes import run

# What must pass, so that a registry that passes nothing is noticed. The real one is too old for
# referrers.
WORKFLOWS = ["Ping", "Blob push", "Blob post put", "Blob chunked", "Blob streaming", "Blob mount",
             "Blob get", "Blob delete", "Manifest delete"]
RESULT = re.compile(r"^ *([A-Za-z][^\n]*?)\.*: *(Pass|FAIL|Skip|Disabled|Error)$", re.MULTILINE)


@pytest.fixture
def results(tmp_path):
    """results(HOST:PORT, login): test or API -> the set of "Pass", "FAIL", "Skip", "Disabled"."""
    def ask(address, **login):
        folder = tmp_path / ("through" if login else "straight")
        folder.mkdir()
        said = run(["conformance"], directory=folder, check=False, seconds=300, environment={
            **environment(folder), "OCI_REGISTRY": address, "OCI_TLS": "disabled",
            "OCI_REPO1": "conformance/one", "OCI_REPO2": "conformance/two",
            "OCI_RESULTS_DIR": str(folder), "OCI_DATA_SHA512": "false", **login}).stdout
        found = collections.defaultdict(set)
        for name, result in RESULT.findall(said):  # a test of several manifests has several
            found[name].add(result)
        assert len(found) > 200, said[-4000:]
        return found
    return ask


def test_through_tarn_nothing_fails_that_passes_straight(start_tarn, origin, users, results):
    tarn = start_tarn([{"host": "origin.test", "url": origin.url, "push": True, "delete": True,
                        "default": True}], clients={"htpasswd": str(users)})
    straight = results(origin.address)
    through = results(tarn.address, OCI_USERNAME="alice", OCI_PASSWORD="secret")
    worse = {name: through[name] for name, got in straight.items()
             if "FAIL" not in got and "FAIL" in through[name]}
    assert worse == {}
    assert {name: through[name] for name in WORKFLOWS} == dict.fromkeys(WORKFLOWS, {"Pass"})
