"""script/release in a scratch repository."""

import pathlib
import shutil
import subprocess

import pytest

TREE = pathlib.Path(__file__).resolve().parents[2]
DEPLOYED = ["helm/tarn/Chart.yaml", "kubernetes/kustomization.yaml",
            "kubernetes/replicas/kustomization.yaml"]
CHANGELOG = """# Changelog

## [Unreleased]

### Added

- A thing that users notice.

## [0.1.0] - 2026-01-15

- The first.
"""


class Repository:
    """A tree with what script/release reads and writes."""

    def __init__(self, directory):
        self.directory = directory
        (directory / "script").mkdir()
        shutil.copy(TREE / "script" / "release", directory / "script")
        shutil.copy(TREE / "meson.build", directory)
        (directory / "docs").mkdir()
        (directory / "docs" / "tarn.1").write_text(
            '.TH TARN 1 2026-01-15 "tarn 0.1.0" "User commands"\n')
        for name in DEPLOYED:
            (directory / "deploy" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(TREE / "deploy" / name, directory / "deploy" / name)
        self.changelog.write_text(CHANGELOG)
        self.git("init", "--quiet")
        for key, value in (("user.name", "A"), ("user.email", "a@example.com"),
                           ("tag.gpgSign", "false"), ("commit.gpgSign", "false")):
            self.git("config", key, value)
        self.commit()

    @property
    def changelog(self):
        return self.directory / "CHANGELOG.md"

    @property
    def version(self):
        build = (self.directory / "meson.build").read_text()
        return build.partition("version: '")[2].partition("'")[0]

    def git(self, *arguments):
        return subprocess.run(["git", *arguments], cwd=self.directory, check=True,
                              capture_output=True, text=True).stdout

    def commit(self):
        self.git("add", ".")
        self.git("commit", "--quiet", "--message", "a commit")

    def release(self, *arguments):
        return subprocess.run(["script/release", *arguments], cwd=self.directory, check=False,
                              capture_output=True, text=True)


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path)


def refused(repository, done, why):
    """Whether it failed for this reason and left everything as it was."""
    return done.returncode == 1 and why in done.stderr and \
        not repository.git("tag") and repository.git("log", "--format=%s") == "a commit\n"


def test_a_release_has_a_version_a_dated_section_and_a_tag(repository):
    done = repository.release("0.2.0")
    assert done.returncode == 0, done.stderr
    assert repository.version == "0.2.0"
    page = (repository.directory / "docs" / "tarn.1").read_text()
    assert '"tarn 0.2.0"' in page and "2026-01-15" not in page
    chart, *kustomizations = ((repository.directory / "deploy" / name).read_text()
                            for name in DEPLOYED)
    assert "\nversion: 0.2.0\nappVersion: 0.2.0\n" in chart
    assert all('newTag: "0.2.0"' in text for text in kustomizations)
    text = repository.changelog.read_text()
    head, _, rest = text.partition("## [Unreleased]\n\n## [0.2.0] - 20")
    assert head == "# Changelog\n\n"
    assert rest[len("yy-mm-dd\n"):] == CHANGELOG.partition("## [Unreleased]\n")[2]
    assert repository.git("log", "-1", "--format=%s") == "Release 0.2.0\n"
    assert repository.git("status", "--porcelain") == ""
    assert repository.git("rev-parse", "v0.2.0^{commit}") == repository.git("rev-parse", "HEAD")
    assert repository.git("tag", "--list", "--format=%(contents)", "v0.2.0").rstrip() == \
        "tarn 0.2.0\n\n### Added\n\n- A thing that users notice."


def test_a_dry_run_changes_nothing(repository):
    done = repository.release("--dry-run", "0.2.0")
    assert done.returncode == 0, done.stderr
    assert "## [0.2.0] - 20" in done.stdout and "- A thing that users notice." in done.stdout
    assert repository.git("status", "--porcelain") == repository.git("tag") == ""
    assert repository.version != "0.2.0" and repository.changelog.read_text() == CHANGELOG


@pytest.mark.parametrize("name", ["meson.build", "something-new"])
def test_a_dirty_tree_is_refused(repository, name):
    with (repository.directory / name).open("a") as file:
        file.write("\n")
    assert refused(repository, repository.release("0.2.0"), name)


@pytest.mark.parametrize("version", ["0.1.0", "0.0.9", "0.2", "v0.2.0", "0.2.0-rc1", "0.02.0", ""])
def test_a_version_that_does_not_go_up_is_refused(repository, version):
    assert refused(repository, repository.release(version), version)


def test_a_tagged_version_is_refused(repository):
    repository.git("tag", "v0.10.0")
    done = repository.release("0.9.0")
    assert done.returncode == 1 and "0.9.0 is not above 0.10.0" in done.stderr


@pytest.mark.parametrize("old,new,why", [
    ("\n### Added\n\n- A thing that users notice.\n", "", "nothing under [Unreleased]"),
    ("- A thing that users notice.\n", "", "nothing under [Unreleased]"),
    ("## [Unreleased]\n", "", "no section [Unreleased]"),
])
def test_an_empty_section_is_refused(repository, old, new, why):
    repository.changelog.write_text(CHANGELOG.replace(old, new))
    repository.commit()
    done = repository.release("0.2.0")
    assert done.returncode == 1 and why in done.stderr
    assert not repository.git("tag")


def test_the_first_release_may_be_the_version_that_is_there(repository):
    repository.changelog.write_text(CHANGELOG.partition("## [0.1.0]")[0])
    repository.commit()
    version = repository.version
    assert repository.release(version).returncode == 0
    assert repository.git("tag") == f"v{version}\n"


def test_this_projects_changelog_has_the_shape(repository):
    shutil.copy(TREE / "CHANGELOG.md", repository.directory)
    repository.commit()
    done = repository.release("--dry-run", "99.0.0")
    assert done.returncode == 0 or "nothing under [Unreleased]" in done.stderr  # just released
