"""Everything that this model takes for granted without a public document to stand on: one list.

Each field is an assumption with the value that the model uses; give another to see what your host code
does if silicon behaves otherwise: ``Atecc608(assumptions=Assumptions(watchdog_ms=700))``.
"""

from dataclasses import dataclass, field, fields
from typing import TypeVar

T = TypeVar("T")


def _because(default: T, why: str) -> T:
    """Return a field with its default and the sentence that `fota vdev limits` prints."""
    made: T = field(default=default, metadata={"why": why})
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """Unverified on silicon. Units are in the names."""

    wake_low_us: float = _because(60.0, "SDA has to be low for at least 60 us to wake the chip")
    wake_delay_us: int = _because(1500, "reads are not acknowledged for 1500 us after the wake pulse")
    watchdog_ms: int = _because(1300, "typical watchdog; the guaranteed minimum is lower")
    long_watchdog_ms: int = _because(13_000, "watchdog with ChipMode bit 2")
    execution: float = _because(
        0.6, "a command takes this part of the library's maximum time; 1.0 is the worst case"
    )
    unlocked_random: bytes = _because(
        b"\xff\xff\x00\x00", "Random and Nonce repeat this pattern until the configuration is locked"
    )
    past_end: int = _because(0xFF, "bytes read after the end of a response")
    past_slot: int = _because(0x00, "what a 32-byte read returns beyond the end of a slot")
    revision: bytes = _because(b"\x00\x00\x60\x03", "revision of a 608B")
    clear_after_use: bool = _because(
        True,
        "TempKey and message digest buffer are invalid after the command that used them, and after errors",
    )
    sign_needs_data_lock: bool = _because(
        True, "commands that use a slot's content fail until the data zone is locked; GenKey does not"
    )
    unlocked_writes_are_blocks: bool = _because(
        True, "before the data zone is locked, slots take 32-byte writes only and cannot be read"
    )
    gendig_counter_feeds_mac: bool = _because(
        True, "GenDig zone 4 hashes the counter into TempKey, and MAC may use that TempKey"
    )
    gendig_counter_feeds_sign: bool = _because(
        True, "Sign(internal) takes the TempKey of GenDig zone 4, as one that names slot 0, flags 0"
    )
    kdf_and_aes_keep_temp_key: bool = _because(
        True, "KDF and AES may use one TempKey many times, as the library's own tests do"
    )
    refused_command_writes_nothing: bool = _because(
        True, "a command that ends with an error leaves all memory as it was, use counts included"
    )
    req_random_bars_other_sources: bool = _because(
        True,
        "ReqRandom bars a key from commands that take no TempKey: ECDH, KDF, AES, HMAC, digests",
    )
    authorisation_needs_random_nonce: bool = _because(
        True, "CheckMac and Verify prove a key (ReqAuth) only over a TempKey that the chip had a part in"
    )
    authorisation_serves_once: bool = _because(
        True,
        "a proven key lets one command use a slot that asks for it; then, or after an error, it has to be "
        "proven again",
    )
    permission_is_for_uses_only: bool = _because(
        True, "ReqAuth and PersistDisable bind the use of a key, not Read and Write of its slot"
    )
    genkey_ignores_persist_disable: bool = _because(
        True, "GenKey works without the persistent latch on slots whose key needs the latch"
    )
    latch_needs_permission: bool = _because(
        True,
        "Info sets the latch only if VolatileKeyPermission (bit 7) names a key (3:0) that was proven",
    )
    latch_is_cleared_freely: bool = _because(True, "Info clears the latch without any permission")
    limited_use_counts: bool = _because(
        True, "a LimitedUse key increments Counter0 at each use and stops with it, at CountMatch if enabled"
    )
    validation_names_its_state: bool = _because(
        True,
        "Verify(validate) wants byte 17 of OtherData 0 and Verify(invalidate) 1, as Sign has it",
    )
    validation_digest_is_of_the_slot: bool = _because(
        True, "both want TempKey from GenKey's digest of that very slot"
    )
    certificate_format_zero_is_any: bool = _because(
        True, "X509format 0 leaves open where in the hashed certificate the public key stands"
    )
    output_protection_is_a_scale: bool = _because(
        True, "ECDH and KDF protection: 0 clear, 1 encrypted, 2 TempKey, 3 slot; more protected is allowed"
    )
    ecdh_slot_is_the_odd_neighbour: bool = _because(
        True, "ECDH to a slot writes into slot N|1, which has to be open and no private key"
    )
    prohibited_even_if_refused: bool = _because(
        True, "SecureBoot with bit 40 blocks the command until power is lost, whatever its result"
    )
    hmac_context_leaves: bool = _because(False, "the context of an HMAC cannot be read or written")
    self_test_failure_blocks: bool = _because(
        True, "after a failed self-test all but Info, Read and SelfTest answer 07 until SelfTest passes"
    )
    not_modelled_status: int = _because(0x03, "DeriveKey, PrivWrite and Delete are not modelled: parse error")
    cut_increment_may_add_one: bool = _because(
        True, "a power cut during Counter increment leaves the old count, the new one, or one more"
    )
    cut_write_mixes_words: bool = _because(
        False, "a power cut leaves slots, configuration and OTP old or new; True: a mix of 4-byte words"
    )
    write_survives_watchdog: bool = _because(
        True, "a write under way when the watchdog puts the chip to sleep is completed"
    )

    @classmethod
    def explain(cls) -> list[tuple[str, str]]:
        """Return (name, sentence) of every assumption."""
        return [(f.name, str(f.metadata["why"])) for f in fields(cls)]
