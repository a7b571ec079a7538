"""How far this machine's clock is from a server's: tokens, leases and heartbeats are judged by both."""

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from pii_finetune.checks import Check

_SMALL_SECONDS, _LARGE_SECONDS = 5, 60


def skew_of(server: str, headers: Mapping[str, str], asked_at: float) -> list[Check]:
    """Compare our clock with the Date of an answer, which is true to a second; nothing to say without one.

    Args:
        server: what the message calls it.
        headers: of the answer, which has just come.
        asked_at: when it was asked for, as `time.time()` says.
    """
    try:
        theirs = parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, ValueError, TypeError):
        return []
    # The server wrote it at some moment between, and cut off the fraction.
    ahead = max(asked_at - theirs - 1, theirs - time.time(), 0)
    sign = "ahead of" if asked_at > theirs else "behind"
    if ahead <= _SMALL_SECONDS:
        return [Check("clock", "green", f"as that of {server}")]
    level = "red" if ahead > _LARGE_SECONDS else "yellow"
    remedy = "set the clock by NTP on both (timedatectl set-ntp true)"
    return [Check("clock", level, f"{ahead:.0f} s {sign} that of {server}", remedy)]
