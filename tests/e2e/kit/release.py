"""The release build, for tests of memory, size and flags, which sanitizers change."""

import os

import pytest

from kit.processes import run


def release_build(program):
    """$TARN_RELEASE, or the tarn under test if that has no sanitizers."""
    path = os.environ.get("TARN_RELEASE") or program
    if "__asan" in run(["readelf", "-W", "--dyn-syms", path]).stdout:
        pytest.skip("this is a build with sanitizers; TARN_RELEASE=PATH names one without")
    return path
