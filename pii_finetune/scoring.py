"""Asking a model about labels: how much it leans to yes, and whether its answer has the form it should have."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from safetensors import safe_open
from transformers import PreTrainedTokenizerBase, Qwen2ForCausalLM

from pii_finetune.base_model import load_base, load_tokenizer
from pii_finetune.config import BaseConfig
from pii_finetune.fused.answers import answer_greedily
from pii_finetune.fused.dequantize import dequantize_once
from pii_finetune.fused.merged import MergedAdapters, can_be_merged
from pii_finetune.labels import spell_out
from pii_finetune.memory import in_smaller_batches
from pii_finetune.prompt import tokenize_prompts
from pii_finetune.scores import Question, Scores

_MAX_WORKERS = 4  # a fifth of a batch's time is Python's, which runs one thread at a time

Answers = tuple[torch.Tensor, torch.Tensor]  # (B,) margin, (B,) whether it has the right form


class Scorer:
    """A base with any number of adapters, of which one, or none, answers."""

    def __init__(self, base: BaseConfig, adapters: dict[str, Path], batch_size: int) -> None:
        self._tokenizer: PreTrainedTokenizerBase = load_tokenizer(base)
        self._model: Any = load_base(base)  # a PreTrainedModel, or a PeftModel around it
        self._is_qwen2 = isinstance(self._model, Qwen2ForCausalLM)
        self._batch_size = batch_size
        self._yes, self._no = (_only_token(self._tokenizer, answer) for answer in ("yes", "no"))
        self._end = _only_token(self._tokenizer, str(self._tokenizer.eos_token))
        for name, path in adapters.items():
            kept: dict[str, Any] = {"adapter_name": name, "autocast_adapter_dtype": not _in_bfloat16(path)}
            if isinstance(self._model, PeftModel):
                self._model.load_adapter(str(path), **kept)
            else:
                self._model = PeftModel.from_pretrained(self._model, path, **kept)
        dequantize_once(self._model)
        self._model.eval()
        mergeable = isinstance(self._model, PeftModel) and can_be_merged(self._model)
        self._merged = MergedAdapters(self._model) if mergeable else None

    def score(self, questions: Sequence[Question], adapter: str | None, check_format: bool = True) -> Scores:
        """Answer N questions with the named adapter, or with the base alone if None; what reads alike is asked once.

        With `check_format`, `valid` says that what greedy decoding writes is exactly `yes` or `no`, then the end of the
        turn; without, that the likeliest first token is `yes` or `no`. Either way a question costs one forward pass,
        less the tokens it shares with its neighbours. A base of another architecture is asked by generate().
        """
        read_as = [(spell_out(label), language) for label, language in questions]
        distinct = list(dict.fromkeys(read_as))
        # Neighbours in one language share the most tokens at the start; like lengths leave attention no gaps.
        order = sorted(range(len(distinct)), key=lambda at: (distinct[at][1] or "", len(distinct[at][0])))
        starts = range(0, len(order), self._batch_size)
        batches = [[distinct[at] for at in order[start : start + self._batch_size]] for start in starts]
        with self._answering_as(adapter):
            found = self._ask_all(batches, check_format)
        margin, valid = np.zeros(len(distinct)), np.zeros(len(distinct), dtype=bool)
        if found:  # only now are the figures waited for; a GPU was given one batch after the other
            margin[order], valid[order] = (torch.cat(each).cpu().numpy() for each in zip(*found, strict=True))
        place = {key: at for at, key in enumerate(distinct)}
        back = [place[key] for key in read_as]
        return Scores(margin[back], valid[back])

    def _ask_all(self, batches: list[list[Question]], check_format: bool) -> list[Answers]:
        """Ask about batch after batch; on a CPU about several at once, each on a core of its own.

        So no core waits where a tensor is too small to be shared, or while Python prepares the next batch.
        """
        prompts = (tokenize_prompts(self._tokenizer, batch) for batch in batches)  # by one thread, as they are wanted

        def ask(batch: list[list[int]]) -> Answers:
            with torch.inference_mode():  # a thread's own
                asked = list(in_smaller_batches(batch, self._batch_size, partial(self._ask, check_format=check_format)))
            if len(asked) > 1:  # memory did not suffice, here or before
                self._batch_size = min(self._batch_size, max(len(part) for part, _ in asked))
            margin, valid = zip(*(answers for _, answers in asked), strict=True)
            return torch.cat(margin), torch.cat(valid)

        if self._model.device.type != "cpu" or not self._is_qwen2:
            return [ask(batch) for batch in prompts]
        num_cores = torch.get_num_threads()
        num_workers = min(num_cores, _MAX_WORKERS)
        pool = ThreadPoolExecutor(num_workers, initializer=torch.set_num_threads, initargs=(num_cores // num_workers,))
        try:
            return list(pool.map(ask, prompts))
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(num_cores)  # threads that are born later start with what any thread set last

    def _ask(self, prompts: Sequence[list[int]], check_format: bool) -> Answers:
        if not self._is_qwen2:
            return self._generate(prompts)
        said = answer_greedily(self._model, prompts, (self._yes, self._no), self._end, and_after=check_format)
        return said.margin, (said.is_answer if said.ends is None else said.is_answer & said.ends).any(-1)

    def _answering_as(self, adapter: str | None) -> AbstractContextManager[None]:
        if self._merged is not None:
            self._merged.use(adapter)
            return nullcontext()
        if not isinstance(self._model, PeftModel):
            return nullcontext()
        if adapter is None:
            return self._model.disable_adapter()
        self._model.set_adapter(adapter)
        return nullcontext()

    def _generate(self, prompts: Sequence[list[int]]) -> Answers:
        """Decode two tokens greedily: the reference for what a user of the model would see."""
        padded = self._tokenizer.pad({"input_ids": list(prompts)}, return_tensors="pt").to(self._model.device)
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
        logits = generated.logits[0].float()  # (B, V)
        margin, first = logits[:, self._yes] - logits[:, self._no], logits.argmax(-1)
        answer = generated.sequences[:, padded["input_ids"].shape[1] :]
        right_word = (first == self._yes) | (first == self._no)
        if answer.shape[1] < 2:  # every first token ended its turn
            return margin, torch.zeros_like(right_word)
        return margin, right_word & (answer[:, 1] == self._tokenizer.eos_token_id)


def _only_token(tokenizer: PreTrainedTokenizerBase, answer: str) -> int:
    ids = tokenizer.encode(answer, add_special_tokens=False)
    if len(ids) != 1:
        raise ValueError(
            f"the tokenizer of this base writes {answer!r} as {len(ids)} tokens; it must be one to be scored"
        )
    return int(ids[0])


def _in_bfloat16(adapter: Path) -> bool:
    """Return whether an adapter was trained, and is kept, in bfloat16: widened by PEFT it would only be slower."""
    with safe_open(adapter / "adapter_model.safetensors", framework="pt") as weights:
        return all(weights.get_slice(name).get_dtype() == "BF16" for name in weights.keys())  # noqa: SIM118 # no dict
