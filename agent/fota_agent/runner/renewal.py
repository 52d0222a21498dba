"""Keys and certificates over the air (SPEC 5.6), the device's part: a new key in the element, a certificate
for it, and a change to both that a power cut cannot turn into a lockout.

The factory's key and certificate stay for ever, and the server always takes them: whatever is lost, the
device can start again with those. Every step is saved before the next one begins:

| Saved | What may be in slot 2 | Next step |
|---|---|---|
| in use: factory's, no candidate | anything | `rotate`: make a key there; then save the candidate |
| candidate without certificate | the candidate's key | order the certificate; then save it |
| candidate with certificate | the candidate's key | connect with it; if the server takes it, it is in use |
| in use: rotated | the key in use | `rotate`: first go back to the factory's, save that |
"""

import hashlib

from fota_agent.transport import download
from fota_wire import cbor, certify, check, checkin, cose, pkcs10
from fota_wire.element import IDENTITY_SLOT, NEXT_SLOT
from fota_wire.errors import DeviceError, FotaError, TransportError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fota_agent.seams import Board, Hooks, Transport

FALL_BACK_AFTER = 3  # refused connections in a row before the factory's key is tried
PROOFS = 3  # tries of a new certificate before it is given up
FACTORY: "tuple[int, bytes | None]" = (
    IDENTITY_SLOT,
    None,
)  # a key: its slot, and its certificate unless that is the trust store's
FORBIDDEN = 403


