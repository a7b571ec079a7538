"""The one answer to a Hugging Face hub that gives no dataset: the client fails in many ways, its user needs one."""

from collections.abc import Iterator
from contextlib import contextmanager

from pii_finetune.errors import SourceOutOfReachError


@contextmanager
def told_if_out_of_reach(source: str) -> Iterator[None]:
    """Turn whatever the hub's client raises into one answer.

    Raises:
        SourceOutOfReachError: no such dataset, or the hub is out of reach.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001  whatever the hub's client says, the user needs the same answer
        words = str(error).strip().splitlines() or [""]
        raise SourceOutOfReachError(
            f"{source}: could not be loaded from the Hugging Face hub ({type(error).__name__}: {words[0][:160]}); "
            "check the name (or path), the network and HF_TOKEN, or download the data set's files and give one"
        ) from None
