"""tarn build with Cloud Build, against a strict emulator of the services it asks."""

import hashlib
import json
import os
import signal
import subprocess

import pytest
import yaml

from kit.builder import BUCKET, IMAGE, PROJECT
from kit.cloud_build import Cut, Refused
from kit.content import MIB, noise
from kit.processes import wait_until


# ---- the whole way

def test_a_build_is_submitted_followed_and_its_digest_printed_last(builder, cloud_build):
    builder.write("src/main.c", "int main;\n")
    done = builder.build()
    assert done.events[-1]["digest"] == cloud_build.digest
    assert done.events[-1]["state"] == "done"
    assert done.log == "starting build\nStep #0: hello\nStep #0: half a line\nDONE\n"
    assert [event["status"] for event in done.all("build")] == ["PENDING", "QUEUED", "WORKING",
                                                                "SUCCESS"]
    assert [(event["status"], event.get("seconds")) for event in done.all("step")] == \
        [("WORKING", None), ("SUCCESS", 72)]
    assert done.err == ""
    build = cloud_build.the_build()
    assert cloud_build.buckets == {BUCKET: PROJECT}
    assert build["images"] == [IMAGE]
    assert build["steps"][0]["args"] == ["build", "--tag", IMAGE, "--file", "Dockerfile", "."]
    _, contents = builder.unpacked()
    assert contents == {"Dockerfile": b"FROM scratch\nCOPY . /\n", "src/main.c": b"int main;\n"}


def test_the_context_is_named_by_its_tar_and_sent_once(builder, cloud_build):
    builder.write("big", noise(3 * MIB, 1))
    first = builder.build().all("context")[0]
    assert first["state"] == "uploaded"
    ((content, _),) = [value for (_, name), value in cloud_build.objects.items()
                       if name == first["object"]]
    plain = subprocess.run(["gzip", "-dc"], input=content, capture_output=True, check=True).stdout
    assert first["object"] == f"source/sha256-{hashlib.sha256(plain).hexdigest()}.tgz"
    cloud_build.forget()
    os.utime(builder.folder / "big", (1, 1))       # times do not count
    second = builder.build().all("context")[0]
    assert (second["object"], second["state"]) == (first["object"], "present")
    storage = [kind for kind in cloud_build.kinds() if kind in ("buckets", "object", "begin", "piece")]
    assert storage == ["buckets", "object"]


def test_entries_are_sorted_and_belong_to_nobody(builder):
    for name in ("b", "a/x", "a.txt", "a-1"):
        builder.write(name, name)
    os.chmod(builder.folder / "b", 0o750)
    os.link(builder.folder / "b", builder.folder / "c")
    (builder.folder / "link").symlink_to("a/x")
    builder.build()
    entries, contents = builder.unpacked()
    assert list(entries) == ["Dockerfile", "a", "a-1", "a.txt", "a/x", "b", "c", "link"]
    assert {(entry.uid, entry.gid, entry.mtime, entry.uname) for entry in entries.values()} == \
        {(0, 0, 315532800, "")}
    assert entries["b"].mode == 0o750
    assert contents["c"] == b"b"
    assert entries["link"].linkname == "a/x"


def test_what_dockerignore_leaves_out_is_not_sent(builder):
    builder.write(".dockerignore", "*\n!src/keep*\n!README.md\n# comment\n\nsrc/keep/no\n")
    for name in ("x", "README.md", "src/a", "src/keep/yes", "src/keep/no", ".git/config"):
        builder.write(name, name)
    builder.build()
    entries, _ = builder.unpacked()
    assert list(entries) == [".dockerignore", "Dockerfile", "README.md", "src", "src/keep",
                             "src/keep/yes"]


def test_the_dockerfiles_own_ignore_file_comes_first(builder):
    builder.write(".dockerignore", "a\n")
    builder.write("other.Dockerfile", "FROM scratch\n")
    builder.write("other.Dockerfile.dockerignore", "b\n")
    for name in ("a", "b"):
        builder.write(name, name)
    builder.build("--file", "other.Dockerfile")
    assert "a" in builder.unpacked()[0] and "b" not in builder.unpacked()[0]


