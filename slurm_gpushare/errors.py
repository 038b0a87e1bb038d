"""The one family of errors, and the exit statuses that are ours.

Standard library only: the job's path imports this file.
"""

# Exit statuses of our own; every other status is the program's (docs/developer.md, "Exit statuses").
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNAVAILABLE = 69  # the backend cannot be reached
EXIT_TRY_AGAIN = 75  # the pool stayed full for the whole wait
EXIT_REFUSED = 77  # refused by policy
EXIT_BROKEN = 78  # the installation is broken
EXIT_CANNOT_EXECUTE = 126
EXIT_NOT_FOUND = 127


class GpushareError(Exception):
    """Base of every error that this package raises on purpose.

    The text is one line that names the value, says why, and what to do instead.
    ``exit_status`` is what a command ends with when the error reaches its top.
    """

    exit_status = EXIT_FAILED


class RequestError(GpushareError):
    """What the user asked for cannot be met as written."""


class PolicyError(GpushareError):
    """The policy file, or its compiled form, is not valid."""


class RefusedError(GpushareError):
    """The policy forbids what was asked."""

    exit_status = EXIT_REFUSED


class GrantError(GpushareError):
    """A grant, launch record or usage record is not of a form that this version reads."""

    exit_status = EXIT_BROKEN


class BackendError(GpushareError):
    """A backend cannot be reached or did not do what it was asked."""

    exit_status = EXIT_UNAVAILABLE


class BrokenInstallation(GpushareError):
    """A file or program that belongs to the installation is missing or unusable."""

    exit_status = EXIT_BROKEN


class StoreError(GpushareError):
    """The accounting store or its service cannot be used."""


class LabError(GpushareError):
    """The lab could not be built, started, entered or stopped."""
