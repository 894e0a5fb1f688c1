"""What a dashboard and an alert stand on: metrics, docs/metrics.md, deploy/prometheus, deploy/grafana."""

import json
import pathlib
import re
import socket
import subprocess
import time

import pytest
import yaml

from kit.cache_files import blob_file
from kit.client import at_once
from kit.content import KIB, digest_of, noise
from kit.processes import wait_until
from kit.tokens import TokenService

TREE = pathlib.Path(__file__).resolve().parents[2]
RULES = TREE / "deploy" / "prometheus" / "tarn.rules.yml"
RULES_TEST = TREE / "deploy" / "prometheus" / "tarn.rules.test.yml"
DASHBOARD = TREE / "deploy" / "grafana" / "tarn.json"
LAYER = noise(100 * KIB)
DIGEST = digest_of(LAYER)
OUTCOMES = ("hit", "miss", "joined", "revalidated", "stale")


@pytest.fixture
def image(upstream):
    return upstream.image("org/app", [LAYER], tag="1")


def families(tarn):
    """name -> (type, labels), the labels of a histogram's buckets without `le`"""
    found = {}
    text = tarn.get("/metrics").body.decode()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE):
        found[name] = (kind, set())
    for name, labels in re.findall(r"^([a-z_]+)(?:\{(.*)\})? \S+$", text, re.MULTILINE):
        if name not in found:
            name = re.sub("_(bucket|sum|count)$", "", name)
        found[name][1].update(re.findall(r'([a-z_]+)="', labels or ""))
        found[name][1].discard("le")
    return found


def of(metrics, name, **labels):
    """The sum of all series of the name with these labels."""
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    return sum(value for key, value in metrics.items()
               if key.split("{")[0] == name and all(label in key for label in wanted))


def use(tarn, upstream):
    """Lets every metric have a value."""
    tarn.manifest("org/app", "1")
    tarn.blob("org/app", DIGEST)
    tarn.get("/v2/org/app/tags/list")
    upstream.fault("/manifests/2", method=None, status=429, headers={
        "RateLimit-Limit": "100;w=21600", "RateLimit-Remaining": "50;w=21600"})
    assert tarn.manifest("org/app", "2").status == 429
    upstream.heal()
    counted(tarn, 3)


@pytest.fixture
def used(tarn, upstream, image):
    upstream.tokens = TokenService()
    use(tarn, upstream)
    return tarn


# ---- the documentation, the alerts and the dashboard

