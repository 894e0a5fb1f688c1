"""The section `bucket`: checked without the network, refused by its place, and taken from a CNCF registry."""

import pytest

from kit.object_store import KEY_ID, SECRET
from kit.tarn import serve_that_fails, tarn_command
from kit.yaml_text import yaml_text

PROXY = {"version": 0.1, "http": {"addr": "127.0.0.1:0"},
         "proxy": {"remoteurl": "http://127.0.0.1:1"}}


@pytest.fixture
def check(program, tmp_path):
    """Runs check-config on a configuration, or on a text: the finished process."""
    def run(configuration, environment=None):
        path = tmp_path / "f.yaml"
        path.write_text(configuration if isinstance(configuration, str)
                        else yaml_text(configuration))
        return tarn_command(program, "check-config", path, home=tmp_path, environment=environment)
    return run


@pytest.mark.parametrize("credentials", ["aws", "google", "anonymous", {"aws": {"profile": "p"}},
                                         {"google": {"metadata": "127.0.0.1:1"}}])
def test_check_config_asks_nobody(check, make_object_store, credentials):
    store = make_object_store("gcs" if "google" in str(credentials) else "s3")
    done = check({"bucket": store.settings(credentials=credentials)})
    assert (done.returncode, done.stderr) == (0, "")
    assert store.connections == 0


@pytest.mark.parametrize("text, problem", [
    ("bucket:\n  url: s3://a..b/C D\n", ":2:8: bucket.url: "),
    ("bucket:\n  url: http://cache\n", ":2:8: bucket.url: "),
    ("bucket: {url: 's3://-cache'}\n", ":1:15: bucket.url: "),
    ("bucket: {url: 's3://cache', endpoint: 'https://s3.example/x'}\n", ":1:39: bucket.endpoint: "),
    ("bucket: {url: 's3://cache', endpoint: 'https://me:pw@s3.example'}\n",
     ":1:39: bucket.endpoint: "),
    ("bucket: {url: 'gs://cache', endpoint: 'http://s3.example'}\n", ":1:39: bucket.endpoint: "),
    ("bucket: {url: 's3://cache', part_size: 5000000}\n", ":1:40: bucket.part_size: "),
    ("bucket: {url: 's3://cache', part_size: 513MiB}\n", ":1:40: bucket.part_size: "),
    ("bucket: {url: 's3://cache', kms_key: k, encryption: AES256}\n", ":1:38: bucket.kms_key: "),
    ("bucket: {url: 's3://cache', credentials: {key_id: k, secret_file: /none}}\n",
     ":1:67: bucket.credentials.secret_file: "),
    ("bucket: {url: 's3://cache', credentials: {sso: x}}\n", ":1:43: bucket.credentials.sso: "),
    ("bucket: {url: 's3://cache', conexions: 3}\n", ":1:29: bucket.conexions: "),
])
def test_a_mistake_stops_the_start_with_its_place(check, program, tmp_path, text, problem):
    done = check(text)
    assert done.returncode == 1
    if "a..b" not in text:
        assert f"f.yaml{problem}" in done.stderr
    assert "pw" not in done.stderr
    refused = serve_that_fails(program, "--config", tmp_path / "f.yaml", home=tmp_path)
    assert refused.returncode == 1 and "bucket." in refused.stderr


def test_all_mistakes_are_told_at_once(check):
    done = check("bucket:\n  url: s3://C\n  part_size: 1\n  endpoint: x\n  kms_key: k\n")
    assert [line.split(": ")[1] for line in done.stderr.splitlines()] == [
        "bucket.url", "bucket.part_size", "bucket.endpoint", "bucket.kms_key"]


@pytest.mark.parametrize("flags, environment, problem", [
    (["--bucket-url=s3://X"], {}, "--bucket-url: "),
    ([], {"TARN_BUCKET_URL": "s3://X"}, "TARN_BUCKET_URL: "),
    (["--bucket-url=s3://abc", "--bucket-part-size=1"], {}, "--bucket-part-size: "),
    (["--bucket-url=s3://abc"], {"TARN_BUCKET_PATH_STYLE": "maybe"}, "TARN_BUCKET_PATH_STYLE: "),
    (["--bucket-url=s3://abc", "--bucket-credentials=sso"], {}, "--bucket-credentials: "),
])
def test_flags_and_variables_are_checked(program, tmp_path, flags, environment, problem):
    done = serve_that_fails(program, "--root", tmp_path / "root", *flags, home=tmp_path,
                            environment=environment)
    assert done.returncode == 1 and problem in done.stderr


# ---- in the place of a CNCF registry

@pytest.mark.parametrize("storage, problem", [
    ({"s3": {"bucket": "kept", "skipverify": True}}, "storage.s3.skipverify: "),
    ({"s3": {"bucket": "kept", "v4auth": False}}, "storage.s3.v4auth: "),
    ({"s3": {"bucket": "Kept"}}, "storage.s3.bucket: "),
    ({"gcs": {"bucket": "kept", "keyfile": "/none"}}, "storage.gcs.keyfile: "),
])
def test_what_a_bucket_cannot_be_without_stops_the_start(check, storage, problem):
    done = check({**PROXY, "storage": storage})
    assert done.returncode == 1 and problem in done.stderr


def test_keys_that_are_not_used_are_named_as_ignored(check):
    done = check({**PROXY, "storage": {
        "s3": {"bucket": "kept", "region": "r", "accesskey": KEY_ID, "secretkey": SECRET,
               "useragent": "x", "objectacl": "private", "multipartcopychunksize": 1},
        "redirect": {"disable": False}}})
    assert done.returncode == 0
    for key in ("storage.s3.useragent", "storage.s3.objectacl", "storage.s3.multipartcopychunksize",
                "storage.redirect"):
        assert f"{key} is ignored: " in done.stderr
    assert SECRET not in done.stderr + done.stdout


def test_convert_config_keeps_the_secret_out_of_the_configuration(program, tmp_path, object_store):
    file = tmp_path / "config.yml"
    file.write_text(yaml_text({**PROXY, "storage": {"s3": {
        "bucket": "cache", "rootdirectory": "/a/b", "region": "us-east-1", "secure": False,
        "regionendpoint": f"127.0.0.1:{object_store.port}", "accesskey": KEY_ID,
        "secretkey": SECRET}}}))
    done = tarn_command(program, "convert-config", file, home=tmp_path, check=True)
    secret = tmp_path / "config.yml.secret"
    assert secret.read_text() == SECRET + "\n" and secret.stat().st_mode & 0o777 == 0o600
    assert SECRET not in done.stdout + done.stderr
    own = tmp_path / "tarn.yaml"
    own.write_text(done.stdout)
    for configuration in (file, own):
        checked = tarn_command(program, "check-bucket", "--config", configuration, home=tmp_path)
        assert checked.returncode == 0, checked.stdout + checked.stderr
    assert {request.key.split("/")[:2] == ["a", "b"] for request in
            object_store.requests_of("put")} == {True}
    assert {request.identity for request in object_store.requests} == {KEY_ID}
