"""What an application may decide and hear."""


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