def documented():
    """name -> labels, of the tables in docs/metrics.md"""
    text = (TREE / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `([a-z_]+)(?:\{([a-z_,]+)\})?` \|", text, re.MULTILINE)
    assert len(rows) == len({name for name, _ in rows})
    return {name: set(labels.split(",")) if labels else set() for name, labels in rows}


def test_the_documentation_names_what_is_exported_and_nothing_else(used):
    exported = families(used)
    written = documented()
    assert set(exported) == set(written)
    for name, (_, labels) in exported.items():
        assert not labels or labels == written[name], name


def test_a_new_tarn_exports_every_name(tarn):
    assert set(families(tarn)) == set(documented())


def test_promtool_finds_nothing_to_complain_about(used):
    done = subprocess.run(["promtool", "check", "metrics"], input=used.get("/metrics").body,
                          capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def used_names(expression):
    """The metrics that an expression of PromQL names."""
    names = re.findall(r"\b((?:tarn|registry|process)_[a-z_]+)\b", expression)
    return {re.sub("_(bucket|sum|count)$", "", name) for name in names}


def rules():
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"]
            for rule in group["rules"]]


def test_alerts_use_metrics_that_exist(tarn):
    exported = families(tarn)
    for rule in rules():
        assert used_names(rule["expr"]) <= set(exported), rule["alert"]
        assert used_names(rule["expr"]) or "up{" in rule["expr"]


def test_what_alerts_compare_is_there_before_anything_happens(tarn):
    """Else the first event is no increase, and a sum with one side missing is empty."""
    metrics = tarn.metrics()
    for key in ("tarn_blob_digest_mismatches_total", "tarn_store_bad_blobs_total",
                "tarn_store_degraded", "tarn_evicted_bytes_total",
                'registry_proxy_pulled_bytes_total{type="blob"}',
                'tarn_requests_total{upstream="fake.test",type="manifest",outcome="stale"}',
                'tarn_upstream_errors_total{upstream="fake.test",kind="timeout"}',
                'tarn_upstream_requests_total{upstream="fake.test",code="none"}'):
        assert metrics.get(key) == 0, key


def anchors(document):
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_each_alert_says_what_to_do():
    names = [rule["alert"] for rule in rules()]
    assert {"TarnDown", "TarnDegraded", "TarnWrongBytes", "TarnServesStale", "TarnUpstreamErrors",
            "TarnRateLimitNear", "TarnCacheFull"} <= set(names)
    for rule in rules():
        notes = rule["annotations"]
        assert notes["summary"] and notes["description"], rule["alert"]
        path, _, anchor = notes["runbook"].partition("#")
        assert anchor == rule["alert"].lower()
        assert anchor in anchors(TREE / path)


def test_each_alert_fires_and_stays_silent_in_the_tests_of_rules():
    done = subprocess.run(["promtool", "check", "rules", RULES], capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    done = subprocess.run(["promtool", "test", "rules", RULES_TEST], capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    fires, silent = set(), set()
    for test in yaml.safe_load(RULES_TEST.read_text())["tests"]:
        for case in test["alert_rule_test"]:
            (fires if case["exp_alerts"] else silent).add(case["alertname"])
    assert fires == silent == {rule["alert"] for rule in rules()}


def test_the_dashboard_uses_metrics_and_labels_that_exist(used):
    dashboard = json.loads(DASHBOARD.read_text())
    exported = families(used)
    expressions = [target["expr"] for panel in dashboard["panels"]
                   for target in panel.get("targets", ())]
    expressions += [one["query"]["query"] for one in dashboard["templating"]["list"]
                    if one["type"] == "query"]
    expressions += [one["expr"] for one in dashboard["annotations"]["list"] if "expr" in one]
    assert len(expressions) > 30
    from_scrape = {"job", "instance"}
    for expression in expressions:
        assert used_names(expression) <= set(exported), expression
        assert used_names(expression), expression
        written = documented()
        for name, selector in re.findall(r"\b((?:tarn|registry|process)_[a-z_]+)\{(.*?)\}",
                                         expression):
            name = re.sub("_(bucket|sum|count)$", "", name)
            labels = set(re.findall(r"([a-z_]+)=", selector)) - from_scrape
            assert labels <= written[name], expression
    # Every metric of a kind that matters to an operator is somewhere on it.
    shown = set().union(*map(used_names, expressions))
    assert not {name for name in exported if name not in shown} - {
        "tarn_store_record_bytes", "tarn_store_partial_bytes", "tarn_store_bad_bytes",
        "tarn_evicted_blobs_total", "tarn_log_lines_dropped_total", "registry_proxy_misses_total",
        "tarn_upstream_bytes_total", "process_virtual_memory_bytes",
        # of what is off by default
        "tarn_streaming_layers", "tarn_streaming_bytes", "tarn_streaming_read_bytes_total",
        "tarn_streaming_cpu_seconds_total"}


def test_promql_of_the_dashboard_is_valid(tmp_path):
    """promtool reads expressions in rules only."""
    dashboard = json.loads(DASHBOARD.read_text())
    expressions = [target["expr"].replace("$__rate_interval", "5m")
                   for panel in dashboard["panels"] for target in panel.get("targets", ())]
    rules_file = tmp_path / "rules.yml"
    rules_file.write_text(json.dumps({"groups": [{"name": "panels", "rules": [
        {"record": f"panel:{number}", "expr": expression}
        for number, expression in enumerate(expressions)]}]}))
    done = subprocess.run(["promtool", "check", "rules", "--lint=none", rules_file],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


# ---- what is counted

def counted(tarn, requests):
    """The metrics once so many requests for manifests and blobs are counted, because tarn counts a
    request a moment after its last byte."""
    return wait_until(
        lambda: of(found := tarn.metrics(), "registry_proxy_requests_total") >= requests and found,
        f"{requests} requests are counted")


def check_sums(metrics):
    """Requests are hits and misses, by type and by upstream."""
    for kind in ("manifest", "blob"):
        requests = of(metrics, "registry_proxy_requests_total", type=kind)
        hits = of(metrics, "registry_proxy_hits_total", type=kind)
        misses = of(metrics, "registry_proxy_misses_total", type=kind)
        assert requests == hits + misses
        by_outcome = {outcome: of(metrics, "tarn_requests_total", type=kind, outcome=outcome)
                      for outcome in OUTCOMES}
        assert hits == sum(by_outcome[one] for one in ("hit", "revalidated", "stale"))
        assert misses == by_outcome["miss"] + by_outcome["joined"]
        assert requests == of(metrics, "tarn_requests_total", type=kind)
        assert of(metrics, "tarn_pulled_bytes_total", type=kind) == \
            of(metrics, "registry_proxy_pulled_bytes_total", type=kind)
        assert of(metrics, "tarn_pushed_bytes_total", type=kind) == \
            of(metrics, "registry_proxy_pushed_bytes_total", type=kind)


def test_requests_are_hits_and_misses_whatever_becomes_of_them(start_tarn, upstream, image):
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True,
                        "tag_ttl": "0"}], negative_ttl="1ms")
    held = upstream.fault("/blobs/", hold_after=1000)
    at_once(*[lambda: tarn.blob("org/app", DIGEST) for _ in range(3)],
            lambda: (wait_until(lambda: upstream.asked("/blobs/"), "the transfer"),
                     held.gate.set()))
    wait_until(blob_file(tarn.root, DIGEST).exists, "the blob is cached")
    tarn.manifest("org/app", "1")
    tarn.manifest("org/app", "1", method="HEAD")
    tarn.manifest("org/app", image)
    for reply in (tarn.blob("org/app", DIGEST), tarn.head(f"/v2/org/app/blobs/{DIGEST}"),
                  tarn.blob("org/app", DIGEST, {"Range": "bytes=0-9"}),
                  tarn.blob("org/app", DIGEST, {"If-None-Match": f'"{DIGEST}"'}),
                  tarn.blob("org/app", DIGEST, {"Range": "bytes=999999-"})):
        assert reply.status in (200, 206, 304, 416)
    assert tarn.manifest("org/app", "missing").status == 404
    assert tarn.blob("org/app", digest_of(b"missing")).status == 404
    upstream.heal()
    upstream.fault("/v2/", method=None, status=500)
    assert "fwd=stale" in tarn.manifest("org/app", "1").cache_status
    assert tarn.manifest("org/app", "2").status == 502
    assert tarn.blob("org/app", digest_of(b"failing")).status == 502
    metrics = counted(tarn, 16)
    check_sums(metrics)
    assert of(metrics, "registry_proxy_requests_total", type="blob") == 10
    assert of(metrics, "registry_proxy_hits_total", type="blob") == 5
    assert of(metrics, "registry_proxy_requests_total", type="manifest") == 6
    by_outcome = {outcome: of(metrics, "tarn_requests_total", upstream="fake.test",
                              type="manifest", outcome=outcome) for outcome in OUTCOMES}
    assert by_outcome["stale"] == 1 and by_outcome["revalidated"] >= 1
    assert by_outcome["miss"] == 3  # the first, and the two that failed
    blobs = {outcome: of(metrics, "tarn_requests_total", type="blob", outcome=outcome)
             for outcome in OUTCOMES}
    assert blobs["miss"] + blobs["joined"] == 5 and blobs["joined"] >= 1


def test_what_is_refused_before_the_cache_is_asked_counts_in_none(start_tarn, upstream, image):
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True,
                        "repositories": ["org/app"]}])
    refused = [tarn.manifest("org/other", "1"), tarn.blob("org/other", DIGEST),
               tarn.manifest("org/app", "-"), tarn.blob("org/app", "sha256:abc"),
               tarn.manifest("UPPER", "1"), tarn.get("/v2/org/app/manifests/1?ns=unknown.test"),
               tarn.get("/v2/org/app/manifests/1?ns=%00"),
               tarn.manifest("org/app", "1", method="PUT"),
               tarn.get(f"/v2/org/app/blobs/{DIGEST}", method="DELETE")]
    assert {reply.status for reply in refused} == {400, 403, 404, 405}
    assert tarn.manifest("org/app", "1").status == 200
    metrics = counted(tarn, 1)
    check_sums(metrics)
    assert of(metrics, "registry_proxy_requests_total") == 1
    assert of(metrics, "tarn_request_seconds_count") == 1
    assert of(metrics, "tarn_pushed_bytes_total") == len(upstream.repository("org/app")
                                                         .manifests[image][0])


