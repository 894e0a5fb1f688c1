"""A node: containerd with its CRI plugin, and a kubelet that runs static pods alone."""

import json
import os
import pathlib
import shutil

from kit.containers import listens
from kit.processes import Program, run


class Node:
    """Everything lies in `folder`; the node's /etc is `folder`/etc."""

    def __init__(self, folder, pause, provider=None, config_path=None):
        """`provider`: (bin-dir, configuration) of the kubelet's credential provider; `config_path`:
        containerd's, if it is another than the folder etc/containerd/certs.d."""
        self.folder = folder
        self.pods, self.socket = folder / "pods", folder / "c.sock"
        for name in ("pods", "kubelet", "logs", "etc"):
            (folder / name).mkdir(exist_ok=True)
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
        self.containerd = self._containerd(pause, config_path)
        try:
            self.kubelet = self._kubelet(provider)
        except BaseException:
            self.containerd.stop()
            raise

    def _containerd(self, pause, config_path):
        etc = self.folder / "etc" / "containerd"
        config_path = config_path or f"{etc}/certs.d"
        etc.mkdir(exist_ok=True)
        (etc / "config.toml").write_text(f"""version = 3
root = "{self.folder}/root"
state = "{self.folder}/state"
[grpc]
  address = "{self.socket}"
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "native"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{pause}"
[plugins."io.containerd.cri.v1.images".registry]
  config_path = "{config_path}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
  conf_dir = "{self.folder}/none"
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
  platform = "linux"
  snapshotter = "native"
""")
        program = Program(["containerd", "--config", etc / "config.toml"],
                          self.folder / "containerd.log", self.environment)
        program.wait_ready(lambda: listens(self.socket), 60)
        return program

    def _kubelet(self, provider):
        (self.folder / "kubelet.yaml").write_text(json.dumps({
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "staticPodPath": str(self.pods), "failSwapOn": False, "failCgroupV1": False,
            "containerRuntimeEndpoint": f"unix://{self.socket}", "cgroupDriver": "cgroupfs",
            "cgroupsPerQOS": False, "enforceNodeAllocatable": [], "makeIPTablesUtilChains": False,
            "localStorageCapacityIsolation": False, "podLogsDir": str(self.folder / "logs"),
            "enableServer": False, "enableDebuggingHandlers": False, "fileCheckFrequency": "1s",
            "evictionHard": {"nodefs.available": "0%", "imagefs.available": "0%",
                             "memory.available": "1Mi", "nodefs.inodesFree": "0%"},
            "imageGCHighThresholdPercent": 100, "resolvConf": "", "serializeImagePulls": False,
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"}}))
        flags = []
        if provider:
            flags = [f"--image-credential-provider-bin-dir={provider[0]}",
                     f"--image-credential-provider-config={provider[1]}"]
        return Program(["kubelet", "--config", self.folder / "kubelet.yaml", "--root-dir",
                        self.folder / "kubelet", "--cert-dir", self.folder / "kubelet/pki",
                        "--hostname-override", "node", "--v=3", *flags],
                       self.folder / "kubelet.log", self.environment)

    def pull(self, name, image):
        """A static pod of the image."""
        (self.pods / f"{name}.json").write_text(json.dumps({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
                "hostNetwork": True, "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
                "containers": [{"name": "c", "image": image, "imagePullPolicy": "Always"}]}}))

    def has(self, image):
        """Whether containerd has the image."""
        listed = run(["ctr", "--address", self.socket, "--namespace", "k8s.io", "images", "list",
                      "--quiet"], environment=self.environment, check=False).stdout
        return image in listed.split()

    def log(self):
        return self.kubelet.log()

    def stop(self):
        for pod in self.pods.iterdir():
            pod.unlink()
        self.kubelet.stop()
        for _ in range(3):
            tasks = run(["ctr", "--address", self.socket, "--namespace", "k8s.io", "tasks", "list",
                         "--quiet"], environment=self.environment, check=False).stdout.split()
            for task in tasks:
                run(["ctr", "--address", self.socket, "--namespace", "k8s.io", "tasks", "delete",
                     "--force", task], environment=self.environment, check=False)
        self.containerd.stop()
        for mount in reversed(pathlib.Path("/proc/self/mounts").read_text().splitlines()):
            if str(self.folder) in mount.split()[1]:
                run(["umount", "--lazy", mount.split()[1]], check=False)
        shutil.rmtree(self.folder / "root", ignore_errors=True)
