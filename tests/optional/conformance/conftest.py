"""The fixtures of the end-to-end tests, which pytest keeps for the tests in their own folder."""

from kit.e2e_fixtures import FIXTURES

program, start_tarn, users = FIXTURES.program, FIXTURES.start_tarn, FIXTURES.users
origin = FIXTURES.origin