def test_a_client_that_leaves_is_a_miss_and_no_error_of_the_upstream(start_tarn, upstream, image):
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}],
                      log={"level": "info", "format": "json"})
    held = upstream.fault("/manifests/", method=None, hold_after=0)
    with socket.create_connection((tarn.address.split(":")[0], tarn.port)) as client:
        client.sendall(b"GET /v2/org/app/manifests/1 HTTP/1.1\r\nHost: a\r\n"
                       b"X-Request-Id: gone\r\n\r\n")
        wait_until(lambda: upstream.asked("/manifests/"), "the request to upstream")
    metrics = counted(tarn, 1)
    check_sums(metrics)
    assert of(metrics, "registry_proxy_misses_total", type="manifest") == 1
    assert of(metrics, "tarn_upstream_errors_total") == 0
    assert of(metrics, "tarn_first_byte_seconds_count") == 0
    line = json.loads(tarn.logged('.*"request_id":"gone".*').group())
    assert (line["status"], line["cache"], line["reference"]) == (0, "miss", "1")
    held.gate.set()


def test_a_login_that_is_refused_counts_in_none(start_tarn, upstream, image, tmp_path):
    users = tmp_path / "users"
    users.write_text(subprocess.run(["htpasswd", "-nbB", "-C", "4", "alice", "secret"],
                                    capture_output=True, text=True, check=True).stdout)
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}],
                      clients={"htpasswd": str(users)})
    assert tarn.manifest("org/app", "1").status == 401
    metrics = tarn.metrics()
    assert of(metrics, "registry_proxy_requests_total") == 0
    assert of(metrics, "registry_http_requests_total", code="401") == 1


