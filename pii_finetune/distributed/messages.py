"""What a training's processes tell the one that started them: a line of JSON each, among whatever libraries print."""

import json
import os
from typing import Any

_MARK = '{"pii-finetune": '


def tell(kind: str, content: Any) -> None:
    """Write a message to standard output, in one piece: several processes share it."""
    line = f"\n{_MARK}{json.dumps([kind, content], ensure_ascii=False)}}}\n"
    os.write(1, line.encode())


def understand(line: str) -> tuple[str, Any] | None:
    """Return what kind of message a line is and its content, or None if it is somebody else's."""
    if not line.startswith(_MARK):
        return None
    kind, content = json.loads(line.removeprefix(_MARK).rstrip()[:-1])
    return kind, content
