"""Commands ``fota keys``: those that change how a private key lies on disk, beside the ones of `cli`."""

from pathlib import Path

import click

from fota_signer.cli import MAX_DOCUMENT, key_table, keys, output_option, password_option
from fota_wire.errors import InputError
from fota_wire.files import check_output, name_of, read_input, write_output
from fota_wire.host_options import FILE, FORCE, FOREIGN_KEY, JSON, PRIVATE_KEY, SECRET
from fota_wire.host_print import print_result

new_password_option = click.option(
    "--new-password-file",
    type=SECRET,
    help="File whose first line is the new password (else FOTA_NEW_KEY_PASSWORD, else asked for).",
)


@keys.command("password")
@click.argument("file", type=PRIVATE_KEY)
@password_option
@new_password_option
@click.option("-o", "--output", type=FILE, help="File to write; else FILE itself.")
@FORCE
@JSON
def keys_password(
    file: Path,
    password_file: Path | None,
    new_password_file: Path | None,
    output: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Give a private key another password, and today's encryption. The key stays the same."""
    from fota_signer import keys as key_files
    from fota_signer import passwords
    from fota_wire.host_crypto import label_of, public_xy

    target = output or file
    raw = read_input(file, MAX_DOCUMENT)
    label = label_of(raw)
    if not label:
        raise InputError(
            f"{name_of(file)}: the key does not say what it is for: fota keys import {file} --role ROLE/NAME"
        )
    check_output(target, force, over=file)
    encrypted = b"ENCRYPTED" in raw
    old = passwords.given_password(password_file) if encrypted else None
    if encrypted and old is None:
        old = passwords.ask(f"Password of {file}: ")
    key = key_files.read_any(raw, old, name_of(file))
    pem = key_files.labelled_pem(
        key, label.split()[2].decode(), passwords.changed_password(new_password_file)
    )
    write_output(target, pem, force=force, secret=True, over=file)
    print_result(
        {"file": str(target), **key_table(key_files.PublicKey(xy=public_xy(key)))}, as_json, output=target
    )


@keys.command("import")
@click.argument("file", type=FOREIGN_KEY)
@click.option(
    "--role", "label", metavar="ROLE/NAME", required=True, help="What the key is for, and its name."
)
@output_option
@FORCE
@password_option
@new_password_option
@JSON
def keys_import(
    file: Path,
    label: str,
    output: Path,
    force: bool,
    password_file: Path | None,
    new_password_file: Path | None,
    as_json: bool,
) -> None:
    """Make a key file of ours of a P-256 private key from elsewhere: openssl, imgtool; PEM or DER.

    If FILE is not encrypted, --password-file and FOTA_KEY_PASSWORD are the new password, too.
    """
    from fota_signer import keys as key_files
    from fota_signer import passwords
    from fota_wire.host_crypto import public_xy, require_role

    key_files.check_label(label)
    raw = read_input(file, MAX_DOCUMENT)
    require_role(raw, label.partition("/")[0], file)
    check_output(output, force)
    given = passwords.given_password(password_file)
    try:
        key = key_files.read_any(raw, None, name_of(file))
        encrypted = False
    except InputError as exc:
        if exc.code != "password":
            raise
        encrypted = True
        key = key_files.read_any(raw, given or passwords.ask(f"Password of {file}: "), name_of(file))
    if given is not None and not encrypted and new_password_file is None:
        password = passwords.checked(given)
    else:
        password = passwords.changed_password(new_password_file)
    write_output(output, key_files.labelled_pem(key, label, password), force=force, secret=True)
    print_result(
        {"file": str(output), **key_table(key_files.PublicKey(xy=public_xy(key)))}, as_json, output=output
    )
