"""Text that reads as a token of a dialogue: by it a label could speak as if it were the system or the model."""

import re
import unicodedata

# Those of Qwen2.5 and, as people may set another base, of Llama, Mistral, Gemma, T5, StarCoder and DeepSeek. Every
# <|...|> is one. Angle brackets around other words are none: <b>, <city>.
_ANGLED = re.compile(
    r"<\s*\|[^<>]*\|\s*>"
    r"|<\s*/?\s*(?:s|pad|unk|mask|bos|eos|sep|cls|think|tools?|tool[ _](?:calls?|response)"
    r"|(?:start|end|begin)[ _]of[ _](?:turn|text|image|sentence)|fim[ _](?:prefix|middle|suffix|pad)"
    r"|repo[ _]name|file[ _]sep|extra[ _]id[ _]\d+|unused\d+)\s*>"
    r"|<\s*<\s*/?\s*sys\s*>\s*>",
    re.IGNORECASE,
)
# Square brackets hold units in honest labels ([cm], [inst]), so only these words, and only in capitals.
_SQUARE = re.compile(r"\[\s*/?\s*(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\s*\]")
_BRACKET = re.compile("[<\ufe64\uff1c[\uff3b]")  # with the forms that compatibility folding turns into these
_JOINERS = re.compile("[\u200c\u200d]")


def find_special_token(label: str) -> str | None:
    """Return the first special token in the label, as it reads once fullwidth forms and joiners are folded, or None.

    Source: the special tokens that each model family's tokenizer declares.
    """
    if not _BRACKET.search(label):  # nearly always
        return None
    folded = _JOINERS.sub("", unicodedata.normalize("NFKC", label))
    match = _ANGLED.search(folded) or _SQUARE.search(folded)
    return match.group() if match else None
