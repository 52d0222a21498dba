"""The chain of ROOT documents, from genesis to the newest; every step verified again at each start."""

from collections.abc import Sequence

from fota_server.crypto import Assigner
from fota_wire import root as roots
from fota_wire.checkin import ANSWER_FRAME, MAX_RESPONSE, MAX_ROOT_STEPS
from fota_wire.errors import InputError, VerifyError
from fota_wire.host_crypto import verify


def fits(documents: Sequence[bytes], longest_answer: int) -> bool:
    """Tell whether an answer of ``longest_answer`` bytes has room for these beside all the rest."""
    return sum(len(document) for document in documents) <= longest_answer - ANSWER_FRAME


class TrustChain:
    """Verified ROOT documents in order; ``current`` is the newest."""

    def __init__(self, documents: Sequence[bytes]) -> None:
        """Verify ``documents``, genesis first.

        Raises:
            InputError, VerifyError: the chain is empty, or a link does not hold.
        """
        if not documents:
            raise InputError("no ROOT document: pass --root with the genesis ROOT")
        self._raws = [documents[0]]
        self.current = roots.open_genesis(documents[0], verify)
        self._first = self.current.version
        for raw in documents[1:]:
            self.append(raw)

    def append(self, raw: bytes) -> roots.Root:
        """Add the next ROOT, unless it is there already, and return the newest; one that is refused changes
        nothing.
        """
        if raw in self._raws:  # a server beside this one, or this one itself, was told of it twice
            return self.current
        new = self.check(raw)
        self._raws.append(raw)
        self.current = new
        return new

    def check(self, raw: bytes) -> roots.Root:
        """Return the ROOT that ``raw`` would add.

        Raises:
            FormatError, VerifyError: it is not the successor of the newest.
        """
        return roots.step(self.current, raw, verify)

    def steps_after(self, version: int, longest_answer: int = MAX_RESPONSE) -> list[bytes]:
        """Return the documents that follow ``version``, in order, at most as many as one answer of
        ``longest_answer`` bytes may carry; one always fits.
        """
        start = max(version - self._first + 1, 0)
        steps = self._raws[start : start + MAX_ROOT_STEPS]
        while len(steps) > 1 and not fits(steps, longest_answer):
            steps.pop()
        return steps

    def require_assign_key(self, signer: Assigner) -> None:
        """Return if devices will accept what ``signer`` signs.

        Raises:
            VerifyError: the newest ROOT does not name its key for ASSIGN.
        """
        if signer.kid not in self.current.role_keys(roots.ASSIGN):
            raise VerifyError(
                f"ROOT {self.current.version} does not name the ASSIGN key {signer.kid.hex()}: devices would "
                "refuse every answer; use the right key or the right ROOT",
                "assign-key",
            )
