"""Records as tokens, the same that TRL makes of them."""

from collections.abc import Callable, Sequence

from transformers import PreTrainedTokenizerBase

from pii_finetune.fused.layout import Row
from pii_finetune.labels import spell_out
from pii_finetune.prompt import tokenize_prompts
from pii_finetune.records import Record


def tokenize(
    records: Sequence[Record], tokenizer: PreTrainedTokenizerBase, answers: Callable[[Record], Sequence[str]]
) -> list[Row]:
    """Return one row for each record, with the answers that are given for it and the end of the turn after each."""
    prompts = tokenize_prompts(tokenizer, [(spell_out(record.label), record.language) for record in records])
    ended = {
        answer: tuple(tokenizer(f"{answer}{tokenizer.eos_token}", add_special_tokens=False)["input_ids"])
        for answer in {answer for record in records for answer in answers(record)}
    }
    return [
        Row(tuple(prompt), tuple(ended[answer] for answer in answers(record)))
        for prompt, record in zip(prompts, records, strict=True)
    ]
