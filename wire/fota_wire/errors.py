"""The one exception tree of the project.

FotaError                 anything we report; carries the process exit code
├── InputError      (3)   a file or argument is not what it has to be
│   ├── FormatError (3)   bytes do not follow their format
│   └── UsageError  (2)   words that are no command line (`fota_wire.host_values`: hosts only)
├── VerifyError     (1)   well formed, and refused: the answer is "no"
├── TransportError  (4)   the other side cannot be reached, or broke off
├── StorageError    (5)   this machine's disk or permissions, or another process is at it
└── DeviceError     (6)   the device or its crypto element failed
"""

NO_MEMORY = "memory"
"""The ``code`` of an error for want of memory."""


class FotaError(Exception):
    """Base of every error that a user may see: one line that says what was wrong and what to do.

    ``code`` is a status code (SPEC 6) or a short word, or None; ``exit_code`` is what the process ends with.
    """

    exit_code = 1

    def __init__(self, message: str, code: int | str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class InputError(FotaError):
    """A file, option or value given by the user is not usable."""

    exit_code = 3


class FormatError(InputError):
    """Bytes that do not follow their format."""


class VerifyError(FotaError):
    """Well formed and refused: signature, policy, identity or freshness."""

    exit_code = 1


class TransportError(FotaError):
    """The other side cannot be reached or broke off."""

    exit_code = 4


class StorageError(FotaError):
    """A local file or disk failed."""

    exit_code = 5


class DeviceError(FotaError):
    """The device or its crypto element failed."""

    exit_code = 6
