"""A plan file: every packet of a blank chip's way, in order, with the answer to each, for a line of its own.

JSON: ``{"format": 1, "placeholders": {name: what it is}, "commands": [{"step", "name", "opcode", "p1", "p2",
"data": [...], "answer": ...}]}``. Numbers are hexadecimal strings as in the packet (``p2`` little endian);
``${name}`` stands for bytes that differ from chip to chip, made or read at run time: no secret is in a plan.
``answer`` is ``{"ok": true}``, ``{"is": hex or ${name}}`` or ``{"keep": name, "length": n}``.
"""

import json
import re
from typing import Any

from fota_signer.factory.commands import FORMULAS, INFO, SECRETS, Command, Keep, Session, Value, read_zone
from fota_signer.factory.steps import Step, Tell
from fota_wire.errors import DeviceError, FormatError, FotaError, VerifyError

FORMAT = 1
_PLACEHOLDER = re.compile(r"\$\{([a-z0-9_]+)\}")
_WORDS = {
    "io_key": "secret: 32 random bytes of this chip, stored before step configure, then in the HEX",
    "mac_key": "secret: 32 random bytes of this chip, stored before step configure, then in the HEX",
}


def make_plan(steps: tuple[Step, ...]) -> bytes:
    """Return the plan file for blank chips."""
    look = Step(name="recognise", commands=(INFO, *read_zone()))
    commands = [_as_json(step.name, command) for step in (look, *steps) for command in step.commands]
    kept = {c["answer"]["keep"]: "kept from the chip's answer" for c in commands if "keep" in c["answer"]}
    plan = {"format": FORMAT, "placeholders": {**_WORDS, **FORMULAS, **kept}, "commands": commands}
    return json.dumps(plan, indent=1).encode() + b"\n"


def _text(part: bytes | Value) -> str:
    return f"${{{part.name}}}" if isinstance(part, Value) else part.hex()


def _as_json(step: str, command: Command) -> dict[str, Any]:
    p2 = command.p2.to_bytes(2, "little") if isinstance(command.p2, int) else command.p2
    answer: dict[str, Any]
    if isinstance(command.answer, Keep):
        answer = {"keep": command.answer.name, "length": command.answer.length}
    else:
        answer = {"is": _text(command.answer)} if command.answer != b"" else {"ok": True}
    return {
        "step": step,
        "name": command.name,
        "opcode": f"{command.opcode:02x}",
        "p1": f"{command.p1:02x}",
        "p2": _text(p2),
        "data": [_text(part) for part in command.data],
        "answer": answer,
    }


def load_plan(raw: bytes, name: str) -> list[tuple[str, Command]]:
    """Return [(step, command)] of a plan file.

    Raises:
        FormatError: not a plan, or a command of it is not one.
    """
    try:
        plan = json.loads(raw)
        if plan["format"] != FORMAT:
            raise FormatError(f"{name}: a plan of another format")
        return [(str(item["step"]), _command(item)) for item in plan["commands"]]
    except (ValueError, KeyError, TypeError) as exc:
        if isinstance(exc, FotaError):
            raise
        raise FormatError(f"{name}: not a plan of provisioning") from exc


def _part(text: str) -> bytes | Value:
    found = _PLACEHOLDER.fullmatch(text)
    return Value(found[1]) if found else bytes.fromhex(text)


def _command(item: dict[str, Any]) -> Command:
    p2, answer = _part(item["p2"]), item["answer"]
    expected: bytes | Value | Keep
    if "keep" in answer:
        if answer["keep"] in (*SECRETS, *FORMULAS):
            raise FormatError(f"a plan may not take {answer['keep']} from the chip")
        expected = Keep(str(answer["keep"]), int(answer["length"]))
    else:
        expected = b"" if answer.get("ok") is True else _part(answer["is"])
    return Command(
        name=str(item["name"]),
        opcode=int(item["opcode"], 16),
        p1=int(item["p1"], 16),
        p2=p2 if isinstance(p2, Value) else int.from_bytes(p2, "little"),
        data=tuple(_part(part) for part in item["data"]),
        answer=expected,
    )


def run_plan(plan: list[tuple[str, Command]], session: Session, tell: Tell = lambda name, did: None) -> None:
    """Send a plan's commands in order to a blank chip.

    Raises:
        DeviceError, VerifyError: a command failed; names it. `fota provision device` goes on from there.
    """
    for number, (step, command) in enumerate(plan, start=1):
        try:
            session.run(command)
        except FotaError as exc:
            kind = VerifyError if isinstance(exc, VerifyError) else DeviceError
            where = f"command {number} of {len(plan)}, step {step}"
            raise kind(f"{where}: {exc}; go on with: fota provision device", exc.code) from exc
        if number == len(plan) or plan[number][0] != step:
            tell(step, True)
