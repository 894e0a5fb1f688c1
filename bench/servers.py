"""Starts and stops the servers that are measured, each with a port and a folder of its own."""
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse
import urllib.request


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Server:
    """A process that listens. A subclass returns its command line from command()."""

    name = ""
    scheme = "http"
    settle_seconds = 2  # after which it gives no more memory back
    is_logging = True  # writes a line for each request to log_file()

    def __init__(self, folder, variant=""):
        """Servers of the same name need different variants."""
        self.folder = os.path.join(folder, self.name + variant)
        self.port = free_port()
        self.process = None

    def url(self, path):
        return f"{self.scheme}://127.0.0.1:{self.port}{path}"

    def log_file(self):
        """The log of its requests."""
        return os.path.join(self.folder, "log")

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

    def start_unless_running(self):
        """Also after a figure that failed, or in which it crashed."""
        if self.process is None or self.process.poll() is not None:
            self.start()

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

    def cpu_times(self):
        """User time and system time so far, including threads that have ended."""
        user = system = 0
        for pid in self.processes() if self.process else []:
            with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
                fields = stat.read().rsplit(")", 1)[1].split()
            user += int(fields[11])
            system += int(fields[12])
        return user / os.sysconf("SC_CLK_TCK"), system / os.sysconf("SC_CLK_TCK")

    def cpu_seconds(self):
        return sum(self.cpu_times())

    def resident_bytes(self):
        total = 0
        for pid in self.processes():
            with open(f"/proc/{pid}/status", encoding="ascii") as status:
                for line in status:
                    if line.startswith("VmRSS:"):
                        total += int(line.split()[1]) << 10
        return total

    def settled_bytes(self, seconds=60):
        """Its resident memory after settle_seconds without a change of more than 64 KiB."""
        end = time.monotonic() + seconds
        before, since = self.resident_bytes(), time.monotonic()
        while time.monotonic() < min(end, since + self.settle_seconds):
            time.sleep(0.5)
            now = self.resident_bytes()
            if abs(now - before) > 64 << 10:
                before, since = now, time.monotonic()
        return before

    def empty_log(self):
        if os.path.exists(self.log_file()):
            os.truncate(self.log_file(), 0)

    def logged_lines(self, expected, seconds=5):
        """The lines in its log, as soon as there are as many as expected."""
        end = time.monotonic() + seconds
        while self.is_logging:
            lines = 0
            with open(self.log_file(), "rb") as log:
                while piece := log.read(1 << 20):
                    lines += piece.count(b"\n")
            if lines >= expected or time.monotonic() > end:
                return lines
            time.sleep(0.1)
        return 0

    def write(self, name, text):
        os.makedirs(self.folder, exist_ok=True)
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path


class PacedRegistry(Server):
    """The upstream: paced_registry.py, which counts its requests and bytes."""

    name = "upstream"

    def __init__(self, folder, content, variant=""):
        super().__init__(folder, variant)
        self.content = content

    def command(self):
        program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "paced_registry.py")
        return ["/usr/bin/python3", program, str(self.port), self.content]

    def ask(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}") as response:
            return response.read()

    def set(self, **settings):
        """See paced_registry.py; what is not named is 0."""
        self.ask("/_/set?" + urllib.parse.urlencode(settings))

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


class Certificate:
    """A certificate of its own authority, with an ECDSA key on the curve P-256."""

    def __init__(self, folder):
        self.file, self.key = os.path.join(folder, "tls.crt"), os.path.join(folder, "tls.key")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec",
                        "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", self.key,
                        "-out", self.file, "-days", "2", "-subj", "/CN=localhost"],
                       check=True, capture_output=True)


class Tarn(Server):
    """`certificate`: serves TLS; `extra`: more lines of the configuration; `of_upstream`: more keys of
    its upstream; `more_listen`: further addresses that it listens on."""

    name = "tarn"
    settle_seconds = 12  # its threads end after ten idle seconds

    def __init__(self, folder, upstream, program, connections=4, *, variant="", level="info",
                 certificate=None, extra="", of_upstream=""):
        super().__init__(folder, variant)
        self.program = program
        self.upstream, self.connections = upstream, connections
        self.level, self.extra, self.of_upstream = level, extra, of_upstream
        self.more_listen = []
        self.is_logging = level == "info"
        if certificate:
            self.scheme = "https"
            self.extra += f"tls: {{certificate: {certificate.file}, key: {certificate.key}}}\n"

    def command(self):
        path = self.write("tarn.yaml", f"""\
listen: {json.dumps([f"127.0.0.1:{self.port}", *self.more_listen])}
root: {self.folder}/root
upstreams:
  - host: origin.example
    url: http://127.0.0.1:{self.upstream.port}
    default: true
    tag_ttl: 1h
    connections: {self.connections}
    {self.of_upstream}
log: {{level: {self.level}, format: text}}
{self.extra}""")
        return [self.program, "serve", "--config", path]


class Nginx(Server):
    """Serves the same bytes as static files, which is the practical limit of the kernel."""

    name = "nginx"

    def __init__(self, folder, content, *, variant="", is_logging=True, certificate=None):
        super().__init__(folder, variant)
        self.content, self.is_logging, self.tls = content, is_logging, ""
        if certificate:
            self.scheme = "https"
            self.tls = (f"ssl_certificate {certificate.file}; ssl_session_tickets on; "
                        f"ssl_certificate_key {certificate.key}; ssl_protocols TLSv1.3;")

    def content_folder(self):
        return self.content

    def log_file(self):
        return os.path.join(self.folder, "access.log")

    def command(self):
        user = "user root;" if os.geteuid() == 0 else ""
        log = "off"
        if self.is_logging:
            log = f"{self.log_file()} combined buffer=64k flush=1s"
        path = self.write("nginx.conf", f"""\
daemon off; {user}
worker_processes auto;
worker_rlimit_nofile {resource.getrlimit(resource.RLIMIT_NOFILE)[1]};
pid {self.folder}/pid;
error_log {self.folder}/error.log;
events {{ worker_connections 16384; }}
http {{
    access_log {log};
    sendfile on;
    tcp_nopush on;
    keepalive_requests 100000000;
    keepalive_timeout 10m;
    open_file_cache max=1000;
    open_file_cache_valid 1h;
    client_body_temp_path {self.folder}/tmp;
    proxy_temp_path {self.folder}/tmp;
    fastcgi_temp_path {self.folder}/tmp;
    uwsgi_temp_path {self.folder}/tmp;
    scgi_temp_path {self.folder}/tmp;
    server {{
        listen 127.0.0.1:{self.port} {"ssl " if self.tls else ""}backlog=1024;
        {self.tls}
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
