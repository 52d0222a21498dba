"""Keys in AWS KMS (not for devices), by boto3: ``awskms:///alias/NAME``, ``awskms:///KEY-ID``, or an ARN.

Who asks, in which region, at which endpoint, is said as for every tool of AWS: the machine's or the
pipeline's role, AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL_KMS.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from fota_wire.errors import DeviceError, FotaError, InputError, TransportError, VerifyError
from fota_wire.host_keys import Pin, SigningKey, checked

SCHEME = "awskms:"
FORM = f"{SCHEME}///alias/NAME"
CONNECT_S, READ_S, ATTEMPTS = 5, 15, 3
_KEY = re.compile(
    r"(?:arn:aws[a-z-]*:kms:([a-z0-9-]+):[0-9]{12}:)?(?:key/)?((?:alias/)?[A-Za-z0-9/_-]{1,256})"
)
_DENIED = ("AccessDenied", "UnrecognizedClient", "InvalidSignature", "InvalidClientTokenId", "ExpiredToken")
_WRONG = ("NotFound", "Disabled", "KMSInvalidState", "InvalidKeyUsage", "InvalidArn", "InvalidKeyId",
          "Validation", "UnsupportedOperation", "AlreadyExists", "InvalidAliasName")  # fmt: skip
"""What KMS's error codes begin with. All others: it is too busy, or broken, and another time it may do."""
_P256 = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")


class KmsPlace(NamedTuple):
    """A key in KMS by its alias, id or ARN; ``region``: what the ARN says. As `host_keys.Place`."""

    key: str
    region: str | None
    name: str

    @property
    def label(self) -> str:
        """The alias, which may be ROLE/NAME."""
        return self.key.rpartition("alias/")[2]

    def open(self, ask: Callable[[str], Pin]) -> SigningKey:
        """Return the key.

        Raises:
            InputError: there is no such key, it is none of P-256 that signs, or nothing says who asks.
            VerifyError: KMS denies it. TransportError: it does not answer. All of them from ``sign``, too.
        """
        if not self.key:
            raise InputError(f"{self.name}: names no key: {FORM}")
        client = self._client()
        with self._told():
            found = client.get_public_key(KeyId=self.key)
        public = bytes(found["PublicKey"])
        if found.get("KeyUsage") != "SIGN_VERIFY" or not public.startswith(_P256) or len(public) != 91:
            raise InputError(f"{self.name}: not a key on P-256 that signs")

        def sign(digest: bytes) -> bytes:
            with self._told():
                answer = client.sign(
                    KeyId=self.key, Message=digest, MessageType="DIGEST", SigningAlgorithm="ECDSA_SHA_256"
                )
            return bytes(answer["Signature"])

        return checked(self.name, public[-64:], sign, DeviceError)

    def make(self, label: str, ask: Callable[[str], Pin]) -> tuple[str, bytes]:
        """Make a key in KMS and call it by the alias that the address says, else ``label``; return its URI
        and x||y.

        Raises:
            InputError: there is one of that name. Others as `open`.
        """
        alias = self.key or f"alias/{label}"
        if not alias.startswith("alias/"):
            raise InputError(f"{self.name}: KMS makes ids itself: say {FORM}, or {SCHEME}///")
        client = self._client()
        with self._told():
            for page in client.get_paginator("list_aliases").paginate():
                if any(one["AliasName"] == alias for one in page["Aliases"]):
                    raise InputError(f"{self.name}: there is a key {alias} already: choose another name")
            made = client.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY", Description=label)
        key = made["KeyMetadata"]["KeyId"]
        try:
            with self._told():
                client.create_alias(AliasName=alias, TargetKeyId=key)
        except FotaError as exc:
            raise type(exc)(f"{exc.message} (the key was made, and has no alias: {SCHEME}///{key})") from exc
        uri = f"{SCHEME}///{alias}"
        return uri, read_uri(uri).open(ask).public

    def _client(self) -> Any:  # noqa: ANN401  boto3 has no types
        import boto3
        from botocore.config import Config

        config = Config(
            connect_timeout=CONNECT_S,
            read_timeout=READ_S,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        )
        region = self.region or os.environ.get("AWS_REGION")  # boto3 alone knows AWS_DEFAULT_REGION only
        with self._told():
            return boto3.Session().client("kms", region_name=region, config=config)

    @contextmanager
    def _told(self) -> Iterator[None]:
        from botocore import exceptions as boto

        try:
            yield
        except boto.ClientError as exc:
            error = exc.response.get("Error", {})
            code, said = str(error.get("Code", "")), " ".join(str(error.get("Message", "")).split())
            kind: type[FotaError] = TransportError
            if code.startswith(_DENIED):
                kind = VerifyError
            elif code.startswith(_WRONG):
                kind = InputError
            raise kind(f"{self.name}: KMS answers {code}: {said[:300]}", "kms") from exc
        except (boto.NoCredentialsError, boto.PartialCredentialsError, boto.CredentialRetrievalError) as exc:
            raise InputError(
                f"{self.name}: nothing here says who asks: no credentials of AWS", "kms"
            ) from exc
        except (boto.NoRegionError, boto.InvalidRegionError) as exc:
            raise InputError(f"{self.name}: in which region? Set AWS_REGION, or name the ARN", "kms") from exc
        except (boto.ProfileNotFound, boto.ConfigParseError, boto.ParamValidationError, ValueError) as exc:
            raise InputError(f"{self.name}: {_line(exc)}", "kms") from exc
        except (boto.BotoCoreError, OSError) as exc:
            raise TransportError(f"{self.name}: KMS does not answer: {_line(exc)}", "kms") from exc


def _line(exc: Exception) -> str:
    return " ".join(str(exc).split())[:300] or type(exc).__name__


def read_uri(text: str) -> KmsPlace:
    """Return what an address names; a key's name in it may be missing where one is made.

    Raises:
        InputError: it is none.
    """
    rest = text.removeprefix(SCHEME)
    key = rest.removeprefix("///")
    found = _KEY.fullmatch(key) if key else None
    if rest == key or (key and found is None):
        raise InputError(
            f"an {SCHEME} address is {FORM}, {SCHEME}///KEY-ID or {SCHEME}///ARN; endpoint and region are"
            " AWS's own settings"
        )
    return KmsPlace(key, found[1] if found else None, text)
