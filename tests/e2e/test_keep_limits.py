"""`tarn keep` at its limits: many keeps, many images, long bodies, odd requests."""

import json
import socket

import pytest

from kit.keeps import LAB, digest, keeper, kubelets, registry
from kit.kubelets import listed
from kit.processes import wait_until

ONE = [{"image": f"{LAB}:w_2024_01"}]


def machine(name, images=(), **labels):
    return {"name": name, "labels": labels, "repomen": [{"type": "SimpleRepoMan", "images": [
        {"name": str(image), "image_url": f"fake.test/org/lab:{image}"} for image in images]}]}


def post(keeper, body, **headers):
    return keeper.get("/cachemachine/", {"Content-Type": "application/json", **headers},
                      method="POST", body=json.dumps(body).encode())


def test_a_hundred_keeps_and_no_more(keeper, kubelets, api):
    one = keeper(ONE, operators="anyone").start()
    for number in range(99):
        assert post(one, machine(f"m{number}")).status == 200
    names = one.json("/cachemachine/")
    assert len(names) == 100
    before = api.objects[("configmaps", "tarn", "tarn-keep")]
    answer = post(one, machine("m99"))
    assert answer.status == 413 and answer.body.startswith(b"413: "), answer.body
    assert one.json("/cachemachine/") == names
    assert api.objects[("configmaps", "tarn", "tarn-keep")] == before
    assert post(one, machine("m7", k="other")).status == 200    # in place of one
    assert post(one, machine("labs", k="other")).status == 200  # and of a configured one
    assert one.get("/cachemachine/m7", method="DELETE").status == 200
    assert post(one, machine("m99")).status == 200


def test_a_thousand_images_and_no_more(keeper, kubelets):
    one = keeper(ONE, operators="anyone").start()
    answer = post(one, machine("large", range(1001)))
    assert (answer.status, answer.body) == (413, b"413: repomen: has more than 1000 images")
    assert one.json("/cachemachine/") == ["labs"]
    assert post(one, machine("large", range(1000), pool="none")).status == 200
    wait_until(lambda: len(one.json("/cachemachine/large")["desired_images"]) == 1000,
               "the images", 90)


def test_machines_together_have_900_kib(keeper, kubelets, api):
    one = keeper(ONE, operators="anyone").start()
    def sized(name, size):
        body = machine(name, pad="")
        body["labels"]["pad"] = "x" * (size - len(name) - len(json.dumps(body, separators=(",", ":"))))
        return body
    assert post(one, sized("a", 500 << 10)).status == 200
    assert post(one, sized("b", (400 << 10) + 1)).status == 413
    assert post(one, sized("b", 400 << 10)).status == 200
    assert post(one, machine("c")).status == 413
    assert post(one, sized("a", 1000)).status == 200    # a smaller one in its place
    assert post(one, machine("c")).status == 200
    assert sorted(api.objects[("configmaps", "tarn", "tarn-keep")]["data"]) == ["a", "b", "c"]


def test_repositories_with_more_than_1000_images_together_are_told(keeper, kubelets, registry):
    manifest = registry.repository("org/lab").manifests[digest(registry, "w_2024_01")][0]
    for number in range(600):
        registry.repository("org/lab").add_manifest(manifest, tag=f"v{number}")
    entry = {"repository": LAB, "tags": {"matching": "v*"}}
    one = keeper([entry, entry]).start()
    wait_until(lambda: "more than 1000 images" in str(one.json("/tarn/v1/keeps/labs")["source"]),
               "the reason", 120)
    assert len(one.json("/cachemachine/labs")["desired_images"]) == 1000


# ---- requests

@pytest.mark.parametrize("prefix, environment", [
    ("cutter", {}), (None, {"SAFIR_NAME": "cutter"}), ("cutter", {"SAFIR_NAME": "other"})])
def test_the_prefix_may_be_another_one(keeper, kubelets, prefix, environment):
    more = {"prefix": prefix} if prefix else {}
    one = keeper(ONE, environment=environment, operators="anyone", **more).start()
    assert one.json("/")["name"] == "cutter"
    assert one.json("/cutter/") == ["labs"]
    assert one.get("/cachemachine/").status == one.get("/other/").status == 404
    assert one.get("/cutter/labs").status == one.get("/cutter/labs/desired").status == 200
    assert one.get("/tarn/v1/keeps").status == 200


@pytest.mark.parametrize("path", ["/", "/livez", "/readyz", "/metrics", "/cachemachine/",
                                  "/cachemachine/labs", "/cachemachine/labs/available",
                                  "/tarn/v1/keeps", "/tarn/v1/keeps/labs",
                                  "/nublado/spawner/v1/images", "/nublado/spawner/v1/prepulls"])