def test_gcloudignore_leaves_out_as_well(builder):
    builder.write(".gcloudignore", "#!include:.gitignore\nlogs/\n!logs/keep\n")
    builder.write(".gitignore", "*.o\n!main.o\n/top\n")
    for name in ("a.o", "main.o", "x/b.o", "top", "x/top", "logs/keep"):
        builder.write(name, name)
    builder.build()
    entries, _ = builder.unpacked()
    assert list(entries) == [".gcloudignore", ".gitignore", "Dockerfile", "main.o", "x", "x/top"]


# ---- uploads

@pytest.mark.parametrize("kept", [0, 256 << 10, 3 * MIB, 8 * MIB])
def test_an_upload_goes_on_where_it_was_cut(builder, cloud_build, kept):
    content = noise(20 * MIB, 7)
    builder.write("big", content)
    cloud_build.keeps = kept
    builder.build()
    assert builder.unpacked()[1]["big"] == content
    pieces = [length for kind, _, _, _, length in cloud_build.requests if kind == "piece"]
    assert sum(pieces) - kept <= len(content) + 9 * MIB


@pytest.mark.parametrize("fault", [Refused(503), Refused(500), Refused(429), Cut(), Refused(408)])
def test_an_upload_survives_a_service_that_fails_for_a_moment(builder, cloud_build, fault):
    content = noise(10 * MIB, 7)
    builder.write("big", content)
    cloud_build.fail["piece"] = [fault, fault]
    builder.build()
    assert builder.unpacked()[1]["big"] == content


def test_an_upload_whose_session_is_lost_begins_anew(builder, cloud_build):
    builder.write("big", noise(10 * MIB, 7))
    cloud_build.fail["piece"] = [Refused(410)]
    builder.build()
    assert cloud_build.kinds().count("begin") == 2


def test_an_upload_that_is_refused_leaves_nothing(builder, cloud_build):
    builder.write("big", noise(10 * MIB, 7))
    cloud_build.fail["piece"] = [Refused(403, "no", "PERMISSION_DENIED")]
    done = builder.build(status=1)
    assert "403 PERMISSION_DENIED" in done.sentence
    assert cloud_build.uploads == {} and cloud_build.builds == {}


def test_a_file_that_changes_between_the_readings_is_named(builder, cloud_build):
    changing = builder.write("src/changing", "before")
    builder.write("zz", noise(MIB, 1))
    cloud_build.hooks["begin"] = lambda request: changing.write_text("behind")
    done = builder.build(status=1)
    assert "src/changing" in done.sentence and "changed" in done.sentence
    assert not [name for _, name in cloud_build.objects if name.startswith("source/")]
    assert cloud_build.builds == {}


# ---- whose bucket

def test_no_source_goes_to_a_bucket_of_another_project(builder, cloud_build):
    cloud_build.buckets[BUCKET] = "a-squatter"
    done = builder.build(status=1)
    assert BUCKET in done.sentence and "somebody else" in done.sentence
    assert cloud_build.objects == {} and cloud_build.builds == {}


def test_a_bucket_that_is_given_is_not_made(builder, cloud_build):
    cloud_build.buckets["ours"] = "another"
    done = builder.build("--staging-bucket", "gs://ours", status=1)
    assert "ours is not one of project" in done.sentence
    cloud_build.buckets["ours"] = PROJECT
    builder.build("--staging-bucket", "ours")
    assert BUCKET not in cloud_build.buckets


def test_a_regional_build_has_a_regional_bucket(builder, cloud_build):
    builder.build("--region", "europe-west1")
    assert list(cloud_build.buckets) == [f"{PROJECT}_europe-west1_cloudbuild"]
    assert [region for _, region, _ in cloud_build.builds] == ["europe-west1"]


# ---- how builds end

@pytest.mark.parametrize("status, words", [
    ("FAILURE", "the build failed"), ("TIMEOUT", "timeout"), ("CANCELLED", "cancelled"),
    ("INTERNAL_ERROR", "internal error"), ("EXPIRED", "queue")])
def test_a_build_that_fails_says_how(builder, cloud_build, status, words):
    cloud_build.plan = cloud_build.failure(status, statusDetail="it could not be")
    done = builder.build(status=1)
    last = done.events[-1]
    assert last["state"] == "failed" and "digest" not in last
    assert words in last["message"] and "it could not be" in last["message"]
    assert "https://console.example" in last["message"] and "step 0 build" in last["message"]
    assert "no such file: x.c" in done.err and last["message"] in done.err


