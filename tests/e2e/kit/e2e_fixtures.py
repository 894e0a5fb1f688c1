"""
The fixtures of the end-to-end tests, for the optional suites: pytest keeps them for the tests in
their own folder.
"""

import importlib.util
import pathlib

_PLACE = pathlib.Path(__file__).parents[1] / "conftest.py"
_SPECIFICATION = importlib.util.spec_from_file_location("e2e_fixtures", _PLACE)
FIXTURES = importlib.util.module_from_spec(_SPECIFICATION)
_SPECIFICATION.loader.exec_module(FIXTURES)
