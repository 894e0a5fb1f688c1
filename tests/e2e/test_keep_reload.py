"""`tarn keep` takes another configuration at SIGHUP, as a whole or not at all."""

import json
import signal

import pytest

from kit.htpasswd import write_htpasswd
from kit.keeps import LAB, keeper, kubelets, registry  # noqa: F401  (fixtures)
from kit.processes import free_port, wait_until
from kit.tokens import basic

TAKEN = "the configuration was reloaded"
REFUSED = "the configuration was not reloaded"
ONE_IMAGE = [{"image": f"{LAB}:w_2024_01"}]
MACHINE = {"name": "machine", "labels": {}, "repomen": [
    {"type": "RubinRepoMan", "registry_url": "fake.test", "repo": "org/lab", "num_releases": 0,
     "num_weeklies": 1, "num_dailies": 0}]}


def reload(one, expected=TAKEN):
    """Has the settings, which the test has changed, taken; gives the log since then."""
    before = len(one.log())
    one.write()
    one.process.send_signal(signal.SIGHUP)
    wait_until(lambda: expected in one.log()[before:], expected)
    return one.log()[before:]


def keeps(one):
    return one.settings["keep"]["keeps"]


def names(one):
    return one.json("/cachemachine/")


def one_keep(name, images=None, **more):
    return {"name": name, "images": images or ONE_IMAGE, **more}


def test_keeps_are_added_and_removed(keeper, kubelets, api):
    kubelets.node("n1")
    one = keeper(images=ONE_IMAGE).start()
    one.wait_all()
    keeps(one).append(one_keep("more", [{"image": f"{LAB}:w_2024_02"}]))
    reload(one)
    assert names(one) == ["labs", "more"]
    one.wait_all(keep="more")
    one.wait_all()
    assert len(kubelets.pulls) == 2
    del keeps(one)[0]
    reload(one)
    assert names(one) == ["more"]
    assert one.get("/tarn/v1/keeps/labs").status == 404
    assert len(kubelets.images("n1")) == 2
    one.stop()


def test_a_keep_that_goes_away_takes_its_pods_with_it(keeper, kubelets):
    kubelets.node("n1")
    kubelets.outcomes.append(("", lambda pod, node: None))
    one = keeper(images=ONE_IMAGE).start()
    wait_until(kubelets.pods, "a pod")
    keeps(one)[:] = []
    reload(one)
    kubelets.wait_no_pods()
    assert names(one) == []


def test_a_changed_keep_pulls_by_its_new_settings(keeper, kubelets, api):
    kubelets.node("n1")
    kubelets.outcomes.append(("", lambda pod, node: None))
    one = keeper(images=ONE_IMAGE).start()
    wait_until(kubelets.pods, "a pod")
    keeps(one)[0]["pull"] = {"secret": "other"}
    reload(one)
    def secrets():
        return [pod["spec"].get("imagePullSecrets") for pod in kubelets.pods()]
    wait_until(lambda: secrets() == [[{"name": "other"}]], "the pod with the new secret alone")
    kubelets.outcomes.clear()


def test_what_did_not_change_goes_on(keeper, kubelets, registry):
    kubelets.node("n1")
    kubelets.outcomes.append(("", lambda pod, node: None))
    one = keeper(images=ONE_IMAGE).start()
    wait_until(kubelets.pods, "a pod")
    pod = kubelets.pods()[0]["metadata"]["uid"]
    keeps(one).append(one_keep("more", nodes={"labels": {"pool": "none"}}))
    reload(one)
    wait_until(lambda: one.json("/tarn/v1/keeps/more")["source"]["listed_at"], "the other's list")
    assert [other["metadata"]["uid"] for other in kubelets.pods()] == [pod]
    assert set(one.states().values()) == {"pulling"}
    assert len(kubelets.pulls) == 1


def test_repositories_are_listed_at_once(keeper, kubelets, registry):
    kubelets.node("n1")
    one = keeper().start()
    one.wait_all(count=2)
    registry.image("org/lab", [b"new"], tag="w_2024_04")
    reload(one)
    wait_until(lambda: ("n1", f"{LAB}:w_2024_04") in kubelets.pulls, "the new weekly")