def test_head_is_as_get_without_the_body(keeper, kubelets, path):
    one = keeper(ONE, operators="anyone").start()
    head = one.get(path, method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Type"] == one.get(path).headers["Content-Type"]
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        if (method, path) in (("POST", "/cachemachine/"), ("DELETE", "/cachemachine/labs")):
            continue
        answer = one.get(path, method=method, body=b"{}")
        assert answer.status == 405 and answer.headers["Allow"], (method, answer.status)


@pytest.mark.parametrize("path", [
    "/cachemachine/labs/", "/cachemachine/labs/available/", "/cachemachine//labs",
    "/cachemachine/labs/availablex", "/cachemachine/%2e%2e", "/cachemachine/%00",
    "/cachemachinex/", "/tarn/v1/keeps/", "/tarn/v1/keepsx", "/tarn/v1/keeps/none", "/tarn/v1",
    "/nublado/spawner/v1", "/nublado/spawner/v1/images/", "/v2/", "/favicon.ico"])
def test_other_paths_are_404(keeper, kubelets, path):
    one = keeper(ONE).start()
    answer = one.get(path)
    assert (answer.status, answer.body) == (404, b"404: Not Found")


def raw(keeper, request):
    """The response to these bytes."""
    with socket.create_connection(("127.0.0.1", keeper.port), timeout=30) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        data = b""
        while piece := connection.recv(65536):
            data += piece
    return data


@pytest.mark.parametrize("body, status", [
    (b"null", 400), (b'"text"', 400), (b"[]", 400), (b"{} {}", 400), (b"\xff\xfe", 400),
    (b'{"name":"a","name":"b","labels":{},"repomen":[]}', 400),
    (b'{"name":"a","labels":[],"repomen":[]}', 400),
    (b'{"name":"a","labels":null,"repomen":[]}', 400),
    (b'{"name":"","labels":{},"repomen":[]}', 400),
    (b'{"name":"-a","labels":{},"repomen":[]}', 400),
    (b'{"name":"a/b","labels":{},"repomen":[]}', 400),
    (b'{"name":"\\u0000","labels":{},"repomen":[]}', 400),
    (b'{"name":"' + b"a" * 64 + b'","labels":{},"repomen":[]}', 400),
    (b'{"name":"' + b"a" * 63 + b'","labels":{},"repomen":[]}', 200),
    (b'{"name":"a","labels":{},"repomen":[[]]}', 400),
    (b"[" * 100000, 400),
])
def test_odd_bodies_get_a_clear_answer(keeper, kubelets, body, status):
    one = keeper(ONE, operators="anyone").start()
    answer = one.get("/cachemachine/", method="POST", body=body)
    assert answer.status == status, answer.body
    if status != 200:
        assert answer.body.startswith(b"%d: " % status) and len(answer.body) > 10
        assert one.json("/cachemachine/") == ["labs"]


def test_a_body_without_a_length_is_refused_clearly(keeper, kubelets):
    one = keeper(ONE, operators="anyone").start()
    head = b"POST /cachemachine/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    chunked = raw(one, head + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n")
    assert chunked.split(b" ")[1] in (b"400", b"411"), chunked
    assert raw(one, head + b"\r\n").split(b" ")[1] == b"400"
    assert raw(one, head + b"Content-Length: 1048577\r\n\r\n").split(b" ")[1] == b"413"
    assert raw(one, head + b"Content-Length: 99999999999999999999\r\n\r\n").split(b" ")[1] in (
        b"400", b"413")


# ---- what nodes say

@pytest.mark.parametrize("images", [
    None, [], [{"names": None, "sizeBytes": 1}], [{"sizeBytes": 1}], [{"names": []}],
    [{"names": ["<none>@<none>", "<none>:<none>"], "sizeBytes": 5}],
    [{"names": ["no-tag-no-digest"], "sizeBytes": -1}], [{"names": [7, None, ""]}],
    [{"names": [f"{LAB}@sha256:short", f"{LAB}:w_2024_01"]}]])
def test_odd_lists_of_images_hinder_nothing(keeper, kubelets, images):
    kubelets.lists_pulls = False
    kubelets.node("n1", status={"images": images})
    one = keeper(ONE).start()
    one.wait_all()
    assert [node for node, _ in kubelets.pulls] == ["n1"]
    assert one.json("/cachemachine/labs")["images_to_cache"] == []


def test_common_cache_has_what_all_nodes_have_in_the_first_ones_order(keeper, kubelets, registry):
    def images(*extra):
        return [listed("h/big@sha256:b", "h/big:1", *[f"h/big:{tag}" for tag in extra], size=900),
                listed("k/small@sha256:s", "l/small@sha256:s", "k/small:1", "l/small:2", size=5),
                listed("only-digest@sha256:d", size=4), listed("only-tag:1", size=3)]
    kubelets.node("n1", images=images("x"))
    kubelets.node("n2", images=[*reversed(images("y")), listed("n2/own@sha256:o", "n2/own:1")])
    kubelets.node("n3", taints=[{"key": "a", "effect": "NoSchedule"}])
    one = keeper(ONE, pull={"nodes_at_once": 1}).start()
    one.wait_all(count=2)
    common = one.json("/cachemachine/labs")["common_cache"]
    assert [image for image in common if not image["image_url"].startswith(LAB)] == [
        {"image_url": "h/big:1", "image_hash": "sha256:b", "tags": ["x", "y"]},
        {"image_url": "k/small:1", "image_hash": "sha256:s", "tags": []},
        {"image_url": "l/small:2", "image_hash": "sha256:s", "tags": []}]
