"""Manual pages in man(7): gpushare(1) and one for each command, gpushare.yaml(5), gpushare(7)."""

import re

from slurm_gpushare import __version__
from slurm_gpushare.reference.commands import Command, commands
from slurm_gpushare.reference.slurm_options import slurm_options
from slurm_gpushare.reference.statuses import OF_PROGRAMS, STATUSES


def manuals() -> dict[str, str]:
    """Return the text of each manual page by its file's name."""
    made = {f"{one.path.replace(' ', '-')}.1": _command(one) for one in commands()}
    return made | {"gpushare.yaml.5": _policy(), "gpushare.7": _requests()}


def escaped(text: str) -> str:
    """Return text as roff prints it unchanged: no request, no escape, quotes and dashes as they are typed."""
    text = (
        text.replace("\\", "\\e")
        .replace("-", "\\-")
        .replace("'", "\\(aq")
        .replace("`", "")
        .replace("*needed*", "needed")
    )
    text = "".join(one if one.isascii() else f"\\[u{ord(one):04X}]" for one in text)
    return re.sub(r"^\.", r"\\&.", text, flags=re.MULTILINE)


def _head(name: str, section: int, summary: str) -> list[str]:
    return [
        f'.TH {escaped(name).upper()} {section} "" "slurm\\-gpushare {__version__}" "slurm\\-gpushare"',
        ".SH NAME",
        f"{escaped(name)} \\- {escaped(summary)}",
    ]


def _items(rows: list[tuple[str, str]]) -> list[str]:
    lines = []
    for name, meaning in rows:
        lines += [".TP", f"\\fB{escaped(name)}\\fR", escaped(meaning) or "\\&"]
    return lines


def _command(command: Command) -> str:
    name = command.path.replace(" ", "-")
    lines = _head(name, 1, command.summary)
    lines += [".SH SYNOPSIS", f"\\fB{escaped(command.path)}\\fR {escaped(command.usage)}", ".SH DESCRIPTION"]
    for number, paragraph in enumerate(command.text):
        lines += [".PP"] * (number > 0) + [escaped(paragraph)]
    if command.options:
        lines += [".SH OPTIONS", *_items(list(command.options))]
    if command.below:
        known = {one.path: one.summary for one in commands()}
        lines += [
            ".SH COMMANDS",
            *_items([(f"{name}-{each}(1)", known[f"{command.path} {each}"]) for each in command.below]),
        ]
    lines += [
        ".SH EXIT STATUS",
        *_items([(str(status), words[0]) for status, words in STATUSES.items() if words[1] != OF_PROGRAMS]),
    ]
    above = command.path.rpartition(" ")[0].replace(" ", "-")
    see = ([f"{above}(1)"] if above else []) + ["gpushare.yaml(5)", "gpushare(7)"]
    return "\n".join([*lines, ".SH SEE ALSO", escaped(", ".join(see)), ""])


def _policy() -> str:
    """The page of all settings is docs/policy.md, of whose headings, paragraphs and tables this is made."""
    from slurm_gpushare.policy.reference import reference

    lines = _head("gpushare.yaml", 5, "the policy of slurm-gpushare")
    lines += [".SH DESCRIPTION"]
    for block in reference().split("\n\n")[2:]:
        text = block.strip()
        if text.startswith("#"):
            title = text.lstrip("# ")
            lines.append(f".SH {escaped(title if '`' in title else title.upper())}")
        elif text.startswith("|"):
            for row in text.splitlines()[2:]:
                name, kind, default, meaning = (part.strip().replace("\\|", "|") for part in _cells(row))
                rest = (
                    f"{kind}; default: {default}"
                    if default and default != "*needed*"
                    else f"{kind}{', needed' * (default != '')}"
                )
                lines += [".TP", f"\\fB{escaped(name)}\\fR ({escaped(rest)})", escaped(meaning) or "\\&"]
        elif text:
            lines += [".PP", escaped(" ".join(text.split()))]
    return "\n".join([*lines, ".SH SEE ALSO", "gpushare\\-policy(1), gpushare\\-explain(1)", ""])


def _cells(row: str) -> list[str]:
    return re.split(r"(?<!\\)\|", row)[1:-1]


def _requests() -> str:
    lines = _head("gpushare", 7, "asking Slurm for a share of a GPU")
    lines += [
        ".SH DESCRIPTION",
        escaped("sbatch --gres=gpu:0.25 asks for a quarter of a GPU on each node of the job; so do srun and salloc."),
        escaped("A share is written as 0.25, 25% or 1/4; gpu:8G is the share that has 8 GiB."),
        escaped("gpushare explain says what a request would become, gpushare why why a job waits,"),
        escaped("gpushare report jobs what it used."),
        ".SH OPTIONS",
        *_items([(one.written, one.meaning) for one in slurm_options()]),
        ".SH ENVIRONMENT",
        *_items(
            [
                (one.variable, f"Stands for --{one.name}; the option goes before it.")
                for one in slurm_options()
                if one.variable
            ]
        ),
        ".SH EXIT STATUS",
        *_items([(str(status), f"{words[0]}; of: {words[1]}") for status, words in STATUSES.items()]),
        ".SH SEE ALSO",
        "gpushare(1), gpushare.yaml(5), sbatch(1)",
    ]
    return "\n".join([*lines, ""])
