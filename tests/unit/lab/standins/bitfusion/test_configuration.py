"""The client's files, servers that do not answer, and images with nothing in them."""

import re
import shutil
import socket

import pytest

NONE_RESPONDED = "Error: none of the servers responded correctly to client id claim requests.\n"
STAMP = r"\[WARN\] \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+08:00"


def warning(address: str, why: str) -> str:
    return rf"{STAMP} Error contacting server {address} to verify client id: Get https://{address}/claim_id: {why}\n"


@pytest.mark.parametrize("words", [["run", "-n", "1", "true"], ["request_gpus", "-n", "1"], ["list_gpus"]])
def test_no_server_there(make_user, words):
    done = make_user("127.0.0.1:9")(*words)
    why = r"dial tcp 127\.0\.0\.1:9: connect: connection refused"
    assert re.search(warning("127.0.0.1:9", why) + NONE_RESPONDED + "$", done.stderr), done.stderr
    assert (done.returncode, done.stdout) == (1, "")


def test_a_server_that_is_silent(make_user):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        user = make_user(address)
        yaml = user.dot / "client.yaml"
        yaml.write_text(yaml.read_text().replace("timeout: 3s", "timeout: 200ms"))
        done = user("list_gpus")
    assert re.search(warning(address, "context deadline exceeded") + NONE_RESPONDED + "$", done.stderr), done.stderr


def test_a_server_that_does_not_even_accept(make_user):
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = f"127.0.0.1:{full.getsockname()[1]}"
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        user = make_user(address)
        yaml = user.dot / "client.yaml"
        yaml.write_text(yaml.read_text().replace("timeout: 3s", "timeout: 200ms"))
        done = user("list_gpus")
        for each in waiting:
            each.close()
    assert re.search(warning(address, f"dial tcp {address}: i/o timeout"), done.stderr), done.stderr


def test_a_name_that_nobody_has(make_user):
    done = make_user("nosuch.invalid:56001")("list_gpus")
    assert re.search(warning("nosuch.invalid:56001", r"dial tcp: lookup nosuch\.invalid: no such host"), done.stderr)


def test_one_server_that_answers_is_enough(start_server, make_user):
    server = start_server()
    done = make_user("127.0.0.1:9", server)("run", "-n", "1", "true")
    assert "Error contacting server 127.0.0.1:9 to verify client id" in done.stderr
    assert "of memory from server 1, with version" in done.stderr
    assert done.returncode == 0


def test_a_wrong_token_is_refused(user, server):
    yaml = user.dot / "client.yaml"
    yaml.write_text(re.sub("token: .*", "token: wrong", yaml.read_text()))
    done = user("run", "-n", "1", "true")
    assert re.search(warning(server.address, "401 Unauthorized") + NONE_RESPONDED, done.stderr)
    assert server.state()["log"] == []


def test_a_server_can_be_named_by_a_line_of_etc_hosts(make_user, start_server, tmp_path):
    server = start_server()
    hosts = tmp_path / "hosts"
    hosts.write_text(f"::1 gpuhost\n# 127.0.0.9 gpuhost\n{server.config['listen']}\tother gpuhost # the pool\n")
    user = make_user("GPUhost:56001")
    done = user("run", "-n", "1", "true", prefix=("bwrap", "--bind", "/", "/", "--ro-bind", str(hosts), "/etc/hosts"))
    assert done.returncode == 0, done.stderr
    assert "Choosing GPUs from server list [GPUhost:56001]" in done.stderr
    assert f"{server.config['listen']} 55001 " in done.stderr


def test_the_first_contact_backs_up_client_yaml_and_gives_it_an_id(user):
    before = (user.dot / "client.yaml").read_text()
    user("list_gpus")
    user("list_gpus")
    (backup,) = user.dot.glob("client.yaml.*")
    assert re.fullmatch(r"client\.yaml\.\d{8}T\d{6}", backup.name)
    assert backup.read_text() == before
    after = (user.dot / "client.yaml").read_text()
    assert re.fullmatch(re.escape(before) + r"id: [0-9a-f-]{36}\n", after)
    assert (user.dot / "client.yaml").stat().st_mode & 0o777 == 0o600


def test_a_client_yaml_that_cannot_be_renamed_is_only_a_warning(user):
    yaml = user.dot / "client.yaml"
    done = user("run", "-n", "1", "true", prefix=("bwrap", "--bind", "/", "/", "--ro-bind", str(yaml), str(yaml)))
    rename = rf"rename {re.escape(str(yaml))} {re.escape(str(yaml))}\.\d{{8}}T\d{{6}}"
    wanted = rf"{STAMP} Unable to backup old client config file: {rename}: device or resource busy\n"
    assert re.search(wanted, done.stderr), done.stderr
    assert done.returncode == 0


