"""What is known against the server's pinned requirements: pip-audit's word, and whether it had any data.

    audit.py PIP-AUDIT [OSV-URL]

Ends with 0 where nothing is known, or nobody could be asked, which it says; with 1 where something is known.
pip-audit alone ends with 0 too for what it could not look up.
"""

import json
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).parents[2] / "update-server/requirements.txt"


def main(program: str, *url: str) -> int:
    """Ask, print one line for each vulnerability and one at the end, and return the exit code."""
    where = ["--osv-url", *url] if url else []
    done = subprocess.run(
        [program, "--vulnerability-service", "osv", *where, "--format", "json", "--progress-spinner", "off",
         "--disable-pip", "--require-hashes", "--requirement", str(REQUIREMENTS)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    try:
        asked = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        print(f"audit: NOT CHECKED, {(done.stderr.strip() or 'no answer').splitlines()[-1][:160]}")
        return 0
    skipped = [one["name"] for one in asked if "skip_reason" in one]
    known = [(one, found) for one in asked for found in one.get("vulns", ())]
    for one, found in known:
        fixed = ", ".join(found["fix_versions"]) or "no version"
        print(f"audit: {one['name']} {one['version']}: {found['id']}, mended in {fixed}")
    if skipped:
        print(f"audit: NOT CHECKED: {', '.join(skipped)}")
    print(f"audit: {len(asked) - len(skipped)} requirements looked up, {len(known)} known vulnerabilities")
    return 1 if known else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
