"""Signatures of src/auth/aws/ against those of botocore, for random requests."""

import datetime
import hashlib
import json
import random
import subprocess
import types
from urllib.parse import quote, urlsplit

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from kit.driver import build_driver

REQUESTS = 10000
SIMPLE = "ABCXYZabcxyz0189-._~"
ODD = SIMPLE + " !\"#$%&'()*+,/:;<=>?@[\\]^`{|}äß€𝄞" + "\x7f"
REGIONS = ["us-east-1", "eu-central-1", "cn-north-1", "us-gov-west-1", "auto", "garage"]
METHODS = ["GET", "PUT", "POST", "DELETE", "HEAD"]
# Not Date, in whose presence botocore sends no X-Amz-Date.
HEADERS = ["Range", "x-amz-storage-class", "X-Amz-Copy-Source", "x-amz-copy-source-if-none-match",
           "x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id",
           "Content-Type", "If-None-Match", "x-amz-meta-a", "x-amz-meta-a-b", "Content-MD5",
           "x-amz-acl", "Content-Length"]


@pytest.fixture(scope="module")
def aws_driver(program):
    return build_driver(program, "aws_driver")


def text(source, letters, least, most):
    return "".join(source.choice(letters) for _ in range(source.randint(least, most)))


def path_of(source, service):
    if service == "sts":  # whose signers first resolve "." and "//", which we never send
        parts = [text(source, ODD.replace("/", ""), 1, 8) + "x" for _ in range(source.randint(0, 3))]
        return "/" + "/".join(parts)
    return "/" + text(source, ODD + "///...", 0, 60)


def random_request(source, number):
    service = source.choice(["s3", "s3", "s3", "sts"])
    names = source.sample(HEADERS, source.randint(0, 6))
    blank = source.choice(["", " ", "  ", "\t"])
    body = source.randbytes(source.randint(0, 40))
    query = [[text(source, ODD, 1, 8), text(source, ODD, 0, 12)]
             for _ in range(source.randint(0, 6))]
    presigns = service == "s3" and number % 4 == 0
    if presigns:  # of a name that comes twice, botocore keeps one in a presigned URL
        query = [list(pair) for pair in dict(query).items()]
    return {
        "do": "presign" if presigns else "sign",
        "method": source.choice(METHODS),
        "host": source.choice(["b.s3.amazonaws.com", "127.0.0.1:9000", "[::1]:8333", "minio"]),
        "path": path_of(source, service),
        "query": query,
        "headers": [[name, blank + blank.join(text(source, SIMPLE + "/=+", 1, 12)
                                              for _ in range(source.randint(1, 3)))]
                    for name in names],
        "payload": source.choice(["UNSIGNED-PAYLOAD", hashlib.sha256(body).hexdigest()]),
        "region": source.choice(REGIONS),
        "service": service,
        "key_id": text(source, "ABCDEFGHIJ0123456789", 16, 128),
        "secret": text(source, SIMPLE + "/+", 1, 60),
        "token": text(source, SIMPLE + "/+=", 1, 900) if source.random() < 0.4 else None,
        "time": source.randint(0, 4102444799),
        "expires": source.randint(1, 604800),
    }


def signed_by_botocore(request, patch):
    """The signature, and the names that are signed."""
    moment = datetime.datetime.utcfromtimestamp(request["time"])
    if hasattr(botocore.auth, "get_current_datetime"):
        patch.setattr(botocore.auth, "get_current_datetime", lambda *_, **__: moment)
    else:
        clock = types.SimpleNamespace(utcnow=lambda: moment, strptime=datetime.datetime.strptime)
        patch.setattr(botocore.auth, "datetime", types.SimpleNamespace(datetime=clock))
    credentials = Credentials(request["key_id"], request["secret"], request["token"])
    one = AWSRequest(method=request["method"],
                     url=f"https://{request['host']}{quote(request['path'], safe='/~')}",
                     params=[tuple(pair) for pair in request["query"]],
                     headers={"Host": request["host"], **dict(request["headers"])})
    if request["do"] == "presign":
        one.params = dict(request["query"])
        signer = botocore.auth.S3SigV4QueryAuth(credentials, "s3", request["region"],
                                                expires=request["expires"])
        signer.payload = lambda _: request["payload"]
        signer.add_auth(one)
        return dict(pair.split("=", 1) for pair in urlsplit(one.url).query.split("&"))[
            "X-Amz-Signature"]
    kind = botocore.auth.S3SigV4Auth if request["service"] == "s3" else botocore.auth.SigV4Auth
    signer = kind(credentials, request["service"], request["region"])
    signer.payload = lambda _: request["payload"]
    signer.add_auth(one)
    return one.headers["Authorization"]


def canonical_target(request):
    pairs = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~"))
                   for name, value in request["query"])
    query = "&".join(f"{name}={value}" for name, value in pairs)
    return quote(request["path"], safe="/~") + ("?" + query if query else "")


def differences(requests, answers, patch):
    for request, answer in zip(requests, answers):
        assert "error" not in answer, (request, answer)
        wanted = signed_by_botocore(request, patch)
        if request["do"] == "presign":
            got = answer["target"].rpartition("&X-Amz-Signature=")[2]
        else:
            got = answer["lines"][-1].removeprefix("Authorization: ")
            wanted = wanted if isinstance(wanted, str) else wanted.decode()
            if answer["target"] != canonical_target(request):
                yield request, answer["target"], canonical_target(request)
        if got != wanted:
            yield request, got, wanted


def test_ten_thousand_random_requests_are_signed_as_botocore_signs_them(aws_driver, monkeypatch):
    source = random.Random(16)
    requests = [random_request(source, number) for number in range(REQUESTS)]
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    ran = subprocess.run([aws_driver, "{}"], input=lines.encode(), capture_output=True, check=True)
    answers = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(answers) == len(requests)
    for request, got, wanted in differences(requests, answers, monkeypatch):
        pytest.fail(f"{json.dumps(request)}\nours:     {got}\nbotocore: {wanted}")
