"""Prove the bootloader's parsers memory-safe with CBMC: ``prove.py [--seconds N] [--source DIR] [PROOF...]``.

Each file in ``proofs/`` is one proof. Its first comment states the bound up to which it holds, the sources
that it is about and how often loops are unrolled; CBMC fails a proof whose loops would need more. CBMC is
taken from the PATH if it is version 6, else from a newer Debian suite (``get_cbmc.sh``); where neither is to
be had this says so and ends with 0, for that is no finding.
"""

import argparse
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PRIVATE = ROOT / "build/tools/cbmc/cbmc"
CHECKS = (
    "--bounds-check",
    "--pointer-check",
    "--pointer-overflow-check",
    "--signed-overflow-check",
    "--undefined-shift-check",
    "--div-by-zero-check",
    "--unwinding-assertions",
    "--no-malloc-may-fail",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """One file of ``proofs/``; ``unwind`` is CBMC's general bound, ``loops`` those of single loops."""

    path: Path
    bound: str
    sources: list[str]
    unwind: str
    loops: list[str]


def read_proof(path: Path) -> Proof:
    """Return what the first comment of a proof says."""
    head = path.read_text().split("*/", 1)[0]
    text = re.sub(r"\s*\n \* ?", " ", head)
    match = re.search(r"Bound: (.*?) Sources:(.*?) ?Unwind: (\d+) ?(.*)$", text.strip())
    if match is None:
        raise SystemExit(f"prove: {path}: the first comment lacks Bound, Sources or Unwind")
    return Proof(
        path=path,
        bound=match[1].strip(),
        sources=match[2].split(),
        unwind=match[3],
        loops=match[4].split(),
    )


def find_cbmc() -> str | None:
    """Return a CBMC of version 6, or None; says why on stderr."""
    for candidate in (shutil.which("cbmc"), str(PRIVATE)):
        if candidate is None or not Path(candidate).exists():
            continue
        version = subprocess.run([candidate, "--version"], capture_output=True, text=True, check=False)
        if version.stdout.startswith("6."):
            return candidate
    script = [str(HERE / "get_cbmc.sh"), str(PRIVATE.parent)]
    result = subprocess.run(script, capture_output=True, text=True, check=False)
    if result.returncode == 0:
        return str(PRIVATE)
    print(f"prove: SKIPPED, no CBMC: {result.stderr.strip()}", file=sys.stderr)
    return None


def prove(cbmc: str, proof: Proof, source: Path, seconds: float) -> bool:
    """Run one proof and print its outcome; False unless it holds."""
    files = [str(proof.path), *(str(source / f"{name}.c") for name in proof.sources)]
    include = [f"-I{source / 'core'}", f"-I{source}", f"-I{proof.path.parent}"]
    loops = ["--unwindset", ",".join(proof.loops)] if proof.loops else []
    command = [cbmc, *files, *include, *CHECKS, "--unwind", proof.unwind, *loops]
    start = time.monotonic()
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
    except subprocess.TimeoutExpired:
        print(f"{proof.path.stem:10} NOT FINISHED in {seconds:.0f} s   {proof.bound}", flush=True)
        return False
    holds = run.returncode == 0 and "VERIFICATION SUCCESSFUL" in run.stdout
    spent = time.monotonic() - start
    print(f"{proof.path.stem:10} {'holds' if holds else 'FAILS'} {spent:5.1f} s   {proof.bound}", flush=True)
    if not holds:
        failures = [line for line in run.stdout.splitlines() if line.endswith("FAILURE")]
        print("\n".join(failures or (run.stdout + run.stderr).splitlines()[-10:]), file=sys.stderr)
    return holds


def main() -> int:
    """Run the proofs named, or all."""
    parser = argparse.ArgumentParser(description="Prove the bootloader's parsers memory-safe with CBMC.")
    parser.add_argument("proofs", nargs="*", help="names of files in proofs/, without .c")
    parser.add_argument("--seconds", type=float, default=240, help="limit of one proof (default 240)")
    parser.add_argument("--source", type=Path, default=ROOT / "bootloader", help="the tree to prove")
    args = parser.parse_args()
    paths = sorted((HERE / "proofs").glob("*.c"))
    wanted = [p for p in paths if not args.proofs or p.stem in args.proofs]
    cbmc = find_cbmc()
    if cbmc is None:
        return 0
    results = [prove(cbmc, read_proof(path), args.source.resolve(), args.seconds) for path in wanted]
    return 0 if results and all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
