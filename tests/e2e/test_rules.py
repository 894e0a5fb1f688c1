"""Who may read what: `clients.rules`."""

import threading

import pytest

from kit.client import fetch
from kit.content import KIB, digest_of, noise
from kit.processes import wait_until
from kit.tokens import basic

LAYER = noise(4 * KIB)
DIGEST = digest_of(LAYER)
REPOSITORIES = ("team/app", "public/app", "secret/app")

NOBODY = {}
NO_CREDENTIALS = {"Authorization": "Basic Og=="}  # as skopeo and podman say it
ALICE = {"Authorization": basic("alice", "secret")}
BOB = {"Authorization": basic("bob", "secret")}
WRONG = {"Authorization": basic("alice", "wrong")}


@pytest.fixture
def start(start_tarn, upstream, users):
    """A tarn with these rules before an upstream with an image in each repository."""
    def start_it(*rules, login=True, **settings):
        for repository in REPOSITORIES:
            upstream.image(repository, [LAYER], tag="1")
        clients = {"rules": list(rules)} if rules else {}
        if login:
            clients["htpasswd"] = str(users)
        return start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}],
                          clients=clients, **settings)
    return start_it


def paths_of(repository):
    """One path for each thing that names a repository."""
    return [f"/v2/{repository}/manifests/1", f"/v2/{repository}/blobs/{DIGEST}",
            f"/v2/{repository}/tags/list", f"/v2/{repository}/referrers/{DIGEST}"]


def statuses(tarn, repository, who):
    """What a client gets for everything in the repository, however it names it."""
    got = set()
    for path in paths_of(repository):
        rest = path.removeprefix("/v2/")
        for target in (path, f"/v2/fake.test/{rest}", f"{path}?ns=fake.test",
                       f"/fake.test/v2/{rest}"):
            got.add(tarn.get(target, headers=who).status)
            got.add(fetch(tarn.url + target, who, method="HEAD").status)
    return got


TEAM = {"users": ["alice"], "upstream": "fake.test", "repositories": ["team/**"]}
PUBLIC = {"anonymous": True, "repositories": ["public/**"]}


def test_each_client_reads_what_the_rules_say_and_no_more(start, upstream):
    tarn = start(TEAM, PUBLIC)
    assert statuses(tarn, "team/app", ALICE) == {200}
    assert statuses(tarn, "public/app", ALICE) == {200}
    assert statuses(tarn, "public/app", NOBODY) == {200}
    assert statuses(tarn, "public/app", NO_CREDENTIALS) == {200}
    asked = len(upstream.asked())
    assert statuses(tarn, "team/app", BOB) == {403}
    assert statuses(tarn, "secret/app", BOB) == {403}
    assert statuses(tarn, "secret/app", ALICE) == {403}
    assert statuses(tarn, "team/app", NOBODY) == {401}  # a login could help
    assert statuses(tarn, "team/app", NO_CREDENTIALS) == {401}
    assert statuses(tarn, "secret/app", NOBODY) == {403}  # no login could
    assert tarn.get("/v2/public/app/manifests/1", headers=WRONG).status == 401  # a mistake is told
    assert len(upstream.asked()) == asked


def test_a_refusal_says_who_may_not_read_what(start):
    tarn = start(TEAM)
    refused = tarn.get("/v2/team/app/manifests/1", headers=BOB)
    assert (refused.status, refused.code) == (403, "DENIED")
    assert "bob" in refused.message and "fake.test/team/app" in refused.message
    asked = tarn.get("/v2/team/app/manifests/1")
    assert (asked.status, asked.code) == (401, "UNAUTHORIZED")
    assert asked["WWW-Authenticate"] == 'Basic realm="tarn"'


def test_what_another_client_has_cached_stays_his(start, upstream):
    """A hit is answered in place of a worker, and may not come past the rules there."""
    tarn = start(TEAM, {"users": ["bob"], "repositories": ["public/**"]})
    for path in paths_of("team/app")[:2]:
        for _ in range(3):
            assert tarn.get(path, headers=ALICE).status == 200
            assert tarn.get(path, headers=BOB).status == 403
            assert tarn.get(path).status == 401
    # The blob is the same in both repositories, but bob has it through his own only.
    assert tarn.get(f"/v2/public/app/blobs/{DIGEST}", headers=BOB).body == LAYER


def test_a_rule_without_upstream_or_repositories_is_for_all(start):
    tarn = start({"users": ["alice"]}, {"users": ["bob"], "upstream": "other.test"})
    for repository in REPOSITORIES:
        assert statuses(tarn, repository, ALICE) == {200}
        assert statuses(tarn, repository, BOB) == {403}
        assert statuses(tarn, repository, NOBODY) == {401}