def test_a_log_that_may_not_be_read_ends_nothing(builder, cloud_build):
    cloud_build.fail["log"] = [Refused(403, "no", "PERMISSION_DENIED")]
    done = builder.build()
    assert "--logs-bucket" in done.sentence
    assert done.events[-1]["digest"] == cloud_build.digest


def test_a_log_is_shown_once_whatever_the_service_answers(builder, cloud_build):
    cloud_build.whole_log = True
    cloud_build.fail["log"] = [Refused(429), Refused(503), Cut()]
    done = builder.build()
    assert done.log == "starting build\nStep #0: hello\nStep #0: half a line\nDONE\n"


def test_the_state_is_asked_again_when_the_service_fails(builder, cloud_build):
    cloud_build.fail["build"] = [Refused(503), Cut(), Refused(429)]
    assert builder.build().events[-1]["digest"] == cloud_build.digest


def test_a_log_in_cloud_logging(builder, cloud_build):
    builder.write("cloudbuild.yaml",
                  "steps:\n- name: docker\noptions: {logging: CLOUD_LOGGING_ONLY}\n")
    done = builder.run(".", "--to", IMAGE, "--build-file", "cloudbuild.yaml")
    assert done.log == "starting build\nStep #0: hello\nStep #0: half a line\nDONE\n"
    assert "entries" in cloud_build.kinds() and "log" not in cloud_build.kinds()


def test_a_token_that_has_ended_is_renewed(builder, google, cloud_build):
    cloud_build.hooks["submit"] = lambda request: google.revoke_access() \
        if cloud_build.kinds().count("submit") == 1 else None
    assert builder.build().events[-1]["digest"] == cloud_build.digest


def test_a_build_is_not_submitted_twice(builder, cloud_build):
    def cut(request):
        cloud_build.start(PROJECT, "global", request.json)
        raise Cut
    cloud_build.hooks["submit"] = cut
    builder.build(status=1)
    assert cloud_build.kinds().count("submit") == 1


def test_async_prints_the_id(builder, cloud_build):
    done = builder.build("--async")
    assert done.events[-1]["id"] == cloud_build.the_build()["id"]
    assert "build" not in cloud_build.kinds()


@pytest.mark.parametrize("cancels", [False, True])
def test_an_interrupt_leaves_or_cancels_the_build(builder, cloud_build, cancels):
    cloud_build.plan = lambda build: [({"status": "WORKING"}, b"")]
    process = builder.begin(".", "--to", IMAGE, *["--cancel-on-interrupt"][:cancels])
    wait_until(lambda: cloud_build.kinds().count("build") >= 2, "the build to be followed")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert cloud_build.the_build()["status"] == ("CANCELLED" if cancels else "WORKING")
    assert ("is cancelled" if cancels else "tarn build logs") in err


def test_a_build_that_waits_for_an_approval_says_so(builder, cloud_build):
    plan = cloud_build.success
    cloud_build.plan = lambda build: [({"status": "PENDING", "approval": {"state": "PENDING"}},
                                       b"")] * 2 + plan(build)
    assert builder.build().sentence.endswith("the build waits for an approval in the console")


def test_the_credentials_of_a_configuration(builder, google, cloud_build, tmp_path):
    file = tmp_path / "tarn.yaml"
    del builder.environment["GOOGLE_APPLICATION_CREDENTIALS"]
    assert "no Google credentials" in builder.build(status=1).sentence
    file.write_text(f"upstreams:\n- host: '*.pkg.dev'\n  credentials: {{google: {{file: "
                    f"{tmp_path / 'key.json'}}}}}\n")
    assert builder.build("--config", file).events[-1]["digest"] == cloud_build.digest
    file.write_text("nonsense: 1\n")
    assert f"{file}:1" in builder.build("--config", file, status=1).err


# ---- what is asked for

