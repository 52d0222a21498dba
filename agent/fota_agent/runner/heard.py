"""The application's hooks as the agent calls them: a mistake in one that only hears stops nothing."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fota_agent.seams import Hooks


class Heard:
    """``hooks``, with the exceptions of ``available``, ``progress``, ``before_reboot`` and ``log`` told in
    the log, each once in a row. Those that decide (``may_...``, ``health_check``) raise as they do, and
    TypeError for an answer that is none, as that of an ``async def`` is. ``mistakes`` is what counts as an
    exception of theirs: on a thread of the agent's own anything that would end it.
    """

    def __init__(self, hooks: "Hooks") -> None:
        self._hooks = hooks
        self._told = ""
        self.mistakes: type[BaseException] = Exception

    def health_check(self) -> "bool | None":
        """As the hook."""
        verdict = self._hooks.health_check()
        return None if verdict is None else _yes_or_no("health_check", verdict)

    def may_download(self, manifest: object) -> bool:
        """As the hook."""
        return _yes_or_no("may_download", self._hooks.may_download(manifest))

    def may_install(self, manifest: object) -> bool:
        """As the hook."""
        return _yes_or_no("may_install", self._hooks.may_install(manifest))

    def available(self, manifest: object) -> None:
        """As the hook."""
        self._tell("available", manifest)

    def progress(self, done: int, total: int) -> None:
        """As the hook."""
        self._tell("progress", done, total)

    def before_reboot(self) -> None:
        """As the hook."""
        self._tell("before_reboot")

    def log(self, line: str) -> None:
        """As the hook."""
        self._tell("log", line)

    def _tell(self, name: str, *args: object) -> None:
        try:
            getattr(self._hooks, name)(*args)
        except self.mistakes as exc:
            line = f"{name}: {type(exc).__name__}: {exc}"
            if name != "log" and line != self._told:
                self._told = line
                self.log(line)


def _yes_or_no(name: str, answer: object) -> bool:
    if answer not in (True, False):
        raise TypeError(f"{name} returned a {type(answer).__name__}, not True or False")
    return bool(answer)
