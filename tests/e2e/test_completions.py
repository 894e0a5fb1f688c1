"""The completions of shells: the files in completions/, run by their own shells."""

import pathlib
import subprocess

import pytest

COMPLETIONS = pathlib.Path(__file__).resolve().parents[2] / "completions"

BASH = """
source "$0"
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_tarn
printf '%s\\n' "${COMPREPLY[@]}"
"""

# zsh's own functions are replaced. The arguments that they get are the words that zsh would offer.
ZSH = """
_describe() { print -l -- ${(P)2} }
_arguments() { print -l -- "$@" }
words=("$@")
CURRENT=$#
source "$0"
"""


def bash(*words, folder="/"):
    """The words that bash offers for a line whose last word is not finished."""
    done = subprocess.run(["bash", "-c", BASH, COMPLETIONS / "tarn.bash", *words], cwd=folder,
                          check=True, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    return done.stdout.split()


def fish(line, folder="/"):
    done = subprocess.run(["fish", "--no-config", "-c",
                           f"source {COMPLETIONS}/tarn.fish; complete -C '{line}'"], cwd=folder,
                          check=True, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    return {word.split("\t")[0] for word in done.stdout.splitlines()}


def zsh(*words):
    """The arguments that the functions of zsh's completion get for such a line."""
    done = subprocess.run(["zsh", "-f", "-c", ZSH, COMPLETIONS / "_tarn", *words], cwd="/",
                          check=True, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_bash_completes_commands():
    assert bash("tarn", "ver") == ["verify", "version"]
    assert bash("tarn", "help", "ver") == ["verify", "version"]
    assert "--version" in bash("tarn", "--")
    assert bash("tarn", "nothing", "") == []


def test_bash_completes_options():
    assert bash("tarn", "serve", "--log-") == ["--log-level", "--log-format", "--log-requests"]
    assert bash("tarn", "prune", "--") == ["--older-than", "--to-size", "--dry-run", "--bucket",
                                           "--config", "--root", "--json", "--help"]
    assert bash("tarn", "docker-credential", "g") == ["get"]


@pytest.mark.parametrize("words", [["--log-level", "d"], ["--log-level", "=", "d"]])
def test_bash_completes_values(words):
    assert bash("tarn", "serve", *words) == ["debug"]


def test_bash_completes_values_behind_an_equals_sign():
    assert bash("tarn", "serve", "--log-format", "=") == ["text", "json"]
    assert bash("tarn", "serve", "--prefetch", "=", "t") == ["true"]
    assert bash("tarn", "serve", "--prefetch", "--log-f") == ["--log-format"]
    assert bash("tarn", "serve", "--max-size", "") == []


def test_bash_completes_files_and_folders(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    assert sorted(bash("tarn", "serve", "--config", "f", folder=tmp_path)) == ["file", "folder"]
    assert bash("tarn", "ls", "--root", "f", folder=tmp_path) == ["folder"]
    assert sorted(bash("tarn", "check-config", "f", folder=tmp_path)) == ["file", "folder"]
    assert bash("tarn", "ls", "f", folder=tmp_path) == []


def test_fish_completes_commands_and_options():
    assert fish("tarn ver") == {"verify", "version"}
    assert fish("tarn help ver") == {"verify", "version"}
    assert fish("tarn serve --log-") == {"--log-level", "--log-format", "--log-requests"}
    assert fish("tarn ls --dry") == set()
    assert fish("tarn docker-credential g") == {"get"}


def test_fish_completes_values(tmp_path):
    assert fish("tarn serve --log-level d") == {"debug"}
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    assert fish("tarn check-config f", folder=tmp_path) == {"file", "folder/"}
    assert fish("tarn ls --root f", folder=tmp_path) == {"folder/"}
    assert fish("tarn ls f", folder=tmp_path) == set()


def test_zsh_knows_commands_and_options():
    assert "verify:hash all blobs in the cache" in zsh("tarn", "ver")
    specifications = zsh("tarn", "serve", "--lo")
    assert any(line.startswith("--log-level=[") and line.endswith(":(debug info warn error)")
               for line in specifications)
    assert any(line.startswith("--config=[") and line.endswith(":_files")
               for line in specifications)
    assert any(line.startswith("--root=[") and line.endswith(":_files -/")
               for line in zsh("tarn", "ls", ""))
