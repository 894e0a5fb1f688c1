"""TLS on tarn's own port: versions, ALPN, resumption, and certificates that change."""

import hashlib
import os
import shutil
import socket
import ssl
import time

import pytest

from kit.content import MIB, noise
from kit.processes import free_port, run, wait_until
from kit.tarn import (TlsTarn, bare_environment, serve_that_fails, self_signed,
                      tarn_command)
from kit.yaml_text import yaml_text

BLOB = noise(24 * MIB)
DIGEST = "sha256:" + hashlib.sha256(BLOB).hexdigest()
TAKEN_S = 10  # the time within which changed files are taken


def make_pair(directory, name):
    """A folder with tls.crt and tls.key of a new certificate."""
    folder = directory / name
    folder.mkdir()
    self_signed(folder)
    return folder


@pytest.fixture
def first_pair(tmp_path):
    return make_pair(tmp_path, "first")


@pytest.fixture
def start_secure(program, tmp_path, upstream):
    """Starts a tarn with this certificate and key; its upstream has the blob of this file."""
    started = []
    upstream.repository("org/app").add_blob(BLOB)

    def start(certificate, key, **settings):
        started.append(TlsTarn(program, tmp_path / "tarn", {
            "upstreams": [{"host": "fake.test", "url": upstream.url, "default": True}],
            "tls": {"certificate": str(certificate), "key": str(key)}, **settings}))
        return started[-1]

    yield start
    for one in started:
        one.finish()


def unchecked(**more):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    for name, value in more.items():
        setattr(context, name, value)
    return context


def connect(tarn, context=None, session=None):
    plain = socket.create_connection(("127.0.0.1", tarn.port), timeout=30)
    try:
        return (context or unchecked()).wrap_socket(plain, server_hostname="localhost",
                                                    session=session)
    except OSError:
        plain.close()
        raise


def ask(connection, path):
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(1)
    return head


def served(tarn):
    """The certificate of a new connection, and whether the connection can be used."""
    with connect(tarn) as connection:
        assert ask(connection, "/livez").startswith(b"HTTP/1.1 200 ")
        return connection.getpeercert(binary_form=True)


def certificate_of(folder):
    return ssl.PEM_cert_to_DER_cert((folder / "tls.crt").read_text())


def is_taken(tarn, folder):
    wait_until(lambda: served(tarn) == certificate_of(folder), "the new certificate to be taken",
               TAKEN_S)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_1_3_are_spoken(start_secure, first_pair, version):
    tarn = start_secure(first_pair / "tls.crt", first_pair / "tls.key")
    with connect(tarn, unchecked(minimum_version=version, maximum_version=version)) as connection:
        assert ask(connection, "/livez").startswith(b"HTTP/1.1 200 ")
        assert connection.version() == version.name.replace("_", ".")


def test_tls_1_1_is_refused(start_secure, first_pair):
    tarn = start_secure(first_pair / "tls.crt", first_pair / "tls.key")
    old = unchecked(minimum_version=ssl.TLSVersion.TLSv1, maximum_version=ssl.TLSVersion.TLSv1_1)
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(OSError):
        connect(tarn, old)
    served(tarn)


def accepts_version(tarn, version):
    """Whether OpenSSL's own client gets through a handshake of this version."""
    done = run(["openssl", "s_client", "-connect", f"127.0.0.1:{tarn.port}", f"-tls{version}"],
               check=False)
    return done.returncode == 0