def test_machine_files_come_change_and_go(keeper, kubelets, tmp_path):
    kubelets.node("n1")
    folder = tmp_path / "specs"
    folder.mkdir()
    one = keeper(images=ONE_IMAGE, machines=folder).start()
    (folder / "machine").write_text(json.dumps(MACHINE))
    reload(one)
    one.wait_all(keep="machine")
    assert names(one) == ["machine", "labs"]
    (folder / "machine").write_text(json.dumps({**MACHINE, "labels": {"pool": "user"}}))
    reload(one)
    assert one.json("/cachemachine/machine")["labels"] == {"pool": "user"}
    (folder / "machine").write_text(json.dumps({**MACHINE, "name": "labs"}))
    reload(one)
    assert names(one) == ["labs"]
    assert one.json("/cachemachine/labs")["labels"] == {}
    (folder / "machine").unlink()
    reload(one)
    one.wait_all()
    assert names(one) == ["labs"]


def test_posted_machines_stay(keeper, kubelets):
    kubelets.node("n1")
    one = keeper(images=ONE_IMAGE, operators="anyone").start()
    answer = one.get("/cachemachine/", method="POST", body=json.dumps(MACHINE).encode())
    assert answer.status == 200
    one.wait_all(keep="machine")
    keeps(one).append(one_keep("machine"))
    reload(one)
    one.wait_all(keep="machine")
    assert names(one) == ["labs", "machine"]
    assert one.json("/tarn/v1/keeps/machine")["images"][0]["image"] == f"{LAB}:w_2024_03"


@pytest.mark.parametrize("lease", ["none", "tarn-keep"])
def test_what_was_stopped_is_there_again(keeper, kubelets, lease, api):
    kubelets.node("n1")
    one = keeper(images=ONE_IMAGE, operators="anyone", lease=lease).start()
    one.wait_all()
    assert one.get("/cachemachine/labs", method="DELETE").status == 200
    assert names(one) == []
    reload(one)
    wait_until(lambda: names(one) == ["labs"], "it to be there again")
    one.wait_all()


def test_operators_clients_and_the_prefix_change(keeper, kubelets, tmp_path):
    kubelets.node("n1")
    one = keeper(images=ONE_IMAGE).start()
    def post(headers=None):
        return one.get(f"/{one.settings['keep'].get('prefix', 'cachemachine')}/", headers,
                       method="POST", body=json.dumps(MACHINE).encode()).status
    assert post() == 403
    one.settings["keep"]["operators"] = str(write_htpasswd(tmp_path / "operators", "op"))
    reload(one)
    assert post() == 401
    assert post({"Authorization": basic("op", "secret")}) == 200
    one.settings["keep"].update(operators="anyone", prefix="cache")
    reload(one)
    assert post() == 200
    assert one.get("/cachemachine/").status == 404
    assert one.json("/")["name"] == "cache"
    one.settings["clients"] = {"htpasswd": str(write_htpasswd(tmp_path / "clients", "me"))}
    reload(one)
    assert one.get("/cache/").status == post() == 401
    assert one.get("/cache/", {"Authorization": basic("me", "secret")}).status == 200
    assert one.get("/livez").status == 200


def test_the_address_and_nublados_keep_change(keeper, kubelets):
    kubelets.node("n1")
    one = keeper(images=ONE_IMAGE).start()
    one.wait_all()
    keeps(one).append(one_keep("other", [{"image": f"{LAB}:w_2024_02"}]))
    port = free_port()
    one.settings["keep"].update(listen=f"127.0.0.1:{port}", nublado="other", refresh="7m")
    reload(one)
    one.port = port
    one.wait_all(keep="other")
    prepulls = one.json("/nublado/spawner/v1/prepulls")
    assert prepulls["config"]["refresh_interval"] == 420.0
    assert [image["tag"] for image in prepulls["images"]["prepulled"]] == ["w_2024_02"]


