"""What the figures depend on besides tarn: the machine, and the versions of the other programs."""
import os
import platform
import re
import subprocess

TREE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def output(*command):
    """What a program prints, or "" if there is no such program."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, check=False)
    except OSError:
        return ""
    return done.stdout.decode(errors="replace")


def version(*command):
    """The first number with a dot that a program prints, as "1.22.1"."""
    found = re.search(r"\d+\.[\d.]*\d", output(*command))
    return found[0] if found else "?"


def processor():
    """The processors' number and name, and whether they have instructions for SHA-256."""
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        cpuinfo = file.read()
    name = re.search(r"^model name\s*: (.+)$", cpuinfo, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*: (.+)$", cpuinfo, re.MULTILINE)
    has_sha = flags and {"sha_ni", "sha2"} & set(flags[1].split())
    return (f"{os.cpu_count()} cores of {name[1].strip() if name else platform.machine()} "
            f"{'with' if has_sha else 'without'} SHA instructions")


def system(folder):
    """The distribution, the kernel, and the file system of `folder`."""
    with open("/etc/os-release", encoding="utf-8") as file:
        name = re.search(r'^PRETTY_NAME="?([^"\n]+)', file.read(), re.MULTILINE)
    kind = output("findmnt", "-n", "-o", "FSTYPE", "-T", folder).strip() or "?"
    return f"{name[1] if name else 'Linux'}, Linux {version('uname', '-r')}, {kind}"


def commit():
    """The commit of the source tree; "" outside a repository."""
    name = output("git", "-C", TREE, "rev-parse", "--short", "HEAD").strip()
    if not re.fullmatch(r"[0-9a-f]+", name):
        return ""
    changes = output("git", "-C", TREE, "status", "--porcelain", "--untracked-files=no")
    return f" ({name}{' with changes' if changes else ''})"


def versions(bench):
    """The programs of this run."""
    programs = {"nginx": ("/usr/sbin/nginx", "-v"), "wrk": ("wrk", "-v"),
                "OpenSSL": ("openssl", "version")}
    if bench.registry in bench.caches:
        programs["docker-registry"] = ("/usr/bin/docker-registry", "--version")
    tarn = []
    if bench.tarn is not None:
        tarn = [f"tarn {version(bench.tarn.program, '--version')}{commit()}"]
    return ", ".join(tarn + [f"{name} {version(*command)}" for name, command in programs.items()])
