"""The SHA command: SHA-256 and HMAC in parts, over stored public keys too, with contexts that come and go."""

from fota_vdev.atecc608.context import Context, Refusal, need, sha256
from fota_vdev.atecc608.crc import OK, PARSE
from fota_vdev.atecc608.memory import NO_MAC, ShaContext, TempKey
from fota_vdev.atecc608.sha256 import BLOCK, Sha256

START, UPDATE, END, PUBLIC, HMAC_START, READ_CONTEXT, WRITE_CONTEXT = 0, 1, 2, 3, 4, 6, 7
TO_TEMP_KEY, TO_MESSAGE = 0x00, 0x40
TEMP_KEY_SLOT = 0xFFFF


class ShaCommands(Context):
    """SHA."""

    def _sha(self, p1: int, p2: int, data: bytes) -> bytes:
        step = p1 & 7
        need(not p1 & 0x38 and step != 5 and (step == END or not p1 & 0xC0), PARSE)
        if step in (START, HMAC_START):
            need(not data, PARSE)
            self.sram.sha = self._hmac_context(p2) if step == HMAC_START else ShaContext()
            return bytes([OK])
        if step == WRITE_CONTEXT:
            return self._write_context(data)
        context = self.sram.sha
        if context is None:
            raise Refusal(0x0F)
        if step == READ_CONTEXT:
            need(not data, PARSE)
            need(not context.outer or self._assume.hmac_context_leaves)
            return context.sha.context()
        if step == PUBLIC:
            return self._hash_public(context, self._slot(p2))
        limit = BLOCK if step == UPDATE else BLOCK - 1
        need(p2 == len(data) <= limit and (step == END or data), PARSE)
        context.sha.update(data)
        return bytes([OK]) if step == UPDATE else self._finish(context, p1 & 0xC0)

    def _hmac_context(self, p2: int) -> ShaContext:
        if p2 == TEMP_KEY_SLOT:
            key = self._use_temp_key()
            need(not key.no_mac)
            secret = key.value[:32]
        else:
            slot = self._slot(p2)
            self._need_data_lock()
            need(not self.nvm.slot_config(slot) & NO_MAC)
            secret = self._secret(slot)
        padded = secret.ljust(BLOCK, b"\0")
        context = ShaContext(outer=bytes(b ^ 0x5C for b in padded))
        context.sha.update(bytes(b ^ 0x36 for b in padded))
        return context

    def _write_context(self, data: bytes) -> bytes:
        try:
            self.sram.sha = ShaContext(Sha256.from_context(data))
        except ValueError:
            raise Refusal(PARSE) from None
        return bytes([OK])

    def _hash_public(self, context: ShaContext, slot: int) -> bytes:
        need(self.nvm.is_p256(slot) and not self.nvm.is_private(slot))
        context.public = slot, context.sha.length // BLOCK
        context.sha.update(self.nvm.public_key(slot))
        return bytes([OK])

    def _finish(self, context: ShaContext, target: int) -> bytes:
        self.sram.sha = None
        digest = context.sha.digest()
        if context.outer:
            digest = sha256(context.outer, digest)
        if target == TO_TEMP_KEY:
            blocks = context.sha.length // BLOCK
            certificate = (*context.public, blocks) if context.public else None
            self.sram.temp_key = TempKey(digest, from_input=True, certificate=certificate)
        elif target == TO_MESSAGE:
            self.sram.message = digest
        return digest
