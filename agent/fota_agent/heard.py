"""The application's hooks as the agent calls them: a mistake in one that only hears stops nothing."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fota_agent.seams import Hooks


class Heard:
    """``hooks``, with the exceptions of ``available``, ``progress``, ``before_reboot`` and ``log`` told in
    the log, each once in a row. Those that decide (``may_...``, ``health_check``) raise as they do.
    """

    def __init__(self, hooks: "Hooks") -> None:
        self._hooks = hooks
        self._told = ""

    def health_check(self) -> "bool | None":
        """As the hook."""
        return self._hooks.health_check()

    def may_download(self, manifest: object) -> bool:
        """As the hook."""
        return self._hooks.may_download(manifest)

    def may_install(self, manifest: object) -> bool:
        """As the hook."""
        return self._hooks.may_install(manifest)

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
        except Exception as exc:
            line = f"{name}: {type(exc).__name__}: {exc}"
            if name != "log" and line != self._told:
                self._told = line
                self.log(line)
