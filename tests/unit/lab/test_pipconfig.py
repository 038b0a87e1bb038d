"""pip's configuration as variables."""

from pathlib import Path

from slurm_gpushare.lab import pipconfig


def test_variables_win_over_files_and_install_over_global() -> None:
    site = "[global]\nindex-url = https://a.example/simple\ncert = /etc/ca.crt\ntimeout = 5\n"
    user = "[global]\nfind-links = /srv/wheels\n  /srv/more\n[install]\ntimeout = 9\n"
    environment = pipconfig.to_environment([site, user], {"PIP_CERT": "/home/ca.crt", "HOME": "/root"})
    assert environment == {
        "PIP_INDEX_URL": "https://a.example/simple",
        "PIP_CERT": "/home/ca.crt",
        "PIP_FIND_LINKS": "/srv/wheels /srv/more",
        "PIP_TIMEOUT": "9",
    }


def test_proxies_pass_and_targets_do_not() -> None:
    variables = {"https_proxy": "http://p.example", "SSL_CERT_FILE": "/ca", "PIP_TARGET": "/x", "PIP_CONFIG_FILE": "/c"}
    environment = pipconfig.to_environment(["[global]\nuser = yes\n"], variables)
    assert environment == {"https_proxy": "http://p.example", "SSL_CERT_FILE": "/ca"}


def test_local_paths_of_values() -> None:
    environment = {
        "PIP_FIND_LINKS": "/srv/wheels https://a.example/ /srv/wheels",
        "PIP_EXTRA_INDEX_URL": "file:///srv/pypi/simple file:///srv/other/simple/",
        "PIP_TIMEOUT": "5",
        "PIP_CERT": "/",
    }
    # An index links to ../../files: the folder above it is needed.
    assert pipconfig.local_paths(environment) == ["/srv/wheels", "/srv/pypi", "/srv/other"]


def test_files_in_pips_order() -> None:
    files = pipconfig.config_files({"PIP_CONFIG_FILE": "/mine"}, Path("/home/a"), Path("/venv"))
    assert files[0] == Path("/etc/xdg/pip/pip.conf") and files[-2:] == [Path("/venv/pip.conf"), Path("/mine")]
    assert pipconfig.config_files({"PIP_CONFIG_FILE": "/dev/null"}, Path("/home/a"), Path("/venv")) == []
