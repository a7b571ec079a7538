"""What `pii-finetune doctor` looks at, one thing each: never an error, and never a long wait."""

import contextvars
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Level = Literal["green", "yellow", "red"]
ANSWER_SECONDS = 8  # of a server, to one question: one on a busy machine takes seconds to check a password
_ALL_SECONDS = 9  # for all questions to one server, from when the first was put


@dataclass(frozen=True)
class Check:
    """One thing looked at: what was found and, unless green, what to do."""

    name: str
    level: Level
    found: str
    remedy: str = ""


Look = Callable[[], Check | list[Check]]


def guarded(name: str, look: Look) -> list[Check]:
    """Look; what fails unexpectedly is red."""
    try:
        found = look()
    except Exception as error:  # noqa: BLE001  a doctor that dies of what it finds helps nobody
        reason = " ".join(str(error).split())[:200]
        return [Check(name, "red", f"{type(error).__name__}: {reason}", "see the message")]
    return found if isinstance(found, list) else [found]


def begin(name: str, look: Look, seconds: float = _ALL_SECONDS) -> Callable[[], list[Check]]:
    """Begin to look in a thread; return what waits for the end, until some seconds after the beginning at most.

    A server may hold a connection for ever, and resolving a name knows no limit at all.
    """
    found: list[Check] = []
    done = threading.Event()

    def run() -> None:
        found.extend(guarded(name, look))
        done.set()

    here = contextvars.copy_context()  # Prefect keeps settings there
    threading.Thread(target=here.run, args=(run,), daemon=True).start()
    waited = threading.Timer(seconds, done.set)
    waited.daemon = True
    waited.start()

    def wait() -> list[Check]:
        done.wait()
        waited.cancel()
        late = Check(
            name, "red", f"no answer within {seconds:g} s", "look at the server's log, and at what lies between"
        )
        return list(found) or [late]

    return wait
