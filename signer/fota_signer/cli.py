"""Commands ``fota keys | sign | verify | inspect``: options in, one call, a line or JSON out."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fota_signer import sign_command
from fota_wire.errors import FotaError
from fota_wire.files import STREAM, check_output, making_folder, name_of, read_input, write_output
from fota_wire.host_options import (
    CHIP,
    FILE,
    FIRMWARE,
    FOLDER,
    FORCE,
    IMAGE,
    JSON,
    KEY_OF_ANY_KIND,
    PUBLIC_KEY,
    ROOT,
    SECRET,
    SIGN_LIST,
    SIGNATURE,
    SIGNING_OR_PUBLIC_KEY,
    STORE,
    Command,
    Decorator,
    Group,
    Whole,
)
from fota_wire.host_print import print_result
from fota_wire.host_values import UsageError, uuid_text

if TYPE_CHECKING:
    from fota_wire.host_keys import Place

MAX_DOCUMENT = 65536
UINT32 = Whole(0, 0xFFFFFFFF)
output_option = click.option("-o", "--output", type=FILE, required=True, help="File to write.")
password_option = click.option(
    "--password-file",
    type=SECRET,
    help="File whose first line is the key's password (else FOTA_KEY_PASSWORD, else asked for), or the PIN of"
    " its token (else by pin-source, else asked for).",
)
example_option = click.option(
    "--allow-example-keys", is_flag=True, help="Accept the published throw-away keys."
)
vendor_option = click.option("--vendor-domain", help="Vendor's domain name, e.g. example.com.")
class_option = click.option("--class", "class_uuid", help="Device class as a UUID.")
model_option = click.option("--model", help="Model name; with --vendor-domain it gives the class.")


def with_key(what: str, *, required: bool = True) -> Decorator:
    """Give a command that signs the options about its key, as its keyword ``door``. Where a digest was to be
    prepared for a key elsewhere, the command ends with that. Not ``required``: the door may be to no key yet.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @click.option(
            "--key",
            type=SIGNING_OR_PUBLIC_KEY,
            required=required,
            help=f"{what}: PEM, or where a store has it, pkcs11:, awskms: or exec: (docs/signing.md).",
        )
        @click.option(
            "--prepare",
            type=FILE,
            help="Write the digest here that is to be signed, and nothing else; --key is the public half.",
        )
        @click.option(
            "--attach",
            type=SIGNATURE,
            help="Take this signature over that digest, r||s or DER; all else as with --prepare.",
        )
        @password_option
        @example_option
        @wraps(function)
        def command(
            *args: Any,  # noqa: ANN401  handed on as they are
            key: Any,  # noqa: ANN401
            prepare: Path | None,
            attach: Path | None,
            password_file: Path | None,
            allow_example_keys: bool,
            **rest: Any,  # noqa: ANN401
        ) -> Any:  # noqa: ANN401
            from fota_signer.signing import Door, Prepared

            door = Door(key, password_file, allow_example_keys, prepare, attach)
            force = rest.get("force", False)
            if prepare is not None:
                check_output(prepare, force)
            try:
                return function(*args, door=door, **rest)
            except Prepared as made:
                write_output(made.file, made.digest, force=force)
                made.show()
                table = {"prepared": str(made.file), "digest": made.digest.hex(), "kid": made.kid.hex()}
                table["next"] = "have it signed, and give the signature to the same command: --attach FILE"
                return print_result(table, rest["as_json"], output=made.file)

        return command

    return decorate


@contextmanager
def about(file: Path) -> Iterator[None]:
    """Have every error about what is in ``file`` begin with its name, and its status where there is one."""
    name = name_of(file)
    try:
        yield
    except UsageError:  # about the options, and not the file
        raise
    except FotaError as exc:
        from fota_wire import status

        text = f"{status.label(exc.code)}: {exc}" if isinstance(exc.code, int) else str(exc)
        raise type(exc)(text if text.startswith(f"{name}: ") else f"{name}: {text}", exc.code) from exc


def key_table(public: Any) -> dict[str, Any]:  # noqa: ANN401  keys is imported lazily
    """Return the fields of a public key, for `print_result`."""
    return {"kid": public.kid.hex(), "keyhash": public.key_hash.hex(), "public": public.xy.hex()}


@click.group(cls=Group)
def keys() -> None:
    """Make and show keys."""


