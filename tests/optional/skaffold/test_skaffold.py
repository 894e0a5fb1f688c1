"""skaffold calls tarn build as its custom builder, and finds the image that was pushed."""

import json
import os
import pathlib
import subprocess

import pytest

from kit.builder import PROJECT
from kit.yaml_text import yaml_text


@pytest.fixture
def skaffold(builder, upstream, tmp_path):
    """skaffold(ARGUMENT...) in the builder's folder, with an image of the local registry."""
    image = f"127.0.0.1:{upstream.port}/team/app"
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "tarn").symlink_to(pathlib.Path(builder.program).resolve())
    (builder.folder / "skaffold.yaml").write_text(yaml_text({
        "apiVersion": "skaffold/v4beta11", "kind": "Config",
        "build": {"tagPolicy": {"envTemplate": {"template": "v1"}}, "local": {"push": True},
                  "artifacts": [{"image": image, "context": ".", "custom": {
                      "buildCommand": f"tarn build --skaffold --project {PROJECT}",
                      "dependencies": {"command": "tarn build dependencies"}}}]}}))
    environment = {**builder.environment, "SKAFFOLD_UPDATE_CHECK": "false",
                   "PATH": f"{programs}:{os.environ['PATH']}"}

    def run(*arguments, status=0):
        done = subprocess.run(["skaffold", *arguments], cwd=builder.folder, env=environment,
                              capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == status, done.stdout + done.stderr
        return done
    run.image = image
    return run


def test_skaffold_builds_and_finds_the_image(skaffold, cloud_build, upstream, tmp_path):
    pushed = upstream.image("team/app", [b"a layer"], tag="v1")
    skaffold("build", "--file-output", str(tmp_path / "built.json"), "--cache-artifacts=false")
    assert cloud_build.the_build()["images"] == [f"{skaffold.image}:v1"]
    (built,) = json.loads((tmp_path / "built.json").read_text())["builds"]
    assert built["tag"] == f"{skaffold.image}:v1@{pushed}"


def test_a_build_that_fails_fails_skaffold(skaffold, cloud_build):
    cloud_build.plan = cloud_build.failure()
    done = skaffold("build", "--cache-artifacts=false", status=1)
    assert "the build failed" in done.stdout + done.stderr
