"""The fixtures of the end-to-end tests, and a real object store in place of the scripted one."""

import os
import pathlib

import pytest

from kit.e2e_fixtures import FIXTURES
from kit.object_engines import SeaweedFS, VersityGateway

program = FIXTURES.program
make_upstream = FIXTURES.make_upstream
upstream = FIXTURES.upstream
start_tarn = FIXTURES.start_tarn
pytest_configure = FIXTURES.pytest_configure

FOLDER = pathlib.Path(os.environ["TARN_ENGINES"])
ENGINES = [(VersityGateway, FOLDER / "versitygw"), (SeaweedFS, FOLDER / "weed")]


def pytest_generate_tests(metafunc):
    if "engine" in metafunc.fixturenames:
        there = [pair for pair in ENGINES if os.access(pair[1], os.X_OK)]
        metafunc.parametrize("engine", there, ids=[kind.name for kind, _ in there], indirect=True)


@pytest.fixture
def engine(request, tmp_path):
    """An engine of its own for each test, with an empty bucket."""
    kind, path = request.param
    one = kind(path, tmp_path / "engine")
    yield one
    one.stop()
