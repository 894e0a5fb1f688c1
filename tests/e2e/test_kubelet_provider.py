"""tarn kubelet-credential-provider install: the copy on a node that has nothing, and the kubelet's
flags."""

import json
import os
import shutil
import subprocess
import threading

import pytest
import yaml

from kit.processes import run, wait_until
from kit.release import release_build
from kit.tarn import bare_environment

BIN = "usr/local/lib/kubelet-credential-providers"
CONFIG = "etc/kubernetes/credential-provider.yaml"
BIN_FLAG = f"--image-credential-provider-bin-dir=/{BIN}"
CONFIG_FLAG = f"--image-credential-provider-config=/{CONFIG}"
needs_chroot = pytest.mark.skipif(os.geteuid() != 0, reason="chroot is for root")


@pytest.fixture
def release(program):
    return release_build(program)


@pytest.fixture
def node(tmp_path):
    folder = tmp_path / "node"
    folder.mkdir()
    return folder


def install(program, node, *options, code=0, environment=None):
    done = subprocess.run(
        [program, "kubelet-credential-provider", "install", "--destdir", node, *options],
        capture_output=True, text=True, timeout=120, check=False,
        env={**bare_environment(node.parent), **(environment or {})})
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done


def request(image="quay.io/a/b:1"):
    return json.dumps({"kind": "CredentialProviderRequest", "image": image,
                       "apiVersion": "credentialprovider.kubelet.k8s.io/v1"})


def ask(node, image="quay.io/a/b:1", variables=None, path=f"/{BIN}/tarn"):
    """Runs the installed program as the kubelet does, on a node that has nothing else."""
    done = subprocess.run([shutil.which("chroot"), node, path, "kubelet-credential-provider"],
                          input=request(image), capture_output=True, text=True, timeout=60,
                          check=False, env=variables or {})
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    return json.loads(done.stdout)


def folders(node):
    return sorted(path.name for path in (node / BIN).iterdir() if path.is_dir())


def variant(program, folder, text):
    """Another program with the same behaviour: bytes behind its end."""
    path = folder / f"tarn-{text}"
    shutil.copy(program, path)
    with path.open("ab") as file:
        file.write(text.encode())
    return path


# ---- the copy


@needs_chroot
def test_the_copy_runs_on_a_node_that_has_nothing(release, node):
    done = install(release, node)
    assert done.stdout.splitlines() == [f"wrote {node}/{BIN}/tarn", f"wrote {node}/{CONFIG}"]
    assert sorted(os.listdir(node)) == ["etc", "usr"]
    assert ask(node)["auth"] == {}
    (node / "opt").mkdir()
    os.rename(node / BIN, node / "opt/elsewhere")
    assert ask(node, path="/opt/elsewhere/tarn")["auth"] == {}
    assert ask(node, path="/opt/../opt/elsewhere/tarn")["auth"] == {}


@needs_chroot
def test_the_copy_fetches_a_token_and_has_the_authorities_of_its_origin(release, node, google):
    install(release, node, "--credentials", "/google.json")
    (folder,) = folders(node)
    system = node / BIN / folder / "ca-certificates.crt"
    assert "BEGIN CERTIFICATE" in system.read_text()
    (node / "google.json").write_text(json.dumps(google.service_account()))
    variables = {"GOOGLE_APPLICATION_CREDENTIALS": "/google.json"}
    answer = ask(node, "europe-docker.pkg.dev/a/b/c:1", variables)
    assert answer["auth"]["europe-docker.pkg.dev"]["password"] in google.all_secrets()


@needs_chroot
def test_each_call_while_it_is_replaced_gets_an_answer(release, node, tmp_path):
    programs = [release, variant(release, tmp_path, "b")]
    install(release, node)
    stop, failures, count = threading.Event(), [], [0]

    def call():
        while not stop.is_set():
            try:
                ask(node)
                count[0] += 1
            except Exception as failure:  # pylint: disable=broad-except
                failures.append(failure)
                return

    caller = threading.Thread(target=call)
    caller.start()
    for turn in range(6):
        seen = count[0]
        install(programs[(turn + 1) % 2], node)
        wait_until(lambda seen=seen: count[0] > seen + 1 or failures, "calls")
    stop.set()
    caller.join()
    assert failures == []
    assert len(folders(node)) == 2


