"""tarn build --with kaniko: a Job in a cluster, against a strict stand-in of the API server."""

import signal

import pytest

from kit.builder import BUCKET, IMAGE
from kit.kaniko_cluster import KanikoCluster, ended, running
from kit.kubernetes_api import ALL_RIGHTS, Fault, Kubeconfig
from kit.processes import wait_until

DIGEST = "sha256:" + 64 * "d"
LOG = [f"2026-11-26T10:00:0{second}.{fraction:09}Z line {second} {fraction}"
       for second in range(3) for fraction in (1, 1, 2)]
LINES = "".join(line.partition(" ")[2] + "\n" for line in LOG)


@pytest.fixture
def cluster(tmp_path):
    one = KanikoCluster(tmp_path / "api")
    one.plan = [{"phase": "Pending"}, running(), ended(message=DIGEST)]
    one.log = LOG
    yield one
    one.stop()


@pytest.fixture
def kaniko(builder, cluster, tmp_path):
    """Runs tarn build --with kaniko."""
    file = Kubeconfig(cluster).write(tmp_path / "kubeconfig", {"token": "secret-token"})

    def run(*arguments, status=0, begin=False):
        words = (".", "--to", IMAGE, "--with", "kaniko", "--kubeconfig", file, "--namespace",
                 "builds", *arguments)
        return builder.begin(*words) if begin else builder.run(*words, status=status)
    return run


def container_of(job):
    return job["spec"]["template"]["spec"]["containers"][0]


def test_a_job_builds_and_is_removed(kaniko, cluster, cloud_build):
    created = []
    cluster.hooks.append(lambda verb, resource, item: created.append(item)
                         if (verb, resource) == ("create", "jobs") else None)
    done = kaniko("--service-account", "builder", "--cpu", "4", "--memory", "16Gi", "--disk-size",
                  "10", "--node-selector", "disk=large", "--toleration", "build=yes:NoSchedule",
                  "--timeout", "1h", "--build-arg", "A=b", "--target", "final", "--cache")
    assert done.events[-1] == {"event": "result", "state": "done", "digest": DIGEST,
                               "id": created[0]["metadata"]["name"]}
    assert done.log == LINES
    assert [event["status"] for event in done.all("build")] == ["Pending", "Running", "Succeeded"]
    assert cluster.jobs() == []
    (job,) = created
    pod = job["spec"]["template"]["spec"]
    ((_, name),) = [key for key in cloud_build.objects if key[0] == BUCKET]
    assert container_of(job)["args"] == [
        f"--context=gs://{BUCKET}/{name}", "--dockerfile=Dockerfile",
        "--digest-file=/dev/termination-log", f"--destination={IMAGE}", "--build-arg=A=b",
        "--target=final", "--cache=true"]
    amounts = {"cpu": "4", "memory": "16Gi", "ephemeral-storage": "10Gi"}
    assert container_of(job)["resources"] == {"requests": amounts, "limits": amounts}
    assert (pod["serviceAccountName"], pod["restartPolicy"]) == ("builder", "Never")
    assert pod["nodeSelector"] == {"disk": "large"}
    assert pod["tolerations"] == [{"key": "build", "operator": "Equal", "value": "yes",
                                   "effect": "NoSchedule"}]
    assert (job["spec"]["backoffLimit"], job["spec"]["activeDeadlineSeconds"]) == (0, 3600)
    assert job["metadata"]["namespace"] == "builds"


def test_base_images_come_through_tarn(kaniko, builder):
    builder.write("Dockerfile", "ARG V=1\nFROM --platform=linux/amd64 ghcr.io/o/a:1 AS x\n"
                                "from  quay.io/o/b\nFROM alpine\nFROM $X/y\nFROM ghcr.io/o/c\n"
                                "FROM docker.io/library/z\n")
    done = kaniko("--via", "http://tarn.tarn:5000", "--dry-run")
    arguments = container_of(done.events[0]["job"])["args"]
    assert arguments[4:] == ["--registry-mirror=tarn.tarn:5000/docker.io",
                             "--registry-map=ghcr.io=tarn.tarn:5000/ghcr.io",
                             "--registry-map=quay.io=tarn.tarn:5000/quay.io",
                             "--insecure-registry=tarn.tarn:5000"]


@pytest.mark.parametrize("cuts", [1, 4])
def test_a_log_goes_on_after_a_cut(kaniko, cluster, cuts):
    cluster.cuts = cuts
    cluster.plan[2:2] = [running()] * cuts
    assert kaniko().log == LINES