@keys.command("new")
@click.argument("label", metavar="ROLE/NAME")
@output_option
@click.option(
    "--store",
    type=STORE,
    help="Make it in a store, pkcs11:token=NAME or awskms:///, which it never leaves; FILE gets its public"
    " half.",
)
@FORCE
@password_option
@JSON
def keys_new(
    label: str,
    output: Path,
    store: "Place | None",
    force: bool,
    password_file: Path | None,
    as_json: bool,
) -> None:
    """Make a P-256 key in an encrypted PEM file, or in a store."""
    from fota_signer import keys as key_files
    from fota_signer import passwords

    key_files.check_label(label)
    check_output(output, force)
    where = {"file": str(output)}
    if store is None:
        pem, public = key_files.new_key_pem(label, passwords.new_password(password_file))
    else:
        uri, xy = store.make(label, passwords.asker(password_file))
        public, where = key_files.PublicKey(xy=xy), {"key": uri, **where}
        pem = key_files.label_line(public, label) + public.pem()
    write_output(output, pem, force=force, secret=store is None)
    print_result({**where, **key_table(public)}, as_json, output=output)


def _open_public(file: Any, password_file: Path | None) -> tuple[str, bytes, Any]:  # noqa: ANN401
    """Return name, label line and public half of a key, in whatever file or store."""
    from fota_signer import keys as key_files
    from fota_signer import passwords
    from fota_wire.host_crypto import label_of
    from fota_wire.host_keys import role_of

    if not isinstance(file, Path):
        public = key_files.PublicKey(xy=file.open(passwords.asker(password_file)).public)
        return file.name, key_files.label_line(public, file.label) if role_of(file.label) else b"", public
    pem, password = read_input(file, MAX_DOCUMENT), None
    if b"ENCRYPTED" in pem:
        password = passwords.given_password(password_file) or passwords.ask(f"Password of {file}: ")
    return name_of(file), label_of(pem), key_files.show(file, password)


@keys.command("show")
@click.argument("file", type=KEY_OF_ANY_KIND)
@password_option
@JSON
def keys_show(file: Any, password_file: Path | None, as_json: bool) -> None:  # noqa: ANN401
    """Show the public half of a key in a file or store: key id, KEYHASH, x||y."""
    name, _, public = _open_public(file, password_file)
    print_result({"file": name, **key_table(public)}, as_json)


@keys.command("public")
@click.argument("file", type=KEY_OF_ANY_KIND)
@click.option("-o", "--output", type=FILE, help="File to write; else standard output.")
@FORCE
@password_option
def keys_public(file: Any, output: Path | None, force: bool, password_file: Path | None) -> None:  # noqa: ANN401
    """Write the public half of a key in a file or store as PEM, with its label."""
    output = output or STREAM
    check_output(output, force)
    _, label, public = _open_public(file, password_file)
    write_output(output, label + public.pem(), force=force)


@keys.command("example")
@click.argument("directory", type=FOLDER)
@FORCE
def keys_example(directory: Path, force: bool) -> None:
    """Write the published throw-away keys: for rehearsals, never for products."""
    from fota_signer import examples

    files = examples.example_files()
    for name in files if directory.exists() else ():
        check_output(directory / name, force)
    with making_folder(directory):
        for name, content in files.items():
            write_output(directory / name, content, force=force)
    click.echo(f"{directory}: {len(files)} files of throw-away keys, known to everybody")


@click.command(cls=Command)
@click.argument("source", metavar="FIRMWARE", type=FIRMWARE)
@click.option("-o", "--output", type=FILE, required=True, help="Image to write.")
@click.option("--version", required=True, help="Version for people, e.g. 1.1.0 or 1.1.0+7.")
@click.option("--security-counter", type=Whole(1, 262143), required=True, help="Rollback counter, 1..262143.")
@vendor_option
@class_option
@model_option
@click.option(
    "--chip", type=CHIP, help="Chip that it is for, e.g. esp32c3 for an ELF, or stm32u585.  [stm32l476]"
)
@click.option("--program", is_flag=True, help="Sign a program of Linux gateways: ELF, or a script with #!.")
@click.option("--linked-for", metavar="ADDRESS", help="Of a raw binary: the address of its first byte.")
@click.option(
    "--header-size", metavar="BYTES", help="Empty bytes at the begin that the linker left for the header."
)
@click.option(
    "--leave-out", multiple=True, metavar="SECTION", help="ELF section that is no firmware; repeat."
)
@FORCE
@with_key("IMAGE key")
@JSON
def sign(door: Any, **options: Any) -> None:  # noqa: ANN401  the names are those of SignOptions
    """Pack and sign a firmware image: ELF, Intel HEX, S-records or raw binary in; of an ESP32 the ELF, or the
    .bin of idf.py, PlatformIO, Arduino or MicroPython.
    """
    said = sign_command.run(sign_command.SignOptions(**door._asdict(), **options))
    click.echo(said, err=options["output"] == STREAM)


