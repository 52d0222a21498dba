"""A release policy and where it lies: what its names of files and keys mean."""

from pathlib import Path
from typing import Any, NamedTuple

from fota_signer import manifests
from fota_signer.release_policy import LIMIT, Policy, parse
from fota_wire import cose, example_keys
from fota_wire.errors import InputError, VerifyError
from fota_wire.files import read_text
from fota_wire.host_keys import place_of


class Named(NamedTuple):
    """A policy, and the ``folder`` that its files are named from."""

    policy: Policy
    folder: Path

    def path(self, name: str) -> Path:
        """Return where a file of the policy is."""
        return self.folder / name

    def key(self, name: str, what: str) -> Any:  # noqa: ANN401  a Path or a `host_keys.Place`
        """Return where a key of the policy is kept. InputError: a URI that names no key."""
        try:
            place = place_of(name)
        except InputError as exc:
            raise InputError(f"{what}: {exc}") from exc
        return self.path(name) if isinstance(place, Path) else place

    def known(self) -> manifests.Known:
        """Return what devices trust, by the policy. FotaError: as `manifests.load_known`."""
        return manifests.load_known(
            self.path(self.policy.root), [self.path(one) for one in self.policy.image_keys]
        )

    def require_own(self, public: bytes, what: str) -> None:
        """Return unless ``public`` x||y is a key that everybody has, and the policy refuses that, whatever is
        allowed else.

        Raises:
            VerifyError: it is; code ``example-key``.
        """
        if self.policy.development_keys and cose.kid_of(public) in example_keys.PUBLISHED:
            raise VerifyError(
                f"{what}: a published example key: name one of your own (refuse.development-keys)",
                "example-key",
            )


def read_policy(file: Path) -> Named:
    """Return the policy in a file.

    Raises:
        InputError: it cannot be read, or is none.
    """
    text = read_text(file, LIMIT)
    try:
        return Named(parse(text), file.absolute().parent)
    except InputError as exc:
        raise InputError(f"{file}: {exc}") from exc