def test_only_the_folder_before_stays(release, node, tmp_path):
    install(release, node)
    (first,) = folders(node)
    install(variant(release, tmp_path, "b"), node)
    second, = set(folders(node)) - {first}
    (node / BIN / "tarn-mine").mkdir()
    install(variant(release, tmp_path, "c"), node)
    third, = set(folders(node)) - {second, "tarn-mine"}
    assert third not in (first, second)
    assert first not in folders(node)


@needs_chroot
def test_what_is_there_is_not_written_again_and_what_is_missing_is(release, node):
    install(release, node)
    times = {path: path.stat().st_mtime_ns for path in node.rglob("*") if path.is_file()}
    done = install(release, node)
    assert done.stdout.splitlines() == [f"unchanged {node}/{BIN}/tarn",
                                        f"unchanged {node}/{CONFIG}"]
    assert {path: path.stat().st_mtime_ns for path in node.rglob("*")
            if path.is_file()} == times
    (folder,) = folders(node)
    (library,) = (node / BIN / folder).glob("libc.so*")
    library.unlink()
    (node / BIN / folder / "tarn").write_bytes(b"torn")
    install(release, node)
    assert ask(node)["auth"] == {}


def test_a_launcher_that_was_not_installed_says_so(release, node):
    install(release, node)
    launcher = node / BIN / "tarn"
    shutil.rmtree(node / BIN / folders(node)[0])
    done = subprocess.run([launcher], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        127, "tarn: the loader beside this program cannot be started; install it again\n")


# ---- what is somebody else's


@pytest.mark.parametrize("path,text,said", [
    (f"{BIN}/tarn", "#!/bin/sh\n", "not one that tarn installed"),
    (f"{BIN}/tarn", "tarn launcher slot:" + "x" * 300, "not one that tarn installed"),
    (CONFIG, "kind: CredentialProviderConfig\n", "did not write it"),
])
def test_a_file_of_somebody_else_is_never_changed(release, node, path, text, said):
    (node / path).parent.mkdir(parents=True)
    (node / path).write_text(text)
    assert said in install(release, node, code=1).stderr
    assert [file for file in node.rglob("*") if file.is_file()] == [node / path]
    assert (node / path).read_text() == text


def test_the_program_installed_by_hand_is_somebody_elses(release, node):
    (node / BIN).mkdir(parents=True)
    shutil.copy(release, node / BIN / "tarn")
    assert "not one that tarn installed" in install(release, node, code=1).stderr


def test_an_edited_configuration_stays(release, node):
    install(release, node)
    (node / CONFIG).write_text((node / CONFIG).read_text() + "# mine\n")
    edited = (node / CONFIG).read_text()
    assert "edited" in install(release, node, "--credentials", "/g.json", code=1).stderr
    assert (node / CONFIG).read_text() == edited


# ---- the configuration


def test_the_configuration_is_what_the_documentation_shows(release, node):
    folder = os.path.join(os.path.dirname(__file__), "../../deploy/kubelet")
    with open(f"{folder}/credential-provider.yaml", encoding="utf-8") as file:
        plain = yaml.safe_load(file)
    with open(f"{folder}/credential-provider-pods.yaml", encoding="utf-8") as file:
        pods = yaml.safe_load(file)
    install(release, node, "--credentials", "/etc/tarn/google.json")
    assert yaml.safe_load((node / CONFIG).read_text()) == plain
    attributes = pods["providers"][0]["tokenAttributes"]
    install(release, node, "--credentials", "/etc/tarn/federation.json", "--pod-audience",
            attributes["serviceAccountTokenAudience"])
    assert yaml.safe_load((node / CONFIG).read_text()) == pods
    install(release, node, "--image", "a.example", "--image", 'b"\\.example')
    (provider,) = yaml.safe_load((node / CONFIG).read_text())["providers"]
    assert provider["matchImages"] == ["a.example", 'b"\\.example']
    assert "env" not in provider and "tokenAttributes" not in provider


# ---- the kubelet's flags


def put(node, path, text):
    (node / path).parent.mkdir(parents=True, exist_ok=True)
    (node / path).write_text(text)


def missing(done):
    return [flag.partition("=")[0] for flag in (BIN_FLAG, CONFIG_FLAG) if
            f"flag {flag.partition('=')[0]} is missing: {flag}\n" in done.stderr]


BOTH = [flag.partition("=")[0] for flag in (BIN_FLAG, CONFIG_FLAG)]


