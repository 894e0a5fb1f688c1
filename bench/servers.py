"""Starts and stops the servers that are measured, each with a port and a folder of its own."""
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Server:
    """A process that listens. A subclass returns its command line from command()."""

    name = ""

    def __init__(self, folder):
        self.folder = os.path.join(folder, self.name)
        self.port = free_port()
        self.process = None

    def command(self):
        raise NotImplementedError

    def forget(self):
        """Empties the cache of a stopped server."""
        shutil.rmtree(os.path.join(self.folder, "root"), ignore_errors=True)

    def content_folder(self):
        """The folder of the bytes that it serves."""
        return os.path.join(self.folder, "root")

    def drop_pages(self):
        """Removes large files from the page cache, so that the server reads them from the disk."""
        for folder, _, names in os.walk(self.content_folder()):
            for path in (os.path.join(folder, name) for name in names):
                if os.path.isfile(path) and os.path.getsize(path) >= 1 << 20:
                    fd = os.open(path, os.O_RDONLY)
                    os.fsync(fd)
                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                    os.close(fd)

    def start(self):
        os.makedirs(self.folder, exist_ok=True)
        with open(os.path.join(self.folder, "log"), "ab") as log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log)
        self.wait_until_listening()

    def wait_until_listening(self, seconds=15):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.001)
        with open(os.path.join(self.folder, "log"), encoding="utf-8", errors="replace") as log:
            raise RuntimeError(f"{self.name} does not listen:\n" + log.read()[-2000:])

    def stop(self):
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def fresh(self):
        """Starts again with an empty cache."""
        self.stop()
        self.forget()
        self.start()

    def processes(self):
        """The ids of its process and of the processes that it started."""
        found = [self.process.pid]
        for pid in found:
            with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as children:
                found += [int(child) for child in children.read().split()]
        return found

    def cpu_seconds(self):
        """User and system time so far, including threads that have ended."""
        ticks = 0
        for pid in self.processes():
            with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
                fields = stat.read().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self):
        total = 0
        for pid in self.processes():
            with open(f"/proc/{pid}/status", encoding="ascii") as status:
                for line in status:
                    if line.startswith("VmRSS:"):
                        total += int(line.split()[1]) << 10
        return total

    def write(self, name, text):
        os.makedirs(self.folder, exist_ok=True)
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path


class PacedRegistry(Server):
    """The upstream: paced_registry.py, which counts its requests and bytes."""

    name = "upstream"

    def __init__(self, folder, content):
        super().__init__(folder)
        self.content = content

    def command(self):
        program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "paced_registry.py")
        return ["/usr/bin/python3", program, str(self.port), self.content]

    def ask(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}") as response:
            return response.read()

    def set(self, rate=0, cuts=0, over=0):
        self.ask(f"/_/set?rate={rate}&cuts={cuts}&over={over}")

    def counters(self):
        return json.loads(self.ask("/_/counters"))

    def settled_counters(self, seconds=60):
        """The counters after a second without a change, when background transfers have ended."""
        before, end = None, time.monotonic() + seconds
        while time.monotonic() < end:
            now = self.counters()
            if now == before:
                break
            before = now
            time.sleep(1)
        return before


class Tarn(Server):
    name = "tarn"

    def __init__(self, folder, upstream, program, connections=4):
        super().__init__(folder)
        self.program = program
        self.upstream, self.connections = upstream, connections

    def command(self):
        path = self.write("tarn.yaml", f"""\
listen: 127.0.0.1:{self.port}
root: {self.folder}/root
upstreams:
  - host: origin.example
    url: http://127.0.0.1:{self.upstream.port}
    default: true
    tag_ttl: 1h
    connections: {self.connections}
log: {{level: warn, format: text}}
""")
        return [self.program, "serve", "--config", path]


class Nginx(Server):
    """Serves the same bytes as static files, which is the practical limit of the kernel."""

    name = "nginx"

    def __init__(self, folder, content):
        super().__init__(folder)
        self.content = content

    def content_folder(self):
        return self.content

    def command(self):
        user = "user root;" if os.geteuid() == 0 else ""
        path = self.write("nginx.conf", f"""\
daemon off; {user}
worker_processes auto;
worker_rlimit_nofile 8192;
pid {self.folder}/pid;
error_log {self.folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 100000000;
    open_file_cache max=1000;
    open_file_cache_valid 1h;
    client_body_temp_path {self.folder}/tmp;
    proxy_temp_path {self.folder}/tmp;
    fastcgi_temp_path {self.folder}/tmp;
    uwsgi_temp_path {self.folder}/tmp;
    scgi_temp_path {self.folder}/tmp;
    server {{
        listen 127.0.0.1:{self.port} backlog=1024;
        default_type application/vnd.oci.image.manifest.v1+json;
        location ~ ^/v2/.+/blobs/sha256:(.+)$ {{ alias {self.content}/blobs/$1; }}
        location ~ ^/v2/.+/manifests/sha256:(.+)$ {{ alias {self.content}/manifests/$1; }}
        location ~ ^/v2/.+/manifests/(.+)$ {{ alias {self.content}/manifests/$1; }}
    }}
}}
""")
        return ["/usr/sbin/nginx", "-e", f"{self.folder}/error.log", "-c", path]


class DockerRegistry(Server):
    """Debian's package of CNCF distribution, as a pull-through proxy."""

    name = "docker-registry"

    def __init__(self, folder, upstream):
        super().__init__(folder)
        self.upstream = upstream

    def command(self):
        path = self.write("config.yml", f"""\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {self.folder}/root}}
  cache: {{blobdescriptor: inmemory}}
http: {{addr: "127.0.0.1:{self.port}"}}
proxy: {{remoteurl: "http://127.0.0.1:{self.upstream.port}"}}
""")
        return ["/usr/bin/docker-registry", "serve", path]
