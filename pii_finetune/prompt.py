"""The question put to the model. Everything that trains, scores or serves builds it here."""

from typing import TYPE_CHECKING

from pii_finetune.labels import spell_out
from pii_finetune.languages import UNKNOWN

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SYSTEM = "Sensitive personal data? Answer yes or no."

# Every special token of Qwen2.5 and of the embedded base is written <...>, and the label stands in quotation marks.
# Without these three characters a label can neither become a token of the dialogue nor end its own quotation.
_AS_DATA = str.maketrans({"<": "‹", ">": "›", '"': "”", "\n": " ", "\r": " "})


def build_messages(label: str, language: str | None) -> list[dict[str, str]]:
    """Return the system and user turn that ask about one label, spelled out."""
    return [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": f'{language or UNKNOWN} field: "{spell_out(label).translate(_AS_DATA)}"'},
    ]


def render_prompt(tokenizer: "PreTrainedTokenizerBase", label: str, language: str | None) -> str:
    """Return the ChatML text up to the point where the model answers `yes` or `no`."""
    text = tokenizer.apply_chat_template(build_messages(label, language), tokenize=False, add_generation_prompt=True)
    return str(text)
