"""
Real object stores that speak S3, each as one program with one bucket. They have the names of
ObjectStore as far as the tests of a shared bucket use them, and are looked into by boto3.
"""

import json

import boto3
from botocore.config import Config

from kit.object_store import KEY_ID, SECRET
from kit.processes import Program, accepts, free_port, wait_until


class Engine:
    """A running engine. `directory` holds its files."""

    name = ""
    bucket, region = "cache", "us-east-1"
    environment = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET}

    def __init__(self, program, directory):
        self.port = free_port()
        directory.mkdir(parents=True)
        self.process = Program(self.command(program, directory), directory / "log", None, directory)
        self.process.wait_ready(lambda: accepts(self.port))
        self.client = boto3.client(
            "s3", endpoint_url=self.url, region_name=self.region, aws_access_key_id=KEY_ID,
            aws_secret_access_key=SECRET,
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}))
        wait_until(self._is_made, f"a bucket of {self.name}", 60, 0.2)

    def command(self, program, directory):
        raise NotImplementedError

    def _is_made(self):
        try:
            self.client.create_bucket(Bucket=self.bucket)
        except Exception:  # pylint: disable=broad-except
            pass
        try:
            self.client.put_object(Bucket=self.bucket, Key="probe", Body=b"x")
            self.client.delete_object(Bucket=self.bucket, Key="probe")
            return True
        except Exception:  # pylint: disable=broad-except
            return False

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def settings(self, prefix="tarn", **more):
        return {"url": f"s3://{self.bucket}/{prefix}", "endpoint": self.url, "region": self.region,
                **more}

    def keys(self, prefix=""):
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket,
                                                                      Prefix=prefix)
        return [one["Key"] for page in pages for one in page.get("Contents", [])
                if not one["Key"].endswith("/")]

    def get(self, key):
        try:
            return self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        except self.client.exceptions.NoSuchKey:
            return None

    def put(self, key, content):
        self.client.put_object(Bucket=self.bucket, Key=key, Body=content)

    def remove(self, key):
        self.client.delete_object(Bucket=self.bucket, Key=key)

    @property
    def uploads(self):
        """The ids of unfinished uploads."""
        listed = self.client.list_multipart_uploads(Bucket=self.bucket)
        return [one["UploadId"] for one in listed.get("Uploads", [])]

    def stop(self):
        """Ends the engine at once: nobody needs its files any more."""
        self.process.kill()


class VersityGateway(Engine):
    """A folder as a bucket; it refuses what AWS refuses."""

    name = "versitygw"

    def command(self, program, directory):
        (directory / "data").mkdir()
        return [program, "--access", KEY_ID, "--secret", SECRET, "--region", self.region,
                "--port", f"127.0.0.1:{self.port}", "--quiet", "posix", directory / "data"]


class SeaweedFS(Engine):
    """Master, volume server, filer and S3 in one process."""

    name = "SeaweedFS"

    def command(self, program, directory):
        identity = {"name": "tarn", "credentials": [{"accessKey": KEY_ID, "secretKey": SECRET}],
                    "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
        (directory / "s3.json").write_text(json.dumps({"identities": [identity]}))
        (directory / "data").mkdir()
        ports = [f"-{part}.port{kind}={free_port()}" for part in ("master", "volume", "filer")
                 for kind in ("", ".grpc")]
        return [program, "server", "-ip=127.0.0.1", f"-dir={directory / 'data'}", *ports,
                "-volume.max=50", "-master.volumeSizeLimitMB=64", "-master.telemetry=false",
                "-filer", "-s3", f"-s3.port={self.port}", f"-s3.port.grpc={free_port()}",
                "-s3.port.iceberg=0", "-s3.port.lance=0",
                f"-s3.config={directory / 's3.json'}"]
