"""What `tarn check-bucket` says of an object store."""

import json

from kit.tarn import tarn_command
from kit.yaml_text import yaml_text

CHECKS = ["list", "put", "get", "range", "multipart", "create_once", "delete"]


def bucket_report(program, home, store, environment=None, **settings):
    """(exit status, the report, standard error). `settings` change those of the store."""
    config = home / "tarn.yaml"
    config.write_text(yaml_text({"bucket": {**store.settings(), **settings}}))
    variables = store.environment if environment is None else environment
    done = tarn_command(program, "check-bucket", "--json", "--config", config, home=home,
                        environment=variables)
    for secret in store.environment.values():
        assert secret not in done.stdout + done.stderr
    return done.returncode, json.loads(done.stdout), done.stderr


def failed(report):
    """The details of the checks that failed, by name."""
    return {one["name"]: one["detail"] for one in report["checks"] if not one["ok"]}