def test_bytes_are_counted_by_upstream(start_tarn, make_upstream):
    upstreams = {host: make_upstream() for host in ("one.test", "two.test")}
    for host, one in upstreams.items():
        one.image("org/app", [noise(50 * KIB, host)], tag="1")
    tarn = start_tarn([{"host": host, "url": one.url} for host, one in upstreams.items()])
    digest = digest_of(noise(50 * KIB, "one.test"))
    for _ in range(2):
        assert tarn.manifest("one.test/org/app", "1").status == 200
        assert tarn.blob("one.test/org/app", digest).status == 200
        tarn.wait_cached("one.test/org/app", digest)
    assert tarn.get("/v2/one.test/org/app/tags/list").status == 200
    metrics = counted(tarn, 6)
    document = len(list(upstreams["one.test"].repository("org/app").manifests.values())[0][0])
    for kind, size in (("blob", 50 * KIB), ("manifest", document)):
        assert of(metrics, "tarn_pulled_bytes_total", upstream="one.test", type=kind) == size
        assert of(metrics, "tarn_pushed_bytes_total", upstream="one.test", type=kind) == 2 * size
    assert of(metrics, "tarn_pulled_bytes_total", upstream="two.test") == 0
    assert of(metrics, "tarn_upstream_bytes_total", upstream="one.test") > 50 * KIB + document
    check_sums(metrics)


def test_durations_are_counted_by_what_was_asked_and_how_it_was_found(start_tarn, upstream, image):
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True,
                        "tag_ttl": "1h"}])
    upstream.fault("/blobs/", delay=0.3)
    began = time.monotonic()
    assert tarn.blob("org/app", DIGEST).body == LAYER
    took = time.monotonic() - began
    tarn.wait_cached("org/app", DIGEST)
    tarn.blob("org/app", DIGEST)
    tarn.manifest("org/app", "1")
    tarn.manifest("org/app", "1")
    tarn.manifest("org/app", "missing")
    tarn.get("/v2/org/app/tags/list")
    metrics = wait_until(
        lambda: of(found := tarn.metrics(), "tarn_request_seconds_count", type="tags") == 1
        and found, "the list is counted")
    first = "tarn_first_byte_seconds"
    assert of(metrics, f"{first}_count", type="blob", cache="miss") == 1
    assert of(metrics, f"{first}_count", type="manifest", cache="miss") == 1  # not the failure
    assert of(metrics, f"{first}_count", type="manifest", cache="hit") == 1
    assert of(metrics, "tarn_request_seconds_count", type="manifest") == 3
    assert 0.3 <= of(metrics, f"{first}_sum", type="blob", cache="miss") <= took
    assert of(metrics, f"{first}_bucket", type="blob", cache="miss", le="0.25") == 0
    assert of(metrics, f"{first}_bucket", type="blob", cache="miss", le="+Inf") == 1
    assert 0.3 <= of(metrics, "tarn_upstream_first_byte_seconds_sum", upstream="fake.test")


