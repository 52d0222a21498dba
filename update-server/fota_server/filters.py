"""The language in which devices are meant: parsed here, and evaluated over what is known of one. Pure.

```
filter = both *( "or" both )
both   = one *( "and" one )
one    = "not" one | "(" filter ")" | test
test   = NAME                                        it has an attribute (or a tag) of this name
       | NAME ( "=" | "!=" ) value                   value*: those that begin so
       | NAME [ "not" ] "in" "(" value *( "," value ) ")"
value  = word | '"' any characters, \\" and \\\\ for the two '"'
word   = letters, digits and . _ : / + -
```

NAME is an attribute's (`attributes.py`), ``id``, or ``version``: the firmware that a verified report named.
For a device that has none of that name ``!=`` and ``not in`` hold, as ``not`` does. Texts are compared letter
by letter. There is no greater and smaller: "9" and "10" are texts. ``filter_sql.py`` says the same to a
database.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from fota_wire.errors import InputError

MAX_FILTER = 512
"""Characters of a filter."""
MAX_VALUE = 128
"""Characters of a value, in a filter and of an attribute."""
MAX_DEPTH = 16
MAX_TESTS = 64
NAME = re.compile(r"[a-z][a-z0-9_-]{0,26}")
"""27 letters: behind "attr/" they fill the topic of a device's own word (SPEC 5.5)."""
OF_THE_DEVICE = ("id", "version")
"""Names of what a filter knows beside attributes."""
WORDS = ("and", "or", "not", "in")

_TOKEN = re.compile(r'\s*(?:([A-Za-z0-9._:/+-]+\*?)|("(?:[^"\\]|\\["\\])*"\*?)|(!=|[=(),])|(\S)|$)')


@dataclass(frozen=True, slots=True)
class Test:
    """The device has an attribute ``name``; ``values``: with one of these; ``prefix``: so begun."""

    name: str
    values: tuple[str, ...] | None = None
    prefix: bool = False


@dataclass(frozen=True, slots=True)
class Not:
    """The other way round."""

    part: "Filter"


@dataclass(frozen=True, slots=True)
class All:
    """All of the parts, at least one."""

    parts: tuple["Filter", ...]


@dataclass(frozen=True, slots=True)
class Any:
    """Any of the parts, at least one."""

    parts: tuple["Filter", ...]


Filter = Test | Not | All | Any


def matches(found: Filter, facts: Mapping[str, str]) -> bool:
    """Return whether a filter holds for a device of which ``facts`` are known: values by name."""
    match found:
        case Not(part):
            return not matches(part, facts)
        case All(parts):
            return all(matches(part, facts) for part in parts)
        case Any(parts):
            return any(matches(part, facts) for part in parts)
        case Test(name, values, prefix):
            value = facts.get(name)
            if value is None or values is None:
                return value is not None
            return value.startswith(values[0]) if prefix else value in values


@lru_cache(maxsize=512)
def parse_filter(text: str) -> Filter:
    """Return what a filter says.

    Raises:
        InputError: it is none; says what was found where, or what it has too much of.
    """
    if not 1 <= len(text) <= MAX_FILTER:
        raise InputError(f"filter: has to have 1 to {MAX_FILTER} characters", "filter")
    if not text.isprintable():
        raise InputError("filter: has characters that cannot be printed", "filter")
    reader = _Reader(text)
    found = reader.either(0)
    if reader.here:
        raise reader.wrong("'and', 'or' or the end")
    return found


class _Reader:
    """Reads a filter, one token at a time; ``here`` is the next one, "" at the end."""

    def __init__(self, text: str) -> None:
        self._text, self._at, self._next, self._tests = text, 0, 0, 0
        self.here, self.kind = "", 0
        self._take()

    def _take(self) -> str:
        """Return the token, and go on to the next."""
        taken = self.here
        match = _TOKEN.match(self._text, self._next)
        self.kind = (match.lastindex or 0) if match else 0
        self.here = match[self.kind] if match and self.kind else ""
        self._at = match.start(self.kind) if match and self.kind else len(self._text)
        self._next = match.end() if match else len(self._text)
        return taken

    def wrong(self, expected: str) -> InputError:
        """Return the error of a token that is not ``expected``."""
        shown = f"{self.here[:20]!a} at character {self._at + 1}" if self.here else "its end"
        return InputError(f"filter: {expected} expected, and there is {shown}", "filter")

    def either(self, depth: int) -> Filter:
        """Read parts with "or" between them."""
        if depth > MAX_DEPTH:
            raise InputError(f"filter: more than {MAX_DEPTH} parentheses or 'not' in each other", "filter")
        parts = [self._both(depth)]
        while self.here == "or":
            self._take()
            parts.append(self._both(depth))
        return parts[0] if len(parts) == 1 else Any(tuple(parts))

    def _both(self, depth: int) -> Filter:
        parts = [self._one(depth)]
        while self.here == "and":
            self._take()
            parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _one(self, depth: int) -> Filter:
        if self.here == "not":
            self._take()
            if depth >= MAX_DEPTH:
                raise InputError(
                    f"filter: more than {MAX_DEPTH} parentheses or 'not' in each other", "filter"
                )
            return Not(self._one(depth + 1))
        if self.here == "(":
            self._take()
            inside = self.either(depth + 1)
            self._expect(")")
            return inside
        return self._test()

    def _test(self) -> Filter:
        if self.kind != 1 or not NAME.fullmatch(self.here) or self.here in WORDS:
            raise self.wrong("the name of an attribute, 'not' or '('")
        self._tests += 1
        if self._tests > MAX_TESTS:
            raise InputError(f"filter: more than {MAX_TESTS} tests", "filter")
        name = self._take()
        if self.here in ("=", "!="):
            is_not = self._take() == "!="
            value, prefix = self._value(name)
            test = Test(name, (value,), prefix)
            return Not(test) if is_not else test
        is_not = self.here == "not"
        if is_not:
            self._take()
            if self.here != "in":
                raise self.wrong("'in'")
        if self.here == "in":
            self._take()
            test = Test(name, self._values(name))
            return Not(test) if is_not else test
        return Test(name)

    def _values(self, name: str) -> tuple[str, ...]:
        self._expect("(")
        found = []
        while True:
            value, prefix = self._value(name)
            if prefix:
                raise InputError("filter: '*' stands behind '=' and '!=' only, not in a list", "filter")
            found.append(value)
            if self.here != ",":
                self._expect(")")
                return tuple(dict.fromkeys(found))
            self._take()

    def _value(self, name: str) -> tuple[str, bool]:
        if self.kind not in (1, 2):
            raise self.wrong("a value")
        token = self._take()
        prefix = token.endswith("*")
        value = token[:-1] if prefix else token
        if value.startswith('"'):
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
        if len(value) > MAX_VALUE:
            raise InputError(f"filter: a value of more than {MAX_VALUE} characters", "filter")
        return value.lower() if name == "id" else value, prefix

    def _expect(self, token: str) -> None:
        if self.here != token or self.kind != 3:
            raise self.wrong(f"'{token}'")
        self._take()