def test_any_rule_is_enough(start):
    tarn = start({"users": ["alice"], "repositories": ["public/*"]},
                 {"users": ["alice", "bob"], "upstream": "fake.*", "repositories": ["team/*"]})
    assert statuses(tarn, "public/app", ALICE) == {200}
    assert statuses(tarn, "team/app", ALICE) == {200}
    assert statuses(tarn, "team/app", BOB) == {200}
    assert statuses(tarn, "public/app", BOB) == {403}


@pytest.mark.parametrize("rules", [[], [TEAM], [TEAM, PUBLIC]])
def test_the_api_and_the_page_want_a_login(start, rules):
    """Clients learn at /v2/ only that there is a login."""
    tarn = start(*rules)
    for path in ("/v2/", "/v2", "/", "/tarn/v1/flights"):
        for who in (NOBODY, NO_CREDENTIALS, WRONG):
            refused = tarn.get(path, headers=who)
            assert refused.status == 401, (path, who)
            assert refused["WWW-Authenticate"] == 'Basic realm="tarn"'
        assert tarn.get(path, headers=ALICE).status == 200
    for path in ("/livez", "/readyz", "/metrics"):
        for who in (NOBODY, NO_CREDENTIALS, WRONG, ALICE):
            assert tarn.get(path, headers=who).status == 200


def test_the_realm_may_have_another_name(start_tarn, users):
    tarn = start_tarn(clients={"htpasswd": str(users), "realm": "Our images"})
    assert tarn.get("/v2/")["WWW-Authenticate"] == 'Basic realm="Our images"'


def catalog(tarn, who, path="/v2/_catalog"):
    got = tarn.get(path, headers=who)
    return got.json()["repositories"] if got.status == 200 else got.status


def test_the_catalog_lists_what_the_client_may_read(start):
    tarn = start(TEAM, PUBLIC, {"users": ["bob"]})
    for repository in REPOSITORIES:
        assert tarn.get(f"/v2/{repository}/manifests/1", headers=BOB).status == 200
    wait_until(lambda: len(catalog(tarn, BOB)) == 3, "all repositories in the catalog")
    assert catalog(tarn, ALICE) == ["fake.test/public/app", "fake.test/team/app"]
    assert catalog(tarn, ALICE, "/fake.test/v2/_catalog") == ["public/app", "team/app"]
    assert catalog(tarn, NOBODY) == ["fake.test/public/app"]
    assert catalog(tarn, NO_CREDENTIALS) == ["fake.test/public/app"]
    # No page and no link tells of the others.
    first = tarn.get("/v2/_catalog?n=1", headers=ALICE)
    assert first.json()["repositories"] == ["fake.test/public/app"] and first["Link"]
    last = tarn.get("/v2/_catalog?n=1&last=fake.test/public/app", headers=ALICE)
    assert last.json()["repositories"] == ["fake.test/team/app"] and not last["Link"]


def test_without_a_rule_for_all_the_catalog_wants_a_login(start):
    tarn = start(TEAM)
    assert catalog(tarn, NOBODY) == 401
    assert catalog(tarn, BOB) == []


def shown_flights(tarn, who):
    got = tarn.get("/tarn/v1/flights", headers=who).json()
    assert got["count"] == len(got["flights"])
    return [flight["repository"] for flight in got["flights"]]


def test_flights_are_shown_to_those_who_may_read_them(start, upstream):
    tarn = start(TEAM, {"users": ["bob"]})
    gate = threading.Event()
    for repository in ("secret/app", "team/app"):
        big = noise(256 * KIB, seed=len(repository))
        upstream.image(repository, [big], tag="1")
        upstream.fault(digest_of(big), hold_after=64 * KIB, gate=gate)
        download = threading.Thread(
            target=tarn.get, args=(f"/v2/{repository}/blobs/{digest_of(big)}", BOB))
        download.start()
    try:
        wait_until(lambda: len(shown_flights(tarn, BOB)) == 2, "two flights")
        assert shown_flights(tarn, ALICE) == ["team/app"]
    finally:
        gate.set()


def test_rules_for_everybody_need_no_login(start):
    tarn = start(PUBLIC, login=False)
    assert tarn.get("/v2/").status == 200
    assert statuses(tarn, "public/app", NOBODY) == {200}
    assert statuses(tarn, "public/app", ALICE) == {200}  # nobody asked for it
    assert statuses(tarn, "team/app", NOBODY) == {403}