def test_upstreams_and_the_log_change(keeper, kubelets, registry):
    kubelets.node("n1")
    one = keeper(images=[{"image": "new.test/org/lab:w_2024_01"}]).start()
    wait_until(lambda: one.json("/tarn/v1/keeps/labs")["source"]["error"], "no such upstream", 60)
    one.settings["upstreams"].append({"host": "new.test", "url": registry.url})
    one.settings["log"]["format"] = "json"
    assert f'"message":"{TAKEN}"' in reload(one)
    wait_until(lambda: any(image["digest"] for image in one.json("/tarn/v1/keeps/labs")["images"]), "its digest")
    one.wait_all()


# ---- mistakes

def check_unchanged(one):
    one.wait_all()
    assert names(one) == ["labs"]


@pytest.mark.parametrize("change, problem", [
    ({"keep": {"refresh": "1ms"}}, ': keep.refresh: "1ms" is too small; the minimum is 1s'),
    ({"keep": {"lease": "other"}}, ': keep.lease: cannot change from "none" to "other" while tarn '
                                   "runs; restart tarn, or change it back"),
    ({"keep": {"namespace": "other"}}, ": keep.namespace: cannot change from"),
    ({"keep": {"operators": "/absent"}}, ': keep.operators: "/absent" cannot be read'),
    ({"keep": {"lisen": "x"}}, ': keep.lisen: unknown key "lisen"; did you mean listen?'),
    ({"upstreams": [{"url": "http://127.0.0.1:1"}]}, ": upstreams[0]: host is missing"),
])
def test_a_mistake_changes_nothing_and_is_told_with_its_place(keeper, kubelets, change, problem):
    kubelets.node("n1")
    one = keeper(images=ONE_IMAGE).start()
    one.wait_all()
    keeps(one).append(one_keep("more"))
    for key, value in change.items():
        if isinstance(value, dict):
            one.settings[key].update(value)
        else:
            one.settings[key] = value
    log = reload(one, REFUSED)
    line = next(line for line in log.splitlines() if REFUSED in line)
    assert f"{one.config}:" in line
    assert problem.replace('"', '\\"') in line or problem in line, line
    check_unchanged(one)


@pytest.mark.parametrize("text, problem", [
    ("{", "/machine: "),
    (json.dumps({**MACHINE, "labels": 7}), "/machine: labels: is not an object"),
    (json.dumps({**MACHINE, "repomen": [{"type": "RubinRepoMan"}]}),
     "/machine: repomen[0].repo: is missing"),
])
def test_a_wrong_machine_file_changes_nothing(keeper, kubelets, tmp_path, text, problem):
    kubelets.node("n1")
    one = keeper(images=ONE_IMAGE).start()
    one.wait_all()
    keeps(one).append(one_keep("more"))
    (tmp_path / "machines" / "machine").write_text(text)
    assert problem in reload(one, REFUSED)
    check_unchanged(one)
    (tmp_path / "machines" / "machine").write_text(json.dumps(MACHINE))
    reload(one)
    assert names(one) == ["machine", "labs", "more"]


def test_an_address_that_is_taken_changes_nothing(keeper, kubelets, registry):
    kubelets.node("n1")
    one = keeper(images=ONE_IMAGE).start()
    one.wait_all()
    one.settings["keep"]["listen"] = registry.url.removeprefix("http://")
    keeps(one).append(one_keep("more"))
    assert REFUSED in reload(one, REFUSED)
    check_unchanged(one)


def test_many_reloads_leave_nothing_behind(keeper, kubelets):
    kubelets.node("n1")
    one = keeper().start()
    one.wait_all(count=2)
    for i in range(20):
        keeps(one)[1:] = [one_keep(f"more{i}", [{"image": f"{LAB}:w_2024_01"}])]
        reload(one)
    one.wait_all(keep="more19")
    one.wait_all(count=2)
    assert names(one) == ["labs", "more19"]
    one.stop()
