"""F1 on the validation split while a model is trained: what trials of a sweep are compared by."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase, Qwen2ForCausalLM, TrainerCallback, TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from pii_finetune.errors import TrainingPrunedError
from pii_finetune.fused.answers import answer_greedily
from pii_finetune.labels import spell_out
from pii_finetune.metrics import f1_of
from pii_finetune.prompt import tokenize_prompts
from pii_finetune.records import Record

NUM_CHECKS = 4  # of a stage, after equal shares of its steps, the last one at its end


@dataclass(frozen=True)
class Check:
    """What was measured in the midst of a training."""

    part: int  # quarters of the training's steps that are done
    step: int
    f1: float


Judge = Callable[[Check], bool]  # -> whether the training goes on


def judging(
    model: Any, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Record], batch_size: int, judge: Judge | None
) -> list[TrainerCallback]:
    """Return the callback that asks the judge; none without a judge, or for a base of another architecture."""
    causal = model.get_base_model() if isinstance(model, PeftModel) else model
    if judge is None or not isinstance(causal, Qwen2ForCausalLM):
        return []
    return [ValidationF1(tokenizer, rows, batch_size, judge)]


class ValidationF1(TrainerCallback):
    """Measures F1 four times in a training, and ends it when the judge says so; the training is otherwise the same."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Record], batch_size: int, judge: Judge
    ) -> None:
        self._expected = np.array([row.sensitive for row in rows])
        # Neighbours are of like lengths: a batch is one pass, and gaps would be computed too.
        order = sorted(range(len(rows)), key=lambda at: len(rows[at].label))
        self._batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        self._prompts = tokenize_prompts(tokenizer, [(spell_out(row.label), row.language) for row in rows])
        self._yes, self._no, self._end = (
            tokenizer.encode(each, add_special_tokens=False)[0] for each in ("yes", "no", str(tokenizer.eos_token))
        )
        self._judge = judge

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        """Measure if it is time to.

        Raises:
            TrainingPrunedError: the judge ended the training.
        """
        part = check_parts(state.max_steps).get(state.global_step)
        if part is None:
            return
        check = Check(part, state.global_step, self._measure(model, args))
        if not self._judge(check):
            raise TrainingPrunedError(
                f"stopped early after step {state.global_step} of {state.max_steps}: F1 {check.f1:.4f} on the "
                "validation split is below the median of the trials before"
            )

    def _measure(self, model: Any, args: TrainingArguments) -> float:
        margins = np.empty(len(self._expected))
        was_training = model.training
        model.eval()
        with torch.no_grad(), torch.autocast(args.device.type, torch.bfloat16, enabled=args.bf16):
            for batch in self._batches:
                prompts = [self._prompts[at] for at in batch]
                said = answer_greedily(model, prompts, (self._yes, self._no), self._end, and_after=False)
                margins[batch] = said.margin.float().cpu().numpy()
        model.train(was_training)
        return f1_of(self._expected, margins > 0)


def check_parts(num_steps: int) -> dict[int, int]:
    """Return the steps after which F1 is measured, each with how many quarters are done by then."""
    return {math.ceil(num_steps * part / NUM_CHECKS): part for part in range(1, NUM_CHECKS + 1)}
