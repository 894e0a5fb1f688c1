"""The action for GitHub's workflows: a build without a key, by the token of the job."""

import pathlib
import subprocess

import pytest

from google_emulator import AUDIENCE
from kit.builder import IMAGE

SCRIPT = pathlib.Path(__file__).parents[2] / "deploy" / "github" / "build.sh"
ACCOUNT = "builder@team-1.iam.gserviceaccount.com"


@pytest.fixture
def job(builder, google, tmp_path):
    """Runs the action's script as a job of GitHub would."""
    google.subjects["the-token-of-the-job"] = "repo:org/app"
    google.may_act_as[ACCOUNT] = {"repo:org/app"}
    del builder.environment["GOOGLE_APPLICATION_CREDENTIALS"]
    output = tmp_path / "output"
    builder.environment.update(
        TARN=builder.program, PROVIDER=AUDIENCE.removeprefix("//iam.googleapis.com/"), SERVICE_ACCOUNT=ACCOUNT, IMAGE=IMAGE, FOLDER=".", ARGUMENTS="",
        GITHUB_OUTPUT=str(output), STS_URL=f"{google.url}/v1/token", IAM_URL=google.url,
        ACTIONS_ID_TOKEN_REQUEST_URL=f"{google.url}/subject?x=1",
        ACTIONS_ID_TOKEN_REQUEST_TOKEN="the-key-of-the-job", TMPDIR=str(tmp_path))

    def run(status=0, **more):
        done = subprocess.run([SCRIPT], env={**builder.environment, **more}, cwd=builder.folder,
                              capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == status, done.stdout + done.stderr
        for secret in google.all_secrets():
            assert secret not in done.stdout + done.stderr
        assert list(tmp_path.glob("tmp.*")) == []
        return done, output.read_text() if output.exists() else ""
    return run


def test_a_job_builds_with_its_own_token(job, google, cloud_build):
    _, output = job(ARGUMENTS="--build-arg\nA=two words\n")
    assert output == f"digest={cloud_build.digest}\n"
    assert "A=two words" in cloud_build.the_build()["steps"][0]["args"]
    assert google.count("sts") >= 1 and google.count("iam") >= 1


def test_a_build_that_fails_fails_the_job(job, cloud_build):
    cloud_build.plan = cloud_build.failure()
    done, output = job(status=1)
    assert output == "" and "the build failed" in done.stderr


def test_a_job_without_the_permission_is_told(job):
    done, _ = job(status=1, ACTIONS_ID_TOKEN_REQUEST_URL="")
    assert "id-token: write" in done.stderr
