"""What `meson install` installs, and the Debian package that script/package builds."""

import pathlib
import re
import shutil
import subprocess

import pytest

from kit.processes import run
from kit.release import release_build

TREE = pathlib.Path(__file__).resolve().parents[2]

# Below the prefix.
INSTALLED = {
    "bin/tarn",
    "bin/docker-credential-tarn",
    "lib/systemd/system/tarn.service",
    "lib/systemd/system/tarn-node.service",
    "lib/sysusers.d/tarn.conf",
    "share/bash-completion/completions/tarn",
    "share/fish/vendor_completions.d/tarn.fish",
    "share/man/man1/docker-credential-tarn.1",
    "share/man/man1/tarn.1",
    "share/man/man5/tarn.yaml.5",
    "share/zsh/site-functions/_tarn",
}


def files_below(folder):
    """All that is no folder, by the path below `folder`."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")
            if path.is_symlink() or not path.is_dir()}


@pytest.fixture(scope="module")
def installed(tmp_path_factory, program):
    """The prefix of an installation."""
    build = pathlib.Path(release_build(program)).parent
    if not (build / "build.ninja").exists():
        pytest.skip(f"{build} is no build folder, so nothing can be installed from it")
    destination = tmp_path_factory.mktemp("installed")
    run(["meson", "install", "-C", build, "--no-rebuild", "--destdir", destination])
    return destination / "usr" / "local"


@pytest.fixture(scope="module")
def package(program):
    """The path of the Debian package."""
    if not (pathlib.Path(release_build(program)).parent / "build.ninja").exists():
        pytest.skip("there is no build folder, and script/package would build everything")
    done = run([TREE / "script" / "package"], seconds=600)
    return TREE / done.stdout.split()[-1]


def test_meson_installs_the_program_and_all_that_belongs_to_it(installed):
    assert files_below(installed) == INSTALLED
    assert (installed / "bin/docker-credential-tarn").readlink() == pathlib.Path("tarn")
    helped = run([installed / "bin/docker-credential-tarn", "list"])
    assert helped.stdout.strip().startswith("{")
    assert "ExecStart=/usr/local/bin/tarn serve\n" in \
        (installed / "lib/systemd/system/tarn.service").read_text("utf-8")


def test_the_shells_find_the_installed_completions(installed, tmp_path):
    bash = run(["bash", "-c", 'source "$0"; complete -p tarn',
                installed / "share/bash-completion/completions/tarn"])
    assert bash.stdout.endswith(" -F _tarn tarn\n")
    zsh = run(["zsh", "-f", "-c", 'fpath=("$0" $fpath); autoload -U compinit; '
               f'compinit -u -d {tmp_path}/dump; print -r -- "$_comps[tarn]"',
               installed / "share/zsh/site-functions"])
    assert zsh.stdout == "_tarn\n"
    # fish looks for completions of programs that there are, and not with --no-config.
    fish = run(["fish", "-c", "complete -C 'tarn check-'"],
               environment={"PATH": f"{installed}/bin:/usr/bin:/bin", "HOME": str(tmp_path),
                            "XDG_DATA_DIRS": f"{installed}/share:/usr/share"})
    assert {line.split("\t")[0] for line in fish.stdout.splitlines()} == {"check-bucket",
                                                                         "check-config"}


def test_man_shows_the_installed_pages(installed):
    for page in ("man1/tarn.1", "man1/docker-credential-tarn.1", "man5/tarn.yaml.5"):
        shown = run(["mandoc", "-T", "utf8", installed / "share/man" / page]).stdout
        assert "tarn" in shown.splitlines()[0].lower()


@pytest.mark.xdist_group("package")
def test_the_package_has_the_same_files_where_debian_wants_them(package, tmp_path):
    run(["dpkg-deb", "--extract", package, tmp_path])
    files = files_below(tmp_path)
    documents = {name for name in files if name.startswith("usr/share/doc/tarn/")}
    expected = {f"usr/{name}".replace("/site-functions/", "/vendor-completions/")
                for name in INSTALLED}
    expected = {f"{name}.gz" if "/man/" in name else name for name in expected}
    assert files - documents == expected | {"etc/tarn/tarn.yaml"}
    assert {pathlib.Path(name).name for name in documents} >= {
        "copyright", "changelog.gz", "changelog.Debian.gz", "tarn.example.yaml", "README.md",
        "tarn.rules.yml", "tarn-keep.rules.yml", "tarn.json"}
    assert (tmp_path / "usr/share/man/man1/docker-credential-tarn.1.gz").exists()
    assert "ExecStart=/usr/bin/tarn serve\n" in \
        (tmp_path / "usr/lib/systemd/system/tarn.service").read_text("utf-8")
    version = run([tmp_path / "usr/bin/tarn", "version"]).stdout
    assert package.name == "tarn_{}_{}.deb".format(
        re.search(r"\d+\.\d+\.\d+", version)[0],
        run(["dpkg", "--print-architecture"]).stdout.strip())
    run([tmp_path / "usr/bin/tarn", "check-config", tmp_path / "etc/tarn/tarn.yaml"])
    owners = {line.split()[1] for line in run(["dpkg-deb", "-c", package]).stdout.splitlines()}
    assert owners == {"root/root"}


@pytest.mark.xdist_group("package")
def test_the_package_says_what_it_needs_and_what_is_the_operators(package):
    def field(name):
        return run(["dpkg-deb", "--field", package, name]).stdout.strip()

    assert field("Package") == "tarn"
    for library in ("libcurl4", "libssl3", "libjansson4", "libyaml-0-2", "libpsl5", "libseccomp2",
                    "libexpat1", "zlib1g", "libzstd1", "libarchive13",
                    "libnghttp2-14", "libprotobuf-c1"):
        assert re.search(rf"\b{library}(t64)?\b", field("Depends")), field("Depends")
    assert "ca-certificates" in field("Depends")
    assert run(["dpkg-deb", "--info", package, "conffiles"]).stdout == "/etc/tarn/tarn.yaml\n"
    for script in ("postinst", "prerm", "postrm"):
        text = run(["dpkg-deb", "--info", package, script]).stdout
        subprocess.run(["sh", "-n"], input=text, text=True, check=True)


@pytest.mark.xdist_group("package")
def test_lintian_finds_no_error(package):
    if not shutil.which("lintian"):
        pytest.skip("lintian is not installed")
    done = run(["lintian", "--allow-root", "--fail-on", "error", package], check=False)
    assert done.returncode == 0, done.stdout + done.stderr
