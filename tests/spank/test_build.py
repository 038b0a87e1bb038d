"""The plugin as a shared object: it compiles without a warning, exports its callbacks alone, and is hardened."""

import subprocess
from pathlib import Path

EXPORTS = {
    "plugin_name",
    "plugin_type",
    "plugin_version",
    "spank_plugin_version",
    "slurm_spank_init",
    "slurm_spank_init_post_opt",
    "slurm_spank_task_init",
}


def output(*argv: str) -> str:
    """Return what a command prints."""
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def test_exports_only_what_slurm_looks_for(plugin, headers):
    """No job_prolog and no job_epilog: either would hide the options from the Prolog script."""
    names = {line.split()[-1] for line in output("nm", "-D", "--defined-only", str(plugin)).splitlines()}
    newer = {"slurm_spank_init_failure_mode"} if headers.version >= (25, 5) else set()
    assert names == EXPORTS | newer


def test_calls_of_slurm_only_what_the_mock_knows(plugin):
    undefined = {line.split()[-1] for line in output("nm", "-D", "--undefined-only", str(plugin)).splitlines()}
    assert {name for name in undefined if name.startswith(("spank_", "slurm_"))} == {
        "slurm_error",
        "slurm_info",
        "spank_context",
        "spank_get_item",
        "spank_getenv",
        "spank_job_control_setenv",
        "spank_job_control_unsetenv",
        "spank_option_register",
        "spank_prepend_task_argv",
    }


def test_is_hardened(plugin):
    dynamic = output("readelf", "--wide", "--dynamic", str(plugin))
    headers = output("readelf", "--wide", "--program-headers", str(plugin))
    assert "BIND_NOW" in dynamic
    assert "TEXTREL" not in dynamic
    assert "GNU_RELRO" in headers
    (stack,) = [line for line in headers.splitlines() if "GNU_STACK" in line]
    assert " RW " in stack
    assert "__stack_chk_fail" in output("nm", "-D", str(plugin))


def test_install_puts_one_file_into_the_plugin_folder(plugin, headers, tmp_path):
    spank = Path(__file__).resolve().parents[2] / "spank"
    argv = ["make", "-C", str(spank), "install", f"BUILD={plugin.parent}", f"SLURM_INCLUDE={headers.include}"]
    output(*argv, "CFLAGS=-O2 -g -Werror", f"DESTDIR={tmp_path}", "PLUGIN_DIR=/usr/lib/slurm")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files == [tmp_path / "usr/lib/slurm/gpushare.so"]
    assert files[0].stat().st_mode & 0o777 == 0o644
    assert files[0].read_bytes() == plugin.read_bytes()


def test_other_headers_rebuild_everything(plugin, headers, tmp_path):
    """Slurm refuses a plugin of another major.minor version: objects of two must never be mixed."""
    spank = Path(__file__).resolve().parents[2] / "spank"
    other = tmp_path / "include"
    other.mkdir()
    (other / "slurm").symlink_to(headers.include / "slurm")
    argv = ["make", "-C", str(spank), f"BUILD={tmp_path / 'build'}"]
    output(*argv, f"SLURM_INCLUDE={headers.include}")
    assert "remote.c" not in output(*argv, f"SLURM_INCLUDE={headers.include}")
    assert "remote.c" in output(*argv, f"SLURM_INCLUDE={other}")


def test_missing_headers_are_one_clear_line(tmp_path):
    spank = Path(__file__).resolve().parents[2] / "spank"
    argv = ["make", "-s", "-C", str(spank), f"BUILD={tmp_path / 'build'}", f"SLURM_INCLUDE={tmp_path}"]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stderr.startswith(f"spank: no slurm/spank.h in {tmp_path}: install libslurm-dev")
