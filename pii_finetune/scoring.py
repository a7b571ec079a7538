"""Asking a model about labels: P(yes) and whether its answer has the form it should have."""

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

__all__ = ["Question", "Scorer", "Scores"]


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
        """Answer N questions with the named adapter, or with the base alone if None.

        With `check_format` the answer's second token is decoded too; without, `valid` speaks of the first token only.
        """
        prompts = [render_prompt(self._tokenizer, label, language) for label, language in questions]
        order = np.argsort([len(p) for p in prompts], kind="stable")  # batches of like length: little padding
        margin, valid = np.zeros(len(prompts)), np.zeros(len(prompts), dtype=bool)
        with torch.inference_mode(), self._answering_as(adapter):
            for start in range(0, len(order), self._batch_size):
                rows = order[start : start + self._batch_size]
                margin[rows], valid[rows] = self._score_batch([prompts[at] for at in rows], check_format)
        return Scores(margin, valid)

    def _answering_as(self, adapter: str | None) -> AbstractContextManager[None]:
        if not isinstance(self._model, PeftModel):
            return nullcontext()
        if adapter is None:
            return self._model.disable_adapter()
        self._model.set_adapter(adapter)
        return nullcontext()

    def _score_batch(self, prompts: list[str], check_format: bool) -> tuple[np.ndarray, np.ndarray]:
        batch = self._tokenizer(prompts, return_tensors="pt", padding=True).to(self._model.device)
        if not check_format:
            logits = self._model(**batch, logits_to_keep=1).logits[:, -1].float()  # (B, V)
            first = logits.argmax(-1)
            valid = (first == self._yes) | (first == self._no)
        else:
            # Two tokens of greedy decoding, with the logits of the first: generate() is the reference for what a user
            # of the model would see.
            generated: Any = self._model.generate(
                **batch,
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
            logits = generated.logits[0].float()  # (B, V)
            answer = generated.sequences[:, batch["input_ids"].shape[1] :]
            ended = (
                answer[:, 1] == self._tokenizer.eos_token_id
                if answer.shape[1] > 1
                else torch.zeros_like(answer[:, 0], dtype=torch.bool)
            )
            valid = ((answer[:, 0] == self._yes) | (answer[:, 0] == self._no)) & ended
        margin = logits[:, self._yes] - logits[:, self._no]
        return margin.double().cpu().numpy(), valid.cpu().numpy()


def _only_token(tokenizer: PreTrainedTokenizerBase, answer: str) -> int:
    ids = tokenizer.encode(answer, add_special_tokens=False)
    if len(ids) != 1:
        raise ValueError(
            f"the tokenizer of this base writes {answer!r} as {len(ids)} tokens; it must be one to be scored"
        )
    return int(ids[0])
