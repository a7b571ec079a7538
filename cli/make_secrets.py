"""`make secrets`: every password of the stack, made by the operating system's random source and written to .env.

Passwords that are there stay: what the stack was started with is changed in the stack first (docs/stack.md).
"""

import os
import secrets
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SECRETS = (
    "POSTGRES_PASSWORD",
    "PREFECT_DB_PASSWORD",
    "MLFLOW_DB_PASSWORD",
    "PREFECT_PASSWORD",
    "MLFLOW_ADMIN_PASSWORD",
    "MLFLOW_WORKER_PASSWORD",
    "MLFLOW_READER_PASSWORD",
    "MLFLOW_SECRET_KEY",
    "GRAFANA_PASSWORD",
)


def main() -> int:
    """Write .env, or add to it what it lacks, readable to its owner alone."""
    target = ROOT / ".env"
    try:
        before = (target if target.exists() else ROOT / ".env.example").read_text(encoding="utf-8")
        after, made = fill(before)
        if not made:
            print(f"{target}: nothing to do, all {len(SECRETS)} secrets are there")
            return 0
        aside = target.with_name(".env.new")
        aside.unlink(missing_ok=True)
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(after)
        aside.replace(target)
    except OSError as error:
        print(f"make secrets: {error.filename}: {error.strerror}; nothing was changed", file=sys.stderr)
        return 1
    print(f"{target}: wrote {', '.join(made)}")
    return 0


def fill(text: str) -> tuple[str, list[str]]:
    """Return the lines of an .env file with a password for each secret that is empty or missing, and their names."""
    lines, made = text.splitlines(), []
    given = {name for name, _, value in (line.partition("=") for line in lines) if value.strip()}
    for name in SECRETS:
        if name in given:
            continue
        made.append(name)
        line = f"{name}={secrets.token_hex(24)}"
        empty = [number for number, each in enumerate(lines) if each.partition("=")[0].strip() == name]
        if empty:
            lines[empty[0]] = line
        else:
            lines.append(line)
    return "\n".join(lines) + "\n", made


if __name__ == "__main__":
    sys.exit(main())
