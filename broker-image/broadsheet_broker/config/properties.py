"""Java's .properties format, as java.util.Properties reads it, and `key=value` overrides."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from broadsheet_broker.config.key import ConfigError

_BLANK = " \t\f"
_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}


def parse_properties(text: str, *, skip_broken: bool = False) -> dict[str, str]:
    """The pairs of a .properties file; of a key given twice the last value counts.

    Key and value are separated by `=`, `:` or blanks; `#` and `!` begin a comment; an odd number of backslashes at the
    end of a line continues it; `\\t`, `\\n`, `\\r`, `\\f` and `\\uXXXX` are escapes, and any other escaped character
    stands for itself. Raises ConfigError for a broken `\\u`, unless such a pair is to be skipped.
    """
    pairs = {}
    for line in _logical_lines(text):
        key, value = _split(line)
        try:
            pairs[_unescape(key)] = _unescape(value)
        except ConfigError:
            if not skip_broken:
                raise
    return pairs


def parse_overrides(arguments: Iterable[str]) -> dict[str, str]:
    """`--override key=value` arguments."""
    pairs = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"Invalid override {argument!r}: allowed is key=value")
        pairs[key.strip()] = value.strip()
    return pairs


def _logical_lines(text: str) -> Iterator[str]:
    pending: str | None = None
    for raw in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        line = raw.lstrip(_BLANK)
        if pending is None:
            if not line or line[0] in "#!":
                continue
        else:
            line = pending + line
        slashes = len(line) - len(line.rstrip("\\"))
        if slashes % 2:
            pending = line[:-1]
            continue
        pending = None
        yield line
    if pending:
        yield pending


def _split(line: str) -> tuple[str, str]:
    escaped = False
    for position, character in enumerate(line):
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif character in "=:":
            return line[:position], line[position + 1 :].lstrip(_BLANK)
        elif character in _BLANK:
            rest = line[position:].lstrip(_BLANK)
            if rest[:1] in ("=", ":"):
                rest = rest[1:].lstrip(_BLANK)
            return line[:position], rest
    return line, ""


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    result = []
    position = 0
    while position < len(text):
        character = text[position]
        position += 1
        if character != "\\" or position == len(text):
            result.append(character)
            continue
        character = text[position]
        position += 1
        if character == "u":
            digits = text[position : position + 4]
            if len(digits) < 4 or not all(digit in "0123456789abcdefABCDEF" for digit in digits):
                raise ConfigError(f"Invalid escape \\u{digits} in {text!r}: allowed is \\u and four hexadecimal digits")
            result.append(chr(int(digits, 16)))
            position += 4
        else:
            result.append(_ESCAPES.get(character, character))
    return "".join(result)
