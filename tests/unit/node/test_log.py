import os
import syslog

import pytest

from slurm_gpushare.node import log


def test_what_is_told_is_one_printable_line_on_stderr_and_in_syslog(monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(syslog, "syslog", lambda level, line: seen.append((level, line)))
    log.tell("epilog: job 7:\n  a\0b \x1b[2J\udcff ü\n")
    log.tell("x" * 100_000)
    assert seen[0] == (syslog.LOG_WARNING, "epilog: job 7: a?b ?[2J? ü")
    assert len(seen[1][1]) == log.LONGEST
    assert capsys.readouterr().err.splitlines()[0] == "gpushare: epilog: job 7: a?b ?[2J? ü"


def test_without_a_log_that_listens_nothing_fails(capsys):
    log.tell("two words")
    assert capsys.readouterr().err == "gpushare: two words\n"


@pytest.mark.parametrize(("more", "told"), [(0, 0), (1, 1)])
def test_the_journal_has_a_line_once(monkeypatch, capfd, more, told):
    seen = []
    monkeypatch.setattr(syslog, "syslog", lambda level, line: seen.append(line))
    stream = os.fstat(2)
    # As systemd sets it; a script of slurmd, which is a unit, has slurmd's and another stream.
    monkeypatch.setenv("JOURNAL_STREAM", f"{stream.st_dev}:{stream.st_ino + more}")
    log.tell("sweep: job 7")
    assert (capfd.readouterr().err, len(seen)) == ("gpushare: sweep: job 7\n", told)
