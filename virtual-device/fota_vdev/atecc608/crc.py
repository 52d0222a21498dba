"""The checksum and status words of the ATECC packets."""

OK, MISCOMPARE, PARSE, ECC_FAULT, SELF_TEST, HEALTH = 0x00, 0x01, 0x03, 0x05, 0x07, 0x08
EXECUTION, WOKE_UP, CRC_ERROR = 0x0F, 0x11, 0xFF


def crc16(data: bytes) -> bytes:
    """Return the two checksum bytes: polynomial 0x8005, bits LSB first, shifted left, little endian."""
    crc = 0
    for byte in data:
        for bit in range(8):
            high = crc >> 15
            crc = crc << 1 & 0xFFFF
            if high != byte >> bit & 1:
                crc ^= 0x8005
    return crc.to_bytes(2, "little")


def group(payload: bytes) -> bytes:
    """Return count, payload and checksum: a response as it is read from the chip."""
    body = bytes([len(payload) + 3]) + payload
    return body + crc16(body)
