"""TRL's trainers with another step: the loop, callbacks, checkpoints, schedule and logs stay theirs.

Of Trainer, this replaces how a batch is collated (layout.py), the forward and backward pass (policy.py; as a CUDA graph
where there is a GPU), what the optimizer sees (flat_parameters.py), and the evaluation, which asks in batches of a size
that suits the machine. What TRL logs is logged under the same names. Figures are summed on the device and read when an
entry is due: each look at a number waits for the GPU.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any, TypeVar

import torch
from transformers.trainer_utils import speed_metrics

from pii_finetune.checkpoints import WholeCheckpoints
from pii_finetune.config import FusedSettings
from pii_finetune.distributed.ranks import add_over_ranks, num_ranks, rank
from pii_finetune.fused.decoder import FrozenStart, num_frozen_layers, states_after
from pii_finetune.fused.dequantize import dequantize_once
from pii_finetune.fused.flat_parameters import FlatParameters, without_waiting
from pii_finetune.fused.graphs import GraphedStep
from pii_finetune.fused.layout import Layout, Row, lay_out, own_tokens, shared_start
from pii_finetune.fused.policy import AnswerScores, score_answers
from pii_finetune.memory import in_smaller_batches

# Sequence lengths are rounded up to a multiple of this on a GPU: each length is a graph of its own, and at the batch
# sizes that need graphs, more tokens cost next to nothing.
_LENGTH_STEP = 32
_ROWS_WITHOUT_GRADIENT = {"cuda": 512, "cpu": 64}  # a pass keeps nothing for a backward pass and can be wider
_LARGEST_TABLE_BYTES = 2**30
Result = TypeVar("Result")


class FusedTrainer(WholeCheckpoints):
    """What FusedSFTTrainer and FusedDPOTrainer share; mixed in before TRL's trainer."""

    # What the sum of losses is divided by: SFT's answer tokens of all batches that are accumulated, or DPO's rows.
    per_token: bool
    figure_names: tuple[str, ...]
    model: Any  # a PeftModel
    _metrics: dict[str, dict[str, list[float]]]  # TRL's, by "train" and "eval"
    _total_train_tokens: int  # TRL's

    def use_rows(self, train: Sequence[Row], evaluation: Sequence[Row], settings: FusedSettings) -> None:
        """Train and evaluate on these rows; TRL's sampler draws them as it would have drawn its own."""
        self._rows_per_sequence, self._compiles = settings.rows_per_sequence, settings.compile_layers
        self._shared = shared_start([row.prompt for row in (*train, *evaluation)])
        if self.args.device.type == "cuda":
            dequantize_once(self.model)
        firsts = accumulate((own_tokens(row, self._shared) for row in (*train, *evaluation)), initial=self._shared)
        rows = [replace(row, first=first) for row, first in zip((*train, *evaluation), firsts, strict=False)]
        self.train_rows, self.evaluation_rows = rows[: len(train)], rows[len(train) :]
        self.train_dataset: Any = list(enumerate(self.train_rows))  # all that a sampler asks for
        self.data_collator: Any = self._collate
        # Dropout draws a mask for each position: what rows share would be dropped in all of them alike.
        has_dropout = any(isinstance(m, torch.nn.Dropout) and m.p > 0 for m in self.model.modules())
        self._shared_in_training = 0 if has_dropout else self._shared
        self._rows_in_training = 1 if has_dropout else min(self._rows_per_sequence, self.args.train_batch_size)
        num_answers = len(train[0].answers)
        self.references = torch.zeros(len(train), num_answers, device=self.args.device)
        self.evaluation_references = torch.zeros(len(evaluation), num_answers, device=self.args.device)
        self._start: FrozenStart | None = None
        self._num_batches = 0
        # Gradients are added up here, all in one piece: nothing is left for DDP to do. Accelerate would also move the
        # model of a single process from "cpu" to "cpu:0", off the vector that the optimizer works on.
        if torch.distributed.is_initialized():
            self.accelerator.prepare_model = lambda model, device_placement=None, evaluation_mode=False: model  # noqa: ARG005

    def losses(self, scores: AnswerScores, layout: Layout, reference: torch.Tensor) -> torch.Tensor:
        """Return each row's loss (B,), 0 for rows that only fill up the batch."""
        raise NotImplementedError

    def figures(self, scores: AnswerScores, layout: Layout, reference: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return what TRL logs of a batch, by TRL's names."""
        raise NotImplementedError

    # -- what Trainer calls ---------------------------------------------------------------------------------------

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Make the optimizer TRL would make, over one flat tensor; and all that the steps read and write."""
        if self.optimizer is None:
            self._flat = FlatParameters(p for p in self.model.parameters() if p.requires_grad)
            kind, settings = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            group = {"params": [self._flat.weights], "weight_decay": self.args.weight_decay}
            self.optimizer = without_waiting(kind)([group], **settings)
            self.optimizer.register_step_post_hook(lambda *_: self._flat.forget_gradients())
            self._loss = torch.zeros((), device=self.args.device)
            self._sums = torch.zeros(len(self.figure_names), device=self.args.device)
            self._start = self._frozen_start()
            self._step = self._forward_backward
            if self.args.device.type == "cuda":
                self._step = GraphedStep(self._forward_backward, [self._flat.gradient, self._loss, self._sums])
                if self._compiles:
                    # One compilation serves all: the first differs, for nothing below it needs a gradient.
                    for layer in self._decoder.layers[1:-1]:
                        layer.compile(dynamic=False)
        return self.optimizer

    def get_train_dataloader(self) -> Any:
        """Draw whole batches in every process, each of which then takes its own rows: no epoch ends with rows twice."""
        own = self._train_batch_size
        self._train_batch_size = own * num_ranks()
        loader: Any = super().get_train_dataloader()
        self._train_batch_size = own
        if num_ranks() > 1:
            loader.batch_sampler.num_processes, loader.batch_sampler.process_index = 1, 0
            loader.batch_sampler.even_batches = False
        return loader

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> int:
        return sum(batch["num_items"] for batch in batch_samples)

    def training_step(self, model: Any, inputs: Mapping[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """Add the gradients of one batch and return its loss, on the device."""
        if not model.training:
            model.train()
        divisor = (
            num_items_in_batch if self.per_token else inputs["num_rows"] * self.current_gradient_accumulation_steps
        )
        reference = self.references[torch.tensor(inputs["rows"]).to(self.args.device, non_blocking=True)]
        self._step([*inputs["layout"].tensors, reference, torch.tensor(inputs["weight"] / divisor)])
        self._num_batches += 1
        self._total_train_tokens += inputs["num_tokens"]
        return self._loss * num_ranks()  # Trainer takes the mean over processes

    def _clip_grad_norm(self, model: Any) -> torch.Tensor:
        add_over_ranks(self._flat.gradient)
        return self._flat.clip_gradients(self.args.max_grad_norm)

    def floating_point_ops(self, inputs: Any) -> int:
        """Return 0: Trainer's estimate is of whole prompts."""
        return 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log as TRL does, with the figures summed since the last entry."""
        if self.model.training and self._num_batches:
            add_over_ranks(self._sums)
            means = (self._sums / (self._num_batches * num_ranks())).tolist()
            self._metrics["train"].update({name: [mean] for name, mean in zip(self.figure_names, means, strict=True)})
            self._metrics["train"]["num_tokens"] = [self._total_train_tokens]
            self._sums.zero_()
            self._num_batches = 0
        super().log(logs, start_time)

    def evaluate(self, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> dict[str, float]:
        """Ask every row set aside once and log the loss and TRL's figures, averaged over rows."""
        started, num_rows = time.time(), len(self.evaluation_rows)
        loss, sums = (
            torch.zeros((), device=self.args.device),
            torch.zeros(len(self.figure_names), device=self.args.device),
        )
        self.model.eval()
        own = range(rank(), num_rows, num_ranks())
        for numbers, layout, scores in self.passes([self.evaluation_rows[at] for at in own]):
            reference = self.evaluation_references[[own[at] for at in _filled(numbers, layout)]]
            loss += self.losses(scores, layout, reference).sum()
            sums += torch.stack(list(self.figures(scores, layout, reference).values())) * len(numbers)
        add_over_ranks(loss, sums)
        num_tokens = sum(len(answer) for row in self.evaluation_rows for answer in row.answers)
        figures = zip(self.figure_names, (sums / num_rows).tolist(), strict=True)
        self._metrics["eval"].update({name: [mean] for name, mean in figures})
        self._metrics["eval"]["num_tokens"] = [self._total_train_tokens]
        metrics = {f"{metric_key_prefix}_loss": loss.item() / (num_tokens if self.per_token else num_rows)}
        metrics |= speed_metrics(metric_key_prefix, started, num_samples=num_rows)
        self.log(metrics)
        self.model.train()
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    # -- the passes -----------------------------------------------------------------------------------------------

    def _forward_backward(self, tensors: Sequence[torch.Tensor]) -> None:
        *laid_out, reference, scale = tensors
        layout = Layout(*laid_out)
        with self._autocast():
            scores = score_answers(self.model, layout, self._start)
        loss = self.losses(scores, layout, reference).sum() * scale
        self._flat.add_gradients(torch.autograd.grad(loss, self._flat.leaves))
        self._loss.copy_(loss.detach())
        self._sums.add_(torch.stack(list(self.figures(scores, layout, reference).values())))

    def passes(self, rows: Sequence[Row]) -> Iterator[tuple[list[int], Layout, AnswerScores]]:
        """Score rows without gradient in wide batches, longest first; yield which rows each batch holds."""

        def ask(layout: Layout) -> AnswerScores:
            # Evaluation is not worth a compilation of its own.
            with torch.no_grad(), self._autocast(), torch.compiler.set_stance("force_eager"):
                return score_answers(self.model, layout, self._start)

        for numbers, (layout, scores) in self._wide(rows, ask):
            yield list(numbers), layout, scores

    def _wide(
        self, rows: Sequence[Row], ask: Callable[[Layout], Result]
    ) -> Iterator[tuple[Sequence[int], tuple[Layout, Result]]]:
        def ask_of(numbers: Sequence[int]) -> tuple[Layout, Result]:
            layout = lay_out([rows[at] for at in numbers], self._shared, self._rows_per_sequence)
            layout = layout.to(self.args.device)
            return layout, ask(layout)

        order = sorted(range(len(rows)), key=lambda at: -len(rows[at].prompt))
        return in_smaller_batches(order, _ROWS_WITHOUT_GRADIENT[self.args.device.type], ask_of)

    def _frozen_start(self) -> FrozenStart | None:
        """Run the lowest layers once for every row, if that is less than training would run them, and fits."""
        num_layers = num_frozen_layers(self._decoder)
        rows = [*self.train_rows, *self.evaluation_rows]
        num_tokens = rows[-1].first + own_tokens(rows[-1], self._shared)
        hidden = self._decoder.config.hidden_size
        too_large = num_tokens * hidden * self._decoder.dtype.itemsize > _LARGEST_TABLE_BYTES
        if num_layers == 0 or too_large or self._num_visits() < len(rows):
            return None
        table = torch.empty(num_tokens, hidden, dtype=self._decoder.dtype, device=self.args.device)

        def states_of(layout: Layout) -> torch.Tensor:
            with torch.no_grad(), self._autocast():
                return states_after(self._decoder, num_layers, layout)

        for _, (layout, states) in self._wide(rows, states_of):
            is_token = layout.row >= 0
            table[layout.source[is_token]] = states[is_token].to(table.dtype)
        return FrozenStart(num_layers, table)

    def _num_visits(self) -> int:
        """Return how many rows this process trains on, those of all epochs counted."""
        return self.state.max_steps * self.args.train_batch_size * self.args.gradient_accumulation_steps

    def _collate(self, batch: Sequence[tuple[int, Row]]) -> dict[str, Any]:
        """Lay out this process's rows of a batch; what losses are divided by is of the whole of it."""
        numbered = batch[rank() :: num_ranks()] or batch[:1]  # fewer rows than processes: one that counts for nothing
        rows = [row for _, row in numbered]
        layout = lay_out(
            rows,
            self._shared_in_training,
            self._rows_in_training,
            num_rows=self.args.train_batch_size,
            multiple_of=_LENGTH_STEP if self.args.device.type == "cuda" else 1,
        )
        numbers = [number for number, _ in numbered]
        return {
            "layout": layout,
            "rows": _filled(numbers, layout),
            "weight": float(rank() < len(batch)),
            "num_rows": len(batch),
            "num_items": sum(len(answer) for _, row in batch for answer in row.answers),
            "num_tokens": sum(row.num_tokens for _, row in batch),
        }

    @property
    def _decoder(self) -> Any:
        return self.model.get_base_model().model

    def _autocast(self) -> torch.autocast:
        # Without the cache of cast weights: a CUDA graph must cast anew what the optimizer has changed.
        return torch.autocast(self.args.device.type, torch.bfloat16, enabled=self.args.bf16, cache_enabled=False)


def _filled(numbers: list[int], layout: Layout) -> list[int]:
    """Give the rows that fill up a batch a number, too: any, for they count for nothing."""
    return numbers + [numbers[-1]] * (len(layout.counts) - len(numbers))