@pytest.mark.parametrize("path,text,lacks", [
    ("etc/default/kubelet", f'KUBELET_EXTRA_ARGS="{BIN_FLAG} {CONFIG_FLAG}"\n', []),
    ("etc/default/kubelet", f"# {BIN_FLAG}\nKUBELET_EXTRA_ARGS={CONFIG_FLAG}\n", BOTH[:1]),
    ("etc/sysconfig/kubelet", "KUBELET_EXTRA_ARGS=\n", BOTH),
    ("var/lib/kubelet/kubeadm-flags.env",
     f'KUBELET_KUBEADM_ARGS="{BIN_FLAG}/ --node-labels=a=b"', BOTH[1:]),
    ("etc/systemd/system/kubelet.service.d/10.conf",
     "[Service]\nExecStart=/usr/bin/kubelet \\\n"
     f"  {BIN_FLAG.replace('=', ' ')} \\\n  {CONFIG_FLAG}\n", []),
    ("usr/lib/systemd/system/kubelet.service", f"ExecStart=/usr/bin/kubelet {BIN_FLAG}\n",
     BOTH[1:]),
    ("etc/rancher/k3s/config.yaml",
     f'kubelet-arg:\n  - "{BIN_FLAG[2:]}"\n  - {CONFIG_FLAG[2:]}\n', []),
    ("etc/rancher/rke2/config.yaml.d/50.yaml", f'kubelet-arg: ["{BIN_FLAG[2:]}"]\n', BOTH[1:]),
    ("etc/default/kubelet", f"A={BIN_FLAG}\nB={CONFIG_FLAG.rpartition('/')[0]}\n", []),
])
def test_it_says_which_flags_are_missing_in_the_files(release, node, path, text, lacks):
    put(node, path, text)
    done = install(release, node)
    assert missing(done) == lacks, done.stderr
    assert f"looked at the kubelet's flags in {node}/{path}\n" in done.stderr
    assert (node / path).read_text() == text
    assert ("when it has the flags and is restarted" in done.stderr) == bool(lacks)


def test_another_value_is_named(release, node):
    put(node, "etc/default/kubelet",
        f"X='{BIN_FLAG} --image-credential-provider-config=/etc/eks/config.json'\n")
    done = install(release, node)
    assert missing(done) == []
    assert f"{BOTH[1]} is /etc/eks/config.json, not /{CONFIG}" in done.stderr
    assert missing(install(release, node, "--bin-dir", "/b/c", "--config", "/d/e.yaml")) == []
    assert (node / "b/c/tarn").exists() and (node / "d/e.yaml").exists()


def test_nothing_found_is_said(release, node):
    done = install(release, node)
    assert missing(done) == BOTH and "are not known" in done.stderr


@pytest.mark.parametrize("arguments,lacks", [
    (["/usr/bin/kubelet", "--v=2"], BOTH),
    (["/usr/bin/kubelet", BIN_FLAG, CONFIG_FLAG], []),
    (["kubelet", *BIN_FLAG.split("="), *CONFIG_FLAG.split("=")], []),
    (["/hyperkube", "kubelet", BIN_FLAG], BOTH[1:]),
])
def test_the_process_counts_more_than_the_files(release, node, arguments, lacks):
    put(node, "etc/default/kubelet", f"X='{BIN_FLAG} {CONFIG_FLAG}'\n")
    put(node, "proc/17/cmdline", "/bin/sh\0-c\0echo " + BIN_FLAG + "\0")
    put(node, "proc/self/cmdline", "kubelet\0")
    put(node, "proc/4711/cmdline", "\0".join(arguments) + "\0")
    done = install(release, node)
    assert missing(done) == lacks, done.stderr
    assert "looked at the kubelet's flags in process 4711\n" in done.stderr
    assert ("have the flags: restart the kubelet" in done.stderr) == bool(lacks)


# ---- the command line


@pytest.mark.parametrize("options,said", [
    (["install", "--bin-dir", "relative"], "--bin-dir"),
    (["install", "--config", "/a/../b"], "--config"),
    (["get-credentials", "--config", "/a"], "options are for install"),
    (["--destdir", "/a"], "options are for install"),
    (["put"], "unknown argument put"),
])
def test_bad_usage(program, tmp_path, options, said):
    done = run([program, "kubelet-credential-provider", *options], check=False,
               environment=bare_environment(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_a_failure_is_said(release, node):
    done = install(release, node / "absent", code=1)
    assert str(node / "absent") in done.stderr