@pytest.mark.parametrize("status, words", [
    (ended(1, "error building image: no such file"), ["exit status 1", "no such file"]),
    (ended(137, reason="OOMKilled"), ["more memory", "--memory"]),
    ({"phase": "Failed", "reason": "Evicted", "message":
      "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. "},
     ["evicted", "1Gi", "--with cloudbuild", "tarn append"]),
    ({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."},
     ["evicted", "low on resource"]),
    ({"phase": "Pending", "containerStatuses": [{"state": {"waiting": {
        "reason": "ImagePullBackOff", "message": "Back-off pulling image"}}}]},
     ["ImagePullBackOff", "--kaniko-image"]),
    (ended(message="no digest"), ["without the digest"])])
def test_how_a_build_failed_is_said_and_the_job_removed(kaniko, cluster, status, words):
    cluster.plan = [{"phase": "Pending"}, status]
    done = kaniko(status=1)
    assert done.events[-1]["state"] == "failed"
    for word in words:
        assert word in done.sentence
    assert cluster.jobs() == []


def test_a_job_whose_time_is_up(kaniko, cluster):
    def end(verb, resource, item):
        if (verb, resource) == ("create", "jobs"):
            for key in [key for key in cluster.objects if key[0] == "pods"]:
                cluster.remove("pods", key[2], key[1])
            cluster.put("jobs", item["metadata"]["name"], "builds", spec=item["spec"], status={
                "conditions": [{"type": "Failed", "status": "True", "reason": "DeadlineExceeded",
                                "message": "Job was active longer than specified deadline"}]})
    cluster.hooks.append(end)
    assert "--timeout" in kaniko(status=1).sentence


def test_why_a_pod_waits_is_told(kaniko, cluster):
    cluster.plan[:1] = [{"phase": "Pending", "conditions": [
        {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}]}] * 3
    done = kaniko()
    assert done.sentence.endswith("the pod waits for a node: 0/3 nodes are available")


def test_faults_of_the_api_server_are_survived(kaniko, cluster):
    cluster.faults = [Fault("list", "pods", status=503, times=2), Fault("list", "pods", cut=True),
                      Fault("list", "pods", status=429)]
    assert kaniko().events[-1]["digest"] == DIGEST


@pytest.mark.parametrize("size, refused", [("10", False), ("11", True), ("1000GB", True)])
def test_more_than_autopilot_gives_is_refused_before_it_starts(kaniko, cluster, cloud_build, size,
                                                               refused):
    done = kaniko("--disk-size", size, status=int(refused))
    assert ("at most 10 GiB" in done.err) == refused
    if refused:
        assert "--with cloudbuild" in done.sentence and "tarn append" in done.sentence
        assert cluster.requests == [] and cloud_build.kinds() == []
        kaniko("--disk-size", size, "--standard-cluster")


def test_a_namespace_without_rights(kaniko, cluster):
    cluster.rights["tester"] = ALL_RIGHTS - {("create", "jobs")}
    done = kaniko(status=1)
    assert "cannot be created in namespace builds" in done.sentence
    assert 'cannot create resource "jobs"' in done.sentence


@pytest.mark.parametrize("cancels", [False, True])
def test_an_interrupt_leaves_or_removes_the_job(kaniko, cluster, cancels):
    cluster.plan = [{"phase": "Pending"}]
    process = kaniko(*["--cancel-on-interrupt"][:cancels], begin=True)
    wait_until(lambda: len(cluster.asked("list", "pods")) >= 2, "the job to be followed")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert len(cluster.jobs()) == 1 - cancels
    assert ("is cancelled" if cancels else "kubectl --namespace builds logs") in err


def test_async_leaves_the_job(kaniko, cluster):
    done = kaniko("--async")
    assert done.events[-1]["id"] == cluster.jobs()[0]["metadata"]["name"]


@pytest.mark.parametrize("arguments", [
    ["--machine-type", "E2"], ["--build-file", "x"], ["--pool", "x"], ["--logs-bucket", "x"],
    ["--via", "nonsense"], ["--with", "docker"]])
def test_options_of_the_other_builder_are_bad_usage(kaniko, cluster, arguments):
    kaniko(*arguments, status=2)
    assert cluster.requests == []


@pytest.mark.parametrize("arguments, words", [
    (["--cpu", "many"], "--cpu many"), (["--memory", "16 GB"], "--memory"),
    (["--node-selector", "x"], "--node-selector x"), (["--toleration", "x"], "--toleration x"),
    (["--toleration", "x:Never"], "NoSchedule")])
def test_mistakes_are_told_before_anybody_is_asked(kaniko, cluster, cloud_build, arguments, words):
    assert words in kaniko(*arguments, status=1).sentence
    assert cluster.requests == [] and cloud_build.kinds() == []
