"""The Job of tarn build --with kaniko, as a real API server takes it."""

import json

import pytest

from kit.builder import IMAGE
from kit.processes import run
from kit.tarn import bare_environment

JOBS = "/apis/batch/v1/namespaces/default/jobs"


@pytest.fixture
def context(tmp_path):
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM ghcr.io/o/a:1\n")
    return folder


def test_the_job_is_one(program, cluster, context, tmp_path):
    done = run([program, "build", context, "--to", IMAGE, "--with", "kaniko", "--dry-run",
                "--service-account", "builder", "--cpu", "500m", "--memory", "16Gi", "--disk-size",
                "10", "--node-selector", "disk=large", "--toleration", "build=yes:NoSchedule",
                "--toleration", "spot:NoExecute", "--timeout", "1h", "--via",
                "http://tarn.tarn:5000", "--cache"], environment=bare_environment(tmp_path))
    job = json.loads(done.stdout)["job"]
    status, answer = cluster.ask("POST", JOBS + "?fieldValidation=Strict", job)
    assert status == 201, answer
    name = job["metadata"]["name"]
    assert cluster.ask("GET", f"{JOBS}/{name}")[1]["spec"]["activeDeadlineSeconds"] == 3600
    status, _ = cluster.ask("DELETE", f"{JOBS}/{name}?propagationPolicy=Background")
    assert status == 200
