"""The host's pip configuration, as an environment that a build inside the root file system can use.

pip reads its settings from files and from PIP_* variables, which win (pip's own documentation, "Configuration").
Inside the root file system the files are not there: everything is handed over as variables, and local paths that
they name are bound in.
"""

import configparser
import os
import sys
from collections.abc import Mapping
from pathlib import Path

PASSED = ("http_proxy", "https_proxy", "no_proxy", "all_proxy", "ssl_cert_file", "ssl_cert_dir", "requests_ca_bundle",
          "curl_ca_bundle")  # fmt: skip


def config_files(environ: Mapping[str, str], home: Path, prefix: Path) -> list[Path]:
    """Return the files that pip would read, the weakest first."""
    if environ.get("PIP_CONFIG_FILE") == os.devnull:
        return []
    files = [
        Path("/etc/xdg/pip/pip.conf"),
        Path("/etc/pip.conf"),
        home / ".pip/pip.conf",
        home / ".config/pip/pip.conf",
        prefix / "pip.conf",
    ]
    if environ.get("PIP_CONFIG_FILE"):
        files.append(Path(environ["PIP_CONFIG_FILE"]))
    return files


def to_environment(texts: list[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Merge pip.conf ``texts`` (weakest first), section [install] over [global], and ``environ`` into variables."""
    result: dict[str, str] = {}
    parsed = []
    for text in texts:
        parser = configparser.RawConfigParser()
        parser.read_string(text)
        parsed.append(parser)
    for section in ("global", "install"):
        for parser in parsed:
            if parser.has_section(section):
                for key, value in parser.items(section):
                    result["PIP_" + key.upper().replace("-", "_")] = " ".join(value.split())
    for key, value in environ.items():
        if (key.startswith("PIP_") and key != "PIP_CONFIG_FILE") or key.lower() in PASSED:
            result[key] = value
    # The target is fixed by the build itself.
    for key in ("PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PIP_PYTHON", "PIP_REQUIRE_VIRTUALENV", "PIP_CACHE_DIR"):
        result.pop(key, None)
    return result


def local_paths(environment: Mapping[str, str]) -> list[str]:
    """Return the local paths that the values name, in order, each once; not looked up on disk."""
    paths: list[str] = []
    for value in environment.values():
        for word in value.split():
            if word.startswith("file://"):
                # An index page links to files beside its own folder (../../files/…).
                path = os.path.normpath(word.removeprefix("file://"))
                path = os.path.dirname(path) if os.path.dirname(path) != "/" else path
            elif word.startswith("/"):
                path = os.path.normpath(word)
            else:
                continue
            if path != "/" and path not in paths:
                paths.append(path)
    return paths


def read_host() -> dict[str, str]:
    """Return this host's pip settings as variables."""
    files = config_files(os.environ, Path.home(), Path(sys.prefix))
    return to_environment([path.read_text() for path in files if path.is_file()], os.environ)
