"""Prove the bootloader's parsers memory-safe with CBMC: ``prove.py [--source DIR] [PROOF...]``.

Each file in ``proofs/`` is one proof. Its first comment states the bound up to which it holds, the sources
that it is about and how often loops are unrolled; CBMC fails a proof whose loops would need more. CBMC is
taken from the PATH if it is version 6, else from a newer Debian suite (``get_cbmc.sh``); where neither is to
be had this says so and ends with 0, for that is no finding.

No clock ends a proof: what bounds it is how often loops are unrolled, and against a bound that is set wrong,
memory and processor time of CBMC itself, which a loaded machine does not use up faster. While one runs, a
line every ``BREATH_S`` seconds says what it is at. Whoever ends this from outside ends CBMC with it.
"""

import argparse
import ctypes
import re
import resource
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
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
MOST_MEMORY = 12 << 30  # bytes of address space of one proof; the largest takes less than one GiB
MOST_CPU_S = 4 * 3600  # of one proof; the longest takes two minutes
BREATH_S = 15
PR_SET_PDEATHSIG = 1


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


def limited() -> None:
    """In CBMC's process: bound what it may use, and let it not outlive us."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_CPU_S, MOST_CPU_S))
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def lines(process: "subprocess.Popen[str]") -> Iterator[str | None]:
    """Yield the lines of a process as they come; None after each ``BREATH_S`` seconds of silence."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(BREATH_S):
                yield None
            elif line := process.stdout.readline():
                yield line.rstrip()
            else:
                return


def run(command: list[str], name: str) -> tuple[bool, list[str]]:
    """Run CBMC to its end, with a line now and then; return whether it proved everything, and its lines."""
    start = said = time.monotonic()
    seen: list[str] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1, preexec_fn=limited
    ) as process:
        try:
            for line in lines(process):
                seen += [line] if line else []
                if time.monotonic() - said > BREATH_S:
                    said = time.monotonic()
                    at = seen[-1][:60] if seen else "beginning"
                    print(f"{name:10} ... {said - start:5.0f} s   {at}", flush=True)
        finally:
            process.kill()
    return process.returncode == 0 and "VERIFICATION SUCCESSFUL" in seen, seen


def prove(cbmc: str, proof: Proof, source: Path) -> bool:
    """Run one proof and print its outcome; False unless it holds."""
    files = [str(proof.path), *(str(source / f"{name}.c") for name in proof.sources)]
    include = [f"-I{source / 'core'}", f"-I{source}", f"-I{proof.path.parent}"]
    loops = ["--unwindset", ",".join(proof.loops)] if proof.loops else []
    command = [cbmc, *files, *include, *CHECKS, "--unwind", proof.unwind, *loops]
    start = time.monotonic()
    holds, seen = run(command, proof.path.stem)
    spent = time.monotonic() - start
    print(f"{proof.path.stem:10} {'holds' if holds else 'FAILS'} {spent:5.1f} s   {proof.bound}", flush=True)
    if not holds:
        failures = [line for line in seen if line.endswith("FAILURE")]
        print("\n".join(failures or seen[-10:]), file=sys.stderr)
    return holds


def main() -> int:
    """Run the proofs named, or all."""
    parser = argparse.ArgumentParser(description="Prove the bootloader's parsers memory-safe with CBMC.")
    parser.add_argument("proofs", nargs="*", help="names of files in proofs/, without .c")
    parser.add_argument("--source", type=Path, default=ROOT / "bootloader", help="the tree to prove")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    paths = sorted((HERE / "proofs").glob("*.c"))
    wanted = [p for p in paths if not args.proofs or p.stem in args.proofs]
    cbmc = find_cbmc()
    if cbmc is None:
        return 0
    results = [prove(cbmc, read_proof(path), args.source.resolve()) for path in wanted]
    return 0 if results and all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
