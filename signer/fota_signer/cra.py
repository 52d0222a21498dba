"""The rows of a technical file (CRA, EN 18031-1, EN 303 645) that touch updates, and what a release answers.

A row is answered by evidence in this release, or by what fota does, said on a page; else it is the maker's to
answer, and says so. Nothing here is a claim of conformity. Texts of EN 18031-1 are from memory of its titles.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Row(NamedTuple):
    """``source`` and what it wants; ``kinds`` of evidence that answer it; ``page`` on which it stands what
    fota does about it; ``rest``: what the maker has to add.
    """

    source: str
    wants: str
    kinds: tuple[str, ...] = ()
    page: str = ""
    rest: str = ""


class Answer(NamedTuple):
    """``state``, of STATES; ``pointers`` to what answers, and what is open."""

    source: str
    wants: str
    state: str
    pointers: str


ROWS = (
    Row("CRA I.I(2)(a)", "no known exploitable vulnerability", ("sbom", "vex"),
        rest="the scan, and its date"),
    Row("CRA I.I(2)(b)", "secure by default, reset", page="docs/provisioning.md",
        rest="the application's own defaults"),
    Row("CRA I.I(2)(c)", "security updates, automatic by default, opt-out, notice, postponement",
        page="docs/agent.md", rest="what the user is shown"),
    Row("CRA I.I(2)(d)", "protection from unauthorised access", page="DESIGN.md, 4 and 8",
        rest="the application's own access"),
    Row("CRA I.I(2)(f)", "integrity of programs, corruption reported", page="DESIGN.md, 8"),
    Row("CRA I.I(2)(h)", "availability of essential functions", page="docs/fleet.md",
        rest="which functions are essential"),
    Row("CRA I.I(2)(k)", "limited impact of incidents", page="docs/fleet.md"),
    Row("CRA I.I(2)(l)", "security-relevant logging, with opt-out", page="docs/operations.md",
        rest="a log of the application, and its opt-out"),
    Row("CRA I.I(2)(m)", "secure removal of data", rest="data are the application's: its own erasure"),
    Row("CRA I.II(1)", "SBOM, machine-readable", ("sbom",)),
    Row("CRA I.II(2)", "fixes without delay, security apart from features", page="docs/fleet.md",
        rest="which release is a security update; the branch that it is of"),
    Row("CRA I.II(4)", "fixed vulnerabilities disclosed", ("vex",), rest="the advisory itself (CSAF)"),
    Row("CRA I.II(7)", "secure and timely distribution", page="DESIGN.md, 4 to 6"),
    Row("CRA I.II(8)", "updates free, prompt, with advisory", rest="the advisory, and the terms"),
    Row("CRA Art. 13(8)", "support period of five years, unless used shorter", rest="the period, and why"),
    Row("CRA Art. 13(9)", "security updates available for ten years", page="docs/operations.md",
        rest="that nobody prunes them (fota server prune)"),
    Row("CRA Art. 13(19)", "end of support shown", rest="the date, on the product and to its user"),
    Row("CRA Art. 14", "reports within 24 h, 72 h and 14 days", ("sbom",),
        rest="who is told, and by whom (the single reporting platform)"),
    Row("CRA Art. 31", "technical file, kept ten years", ("sbom", "provenance"),
        rest="risk assessment, description, declaration"),
    Row("EN 18031-1 SUM-1", "an update mechanism for all software, or a reason", page="bootloader/README.md",
        rest="the scope, and why the bootloader is not updated"),
    Row("EN 18031-1 SUM-2", "updates of valid integrity and authenticity alone", page="SPEC.md, 2 and 5.1"),
    Row("EN 18031-1 SUM-3", "updates without people, or scheduled and approved", page="docs/agent.md"),
    Row("EN 18031-1, other", "SSM, SCM, CCK, CRY, GEC-1: storage, transport, keys, no known CVE",
        ("sbom", "vex"), page="DESIGN.md, 4", rest="the application's own storage and network"),
    Row("Decision 2025/138", "not one method alone for financial assets; no default password",
        rest="whether there are such assets; passwords of the application"),
    Row("EN 303 645 5.3-1, -2", "components can be updated, securely", page="DESIGN.md, 4"),
    Row("EN 303 645 5.3-3", "simple to apply", page="docs/agent.md"),
    Row("EN 303 645 5.3-4, -5, -6", "automatic, asked for after start and periodically, user may switch off",
        page="docs/agent.md", rest="the user's switch"),
    Row("EN 303 645 5.3-7", "best-practice cryptography", page="SPEC.md, 5"),
    Row("EN 303 645 5.3-8", "timely", page="docs/fleet.md", rest="the times that were reached"),
    Row("EN 303 645 5.3-9, -10", "authenticity and integrity verified, by a trust relationship",
        ("provenance",), page="DESIGN.md, 4"),
    Row("EN 303 645 5.3-11, -12", "users told of need, risk and disruption", rest="what the user is told"),
    Row("EN 303 645 5.3-13", "support period published", rest="the period"),
    Row("EN 303 645 5.3-14, -15", "parts that cannot be updated: reason, isolation, replacement",
        page="bootloader/README.md", rest="the reason, for this product"),
    Row("EN 303 645 5.3-16", "model recognisable", page="docs/releases.md", rest="the label on the product"),
)  # fmt: skip


def answers(found: Mapping[str, list[str]]) -> list[Answer]:
    """Return an answer for each row; ``found`` {kind: pointers to that evidence in the release}."""
    return [_answer(row, found) for row in ROWS]


def _answer(row: Row, found: Mapping[str, list[str]]) -> Answer:
    there = [pointer for kind in row.kinds for pointer in found.get(kind, ())]
    missing = [kind for kind in row.kinds if not found.get(kind)]
    pointers = there + ([row.page] if row.page else [])
    lacks = [f"no {kind} in this release" for kind in missing] + ([row.rest] if row.rest else [])
    if not pointers:
        state = "not answered"
    elif lacks:
        state = "in part"
    else:
        state = "this release" if there else "fota"
    said = (
        "; ".join(pointers)
        + ("; " if pointers and lacks else "")
        + "".join(["open: " + "; ".join(lacks)] if lacks else [])
    )
    return Answer(row.source, row.wants, state, said)


def markdown(rows: list[Answer], title: str) -> str:
    """Return the table of a technical file, in Markdown, and how many rows are not answered."""
    lines = [f"# {title}", "", "| Source | Wants | Answered by | Pointers |", "|---|---|---|---|"]
    lines += [f"| {row.source} | {row.wants} | {row.state} | {row.pointers} |" for row in rows]
    counted = [f"{sum(row.state == state for row in rows)} {state}" for state in STATES]
    return "\n".join([*lines, "", f"{len(rows)} rows: {', '.join(counted)}.", ""])


STATES = ("this release", "fota", "in part", "not answered")
