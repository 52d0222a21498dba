"""Commands ``fota ca``: the device CA of a factory."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fota_wire.errors import InputError, StorageError
from fota_wire.files import check_output, name_of, write_output
from fota_wire.host_options import CERTIFICATE, FILE, FORCE, JSON, SECRET, SIGNING_KEY, Group, Whole
from fota_wire.host_print import print_result

if TYPE_CHECKING:
    from fota_wire.host_keys import Place


@click.group(cls=Group)
def ca() -> None:
    """Make and show the device CA: it signs the certificates of devices."""


@ca.command("new")
@click.option("-o", "--output", type=FILE, help="Key file to write: encrypted PEM, mode 0600.")
@click.option(
    "--key",
    type=SIGNING_KEY,
    help="Key of role device-ca that is there, in place of -o: PEM, or in a store (docs/signing.md).",
)
@click.option("--cert", type=FILE, required=True, help="Certificate to write, PEM.")
@click.option("--name", required=True, help="Common name, e.g. 'Example factory 1'.")
@click.option("--days", type=Whole(1, 36500), default=10950, show_default=True, help="Validity of the CA.")
@click.option(
    "--password-file",
    type=SECRET,
    help="First line is the password (else FOTA_KEY_PASSWORD, else asked for).",
)
@FORCE
@JSON
def ca_new(
    output: Path | None,
    key: "Path | Place | None",
    cert: Path,
    name: str,
    days: int,
    password_file: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Make a CA: its key in an encrypted file, or one in a store; its certificate for the update server."""
    from fota_signer.factory.ca import ca_of, new_ca
    from fota_signer.passwords import new_password
    from fota_signer.signing import Door

    if key is not None and output is None:
        check_output(cert, force)
        opened = Door(key, password_file).open("device-ca")
        write_output(cert, ca_of(opened, name, days), force=force)
        print_result({"key": opened.name, **_certificate_table(cert)}, as_json)
        return
    if output is None or key is not None:
        raise click.UsageError("name the key file to write, -o, or the key that is there, --key")
    if output.resolve() == cert.resolve():
        raise InputError("key and certificate are two files: name another with --cert")
    check_output(output, force)
    check_output(cert, force)
    key_pem, certificate = new_ca(name, days, new_password(password_file))
    replaced = output.exists()
    write_output(output, key_pem, force=force, secret=True)
    try:
        write_output(cert, certificate, force=force)
    except (InputError, StorageError):
        if not replaced:
            output.unlink()  # a key without its certificate is of no use, and would stop the next run
        raise
    print_result({"key": str(output), **_certificate_table(cert)}, as_json)


@ca.command("show")
@click.argument("certificate", type=CERTIFICATE)
@JSON
def ca_show(certificate: Path, as_json: bool) -> None:
    """Show a CA's certificate."""
    print_result(_certificate_table(certificate), as_json)


def _certificate_table(path: Path) -> dict[str, object]:
    from cryptography.hazmat.primitives import hashes

    from fota_signer.factory.ca import load_certificate, notice
    from fota_wire.cose import kid_of
    from fota_wire.host_ca import DEVICE_CA, ca_faults, is_ca
    from fota_wire.host_crypto import load_public_key

    certificate = load_certificate(path)
    faults = ca_faults(certificate, DEVICE_CA, datetime.now(UTC))
    table: dict[str, object] = {
        "certificate": name_of(path),
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "serial": f"{certificate.serial_number:x}",
        "not_before": certificate.not_valid_before_utc.isoformat(),
        "not_after": certificate.not_valid_after_utc.isoformat(),
        "ca": is_ca(certificate),
        "usable": not faults,
        "kid": kid_of(load_public_key(path)).hex(),
        "sha256": certificate.fingerprint(hashes.SHA256()).hex(),
    }
    said = notice(certificate)
    if faults:
        return table | {"because": f"it {'; it '.join(faults)}"}
    return table | ({"warning": said} if said else {})
