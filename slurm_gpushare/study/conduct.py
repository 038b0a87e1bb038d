"""Run a study round by round, keeping each in its folder, so that what was measured is never measured again.

``FOLDER/study.json`` says what the study is; ``FOLDER/rounds/NAME/N/`` has the scripts and outputs of the Nth try of a
round, and ``round.json`` once it is complete; ``FOLDER/results.json`` the figures of all that is there.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Protocol

from slurm_gpushare import __version__
from slurm_gpushare.errors import RequestError
from slurm_gpushare.study.figures import results
from slurm_gpushare.study.plan import WHOLE, Round, Settings, rounds
from slurm_gpushare.study.read import Run, StudyError, read_run
from slurm_gpushare.study.script import make_script

FORM = 1  # of the files


class Engine(Protocol):
    """What runs the jobs of a round."""

    def run(self, one: Round, scripts: list[Path]) -> dict:
        """Run ``scripts`` at one time, the output of each beside it (.out); return backend, remote, jobs."""


@contextmanager
def opened(folder: Path, settings: Settings) -> Iterator[dict]:
    """Hold the folder of a study, made when there is none; return what its study.json says.

    Raises
    ------
    RequestError
        It has another study, or somebody runs this one now.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "study.json"
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RequestError(f"{folder}: this study is run by another process now") from None
        file.seek(0)
        text = file.read()
        if not text or not any(folder.glob("rounds/*/*/round.json")):
            about = {"version": FORM, "date": datetime.now().astimezone().isoformat(timespec="seconds")}
            about |= {"gpushare": __version__, "settings": settings.to_dict()}
            file.truncate(0)
            file.write(json.dumps(about, indent=1) + "\n")
            file.flush()
            yield about
            return
        try:
            about = json.loads(text)
            # More rounds, or fewer, are the same study.
            wanted = {name: value for name, value in settings.to_dict().items() if name != "repeats"}
            other = [name for name, value in wanted.items() if about["settings"].get(name) != value]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise RequestError(f"{path}: is not of a study: choose another folder by --out") from None
        if other or about.get("version") != FORM:
            raise RequestError(
                f"{folder}: has a study with other settings ({', '.join(other) or 'version'}): choose another by --out"
            )
        yield about


def conduct(settings: Settings, folder: Path, engine: Engine, benchmark: str, say: Callable[[str], None]) -> dict:
    """Run the rounds that ``folder`` does not have yet; return the results, which it then has as results.json.

    A round that fails is told and left out, and the others go on; a case whose first round fails is given up.

    Raises
    ------
    StudyError
        No case can be compared with the whole GPU, as either was given up.
    RequestError
        The folder has another study.
    """
    with opened(folder, settings) as about:
        facts = {name: value for name, value in about.items() if name != "settings"}
        done: dict[Round, tuple[list[Run], dict]] = {}
        failed: dict[Round, str] = {}
        given_up: dict[str, str] = {}
        plan = rounds(settings)
        for place, one in enumerate(plan, 1):
            if one.case in given_up:
                failed[one] = f"not tried after {given_up[one.case]}"
                continue
            held = kept(folder, one)
            if held is None:
                say(f"round {place} of {len(plan)}: {one.name}: {len(one.orders)} job{'s' * (len(one.orders) > 1)}")
                try:
                    held = _try(settings, folder, one, engine, benchmark)
                except StudyError as error:
                    failed[one] = str(error)
                    say(f"  failed: {error}")
                    if not any(other.case == one.case for other in done):
                        given_up[one.case] = one.name
                        if one.case == WHOLE or len(given_up) == len(settings.ways):
                            raise StudyError(f"round {one.name}: {error}") from error
                    continue
            done[one] = held
            _write(folder / "results.json", results(settings, done, failed, facts))
        made = results(settings, done, failed, facts)
        _write(folder / "results.json", made)
        return made


def kept(folder: Path, one: Round) -> tuple[list[Run], dict] | None:
    """Return the runs of a round that was completed, and what the engine knew of them; None when none was."""
    for tried in sorted((folder / "rounds" / one.name).glob("*/round.json")):
        try:
            facts = json.loads(tried.read_text(encoding="utf-8"))
            return _runs(tried.parent, one), facts
        except (OSError, ValueError, StudyError):
            continue
    return None


def _try(settings: Settings, folder: Path, one: Round, engine: Engine, benchmark: str) -> tuple[list[Run], dict]:
    base = folder.resolve() / "rounds" / one.name
    tried = base / str(1 + max((int(path.name) for path in base.glob("[0-9]*")), default=0))
    tried.mkdir(parents=True)
    scripts = []
    for number, models in enumerate(one.orders, 1):
        scripts.append(tried / f"{number}.py")
        scripts[-1].write_text(make_script(settings, models, benchmark), encoding="utf-8")
    facts = engine.run(one, scripts)
    held = _runs(tried, one), facts
    _write(tried / "round.json", facts)
    return held


def _runs(tried: Path, one: Round) -> list[Run]:
    return [
        read_run((tried / f"{number}.out").read_text(encoding="utf-8", errors="replace"), models)
        for number, models in enumerate(one.orders, 1)
    ]


def _write(path: Path, data: dict) -> None:
    new = path.with_suffix(".new")
    new.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    os.replace(new, path)
