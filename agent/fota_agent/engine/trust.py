"""What the agent believes: the ROOT chain, and what signed documents say that lead up to it. No I/O."""

import gc

from fota_agent.engine import policy
from fota_agent.engine.state import size_of
from fota_wire import assignment, campaign, checkin
from fota_wire import root as roots
from fota_wire.errors import FotaError, VerifyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from fota_agent.engine.state import State
    from fota_agent.seams import Identity
    from fota_wire import suit
    from fota_wire.seams import Verify

STORE = 65_536  # bytes of memory, where the device does not say


class Trust:
    """The newest ROOT, ``root``, and ``held``: the manifest digest of the stored envelope; ``group``: the
    device's own, of CAMPAIGNs, or "".

    What proves good is kept in ``state``.

    Raises:
        DeviceError: the genesis ROOT of the trust store does not verify.
    """

    def __init__(self, identity: "Identity", state: "State", verify: "Verify") -> None:
        self._identity = identity
        self._state = state
        self._verify = verify
        self.group: str = getattr(identity, "group", "")
        self._genesis = roots.unsafe_read_root(identity.genesis_root).version
        self._root: roots.Root | None = None
        self.root  # noqa: B018  a genesis ROOT that is none ends it here
        self._held = policy.held_digest(state.envelope)

    @property
    def held(self) -> "bytes | None":
        """The manifest digest of the stored envelope; None if there is none, or it is no good."""
        return None if self._state.envelope is None else self._held

    @property
    def root(self) -> "roots.Root":
        """The newest ROOT. DeviceError."""
        if self._root is None:  # in the beginning, or there was no memory for the newest
            self._root = policy.newest_root(self._identity.genesis_root, self._state.roots, self._verify)
        return self._root

    def step_roots(self, steps: "Sequence[bytes | memoryview]") -> None:
        """Walk the ROOT chain; each verified step counts, whatever follows it. FormatError, VerifyError."""
        for raw in steps:
            cas = self.root.server_cas
            roots.require_step(self.root, raw, self._verify)
            self._root = None  # a small heap has no room for both
            gc.collect()  # so that the new one lies where the old one was, not between what is in use
            self._root = roots.unsafe_read_root(raw, cas)
            self._keep_root(raw)
            if self._root.threshold(roots.LOG):  # its RECEIPT may be missing, or of keys that were replaced
                self._held = None

    def _keep_root(self, raw: "bytes | memoryview") -> None:
        """Keep a step over a reset, unless one before it had no room; then the server sends it again."""
        state = self._state
        kept = state.roots + state.new_roots
        room = getattr(self._identity, "store_size", STORE) - size_of(kept)
        if len(kept) == self.root.version - self._genesis - 1 and len(raw) <= room:
            state.new_roots.append(raw)
            state.dirty = True

    def step_known_roots(self, steps: "Sequence[bytes | memoryview]") -> None:
        """As ``step_roots``; steps that this device has taken already are passed over."""
        self.step_roots([raw for raw in steps if roots.unsafe_read_root(raw).version > self.root.version])

    def open_order(self, answer: "checkin.Response", nonce: bytes) -> "assignment.Assignment | None":
        """Return the verified ASSIGNMENT, or None if it takes more ROOT steps than the answer brought."""
        try:
            device_id = self._identity.device_id
            order = assignment.open_assignment(answer.assignment, self.root, nonce, device_id, self._verify)
        except VerifyError as exc:
            limited = hasattr(self._identity, "longest_answer")  # then one step may be all that had room
            most = 1 if limited else checkin.MAX_ROOT_STEPS
            if len(answer.roots) >= most and exc.code in ("assign-key", "root-missing"):
                return None
            raise
        if order.root_version < self.root.version:
            raise VerifyError(f"ASSIGNMENT refers to old ROOT {order.root_version}", "freeze")
        if order.manifest_digest is not None and order.campaign == policy.LOCAL:
            raise VerifyError("ASSIGNMENT names a manifest and no campaign", "campaign")
        return order

    def lacks(self, order: "assignment.Assignment", answer: "checkin.Response") -> bool:
        """Tell whether the answer brings nothing to act on: no manifest, nor the name of the one at hand; or
        no CAMPAIGN where one is needed.
        """
        if self.root.threshold(roots.CAMPAIGN) and answer.campaign is None:
            return True
        return answer.manifest is None and (
            order.manifest_digest is None or order.manifest_digest != self.held
        )

    def campaign_end(self, wanted: bytes, raw: "bytes | memoryview | None", time: int) -> int:
        """Return until when, in s since 1970, this device may be given the manifest ``wanted``, at ``time``.
        FormatError, VerifyError: it may not, since the CAMPAIGN ``raw`` does not say so, and ROOT wants one.
        """
        if not self.root.threshold(roots.CAMPAIGN):
            return campaign.NO_END
        if raw is None:
            raise VerifyError("no CAMPAIGN came with the ASSIGNMENT", "campaign-missing")
        found = campaign.open_campaign(raw, self.root, wanted, self._verify)
        return found.until(self._identity.device_id, self.group, time)

    def open_assigned(
        self, order: "assignment.Assignment", envelope: "bytes | memoryview | None"
    ) -> "suit.Manifest":
        """Return the manifest that the ASSIGNMENT names, once all that can be checked without I/O holds."""
        if order.manifest_digest != self.held:
            if envelope is None:
                raise VerifyError("the server withholds the manifest it assigns", "manifest-missing")
        elif envelope is None:
            envelope = self._state.envelope
        try:
            manifest = policy.open_manifest(envelope or b"", self.root, self._identity, self._verify, order)
        except FotaError:
            self._held = None  # ROOT may have moved on: let the server send it anew
            raise
        self._keep(envelope or b"", manifest)
        return manifest

    def open_offered(self, envelope: "bytes | memoryview") -> "suit.Manifest":
        """Return the manifest of a local update: all the same checks, and newer than what was installed last.

        No server vouches that it is the newest, so it may never be an older one.
        """
        manifest = policy.open_manifest(envelope, self.root, self._identity, self._verify)
        if manifest.sequence <= self._state.sequence:
            raise VerifyError(
                f"sequence {manifest.sequence} is not above {self._state.sequence}, installed last",
                "rollback",
            )
        self._keep(envelope, manifest)
        return manifest

    def _keep(self, envelope: "bytes | memoryview", manifest: "suit.Manifest") -> None:
        state = self._state
        if state.envelope != envelope:
            state.envelope, state.lent = envelope, isinstance(envelope, memoryview)
            state.dirty = state.dirty or not state.lent
        manifest.envelope = lambda: state.envelope
        self._held = manifest.manifest_digest
