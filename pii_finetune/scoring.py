"""Asking a model about labels: how much it leans to yes, and whether its answer has the form it should have."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from pii_finetune.base_model import load_base, load_tokenizer
from pii_finetune.config import BaseConfig
from pii_finetune.prompt import render_prompt
from pii_finetune.scores import Question, Scores
from pii_finetune.shared_start import SharedStart

Answers = tuple[torch.Tensor, torch.Tensor]  # (B,) margin, (B,) whether it has the right form


class Scorer:
    """A base with any number of adapters, of which one, or none, answers."""

    def __init__(self, base: BaseConfig, adapters: dict[str, Path], batch_size: int) -> None:
        self._tokenizer: PreTrainedTokenizerBase = load_tokenizer(base)
        self._model: Any = load_base(base)  # a PreTrainedModel, or a PeftModel around it
        self._batch_size = batch_size
        self._yes, self._no = (_only_token(self._tokenizer, answer) for answer in ("yes", "no"))
        for name, path in adapters.items():
            if isinstance(self._model, PeftModel):
                self._model.load_adapter(str(path), adapter_name=name)
            else:
                self._model = PeftModel.from_pretrained(self._model, path, adapter_name=name)
        self._model.eval()

    def score(self, questions: Sequence[Question], adapter: str | None, check_format: bool = True) -> Scores:
        """Answer N questions with the named adapter, or with the base alone if None; the same prompt is asked once.

        With `check_format` two tokens are generated, as a user of the model would have them, and `valid` says that
        they are exactly `yes` or `no`, then the end of the turn. Without, each prompt costs one forward pass, less the
        tokens it shares with its neighbours, and `valid` says that the likeliest first token is `yes` or `no`.
        """
        prompts = [render_prompt(self._tokenizer, label, language) for label, language in questions]
        languages = {prompt: language or "" for prompt, (_, language) in zip(prompts, questions, strict=True)}
        distinct = list(languages)
        tokens: list[list[int]] = self._tokenizer(distinct)["input_ids"] if distinct else []
        # Neighbours in one language share the most tokens at the start, neighbours of like length need little padding.
        order = sorted(range(len(distinct)), key=lambda at: (languages[distinct[at]], len(tokens[at])))
        margin, valid = np.zeros(len(distinct)), np.zeros(len(distinct), dtype=bool)
        passes = SharedStart(self._model)
        with torch.inference_mode(), self._answering_as(adapter):
            for start in range(0, len(order), self._batch_size):
                rows = order[start : start + self._batch_size]
                batch = [tokens[at] for at in rows]
                found = self._generate(batch) if check_format else self._read(passes.last_logits(batch))
                margin[rows], valid[rows] = (each.cpu().numpy() for each in found)
        place = {prompt: at for at, prompt in enumerate(distinct)}
        back = [place[prompt] for prompt in prompts]
        return Scores(margin[back], valid[back])

    def _answering_as(self, adapter: str | None) -> AbstractContextManager[None]:
        if not isinstance(self._model, PeftModel):
            return nullcontext()
        if adapter is None:
            return self._model.disable_adapter()
        self._model.set_adapter(adapter)
        return nullcontext()

    def _generate(self, batch: list[list[int]]) -> Answers:
        """Decode two tokens greedily: generate() is the reference for what a user of the model would see."""
        padded = self._tokenizer.pad({"input_ids": batch}, return_tensors="pt").to(self._model.device)
        generated: Any = self._model.generate(
            **padded,
            max_new_tokens=2,
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            repetition_penalty=1.0,
            return_dict_in_generate=True,
            output_logits=True,
            pad_token_id=self._tokenizer.pad_token_id,
        )
        margin, right_word = self._read(generated.logits[0])
        answer = generated.sequences[:, padded["input_ids"].shape[1] :]
        if answer.shape[1] < 2:  # every first token ended its turn
            return margin, torch.zeros_like(right_word)
        return margin, right_word & (answer[:, 1] == self._tokenizer.eos_token_id)

    def _read(self, logits: torch.Tensor) -> Answers:
        """Return the margin and whether the likeliest token is `yes` or `no`, from the answer's logits (B, V)."""
        logits = logits.float()
        first = logits.argmax(-1)
        return logits[:, self._yes] - logits[:, self._no], (first == self._yes) | (first == self._no)


def _only_token(tokenizer: PreTrainedTokenizerBase, answer: str) -> int:
    ids = tokenizer.encode(answer, add_special_tokens=False)
    if len(ids) != 1:
        raise ValueError(
            f"the tokenizer of this base writes {answer!r} as {len(ids)} tokens; it must be one to be scored"
        )
    return int(ids[0])
