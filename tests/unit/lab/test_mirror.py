"""The host's apt sources, in both styles."""

import pytest

from slurm_gpushare.errors import LabError
from slurm_gpushare.lab import mirror

DEB822 = """\
Types: deb
# a comment
URIs: http://mirror.example/debian/
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main

Enabled: no
Types: deb
URIs: http://other.example/debian
Suites: bookworm
Components: main
"""

ONE_LINE = """\
# deb http://commented.example/debian bookworm main
deb-src http://mirror.example/debian bookworm main
deb [arch=amd64 signed-by=/etc/keys/site.gpg] http://mirror.example/debian bookworm main non-free # site
deb [trusted=yes] file:/srv/debian trixie main
deb cdrom:[Debian]/ bookworm main
"""


def test_deb822() -> None:
    sources = mirror.parse_deb822(DEB822)
    assert [source.uri for source in sources] == [
        "http://mirror.example/debian",
        "http://mirror.example/debian-security",
    ]
    assert sources[0].suites == ("bookworm", "bookworm-updates")
    assert sources[0].components == ("main", "contrib")
    assert sources[0].signed_by == "/usr/share/keyrings/debian-archive-keyring.gpg"


def test_deb822_with_several_uris_and_a_key_in_the_file() -> None:
    text = (
        "Types: deb\nURIs: http://a.example/d http://b.example/d\nSuites: trixie\nComponents: main\n"
        "Signed-By:\n -----BEGIN\n x\n"
    )
    sources = mirror.parse_deb822(text)
    assert [source.uri for source in sources] == ["http://a.example/d", "http://b.example/d"]
    assert sources[0].signed_by is None


def test_one_line() -> None:
    sources = mirror.parse_one_line(ONE_LINE)
    assert [source.uri for source in sources][:2] == ["http://mirror.example/debian", "file:/srv/debian"]
    assert sources[0].components == ("main", "non-free")
    assert sources[0].signed_by == "/etc/keys/site.gpg"
    assert sources[1].trusted


def test_choose_takes_the_suite_with_main_and_no_disc() -> None:
    sources = mirror.parse_one_line("deb cdrom:x bookworm main\n" + ONE_LINE)
    assert mirror.choose(sources, "bookworm").uri == "http://mirror.example/debian"
    with pytest.raises(LabError, match="forky main"):
        mirror.choose(sources, "forky")


def test_lines_for_other_suites() -> None:
    source = mirror.Source("http://m.example/debian", ("bookworm",), ("main",), "/k.gpg")
    assert mirror.deb_line(source, "trixie") == "deb [signed-by=/k.gpg] http://m.example/debian trixie main"
    assert "check-valid-until=no" in mirror.deb_line(source, "sid", stale=True)
    trusted = mirror.Source("file:/srv/debian", ("bookworm",), ("main",), trusted=True)
    assert mirror.deb_line(trusted, "sid") == "deb [trusted=yes] file:/srv/debian sid main"


def test_read_host_reads_every_file(tmp_path) -> None:
    release = tmp_path / "os-release"
    release.write_text('ID=debian\nVERSION_CODENAME="trixie"\n')
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d" / "a.list").write_text("deb http://apps.example/x stable main\n")
    (tmp_path / "sources.list.d" / "debian.sources").write_text(DEB822.replace("bookworm", "trixie"))
    (tmp_path / "sources.list.d" / "debian.sources.bak").write_text("deb http://wrong.example/ trixie main\n")
    assert mirror.read_host(tmp_path, release).uri == "http://mirror.example/debian"


def test_read_host_names_another_system(tmp_path) -> None:
    release = tmp_path / "os-release"
    release.write_text('ID=fedora\nPRETTY_NAME="Fedora 43"\n')
    with pytest.raises(LabError, match="Fedora 43"):
        mirror.read_host(tmp_path, release)


def test_only_transport_options_are_taken() -> None:
    dump = (
        'APT::Architecture "amd64";\nAcquire::http::Proxy "http://p.example:3128";\nAcquire::https::CAInfo "/ca.crt";\n'
        'Acquire::cdrom::mount "/media";\nAcquire::Languages "en";\nAcquire::http "";\nAcquire::Retries "2";\n'
    )
    assert mirror.transport_options(dump) == [
        'Acquire::http::Proxy "http://p.example:3128";',
        'Acquire::https::CAInfo "/ca.crt";',
        'Acquire::Retries "2";',
    ]


def test_contrib_is_named_when_it_is_needed() -> None:
    source = mirror.Source("http://mirror/debian", ("bookworm",), ("main",))
    assert mirror.deb_line(source, "trixie").endswith(" http://mirror/debian trixie main")
    assert mirror.deb_line(source, "trixie", contrib=True).endswith(" http://mirror/debian trixie main contrib")
