"""The list of replicas: names in DNS, their changes, and mistakes in the section."""

import os

import pytest

from kit.processes import free_port, run, wait_until
from kit.replica_signature import new_secret, write_secrets
from kit.replicas import NAME, NoNamespace, own_hosts, point_to


@pytest.fixture
def hosts(tmp_path):
    path = tmp_path / "hosts"
    path.write_text("127.0.0.1 localhost\n")
    return path


@pytest.fixture
def start(start_tarn, upstream, tmp_path, hosts, program):
    """Starts a tarn that has a hosts file of its own."""
    try:
        wrapper = own_hosts(program, tmp_path, hosts)
    except NoNamespace as reason:
        pytest.skip(str(reason))

    def begin(own_port, **replicas):
        secrets = write_secrets(tmp_path / "secrets", new_secret())
        return start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}],
                          program=wrapper, listen=[f"127.0.0.1:{own_port}"], confine="off",
                          replicas={"dns": NAME, "secret_file": str(secrets), **replicas})
    return begin


def members(tarn):
    return [member["address"] for member in tarn.get("/tarn/v1/replicas").json()["members"]]


@pytest.mark.slow
def test_members_are_the_addresses_of_the_name(start, hosts):
    port = free_port()
    point_to(hosts, "127.0.0.1", "127.0.0.3")
    tarn = start(port)
    first, third = f"127.0.0.1:{port}", f"127.0.0.3:{port}"
    listed = tarn.get("/tarn/v1/replicas").json()
    assert (listed["source"], listed["self"]) == ("dns", first)
    assert members(tarn) == [first, third]
    point_to(hosts, "127.0.0.1", "127.0.0.3", "127.0.0.4")
    fourth = f"127.0.0.4:{port}"
    wait_until(lambda: members(tarn) == [first, third, fourth], "a member that joins")
    tarn.logged(rf"replicas changed members=3 added={fourth} removed=-")
    point_to(hosts, "127.0.0.1", "127.0.0.4")
    wait_until(lambda: members(tarn) == [first, fourth], "a member that leaves")
    tarn.logged(rf"replicas changed members=2 added=- removed={third}")
    point_to(hosts)
    tarn.logged("cannot find the replicas; the last list stays in use")
    assert members(tarn) == [first, fourth]
    assert tarn.metrics()["tarn_replica_list_changes_total"] == 3
    assert tarn.get("/readyz").status == 200


def test_the_port_is_configured(start, hosts):
    port = free_port()
    point_to(hosts, "127.0.0.3")
    tarn = start(port, port=5001)
    listed = tarn.get("/tarn/v1/replicas").json()
    assert members(tarn) == ["127.0.0.3:5001"]
    assert listed["self"] is None


def test_it_serves_while_the_name_is_unknown(start):
    tarn = start(free_port())
    assert members(tarn) == []
    tarn.logged("cannot find the replicas")
    assert tarn.get("/v2/").status == 200


# ---- mistakes


@pytest.mark.parametrize("section, expected", [
    ("replicas:\n  dns: a\n  peers: ['10.0.0.1:5000']\n  secret_file: {secrets}\n",
     ":2:3: replicas: dns and peers are both set"),
    ("replicas:\n  secret_file: {secrets}\n", ":2:3: replicas: neither dns nor peers is set"),
    ("replicas:\n  peers: ['10.0.0.1:5000', 'name:5000']\n  secret_file: {secrets}\n",
     ":2:28: replicas.peers[1]: "),
    ("replicas:\n  dns: a\n", ":2:3: replicas.secret_file: "),
    ("replicas:\n  dns: a\n  secret_file: /not/there\n", ":3:16: replicas.secret_file: "),
    ("replicas:\n  dns: a\n  secret_file: {short}\n", ":3:16: replicas.secret_file: "),
    ("replicas:\n  dns: a\n  secret_file: {empty}\n", ":3:16: replicas.secret_file: "),
    ("replicas:\n  dns: a\n  secret: x\n  secret_file: {secrets}\n",
     ':3:3: replicas.secret: unknown key "secret"'),
])
def test_a_mistake_stops_the_start(program, tmp_path, section, expected):
    files = {"secrets": write_secrets(tmp_path / "secrets", new_secret()),
             "short": write_secrets(tmp_path / "short", "x" * 31),
             "empty": write_secrets(tmp_path / "empty")}
    config = tmp_path / "tarn.yaml"
    config.write_text(section.format(**files))
    for command in (["check-config", config], ["serve", "--config", config]):
        done = run([program, *command], {**os.environ, "HOME": str(tmp_path)}, check=False)
        assert done.returncode == 1
        assert f"{config}{expected}" in done.stderr
