"""tarn check-bucket: what it says of a bucket that works, and of each that does not."""

import json
import time

import pytest

from kit.bucket_report import CHECKS, failed
from kit.object_signature import Identity
from kit.processes import free_port
from kit.tarn import tarn_command
from kit.yaml_text import yaml_text


def test_a_bucket_that_works(object_store, check_bucket):
    status, report, _ = check_bucket(object_store)
    assert status == 0
    assert [one["name"] for one in report["checks"]] == CHECKS
    assert failed(report) == {}
    assert all(one["seconds"] >= 0 and one["detail"] == "" for one in report["checks"])
    assert {**report, "checks": []} == {
        "bucket": "s3://cache/tarn", "endpoint": object_store.url, "region": "us-east-1",
        "credentials": "environment", "clock_seconds": 0, "reads": True, "writes": True,
        "checks": []}
    assert object_store.keys() == [] and object_store.uploads == {}
    assert all(request.key.startswith("tarn/tarn/v1/probe/")
               for request in object_store.requests_of("(?!list).*"))
    assert [request.parameters["prefix"] for request in object_store.requests_of("list")] == \
        ["tarn/tarn/v1/probe/"]


def test_a_line_a_check(object_store, program, tmp_path):
    config = tmp_path / "tarn.yaml"
    config.write_text(yaml_text({"bucket": object_store.settings()}))
    done = tarn_command(program, "check-bucket", "--config", config, home=tmp_path,
                        environment=object_store.environment)
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == CHECKS
    assert [line.split()[1] for line in done.stdout.splitlines()] == ["ok"] * len(CHECKS)


@pytest.mark.parametrize("permission, names, status", [
    ("list", ["list"], 0), ("delete", ["delete"], 0),
    ("write", ["put", "multipart", "create_once", "delete"], 1),
    ("read", ["get", "range"], 1)])
def test_a_right_that_is_missing(object_store, check_bucket, permission, names, status):
    object_store.forbidden.add(permission)
    code, report, _ = check_bucket(object_store)
    assert code == status
    assert list(failed(report)) == names
    assert "403 AccessDenied" in failed(report)[names[0]]
    assert report["writes"] is (permission != "write")
    assert report["reads"] is (permission != "read")
    assert object_store.uploads == {}
    assert (object_store.keys() == []) is (permission != "delete")


@pytest.mark.parametrize("dialect, how, where", [
    ("s3", "501", "501"), ("s3", "ignored", "200"), ("gcs", "ignored", "200")])
def test_a_bucket_without_conditions_works(make_object_store, check_bucket, dialect, how, where):
    store = make_object_store(dialect)
    store.conditionals = how
    more = {} if dialect == "s3" else {"credentials": "aws"}
    code, report, _ = check_bucket(store, **more)
    assert code == 0
    assert list(failed(report)) == ["create_once"]
    assert where in failed(report)["create_once"]
    assert store.keys() == []


def test_another_region_is_learnt(object_store, check_bucket):
    object_store.region = "eu-central-1"
    code, report, _ = check_bucket(object_store, region="us-east-1")
    assert (code, report["region"]) == (0, "eu-central-1")
    assert object_store.count(status=400) == 1


def test_a_clock_that_is_off_is_corrected(object_store, check_bucket):
    object_store.clock_offset = -3000
    code, report, _ = check_bucket(object_store)
    assert code == 0
    assert 2990 <= report["clock_seconds"] <= 3010


@pytest.mark.parametrize("code", ["SignatureDoesNotMatch", "InvalidAccessKeyId"])
def test_wrong_keys(object_store, check_bucket, code):
    wrong = dict(object_store.environment)
    if code == "SignatureDoesNotMatch":
        wrong["AWS_SECRET_ACCESS_KEY"] = "wrong"
    else:
        object_store.identities = {"AKIDANOTHER": Identity("x")}
    status, report, _ = check_bucket(object_store, environment=wrong)
    assert status == 1
    assert not report["reads"] and not report["writes"]
    assert f"403 {code}" in failed(report)["put"]
    assert f"403 {code}" in failed(report)["get"]


def test_a_bucket_that_is_absent(object_store, check_bucket):
    code, report, _ = check_bucket(object_store, url="s3://another/tarn")
    assert code == 1
    assert "404 NoSuchBucket" in failed(report)["list"]
    assert not report["reads"] and not report["writes"]


@pytest.mark.parametrize("endpoint", ["refused", "silent"])
def test_a_bucket_that_cannot_be_reached(object_store, check_bucket, endpoint):
    settings = {}
    if endpoint == "refused":
        settings["endpoint"] = f"http://127.0.0.1:{free_port()}"
    else:
        object_store.fault(hold_head=True)
    started = time.monotonic()
    code, report, _ = check_bucket(object_store, **settings)
    assert code == 1
    assert time.monotonic() - started < 30
    assert [one["name"] for one in report["checks"]] == CHECKS
    assert not report["reads"] and not report["writes"]


def test_credentials_that_are_missing(object_store, check_bucket):
    code, report, _ = check_bucket(object_store, environment={"AWS_EC2_METADATA_DISABLED": "true"})
    assert code == 1
    assert object_store.count() == 0
    assert "list" in failed(report)


def test_read_only_writes_nothing(object_store, check_bucket):
    code, report, _ = check_bucket(object_store, read_only=True)
    assert (code, report["reads"], report["writes"]) == (0, True, False)
    assert object_store.count("put|create|part|complete|delete") == 0


def test_no_bucket_is_configured(program, tmp_path):
    config = tmp_path / "tarn.yaml"
    config.write_text("")
    done = tarn_command(program, "check-bucket", "--config", config, home=tmp_path)
    assert done.returncode == 2
    assert "no bucket is configured" in done.stderr


def test_the_environment_is_enough(object_store, program, tmp_path):
    done = tarn_command(program, "check-bucket", "--json", home=tmp_path, environment={
        **object_store.environment, "TARN_BUCKET_URL": "s3://cache", "TARN_BUCKET_ENDPOINT":
        object_store.url})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["bucket"] == "s3://cache"
