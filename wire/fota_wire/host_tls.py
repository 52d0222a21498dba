"""By which certificates a TLS server is believed, on CPython (not for devices): by the same as on a chip.

What a device is given are trusted CAs, each an end of the chain, as mbedTLS has it: also one that another CA
has issued. `tests/agent/trust_cases.py` is the table of cases, for agent, chip and server.
"""

import ssl


def trust(context: ssl.SSLContext, anchors: list[bytes]) -> None:
    """Have ``context`` believe what comes from the certificates ``anchors``, DER.

    Raises:
        ssl.SSLError, ValueError: there is none, or one is damaged.
    """
    context.load_verify_locations(cadata=b"".join(anchors))
    loaded = context.cert_store_stats()
    if loaded["x509_ca"] == loaded["x509"]:  # else a server's own certificate would be a CA of itself
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
