"""json.loads without the json module, whose regular expressions would cost the launcher 10 ms of each task's start.

Standard library only.
"""

try:
    from _json import make_scanner
except ImportError:  # no C accelerator in this Python
    make_scanner = None


class _Settings:
    """What the scanner of json.JSONDecoder reads of its decoder, with the decoder's defaults."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}.__getitem__


def loads(text: str) -> object:
    """Return what ``json.loads(text)`` returns; raises what it raises."""
    if make_scanner is not None:
        try:
            value, end = make_scanner(_Settings)(text, 0)
            if not text[end:].strip(" \t\r\n"):
                return value
        except (StopIteration, ValueError, AttributeError):
            pass  # json itself knows white space before the text, says what is wrong, and fits every Python
    import json

    return json.loads(text)