def test_every_option_is_in_the_request(builder):
    build = builder.request(
        "--to", "gcr.io/p/second", "--build-arg", "A=$B", "--target", "final", "--platform",
        "linux/arm64", "--machine-type", "e2-highcpu-8", "--disk-size", "200GB", "--timeout",
        "90m", "--service-account", "b@team-1.iam.gserviceaccount.com", "--secret",
        "KEY=projects/p/secrets/s/versions/3", "--build-tag", "nightly", "--cache")
    assert build["images"] == [IMAGE, "gcr.io/p/second:latest"]
    assert build["timeout"] == "5400s"
    assert build["options"] == {"machineType": "E2_HIGHCPU_8", "diskSizeGb": "200",
                                "logging": "GCS_ONLY"}
    assert build["logsBucket"] == f"gs://{BUCKET}"
    assert build["serviceAccount"] == \
        f"projects/{PROJECT}/serviceAccounts/b@team-1.iam.gserviceaccount.com"
    assert build["tags"] == ["nightly"]
    assert build["availableSecrets"] == {"secretManager": [
        {"versionName": "projects/p/secrets/s/versions/3", "env": "KEY"}]}
    pull, step = build["steps"]
    assert IMAGE in pull["args"]
    assert step["secretEnv"] == ["KEY"]
    args = " ".join(step["args"])
    for words in ("--build-arg A=$$B", "--target final", "--platform linux/arm64",
                  f"--cache-from {IMAGE}", "--secret id=KEY,env=KEY"):
        assert words in args


def test_a_private_pool(builder):
    build = builder.request("--pool", "fast", "--region", "us-west1")
    assert build["options"]["pool"]["name"] == \
        f"projects/{PROJECT}/locations/us-west1/workerPools/fast"
    assert "needs --region" in builder.build("--pool", "fast", status=1).sentence


def test_a_source_of_git_is_fetched_by_cloud_build(builder, cloud_build):
    builder.run("git+https://github.com/o/r.git#v1", "--to", IMAGE)
    assert cloud_build.the_build()["source"] == {"gitSource": {
        "url": "https://github.com/o/r.git", "revision": "v1"}}
    assert "begin" not in cloud_build.kinds()


BUILD_FILE = """
steps:
- name: gcr.io/cloud-builders/docker
  id: one
  args: [build, -t, $_TARGET, .]
- name: gcr.io/cloud-builders/docker
  wait_for: [one]
  entrypoint: bash
  args: [-c, 'echo $$HOME $PROJECT_ID']
  secretEnv: [PASSWORD]
images: [$_TARGET]
substitutions: {_TARGET: gcr.io/p/i}
availableSecrets:
  secretManager: [{versionName: projects/p/secrets/s/versions/latest, env: PASSWORD}]
options: {machineType: E2_HIGHCPU_32, diskSizeGb: 500}
timeout: 3600s
"""


@pytest.mark.parametrize("as_json", [False, True])
def test_a_build_file_is_sent_as_it_is(builder, as_json):
    text = json.dumps(yaml.safe_load(BUILD_FILE), indent=1) if as_json else BUILD_FILE
    builder.write("cloudbuild.yaml", text)
    build = builder.run(".", "--build-file", "cloudbuild.yaml", "--project", PROJECT, "--dry-run",
                        "--substitution", "_TARGET=gcr.io/p/other").events[0]["build"]
    assert build["steps"][1]["waitFor"] == ["one"]
    assert build["substitutions"] == {"_TARGET": "gcr.io/p/other"}
    assert build["options"]["diskSizeGb"] == "500"
    assert build["timeout"] == "3600s"