@click.command("sign-list", cls=Command)
@click.argument("listed", metavar="LIST", type=SIGN_LIST)
@FORCE
@with_key("IMAGE key")
@JSON
def sign_list(listed: Path, door: Any, force: bool, as_json: bool) -> None:  # noqa: ANN401  see with_key
    """Sign the images that LIST names, by one key: all of them, or none.

    Each line is what 'fota sign' gets of one image: firmware, output, version, security counter, class. Paths
    are those from here; a # begins a comment.
    """
    from fota_signer import sign_list as many

    made = many.run(listed, door, force)
    fields = {"images": [said for _, _, said in made]}
    print_result(fields, as_json, "\n".join(line for _, line, _ in made))


@click.command(cls=Command)
@click.argument("image_file", metavar="IMAGE", type=IMAGE)
@output_option
@FORCE
@JSON
def strip(image_file: Path, output: Path, force: bool, as_json: bool) -> None:
    """Take the firmware out of a signed image of any key, to sign it anew: MCUboot's form, of any layout.

    It is whole, by the image's own hash. No signature is checked: 'fota verify' does that.
    """
    from fota_signer import strip as stripping

    check_output(output, force)
    with about(image_file):
        payload, said = stripping.strip(read_input(image_file))
    write_output(output, payload, force=force)
    print_result({"output": str(output), **said}, as_json, output=output)


@click.command(cls=Command)
@click.argument("file", metavar="IMAGE", type=IMAGE)
@click.option("--key", type=PUBLIC_KEY, multiple=True, help="Public key that devices accept; repeat.")
@click.option("--root", "root_file", type=ROOT, help="ROOT that names these keys, and minima.")
@vendor_option
@class_option
@model_option
@click.option("--floor", type=Whole(0, 262143), default=0, help="Security counter floor of the device.")
@click.option("--max-step", type=Whole(1), help="Largest step above the floor that the device allows.")
@click.option("--program", is_flag=True, help="The device is a Linux gateway.")
@click.option("--chip", type=CHIP, help="Refuse an image that names another chip.")
@JSON
def verify(
    file: Path,
    key: tuple[Path, ...],
    root_file: Path | None,
    vendor_domain: str | None,
    class_uuid: str | None,
    model: str | None,
    floor: int,
    max_step: int | None,
    program: bool,
    chip: str | None,
    as_json: bool,
) -> None:
    """Check a signed image as the bootloader does. Exit code 1: refused."""
    from fota_signer import identity, images, manifests
    from fota_wire import host_chips
    from fota_wire.version import format_version

    known = manifests.load_known(root_file, key)
    if not known.keys:
        raise UsageError("say which keys devices accept: --key FILE, or --root of a ROOT that names them")
    class_id = vendor_id = None
    if vendor_domain is not None:
        vendor_id = identity.vendor_of_domain(vendor_domain)
    if class_uuid or model:
        class_id = identity.device_class(class_uuid=class_uuid, domain=vendor_domain, model=model).class_id
    row = None if chip is None else host_chips.chip(chip)
    device = images.Device(tuple(known.keys.values()), class_id, floor, max_step, program, vendor_id, row)
    with about(file):
        content = read_input(file)
        image = images.check_image(content, device)
        manifests.check_image(content, known)
    table = {"file": name_of(file), "verified": True, "version": format_version(image.version)}
    table.update({"security_counter": image.sec_cnt, "class": uuid_text(image.class_id)})
    table.update({"image_hash": image.image_hash.hex(), "file_digest": image.file_digest.hex()})
    print_result(table, as_json)


@click.command(cls=Command)
@click.argument("file", type=FILE)
@JSON
def inspect(file: Path, as_json: bool) -> None:
    """Show what is in an image, manifest, ROOT, assignment, report or PEM key; of firmware, for which chips
    'fota sign' would take it. No signature is checked.
    """
    from fota_signer.describe import describe

    with about(file):
        table = describe(file, read_input(file))
    print_result(table, as_json)