def test_a_read_only_folder_is_fatal(user):
    user("list_gpus")
    conf = user.dot / "servers.conf"
    done = user(
        "run", "-n", "1", "true", prefix=("bwrap", "--bind", "/", "/", "--ro-bind", str(user.dot), str(user.dot))
    )
    wanted = rf"{STAMP} Failed to parse {conf}: open {conf}: read-only file system\n{NONE_RESPONDED}"
    assert re.fullmatch(wanted, done.stderr), done.stderr
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize(
    "text",
    [
        "{0}\n",
        "### group one\n\n  {0}  \n",
        "servers:\n- addresses:\n  - {0}\n",
        "servers:\n- reachable:{0}\n  addresses:\n  - {0}\n",
        "servers:\n- addresses:\n  - {0}\n  - 127.0.0.1:9\n",
    ],
)
def test_both_forms_of_servers_conf_are_read_and_it_is_rewritten(user, server, text):
    conf = user.dot / "servers.conf"
    conf.write_text(text.format(server.address))
    for _ in range(2):
        done = user("list_gpus")
        assert f"[{server.address}]: running 0 tasks" in done.stdout, done.stderr
        assert "server 1" not in done.stdout
    plain = f"servers:\n- addresses:\n  - {server.address}\n"
    assert conf.read_text() == (text.format(server.address) if "servers:" in text else plain)


@pytest.mark.parametrize("text", ["servers:\n- colour: red\n", "10.0.0.1\n", "servers:\n- addresses:\n  - 10.0.0.1\n"])
def test_a_servers_conf_that_is_neither_is_refused(user, text):
    (user.dot / "servers.conf").write_text(text)
    done = user("list_gpus")
    assert re.search(rf"{STAMP} Failed to parse {user.dot}/servers\.conf: ", done.stderr)
    assert done.stderr.endswith(NONE_RESPONDED)
    assert (user.dot / "servers.conf").read_text() == text


def test_without_home_without_files_and_without_a_token(user):
    assert user("list_gpus", HOME="").stderr == "Error: $HOME is not defined\n"
    shutil.rmtree(user.dot)
    missing = user("list_gpus")
    assert missing.stderr == "Error: open /etc/bitfusion/client.yaml: no such file or directory\n"
    (user.dot / "client.yaml").write_text("authconfig:\n  username: token\nnetwork: {}\n  token: outside\n")
    assert "has no token under authconfig" in user("list_gpus").stderr


def test_it_runs_in_an_image_with_nothing_else_from_the_sites_configuration(user, build, tmp_path):
    """No libc, no shell, no Python: the command is the client again. The user has no configuration yet."""
    site = tmp_path / "etc" / "bitfusion"
    shutil.copytree(user.dot, site)
    shutil.rmtree(user.dot)
    client = build / "dest/usr/bin/bitfusion"
    binds = [("/bin/bitfusion", client), ("/etc", tmp_path / "etc"), ("/home", user.home), ("/tmp", user.tmp)]
    prefix = ["bwrap"] + [word for inside, outside in binds for word in ("--bind", str(outside), inside)] + ["--"]
    user.client = "/bin/bitfusion"
    places = {"HOME": "/home", "TMPDIR": "/tmp", "PATH": f"{user.env['PATH']}:/bin"}
    done = user("run", "-n", "1", "--", "bitfusion", "list_gpus", prefix=tuple(prefix), **places)
    assert done.returncode == 0, done.stderr
    assert "running 1 tasks" in done.stdout
    assert "configuration saved to '/tmp/bitfusion" in done.stderr
    assert "Query server" in done.stderr
    assert (user.dot / "servers.conf").read_text() == (site / "servers.conf").read_text()
    assert "id: " in (user.dot / "client.yaml").read_text()
    assert "id: " not in (site / "client.yaml").read_text()


def test_many_first_contacts_at_once_make_one_id(user):
    children = [user.start("run", "-n", "1", "-p", "0.05", "true") for _ in range(12)]
    for child in children:
        _, err = child.communicate(timeout=60)
        assert child.returncode == 0, err
    assert len(list(user.dot.glob("client.yaml.*"))) == 1
    assert (user.dot / "client.yaml").read_text().count("id: ") == 1