@pytest.mark.parametrize("change, place, words", [
    (("id: one", "idd: one"), "4:3: steps[0].idd", "no such key"),
    (("timeout: 3600s", "timeout: 1h"), "", "timeout: it must be seconds"),
    (("wait_for: [one]", "wait_for: one"), "", "steps[1].wait_for: it must be a list"),
    (("wait_for: [one]", "wait_for: [two]"), "", "no step before it has the id two"),
    (("$PROJECT_ID", "$NOBODY"), "", "$NOBODY, which Cloud Build does not know"),
    (("$PROJECT_ID", "$_NOBODY"), "", "$_NOBODY, which has no value"),
    (("_TARGET: gcr.io/p/i", "_TARGET: x, _MORE: y"), "", "_MORE"),
    (("secretEnv: [PASSWORD]", "secretEnv: [OTHER]"), "", "OTHER is none of availableSecrets"),
    (("timeout:", "source: {}\ntimeout:"), "", "source"),
    (("timeout:", "status: DONE\ntimeout:"), "", "the service fills this in"),
    (("diskSizeGb: 500", "diskSizeGb: big"), "", "options.diskSizeGb: it must be a whole number"),
    (("timeout:", "serviceAccount: a@b\noptionz: 1\ntimeout:"), "", "optionz: no such key"),
])
def test_a_mistake_in_a_build_file_is_told_with_its_place(builder, cloud_build, change, place, words):
    assert change[0] in BUILD_FILE
    builder.write("cloudbuild.yaml", BUILD_FILE.replace(*change))
    done = builder.run(".", "--build-file", "cloudbuild.yaml", "--project", PROJECT, status=1)
    assert f"cloudbuild.yaml:{place}" in done.sentence or not place
    assert words in done.sentence
    assert cloud_build.kinds() == []


# ---- bad input

def test_bad_usage_ends_with_2(builder, cloud_build):
    for arguments in (["."], [".", "--to", "app"], [".", "x", "--to", IMAGE],
                      [".", "--to", "gcr.io/p/app@sha256:" + 64 * "a"], ["triggers"],
                      ["show"], [".", "--to", IMAGE, "--timeout", "soon"],
                      [".", "--to", IMAGE, "--region", "EU!"]):
        builder.run(*arguments, status=2)
    assert cloud_build.kinds() == []


def test_what_is_missing_is_said_in_one_sentence(builder, cloud_build):
    assert "no project" in builder.run(".", "--to", "example.com/a/b", status=1).sentence
    assert "there is no such file" in builder.build("--file", "absent", status=1).sentence
    (builder.folder / "Dockerfile").unlink()
    assert "has no Dockerfile" in builder.build(status=1).sentence
    assert "no such folder" in builder.run("absent", "--to", IMAGE, status=1).sentence
    assert cloud_build.kinds() == []


@pytest.mark.parametrize("target", ["../secret", "/etc/passwd", "a/../../x"])
def test_a_symlink_out_of_the_context_is_refused(builder, cloud_build, target):
    (builder.folder / "out").symlink_to(target)
    done = builder.build(status=1)
    assert "out" in done.sentence and target in done.sentence
    assert cloud_build.kinds() == []
    builder.build("--keep-symlinks")
    assert builder.unpacked()[0]["out"].linkname == target


