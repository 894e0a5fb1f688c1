"""Tarns over one bucket of a real object store: the tests of tests/e2e/test_shared_bucket.py."""

import test_shared_bucket

# Not `engine`, which is the folder's own.
globals().update({name: value for name, value in vars(test_shared_bucket).items()
                  if name.startswith("test_") or name == "start"})
