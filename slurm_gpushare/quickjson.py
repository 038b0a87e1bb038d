"""json.loads and json.dumps without the json module, whose regular expressions would cost every prolog and task 10 ms.

Standard library only.
"""

try:
    from _json import encode_basestring, make_encoder, make_scanner
except ImportError:  # no C accelerator in this Python
    make_scanner = make_encoder = encode_basestring = None


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


def dumps(value: object) -> str:
    """Return ``json.dumps(value, separators=(",", ":"), ensure_ascii=False)``; raises what it raises."""
    if make_encoder is not None:
        try:
            # As json.JSONEncoder.iterencode calls it, without its search for circles.
            encode = make_encoder(None, _unknown, encode_basestring, None, ":", ",", False, False, True)
            return "".join(encode(value, 0))
        except (TypeError, ValueError, RecursionError):
            pass  # json itself says what is wrong, and fits every Python
    import json

    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _unknown(value: object) -> None:
    raise TypeError(type(value).__name__)
