"""The fixtures of the end-to-end tests, which pytest keeps for the tests in their own folder."""

from kit.e2e_fixtures import FIXTURES

program, make_upstream = FIXTURES.program, FIXTURES.make_upstream
upstream, start_tarn = FIXTURES.upstream, FIXTURES.start_tarn
origin = FIXTURES.origin