def test_a_dockerfile_outside_of_the_context_is_refused(builder, tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    assert "outside of the context" in builder.build("--file", tmp_path / "Dockerfile",
                                                     status=1).sentence


def test_a_context_above_its_limit_is_refused(builder, cloud_build):
    builder.write("big", noise(2 * MIB, 1))
    assert "--max-context" in builder.build("--max-context", "1MiB", status=1).sentence
    assert cloud_build.kinds() == []


def test_a_wrong_pattern_is_told_with_its_line(builder):
    builder.write(".dockerignore", "ok\n[\n")
    assert ".dockerignore:2" in builder.build(status=1).sentence


@pytest.mark.parametrize("kind, role", [
    ("buckets", "storage.buckets.list"), ("make bucket", "storage.buckets.create"),
    ("object", "roles/storage.objectUser"), ("begin", "roles/storage.objectUser"),
    ("submit", "roles/cloudbuild.builds.editor")])
def test_missing_rights_name_the_role_and_the_account(builder, google, cloud_build, kind, role):
    cloud_build.fail[kind] = [Refused(403, "Permission denied", "PERMISSION_DENIED")]
    done = builder.build(status=1)
    assert "403 PERMISSION_DENIED: Permission denied" in done.sentence
    assert role in done.sentence and google.account in done.sentence


def test_a_service_that_is_not_enabled(builder, cloud_build):
    cloud_build.fail["submit"] = [Refused(403, "Cloud Build API has not been used in project 1 before "
                                           "or it is disabled.", "PERMISSION_DENIED")]
    assert "gcloud services enable cloudbuild.googleapis.com" in builder.build(status=1).sentence


# ---- the other orders

def test_builds_are_listed_shown_cancelled_and_tried_again(builder, cloud_build):
    builder.build()
    number = cloud_build.the_build()["id"]
    assert builder.run("list", "--project", PROJECT).events[0]["id"] == number
    assert builder.run("list", "--project", PROJECT, "--filter", 'status="WORKING"').events == []
    assert builder.run("show", number, "--project", PROJECT).events[0]["status"] == "SUCCESS"
    assert builder.run("logs", number, "--project", PROJECT).out.endswith("DONE\n")
    assert builder.run("logs", number, "--follow", "--project", PROJECT).events[-1]["digest"] == \
        cloud_build.digest
    assert builder.run("retry", number, "--project", PROJECT).events[-1]["state"] == "done"
    again = sorted(cloud_build.builds)[-1][2]
    assert builder.run("cancel", again, "--project", PROJECT).events[0]["status"] == "CANCELLED"
    assert "404 NOT_FOUND" in builder.run("show", "absent", "--project", PROJECT, status=1).err


def test_triggers_are_listed_and_run(builder, cloud_build):
    cloud_build.triggers = [{"id": "t1", "name": "first"}, {"id": "t2", "name": "second"}]
    assert builder.run("triggers", "list", "--project", PROJECT).events[0]["name"] == "first"
    done = builder.run("triggers", "run", "second", "--ref", "refs/tags/v1", "--project", PROJECT)
    assert cloud_build.ran == ("t2", {"projectId": PROJECT, "tagName": "v1"})
    assert done.events[-1]["digest"] == cloud_build.digest
    assert "no trigger third" in builder.run("triggers", "run", "third", "--project", PROJECT,
                                             status=1).sentence


def test_the_token_goes_to_the_services_alone(builder, cloud_build):
    cloud_build.session_url = "http://127.0.0.2:9/upload"
    done = builder.build(status=1)
    assert "http://127.0.0.2:9/upload leads elsewhere" in done.sentence


# ---- skaffold

def skaffold(builder, **more):
    builder.environment.update(IMAGE=IMAGE, PUSH_IMAGE="true", BUILD_CONTEXT=str(builder.folder),
                               PLATFORMS="linux/arm64", SKIP_TEST="false", **more)


def test_skaffolds_contract_is_fulfilled(builder, cloud_build):
    skaffold(builder)
    done = builder.run("--skaffold")
    assert done.events[-1]["digest"] == cloud_build.digest
    assert cloud_build.the_build()["images"] == [IMAGE]
    assert "--platform linux/arm64" in " ".join(cloud_build.the_build()["steps"][0]["args"])


def test_what_skaffold_wants_and_a_remote_build_cannot_do_is_an_error(builder, cloud_build):
    builder.run("--skaffold", status=2)
    skaffold(builder)
    builder.environment["PUSH_IMAGE"] = "false"
    assert "PUSH_IMAGE" in builder.run("--skaffold", status=1).sentence
    builder.environment.update(PUSH_IMAGE="true", PLATFORMS="linux/amd64,linux/arm64")
    assert "one platform" in builder.run("--skaffold", status=1).sentence
    assert cloud_build.kinds() == []


def test_the_files_that_skaffold_watches(builder):
    builder.write(".dockerignore", "out\nsrc/*\n!src/keep\n")
    for name in ("out/x", "src/a", "src/keep", "top"):
        builder.write(name, name)
    skaffold(builder)
    assert json.loads(builder.run("dependencies").out) == [".dockerignore", "Dockerfile",
                                                           "src/keep", "top"]


# ---- on a terminal

def test_on_a_terminal_text_is_shown_and_the_digest_alone_is_the_output(builder, cloud_build):
    builder.write("big", noise(3 * MIB, 1))
    master, slave = os.openpty()
    process = subprocess.Popen([builder.program, "build", ".", "--to", IMAGE], cwd=builder.folder,
                               env=builder.environment, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    shown = b""
    try:
        while part := os.read(master, 65536):
            shown += part
    except OSError:      # the last one at the other side has closed it
        pass
    os.close(master)
    assert process.wait(60) == 0
    lines = shown.decode().replace("\r", "\n").split("\n")
    assert lines[-3:] == [cloud_build.digest, "", ""]
    text = shown.decode()
    assert "context [" in text and "build: SUCCESS (72 s)" in text and "uploaded" in text and "Step #0: half a line" in text
    assert "{" not in text
