"""The update agent and SDK on the device: ``from fota_agent import board, Agent``.

Light: what it takes is imported when an ``Agent`` is made.
"""

TYPE_CHECKING = False


class Hooks:
    """What the application may decide and hear; override what it cares about."""

    def health_check(self) -> "bool | None":
        """Return True if a new image is healthy, False if it failed, None while it is not known yet."""
        return True

    def available(self, manifest: object) -> None:
        """Hear of an update that is not on the device yet (``manifest.text``, ``size``)."""

    def may_download(self, manifest: object) -> bool:
        """Return True if the image may be fetched now."""
        return True

    def may_install(self, manifest: object) -> bool:
        """Return True if the verified and written image may be started now: the chip resets then."""
        return True

    def progress(self, done: int, total: int) -> None:
        """Hear of the bytes of an image that are written."""

    def before_reboot(self) -> None:
        """Bring the application to rest."""

    def log(self, line: str) -> None:
        """Hear of one thing that happened."""


if TYPE_CHECKING:
    from fota_agent.agent import Agent as Agent
else:

    def Agent(*args, **kwargs):  # noqa: ANN002, ANN003, ANN201  typed above; a class to its callers
        """Make a :class:`fota_agent.agent.Agent`."""
        from fota_agent.agent import Agent as made

        return made(*args, **kwargs)
