"""TOML that people write beside their sources, read strictly: what was asked for is what is known.

Whatever is asked of a table raises InputError by the key's name, and says what to write.
"""

import tomllib
from typing import Any

from fota_wire.errors import InputError
from fota_wire.host_values import shown


def read_toml(text: str) -> dict[str, Any]:
    """Return what a TOML file says. InputError: it is none."""
    try:
        found = tomllib.loads(text)
        repr(found)  # as a message would show it
    except RecursionError as exc:
        raise InputError("no TOML that anybody writes: it is nested too deeply") from exc
    except ValueError as exc:  # a number of 5,000 digits, too, and the 30th of February
        raise InputError(f"not TOML: {exc}") from exc
    return found


class Table:
    """One table of the file, from which keys are taken: what was asked for is what is known."""

    def __init__(self, content: dict[str, Any], name: str) -> None:
        self._content, self._name = content, name
        self._known: list[str] = []

    def called(self, key: str) -> str:
        """Return a key as messages name it."""
        return f"{self._name}.{key}" if self._name else key

    def _take(self, key: str, kind: type, said: str, required: bool) -> Any:  # noqa: ANN401  of the kind
        self._known.append(key)
        value = self._content.get(key)
        if value is None:
            if required:
                raise InputError(f"{self.called(key)} is missing: write {said}")
            return None
        if type(value) is not kind:  # TOML's true is a number to Python
            raise InputError(f"{self.called(key)}: {shown(value)} is not {said}")
        return value

    def table(self, key: str, *, required: bool = True) -> "Table":
        """Return a table; an empty one, if it may be left out."""
        return Table(self._take(key, dict, f"a table, [{key}]", required) or {}, key)

    def tables(self, key: str) -> "list[Table]":
        """Return a list of tables, [[key]], empty if there is none."""
        found = self._take(key, list, f"tables, [[{key}]]", required=False) or []
        for value in found:
            if type(value) is not dict:
                raise InputError(f"{self.called(key)}: {shown(value)} is not a table, [[{key}]]")
        return [Table(value, f"{key}[{number}]") for number, value in enumerate(found, 1)]

    def text(self, key: str, *, required: bool = False) -> Any:  # noqa: ANN401  str, or None if it may be
        """Return a text that people see, or the name of a file."""
        value = self._take(key, str, 'a text, "..."', required)
        if value is not None:
            self._require_text(key, value)
        return value

    file = text

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts, none twice."""
        values = self._take(key, list, 'a list of texts, ["..."]', required=False) or []
        for value in values:
            if type(value) is not str:
                raise InputError(f'{self.called(key)}: {shown(value)} is not a text, "..."')
            self._require_text(key, value)
        if len(set(values)) != len(values):
            raise InputError(f"{self.called(key)}: one of them is there twice: say it once")
        return tuple(values)

    def one_or_more(self, key: str) -> tuple[str, ...]:
        """Return one text, or a list of them, as a list."""
        if type(self._content.get(key)) is list:
            return self.texts(key)
        value = self.text(key)
        return () if value is None else (value,)

    def _require_text(self, key: str, value: str) -> None:
        if not value.strip() or not value.isprintable():
            raise InputError(
                f"{self.called(key)}: {shown(value)} is empty, or has characters that nobody sees: name it"
                " in letters"
            )

    def pattern(self, key: str) -> str | None:
        """Return a text with one ``*`` in it."""
        value = self.text(key)
        if value is not None and value.count("*") != 1:
            raise InputError(
                f'{self.called(key)}: {shown(value)} has to have one *, where the version stands: "v*"'
            )
        return None if value is None else str(value)

    def whole(self, key: str, low: int, high: int, *, required: bool = False) -> int | None:
        """Return a whole number of ``low`` to ``high``."""
        said = f"a whole number of {low} to {high}" if low < high else f"the number {low}"
        value = self._take(key, int, said, required)
        if value is not None and not low <= value <= high:
            number = str(value) if abs(value) < 1 << 64 else "it"
            raise InputError(f"{self.called(key)}: {number} is not {said}")
        return None if value is None else int(value)

    def flag(self, key: str, *, default: bool) -> bool:
        """Return true or false."""
        value = self._take(key, bool, "true or false", required=False)
        return default if value is None else bool(value)

    def require_known(self) -> None:
        """Return if nothing is left that nobody asked for.

        Raises:
            InputError: there is; names the key that was perhaps meant.
        """
        for key in self._content:
            if key not in self._known:
                import difflib

                near = difflib.get_close_matches(key, self._known, 1, 0.5)
                advice = f"did you mean {near[0]}?" if near else f"known are {', '.join(self._known)}"
                raise InputError(f"{self.called(shown(key)[1:-1])}: no such key; {advice}")
