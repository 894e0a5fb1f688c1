"""The fixtures of the end-to-end tests, which pytest keeps for the tests in their own folder."""

import importlib.util
import pathlib

PLACE = pathlib.Path(__file__).parents[2] / "e2e" / "conftest.py"
SPECIFICATION = importlib.util.spec_from_file_location("e2e_fixtures", PLACE)
FIXTURES = importlib.util.module_from_spec(SPECIFICATION)
SPECIFICATION.loader.exec_module(FIXTURES)

program, make_upstream = FIXTURES.program, FIXTURES.make_upstream
upstream, start_tarn = FIXTURES.upstream, FIXTURES.start_tarn
