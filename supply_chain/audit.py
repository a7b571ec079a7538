"""Look every locked version up among known vulnerabilities: `make audit`.

Arguments go to pip-audit: `make audit ARGS='-s osv --ignore-vuln PYSEC-2026-1'`. Exit codes: 0 all were looked up and
none has a known vulnerability, 1 one has, 2 not all could be looked up. pip-audit itself ends with 0 and `No known
vulnerabilities found` where its service knows not one of the packages, as a mirror of PyPI does not.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from supply_chain.relock import DEV, ROOT, RUN, TOOLS, TORCH


def audit(options: list[str]) -> int:
    """Show what is vulnerable, and what is not known to be or not to be."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [str(Path(sys.executable).parent / "pip-audit"), "--require-hashes", "--disable-pip"]
        command += [f"--requirement={path}" for path in (RUN, DEV, TORCH, TOOLS)]
        command += ["--format=json", f"--output={report}", "--progress-spinner=off", *options]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if not report.is_file():
            why = (done.stderr.strip() or "it said nothing").splitlines()[-1]
            print(f"make audit: NOT AUDITED, the service gave no answer: {why}\n{_REMEDY}")
            return 2
        packages: list[dict[str, Any]] = json.loads(report.read_text(encoding="utf-8"))["dependencies"]
    vulnerable = [each for each in packages if each.get("vulns")]
    unknown = sorted({each["name"] for each in packages if "skip_reason" in each})
    for each in vulnerable:
        for found in each["vulns"]:
            fixed = ", ".join(found["fix_versions"]) or "no version yet"
            print(f"{each['name']} {each['version']}: {found['id']}, fixed in {fixed}")
    if unknown:
        which = "none of them" if len(unknown) == len(packages) else f"not {', '.join(unknown)}"
        print(f"make audit: NOT AUDITED, of {len(packages)} packages the service knows {which}\n{_REMEDY}")
    else:
        print(f"make audit: {len(packages)} packages looked up, {len(vulnerable)} with known vulnerabilities")
    return 1 if vulnerable else 2 if unknown else 0


_REMEDY = "give it a way to https://pypi.org/pypi/NAME/json, or with ARGS='-s osv' to https://api.osv.dev"

if __name__ == "__main__":
    sys.exit(audit(sys.argv[1:]))