def reload(tarn, tls):
    tarn.config_path.write_text(yaml_text({**tarn.settings, "tls": tls}))
    done = run([tarn.program, "reload", "--config", str(tarn.config_path)],
               environment=bare_environment(tarn.directory / "home"), check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_least_version_refuses_older_ones_and_a_reload_changes_it(start_secure, first_pair,
                                                                    tmp_path):
    live = tmp_path / "live"
    shutil.copytree(first_pair, live)
    pair = {"certificate": str(live / "tls.crt"), "key": str(live / "tls.key")}
    tarn = start_secure(**pair, tls={**pair, "minimum": "1.3"})
    assert (accepts_version(tarn, "1_2"), accepts_version(tarn, "1_3")) == (False, True)
    second = make_pair(tmp_path, "second")
    for name in ("tls.crt", "tls.key"):
        shutil.copy(second / name, live / name)
    is_taken(tarn, second)
    assert (accepts_version(tarn, "1_2"), accepts_version(tarn, "1_3")) == (False, True)
    reload(tarn, pair)
    old = unchecked(maximum_version=ssl.TLSVersion.TLSv1_2)
    with connect(tarn, old) as connection:
        session = connection.session
        reload(tarn, {**pair, "minimum": "1.3"})
        assert ask(connection, "/livez").startswith(b"HTTP/1.1 200 ")
    with pytest.raises(OSError):
        connect(tarn, old, session)
    assert (accepts_version(tarn, "1_2"), accepts_version(tarn, "1_3")) == (False, True)


@pytest.mark.parametrize("offered,chosen", [
    (["http/1.1"], "http/1.1"), (["h2", "http/1.1"], "http/1.1"), ([], None)])
def test_alpn_is_http_1_1(start_secure, first_pair, offered, chosen):
    tarn = start_secure(first_pair / "tls.crt", first_pair / "tls.key")
    context = unchecked()
    if offered:
        context.set_alpn_protocols(offered)
    with connect(tarn, context) as connection:
        assert connection.selected_alpn_protocol() == chosen
        assert ask(connection, "/livez").startswith(b"HTTP/1.1 200 ")


def test_a_client_that_speaks_no_http_1_1_is_told_in_the_handshake(start_secure, first_pair):
    tarn = start_secure(first_pair / "tls.crt", first_pair / "tls.key")
    context = unchecked()
    context.set_alpn_protocols(["h2"])
    with pytest.raises(ssl.SSLError):
        connect(tarn, context)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_is_resumed_also_after_a_new_certificate(start_secure, first_pair, tmp_path,
                                                           version):
    live = tmp_path / "live"
    shutil.copytree(first_pair, live)
    tarn = start_secure(live / "tls.crt", live / "tls.key")
    context = unchecked(minimum_version=version, maximum_version=version)
    with connect(tarn, context) as connection:
        ask(connection, "/livez")
        session = connection.session
    second = make_pair(tmp_path, "second")
    for name in ("tls.crt", "tls.key"):
        shutil.copy(second / name, live / name)
    is_taken(tarn, second)
    with connect(tarn, context, session) as connection:
        ask(connection, "/livez")
        assert connection.session_reused


def put_in_turn(second, live):
    """Renames the certificate into place, and after a while the key."""
    for name in ("tls.crt", "tls.key"):
        shutil.copy(second / name, live / (name + ".new"))
        os.replace(live / (name + ".new"), live / name)
        time.sleep(1.5)  # longer than between two looks at the files: between them they do not fit


def put_in_other_turn(second, live):
    for name in ("tls.key", "tls.crt"):
        shutil.copy(second / name, live / (name + ".new"))
        os.replace(live / (name + ".new"), live / name)
        time.sleep(1.5)


def write_in_place(second, live):
    for name in ("tls.crt", "tls.key"):
        (live / name).write_bytes((second / name).read_bytes())


def put_with_equal_times(second, live):
    """As tools do that make every file with the same time: only inode and ctime tell."""
    for name in ("tls.crt", "tls.key"):
        shutil.copy(second / name, live / (name + ".new"))
        os.utime(live / (name + ".new"), ns=(0, 0))
        os.replace(live / (name + ".new"), live / name)


@pytest.mark.parametrize("put", [put_in_turn, put_in_other_turn, write_in_place,
                                 put_with_equal_times])
def test_changed_files_are_taken_during_a_download(start_secure, first_pair, tmp_path, put):
    live = tmp_path / "live"
    shutil.copytree(first_pair, live)
    for name in ("tls.crt", "tls.key"):
        os.utime(live / name, ns=(0, 0))
    tarn = start_secure(live / "tls.crt", live / "tls.key")
    second = make_pair(tmp_path, "second")
    with connect(tarn) as download:
        head = ask(download, f"/v2/org/app/blobs/{DIGEST}")
        assert head.startswith(b"HTTP/1.1 200 ")
        put(second, live)
        is_taken(tarn, second)
        body = bytearray()
        while len(body) < len(BLOB):
            part = download.recv(1 << 20)
            assert part, f"cut after {len(body)} bytes"
            body += part
    assert hashlib.sha256(body).hexdigest() == DIGEST.partition(":")[2]


def test_kubernetes_symlink_is_swapped(start_secure, first_pair, tmp_path):
    """A Secret's volume: tls.crt -> ..data/tls.crt, and ..data -> ..2026_11_26, which is swapped."""
    volume = tmp_path / "volume"
    volume.mkdir()
    shutil.copytree(first_pair, volume / "..2026_1")
    (volume / "..data").symlink_to("..2026_1")
    for name in ("tls.crt", "tls.key"):
        (volume / name).symlink_to(f"..data/{name}")
    tarn = start_secure(volume / "tls.crt", volume / "tls.key")
    second = make_pair(tmp_path, "second")
    shutil.copytree(second, volume / "..2026_2")
    (volume / "..data_tmp").symlink_to("..2026_2")
    os.replace(volume / "..data_tmp", volume / "..data")
    shutil.rmtree(volume / "..2026_1")
    is_taken(tarn, second)


def no_certificate(live, second):
    (live / "tls.crt").write_text("broken")
    return live / "tls.crt"


def no_key(live, second):
    (live / "tls.key").write_text("")
    return live / "tls.key"


def another_key(live, second):
    shutil.copy(second / "tls.key", live / "tls.key")
    return live / "tls.key"


def gone(live, second):
    (live / "tls.crt").unlink()
    return live / "tls.crt"


def a_pipe(live, second):
    (live / "tls.key").unlink()
    os.mkfifo(live / "tls.key")
    return live / "tls.key"


@pytest.mark.parametrize("spoil", [no_certificate, no_key, another_key, gone, a_pipe])
def test_a_broken_pair_leaves_the_last_good_one_and_is_logged(start_secure, first_pair, tmp_path,
                                                              spoil):
    live = tmp_path / "live"
    shutil.copytree(first_pair, live)
    tarn = start_secure(live / "tls.crt", live / "tls.key")
    second = make_pair(tmp_path, "second")
    path = spoil(live, second)
    # no client comes meanwhile: the log line does not wait for one
    tarn.logged(f"cannot be used.*{path}", TAKEN_S)
    assert served(tarn) == certificate_of(first_pair)
    for name in ("tls.crt", "tls.key"):
        (live / name).unlink(missing_ok=True)
        shutil.copy(second / name, live / name)
    is_taken(tarn, second)


def settings_of(tmp_path, certificate, key):
    path = tmp_path / "tarn.yaml"
    path.write_text(yaml_text({"listen": f"127.0.0.1:{free_port()}", "root": str(tmp_path / "root")})
                    + f"tls:\n  certificate: {certificate}\n  key: {key}\n")
    return path


@pytest.mark.parametrize("spoil,line,key", [
    (no_certificate, 4, "tls.certificate"), (no_key, 5, "tls.key"), (another_key, 5, "tls.key"),
    (a_pipe, 5, "tls.key")])
def test_a_broken_pair_is_the_same_mistake_at_start_and_in_check_config(
        program, tmp_path, first_pair, spoil, line, key):
    second = make_pair(tmp_path, "second")
    path = spoil(first_pair, second)
    config = settings_of(tmp_path, first_pair / "tls.crt", first_pair / "tls.key")
    config_lines = config.read_text().splitlines()
    assert config_lines[line - 1].strip().startswith(key.partition(".")[2])
    checked = tarn_command(program, "check-config", str(config), home=tmp_path)
    started = serve_that_fails(program, "--config", str(config), home=tmp_path)
    assert (checked.returncode, started.returncode) == (1, 1)
    assert checked.stderr == started.stderr
    assert checked.stderr.startswith(f"{config}:{line}: {key}: ")
    assert str(path) in checked.stderr


def test_a_flag_with_a_broken_file_is_named(program, tmp_path, first_pair):
    path = no_key(first_pair, None)
    refused = serve_that_fails(program, "--tls-certificate", str(first_pair / "tls.crt"),
                               f"--tls-key={path}", "--root", str(tmp_path / "root"),
                               home=tmp_path)
    assert refused.returncode == 1
    assert refused.stderr.startswith("--tls-key: ")
