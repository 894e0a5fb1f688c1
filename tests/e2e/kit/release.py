"""The release build, for what a build with sanitizers cannot show: memory, size, flags."""

import os

import pytest

from kit.processes import run


def release_build(program):
    """$TARN_RELEASE, or the tarn under test where that is none with sanitizers."""
    path = os.environ.get("TARN_RELEASE") or program
    if "__asan" in run(["readelf", "-W", "--dyn-syms", path]).stdout:
        pytest.skip("this is a build with sanitizers; TARN_RELEASE=PATH names one without")
    return path
