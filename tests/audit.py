"""`make audit`: known vulnerabilities of everything the locks pin; silence of the service that knows them is a failure.

pip-audit ends with 0 and "No known vulnerabilities found" where the service knows none of the packages, as an index
without that data does. Here a package that could not be looked up counts as what it is: not audited.

    python tests/audit.py PIP_AUDIT LOCK...     exit code 0: all were looked up, and nothing is known against them;
                                                1: something is; 4: the service could not be asked
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

# Vulnerability -> why it does not concern us. An entry goes when its package is upgraded.
ACCEPTED: dict[str, str] = {}
_SERVICES = ("pypi", "osv")
_FOUND, _NOT_ASKED = 1, 4


def main(program: str, locks: Sequence[str]) -> int:
    """Audits each lock, says what was found, and returns the exit code."""
    return max(audit(program, lock) for lock in locks)


def audit(program: str, lock: str) -> int:
    """Audits one lock with the first service that answers."""
    reasons = []
    for service in _SERVICES:
        dependencies, reason = asked(program, lock, service)
        if dependencies is not None:
            return judged(lock, dependencies)
        reasons.append(f"{service}: {reason}")
    print(f"{lock}: NOT AUDITED: no vulnerability service could be asked ({'; '.join(reasons)})")
    return _NOT_ASKED


def asked(program: str, lock: str, service: str) -> tuple[list[dict[str, Any]] | None, str]:
    """What the service says of every package that the lock pins; None and the reason where it cannot say it."""
    # No package is installed for this: the hashes say that the lock is whole.
    command = [program, "-r", lock, "--require-hashes", "--disable-pip", "-s", service, "-f", "json"]
    done = subprocess.run([*command, "--progress-spinner", "off"], capture_output=True, text=True, timeout=1800)
    try:
        dependencies = json.loads(done.stdout)["dependencies"]
    except ValueError:
        return None, (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:300]
    skipped = [one["name"] for one in dependencies if "skip_reason" in one]
    if skipped:
        return None, f"it does not know {len(skipped)} of {len(dependencies)} packages, for example {skipped[0]}"
    return dependencies, ""


def judged(lock: str, dependencies: Sequence[Mapping[str, Any]]) -> int:
    """Says what is known against the packages, and returns the exit code."""
    open_ones = 0
    for one in dependencies:
        for known in one["vulns"]:
            names = [known["id"], *known["aliases"]]
            reason = next((ACCEPTED[name] for name in names if name in ACCEPTED), "")
            open_ones += not reason
            fixed = ", ".join(known["fix_versions"]) or "no version yet"
            print(f"{lock}: {one['name']} {one['version']}: {', '.join(names)}, fixed in {fixed}. {reason}".rstrip())
    print(f"{lock}: {len(dependencies)} packages were looked up, {open_ones} findings are open")
    return _FOUND if open_ones else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