def test_buckets_rise_and_end_with_the_count(used):
    found = {}
    for key, value in used.metrics().items():
        name, _, labels = key.partition("{")
        if name.endswith("_bucket"):
            bound = float(re.search(r'le="(.*?)"', labels)[1].replace("+Inf", "inf"))
            rest = re.sub(r',?le="[^"]*"', "", labels)
            found.setdefault((name[:-7], rest), []).append((bound, value))
    assert len(found) > 10
    metrics = used.metrics()
    for (name, labels), buckets in found.items():
        assert [bound for bound, _ in buckets] == sorted(bound for bound, _ in buckets)
        assert [value for _, value in buckets] == sorted(value for _, value in buckets)
        assert buckets[-1][0] == float("inf")
        count = metrics[f"{name}_count" + (f"{{{labels}" if labels != "}" else "")]
        assert buckets[-1][1] <= count


# ---- upstreams

def test_an_upstream_that_is_gone_is_an_error_and_a_request_without_response(start_tarn, upstream):
    upstream.refuse()
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}])
    assert tarn.manifest("org/app", "1").status == 502
    metrics = tarn.metrics()
    assert of(metrics, "tarn_upstream_errors_total", upstream="fake.test", kind="unavailable") == 1
    assert of(metrics, "tarn_upstream_requests_total", upstream="fake.test", code="none") >= 1
    upstream.listen_again()


@pytest.mark.parametrize("status, kind", [(500, "unavailable"), (403, "denied"),
                                          (429, "rate_limited"), (404, None)])
def test_failures_are_counted_by_kind(tarn, upstream, image, status, kind):
    upstream.fault("/manifests/", method=None, status=status)
    tarn.manifest("org/app", "1")
    metrics = tarn.metrics()
    assert of(metrics, "tarn_upstream_requests_total", code=str(status)) >= 1
    assert of(metrics, "tarn_upstream_errors_total") == (1 if kind else 0)
    if kind:
        assert of(metrics, "tarn_upstream_errors_total", upstream="fake.test", kind=kind) == 1


def test_an_upstream_cannot_make_labels(tarn, upstream, image):
    repository = upstream.repository("org/app")
    statuses = [418, 420, 444, 499, 520, 555, 599]
    for number, status in enumerate(statuses):
        repository.add_manifest(noise(30, number), tag=f"t{number}")
        upstream.fault(f"/manifests/t{number}", method=None, status=status)
        tarn.manifest("org/app", f"t{number}")
    metrics = tarn.metrics()
    codes = {key.split('code="')[1].split('"')[0] for key in metrics
             if key.startswith("tarn_upstream_requests_total")}
    assert not codes & {str(status) for status in statuses}
    assert of(metrics, "tarn_upstream_requests_total", code="4xx") >= 4
    assert of(metrics, "tarn_upstream_requests_total", code="5xx") >= 3


def test_tokens_and_their_end_are_counted(tarn, upstream, image):
    upstream.tokens = TokenService(lifetime=300)
    before = time.time()
    assert tarn.manifest("org/app", "1").status == 200
    metrics = tarn.metrics()
    assert of(metrics, "tarn_token_requests_total", upstream="fake.test") == 1
    assert of(metrics, "tarn_token_errors_total", upstream="fake.test") == 0
    expiry = of(metrics, "tarn_token_expiry_timestamp_seconds", upstream="fake.test")
    assert before + 200 <= expiry <= time.time() + 301


# ---- the cache and the process

def test_the_age_of_the_oldest_blob_grows(tarn, upstream, image):
    assert of(tarn.metrics(), "tarn_store_oldest_blob_seconds") == 0
    tarn.blob("org/app", DIGEST)
    tarn.wait_cached("org/app", DIGEST)
    wait_until(lambda: of(tarn.metrics(), "tarn_store_oldest_blob_seconds") >= 1, "a second")


def test_the_process_is_described(tarn):
    metrics = tarn.metrics()
    assert metrics["process_cpu_seconds_total"] > 0
    assert metrics["process_resident_memory_bytes"] > 1 << 20
    assert metrics["process_virtual_memory_bytes"] > metrics["process_resident_memory_bytes"]
    assert 3 < metrics["process_open_fds"] < metrics["process_max_fds"]
    assert time.time() - 3600 < metrics["process_start_time_seconds"] < time.time() + 1
    again = tarn.metrics()
    assert again["process_start_time_seconds"] == metrics["process_start_time_seconds"]
    assert again["process_cpu_seconds_total"] >= metrics["process_cpu_seconds_total"]
