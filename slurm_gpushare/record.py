"""Immutable records with named fields, for what runs before every task.

A ``Record`` is written and used like a ``typing.NamedTuple``; importing typing, and collections with it, would cost the
launcher several milliseconds of each task's start. Standard library only.
"""

from _operator import itemgetter  # operator itself pulls in more


class Record(tuple):
    """A tuple whose subclass names its items by annotations, with defaults where it assigns them."""

    _fields: tuple = ()
    _defaults: dict = {}  # noqa: RUF012 (never changed)

    def __init_subclass__(cls) -> None:
        """Make a read-only property of each annotation."""
        cls._fields = tuple(cls.__annotations__)
        cls._defaults = {name: vars(cls)[name] for name in cls._fields if name in vars(cls)}
        for index, name in enumerate(cls._fields):
            setattr(cls, name, property(itemgetter(index)))

    def __new__(cls, *values: object, **named: object) -> "Record":
        """Return a record; raises TypeError when a value is missing, doubled or of no field."""
        rest = cls._fields[len(values) :]
        items = {**cls._defaults, **named}
        if len(values) > len(cls._fields) or any(name not in rest for name in named):
            raise TypeError(f"{cls.__name__} takes {', '.join(cls._fields)}, each once")
        try:
            return tuple.__new__(cls, (*values, *[items[name] for name in rest]))
        except KeyError as missing:
            raise TypeError(f"{cls.__name__} needs {missing}") from None

    def __getnewargs__(self) -> tuple:
        """Return what copy and pickle call the class with."""
        return tuple(self)

    def __repr__(self) -> str:
        """Return the record as the call that makes it."""
        fields = (f"{name}={value!r}" for name, value in zip(self._fields, self, strict=True))
        return f"{type(self).__name__}({', '.join(fields)})"

    def _replace(self, **changes: object) -> "Record":
        """Return a copy with these fields changed; raises TypeError for others."""
        return type(self)(**{**dict(zip(self._fields, self, strict=True)), **changes})