def test_who_may_not_read_cannot_write_either(start):
    tarn = start(TEAM, PUBLIC)
    for path in ("/v2/public/app/blobs/uploads/", "/v2/team/app/manifests/1"):
        assert fetch(tarn.url + path, NOBODY, method="POST").status == 401
        assert fetch(tarn.url + path, ALICE, method="POST").status == 405


def test_names_that_are_none_are_refused_as_ever(start):
    tarn = start(TEAM, PUBLIC)
    assert tarn.get("/v2/other.test/a/b/manifests/1", headers=ALICE).status in (403, 404)
    assert tarn.get("/v2/a/b/manifests/1?ns=other.test", headers=ALICE).status == 404
    assert tarn.get("/v2/UPPER/manifests/1", headers=ALICE).status == 400
    assert tarn.get("/v2/team/%2e%2e/secret/app/manifests/1", headers=ALICE).status in (400, 403, 404)


def test_nobody_gets_in_while_the_file_of_passwords_is_gone(start, users):
    tarn = start(PUBLIC, {"users": ["alice"]})
    assert tarn.get("/v2/team/app/manifests/1", headers=ALICE).status == 200
    text = users.read_text()
    users.unlink()
    wait_until(lambda: tarn.get("/v2/team/app/manifests/1", headers=ALICE).status == 401,
               "that nobody gets in", 5)
    tarn.logged("gone.*nobody gets in")
    assert tarn.get("/v2/public/app/manifests/1").status == 200
    users.write_text("half wri")  # it says nothing yet
    wait_until(lambda: tarn.get("/v2/", headers=ALICE).status == 401 and
               "cannot read a file of the clients" in tarn.log(), "that the file is found wrong", 5)
    users.write_text(text)
    wait_until(lambda: tarn.get("/v2/team/app/manifests/1", headers=ALICE).status == 200,
               "that alice gets in again", 5)


def test_the_log_names_the_user(start):
    tarn = start(TEAM)
    assert tarn.get("/v2/team/app/manifests/1", headers=ALICE).status == 200
    tarn.logged(r"user=alice .*reference=1 digest=\S+ status=200")
    assert tarn.get("/v2/team/app/manifests/1", headers=BOB).status == 403
    tarn.logged(r"user=bob .*status=403")


def test_the_page_says_nothing_of_what_its_visitor_may_not_read(start, upstream):
    all_for_bob = {"users": ["bob"]}
    tarn = start(TEAM, PUBLIC, all_for_bob)
    big = upstream.repository("secret/app").add_blob(noise(1024 * KIB, 3))
    for repository in REPOSITORIES:
        assert tarn.get(f"/v2/{repository}/manifests/1", headers=BOB).status == 200
    upstream.fault("/v2/secret/broken", method=None, status=500)
    upstream.fault("/v2/team/broken", method=None, status=500)
    for repository in ("secret/broken", "team/broken"):
        assert tarn.get(f"/v2/{repository}/manifests/1", headers=BOB).status == 502
    held = upstream.fault(f"/blobs/{big}", hold_after=1000)
    with tarn.download(f"/v2/secret/app/blobs/{big}", BOB) as download:
        download.read(100)
        for words in ("secret/app:1", "secret/broken", "aria-label=\"Progress of secret/app"):
            wait_until(lambda words=words: words in tarn.get("/", BOB).body.decode()
                       .replace("<wbr>", ""), f"{words} on bob's page", 20)
        for path in ("/", "/?search=", "/?search=secret", f"/?search={DIGEST[7:20]}"):
            page = tarn.get(path, ALICE)
            assert page.status == 200
            assert b"secret/" not in page.body, path
            assert "secret/" not in tarn.get(path, ALICE).body.decode()
        assert b"team/broken" in tarn.get("/", ALICE).body
        held.gate.set()
    wait_until(lambda: b"team/app" in tarn.get("/?search=", ALICE).body.replace(b"<wbr>", b""),
               "alice's image", 20)
    digest = upstream.repository("secret/app").tags["1"]
    for name in ("secret/app:1", f"secret/app@{digest}"):
        assert tarn.get(f"/?image=fake.test/{name}", BOB).status == 200
        page = tarn.get(f"/?image=fake.test/{name}", ALICE)
        none = tarn.get("/?image=fake.test/nothing/here:1", ALICE)
        assert page.status == none.status == 404
        assert b"secret" not in page.body
    assert tarn.get("/?image=fake.test/team/app:1", ALICE).status == 200
    assert tarn.get("/").status == tarn.get("/", WRONG).status == 401
