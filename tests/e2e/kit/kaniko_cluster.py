"""A cluster whose jobs run as a test says: the states of the pod, one at each look, and its log."""

import re
import time
from urllib.parse import parse_qs, urlsplit

from kit.kubernetes_api import KubernetesApi


def running():
    return {"phase": "Running", "containerStatuses": [{"state": {"running": {}}}]}


def ended(code=0, message="", reason="Completed", **status):
    return {"phase": "Failed" if code else "Succeeded", **status, "containerStatuses": [
        {"state": {"terminated": {"exitCode": code, "message": message, "reason": reason}}}]}


class KanikoCluster(KubernetesApi):
    """`plan`: statuses of the pod that come one after the other; `log`: lines with their times."""

    def __init__(self, directory):
        super().__init__(directory)
        self.plan, self.log = [], []
        self.logs_asked, self.cuts = [], 0     # the log is cut so often, after each line
        self.before.append(self._advance)
        self.hooks.append(self._started)

    def _started(self, verb, resource, item):
        if (verb, resource) == ("create", "jobs"):
            name = item["metadata"]["name"]
            self.put("pods", name + "-x", item["metadata"]["namespace"],
                     status={"phase": "Pending"}, metadata={"name": name + "-x", "labels": {"job-name": name}})
        if (verb, resource) == ("delete", "jobs"):
            for key in [key for key in self.objects if key[0] == "pods"]:
                self.remove("pods", key[2], key[1])

    def _advance(self, verb):
        with self.lock:
            pods = [key for key in self.objects if key[0] == "pods"]
            if verb == "list" and pods and self.plan:
                self.put("pods", pods[0][2], pods[0][1], status=self.plan.pop(0))

    def respond(self, handler):
        parts = urlsplit(handler.path)
        if not re.fullmatch(r"/api/v1/namespaces/[^/]+/pods/[^/]+/log", parts.path):
            super().respond(handler)
            return
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        assert query.pop("container") == "kaniko" and query.pop("timestamps") == "true"
        assert query.pop("follow") == "true"
        since = query.pop("sinceTime", "")
        assert not query
        self.logs_asked.append(since)
        handler.send_response(200)
        handler.send_header("Content-Type", "text/plain")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        lines = [line for line in self.log if line[:19] >= since[:19]]
        for line in lines:
            self._send_line(handler, line.encode())
            if self.cuts and line[:30] > since:
                self.cuts -= 1
                time.sleep(0.2)      # so that the line leaves before the reset
                handler.reset()
                return
        handler.wfile.write(b"0\r\n\r\n")

    def jobs(self):
        with self.lock:
            return [item for key, item in self.objects.items() if key[0] == "jobs"]