class Renewal:
    """Carries one rotation or renewal on, a step at a time. ``saved`` is what has to survive a reset.

    The board acts by the key that is in use from the moment this is made. ``changed``: `saved` has to be
    written before `step` is called again.
    """

    def __init__(self, board: "Board", transport: "Transport", hooks: "Hooks", saved: "bytes | None") -> None:
        self._board = board
        self._transport = transport
        self._hooks = hooks
        self._factory_certificate = board.certificate
        self.changed = False
        self._wanted = 0
        self._refusals = self._proofs = 0
        self.in_use: tuple[int, bytes | None] = FACTORY
        self.candidate: tuple[int, bytes | None] | None = None
        self._acting: tuple[int, bytes | None] = self.in_use
        self._load(saved)
        self._act_as(self.in_use)

    # -- what the runner tells -------------------------------------------------------------------------------

    def hear(self, wanted: int) -> None:
        """The server has answered a check-in: it took the key, and may want something of it."""
        self._refusals = 0
        self._wanted = wanted
        if self._wanted == 0 and self.candidate is not None:
            if self.candidate[1] is None:
                self._drop_candidate()  # nobody waits for it any more
            else:
                self._wanted = certify.RENEW  # the server may have taken it right before a power cut

    def refused(self) -> None:
        """No connection came about, or the server does not take the key: soon try the factory's.

        For this boot only: it may be the network.
        """
        self._refusals += 1
        if self._refusals % FALL_BACK_AFTER == 0 and self.in_use != FACTORY:
            self._act_as(FACTORY if self._acting == self.in_use else self.in_use)

    @property
    def due(self) -> bool:
        """True while `step` has something to do."""
        return self._wanted != 0

    # -- steps -----------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Do the next thing; when it fails, the next check-in brings it up again."""
        wanted, candidate = self._wanted, self.candidate
        try:
            if candidate is None:
                self._begin(wanted)
            elif candidate[1] is None:
                self._order(candidate[0])
            else:
                self._prove(candidate[0], candidate[1])
        except Exception as exc:  # no memory, too: later again
            self._wanted = 0
            self._hooks.log(f"key: {exc if isinstance(exc, FotaError) else repr(exc)}")

    def _drop_candidate(self) -> None:
        self.candidate, self._proofs = None, 0
        self.changed = True

    def _begin(self, wanted: int) -> None:
        if wanted == certify.RENEW:
            self.candidate = (self._acting[0], None)
        elif wanted != certify.ROTATE:
            self._wanted = 0
            return
        elif self.in_use[0] == NEXT_SLOT:
            self.in_use = FACTORY
            self._act_as(self.in_use)
        else:
            self._board.element.generate_key(NEXT_SLOT)
            self._hooks.log("key: made a new one in the crypto element")
            self.candidate = (NEXT_SLOT, None)
        self.changed = True

    def _order(self, slot: int) -> None:
        element, name = self._board.element, self._board.device_id.hex()
        public = element.public_key(slot)
        digest = hashlib.sha256(pkcs10.request_info(name, public)).digest()
        csr = pkcs10.assemble(name, public, element.sign(digest, slot))
        factory = cose.kid_of(element.public_key(IDENTITY_SLOT))
        order = certify.build_order(
            self._board.device_id,
            csr,
            self._factory_certificate,
            factory,
            lambda digest: element.sign(digest, IDENTITY_SLOT),
        )
        try:
            state, certificate = self._post(order)
        except TransportError as exc:
            if exc.code == FORBIDDEN:  # something else is wanted by now: begin anew
                self._drop_candidate()
            raise
        if certificate is None:
            self._hooks.log(f"key: certificate {state}")
            self._wanted = 0  # the next check-in asks again
            return
        if not _fits(certificate, public, name):
            raise DeviceError("the server sent a certificate for another key")
        self.candidate = (slot, certificate)
        self.changed = True

    def _prove(self, slot: int, certificate: bytes) -> None:
        before = self._acting
        self._act_as((slot, certificate))
        try:
            state, _ = self._post(None)
            if state != certify.CURRENT:
                raise TransportError("the server does not take the new certificate")
        except FotaError:
            self._act_as(before)
            self._proofs += 1
            if self._proofs >= PROOFS:
                self._drop_candidate()
            raise
        self.in_use, self.candidate = (slot, certificate), None
        self._wanted = self._proofs = 0
        self.changed = True
        self._hooks.log("key: the new certificate is in use")

    def _post(self, order: "bytes | None") -> "tuple[str, bytes | None]":
        headers = {"Content-Type": checkin.CONTENT_TYPE, "Accept": checkin.CONTENT_TYPE}
        body = certify.encode_request(order)
        status, _, reader = self._transport.request("POST", "/v1/certificate", headers, body)
        raw = download.read_body(reader, certify.MAX_BODY, self._board.ticks_ms)
        if status != 200:
            raise TransportError(f"server answers {status} to the order of a certificate", status)
        return certify.parse_answer(bytes(raw))

    # -- the key that the board acts by ----------------------------------------------------------------------

    def _act_as(self, key: "tuple[int, bytes | None]") -> None:
        """Have TLS and REPORT use this key and certificate; the next request connects with them."""
        board, (slot, certificate) = self._board, key
        if (board.element.key_slot, board.certificate) != (slot, certificate or self._factory_certificate):
            board.public_key = board.element.public_key(slot)  # first: it may fail
            board.element.key_slot = slot
            board.certificate = certificate or self._factory_certificate
            self._transport.close()
        self._acting = key

    # -- what survives ---------------------------------------------------------------------------------------

    def saved(self) -> "bytes | None":
        """Return what `saved` at the next boot has to be; None: the factory's key, and nothing under way."""
        if self.in_use == FACTORY and self.candidate is None:
            return None
        candidate = None if self.candidate is None else list(self.candidate)
        return cbor.encode({1: list(self.in_use), 2: candidate})

    def _load(self, saved: "bytes | None") -> None:
        """Take what was saved, as far as it still fits the element; else the factory's key."""
        if saved is None:
            return
        try:
            body = check.fields(cbor.decode(saved), "keys", (1, 2))
            in_use = _key(body[1])
            candidate = None if body[2] is None else _key(body[2])
            public = self._board.element.public_key(in_use[0])
        except FotaError as exc:  # the key may be gone: the factory's is always taken
            self._hooks.log(f"key: the factory's instead: {exc}")
            return
        self.candidate, certificate = candidate, in_use[1]
        if certificate is None or _fits(certificate, public, self._board.device_id.hex()):
            self.in_use = in_use


def _key(value: object) -> "tuple[int, bytes | None]":
    slot, certificate = check.array(value, "key", 2, 2)
    known = (
        None if certificate is None else check.bstr(certificate, "certificate", None, certify.MAX_CERTIFICATE)
    )
    return check.uint(slot, "slot", 15), known


def _fits(certificate: bytes, public_xy: bytes, name: str) -> bool:
    """Tell whether a certificate holds this key and this name; that it is signed is the server's to check."""
    return certificate.find(b"\x04" + public_xy) >= 0 and certificate.find(name.encode()) >= 0
