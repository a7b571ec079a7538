"""Every setting of a run, typed and frozen. Fields are named as the library that reads them names them."""

import difflib
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pii_finetune.languages import LANGUAGES, canonical_language
from pii_finetune.model_names import is_variant

Share = Field(gt=0, lt=1)


class Section(BaseModel):
    """A group of settings: immutable, and closed to unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, coerce_numbers_to_str=True)


class DataConfig(Section):
    """The workbook and how it is split."""

    workbook: str = Field(default="data/PII_dataset_2.xlsx", min_length=1)
    sheet: str | None = None  # None: the first sheet
    label_column: str = "label"
    language_column: str = "language"
    sensitive_column: str = "sensitive"
    category_column: str = "category"  # need not be there; figures are also shown by it, and it is never trained on
    languages: list[str] | None = None  # only rows in these are used; None: in all
    unseen: str | None = "data/unseen_concepts.xlsx"  # rows of concepts outside the workbook; None: not measured
    frozen_test: str | None = None  # a workbook whose rows are the test split of every run; None: some of this one
    max_rows: int = Field(default=1_000_000, gt=0)
    on_bad_row: Literal["fail", "drop"] = "fail"
    max_dropped_share: float = Field(
        default=0.05, ge=0, lt=1
    )  # with on_bad_row = "drop": more than this fails all the same
    read_timeout_seconds: float = Field(default=120, gt=0)
    read_memory_mib: int = Field(default=3072, ge=512)  # address space of the process that reads the file
    validation_fraction: float = Share
    test_fraction: float = Share
    seed: int = Field(ge=0, lt=2**32)

    @field_validator("languages", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        return given.split(",") if isinstance(given, str) else given

    @field_validator("languages")
    @classmethod
    def _known_languages(cls, given: list[str] | None) -> list[str] | None:
        """Return them by their English names, each once and in order: the same languages are the same setting."""
        if given is None:
            return None
        if not given:
            raise ValueError("names no language; name some, or set data.languages=null for all")
        for text in given:
            if canonical_language(text) is None:
                near = difflib.get_close_matches(text.strip().title(), LANGUAGES, n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise ValueError(
                    f"{text.strip()!r} is not a language that is known; write its English name or two-letter code, "
                    f"e.g. French or fr{hint}"
                )
        return sorted({name for text in given if (name := canonical_language(text))})

    @model_validator(mode="after")
    def _four_columns(self) -> "DataConfig":
        names = [self.label_column, self.language_column, self.sensitive_column, self.category_column]
        if len({name.strip().casefold() for name in names}) < len(names):
            raise ValueError(f"label, language, sensitive and category must be four columns, not {', '.join(names)}")
        return self

    @model_validator(mode="after")
    def _leave_rows_to_train_on(self) -> "DataConfig":
        if self.validation_fraction + self.test_fraction > 0.8:
            raise ValueError("validation_fraction + test_fraction must leave at least 0.2 of the rows for training")
        return self


class BaseConfig(Section):
    """The model that is fine-tuned."""

    name: str = Field(min_length=1)  # a hub id, or a folder
    revision: str | None = None
    device: Literal["cuda", "cpu"]
    dtype: Literal["float32", "bfloat16"]
    quantization: Literal["nf4", "none"]

    @model_validator(mode="after")
    def _nf4_needs_cuda(self) -> "BaseConfig":
        if self.quantization == "nf4" and self.device != "cuda":
            raise ValueError('quantization "nf4" needs device "cuda"; on a CPU set base.quantization=none')
        return self


class LoraSettings(Section):
    """PEFT's LoraConfig."""

    r: int = Field(gt=0, le=4096)  # no layer of the bases in use is wider
    lora_alpha: int = Field(gt=0)
    lora_dropout: float = Field(ge=0, lt=1)
    target_modules: str | list[str]


class TrainingSection(Section):
    """What SFT and DPO have in common: passed by name to TRL's SFTConfig and DPOConfig."""

    per_device_train_batch_size: int = Field(gt=0)
    per_device_eval_batch_size: int = Field(gt=0)
    gradient_accumulation_steps: int = Field(default=1, gt=0)
    num_train_epochs: float = Field(gt=0)
    max_steps: int = Field(default=-1, ge=-1)  # -1: as many as num_train_epochs makes
    learning_rate: float = Field(gt=0)
    lr_scheduler_type: Literal["linear", "cosine", "constant", "constant_with_warmup"] = "linear"
    warmup_steps: float = Field(default=0, ge=0)  # below 1: a share of all steps
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    optim: str
    eval_steps: int = Field(gt=0)
    logging_steps: int = Field(default=10, gt=0)
    save_strategy: Literal["steps", "epoch", "no"] = "steps"
    save_steps: int = Field(default=50, gt=0)  # steps that a kill may cost; a multiple of logging_steps
    save_total_limit: int = Field(default=2, gt=0)
    gradient_checkpointing: bool

    @model_validator(mode="after")
    def _some_steps(self) -> "TrainingSection":
        if self.max_steps == 0:
            raise ValueError("max_steps must be -1 (no limit) or at least 1")
        return self


class SftSettings(TrainingSection):
    """Supervised fine-tuning."""


class DpoSettings(TrainingSection):
    """Direct preference optimisation."""

    beta: float = Field(gt=0)
    loss_type: list[Literal["sigmoid", "ipo", "hinge", "sft"]] = Field(min_length=1)
    loss_weights: list[float] | None = None  # None: 1.0 each

    @model_validator(mode="after")
    def _one_weight_per_loss(self) -> "DpoSettings":
        if self.loss_weights is not None and len(self.loss_weights) != len(self.loss_type):
            raise ValueError(f"loss_weights has {len(self.loss_weights)} values for {len(self.loss_type)} loss_type")
        return self


class FusedSettings(Section):
    """How `trainer = "fused"` goes about it; none of these changes what is learnt."""

    # Rows that follow one copy of the tokens all prompts start with. More share more, and attention looks at more that
    # is masked out: at batch 16 on two cores 8 was fastest of 1, 4, 8 and 16, by a hair.
    rows_per_sequence: int = Field(default=8, gt=0)
    compile_layers: bool = False  # one decoder layer for all; on CUDA only, elsewhere nothing; needs a C compiler


class EvaluationConfig(Section):
    """How models are measured."""

    batch_size: int = Field(gt=0)


class GateConfig(Section):
    """What a candidate must show before it is promoted."""

    minimum_f1: float = Field(ge=0, le=1)  # of the answer "sensitive", on the test split
    # Share of the sensitive labels that are found. A missed one costs more than a false alarm, so it has a floor of its
    # own: F1 0.8 alone lets one in three be missed.
    minimum_recall: float = Field(default=0.8, ge=0, le=1)
    minimum_format_validity: float = Field(default=0.95, ge=0, le=1)  # share of answers that are exactly yes or no
    paired_test: Literal["bootstrap", "mcnemar"] = "bootstrap"  # against Production, on the same rows
    # One-sided: how often chance may speak against a model that is as good (mcnemar), or for one that is worse by the
    # margin (bootstrap). 0.05: Fisher (1925), section 12.
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    # F1 that the new model may be worse by for all the bootstrap can tell. Fixed before the data are seen, as Piaggio
    # et al. (2012) ask; 0.02 is what sampling alone moves on 300 test rows (docs/adr/0006).
    noninferiority_margin: float = Field(default=0.02, ge=0, le=1)
    max_language_regression: float = Field(default=0.05, ge=0, le=1)  # F1 that a language may lose against Production
    # Test rows below which a language is listed and not judged: with 100, sampling alone seldom moves F1 by 0.05.
    min_language_rows: int = Field(default=100, ge=1)
    baselines: Literal["warn", "veto"] = "warn"  # what it means to be no better than a baseline in F1


class CalibrationConfig(Section):
    """How margins become probabilities, and which answers go to a person."""

    method: Literal["auto", "temperature", "isotonic", "none"] = "auto"  # auto: what predicts held-out rows better
    # Share of each answer, yes and no, that must be right; what is not sure enough goes to review. None: nothing does.
    review_precision: float | None = Field(default=None, gt=0.5, lt=1)


class RuntimeConfig(Section):
    """On how many processes and machines a training runs."""

    num_processes: int = Field(default=0, ge=0)  # on all machines together, one a GPU; 0: in the run's own process
    num_nodes: int = Field(default=1, ge=1)  # machines; on each but the first `pii-finetune join` must run
    rendezvous: str | None = Field(
        default=None, pattern=r"^\S+:\d+$"
    )  # host:port of the first machine, where the others find it
    # fsdp2: each GPU holds its share of the base, and of its adapters, instead of all of it; with trainer = "trl"
    sharding: Literal["none", "fsdp2"] = "none"
    max_restarts: int = Field(default=3, ge=0)  # of all processes, when one of them dies

    @property
    def num_here(self) -> int:
        """How many processes this machine trains with."""
        return max(1, self.num_processes // self.num_nodes)

    @model_validator(mode="after")
    def _as_many_on_each_node(self) -> "RuntimeConfig":
        if self.num_processes % self.num_nodes:
            raise ValueError(
                f"{self.num_processes} num_processes cannot be the same number on each of {self.num_nodes} num_nodes"
            )
        if self.num_nodes > 1 and (self.num_processes == 0 or self.rendezvous is None):
            raise ValueError("num_nodes above 1 needs num_processes, and a rendezvous host:port on the first of them")
        if self.sharding != "none" and (self.num_processes == 0 or self.num_nodes > 1):
            raise ValueError(f"sharding {self.sharding!r} needs num_processes, and all of them on one machine")
        return self


class TrackingConfig(Section):
    """Where results go in MLflow. The server's address is never a setting: it comes from MLFLOW_TRACKING_URI."""

    experiment: str = Field(default="pii-finetune", min_length=1)
    log_system_metrics: bool = True
    request_timeout_seconds: int = Field(default=10, gt=0)  # of each request; a training never waits for one
    # How long a run waits for a server that is away, before and after a training and for its last metrics.
    patience_seconds: float = Field(default=600, ge=0)


class RunConfig(Section):
    """A complete run."""

    profile: str
    variant: str | None = None  # a pair of models of its own, pii-dpo-VARIANT and pii-sft-VARIANT; None: the common one
    seed: int = Field(ge=0, lt=2**32)  # everything but the split
    output_dir: str = "outputs"  # checkpoints and reports of a run, in a folder of its own below this one
    data: DataConfig
    base: BaseConfig
    lora: LoraSettings
    # fused: the same losses and gradients as TRL's trainers, without what they compute twice (docs/adr/0008)
    trainer: Literal["trl", "fused"] = "trl"
    fused: FusedSettings = FusedSettings()
    sft: SftSettings
    dpo: DpoSettings
    evaluation: EvaluationConfig
    gate: GateConfig
    calibration: CalibrationConfig = CalibrationConfig()
    tracking: TrackingConfig = TrackingConfig()
    runtime: RuntimeConfig = RuntimeConfig()

    @field_validator("variant")
    @classmethod
    def _can_be_part_of_a_name(cls, given: str | None) -> str | None:
        if given is not None and not is_variant(given):
            raise ValueError(
                "becomes part of the names of two models: write at most 100 letters (a to z, A to Z), digits, '-', '_' "
                "and '.', the first of them a small letter, e.g. fr or hr-2026"
            )
        return given

    @model_validator(mode="after")
    def _sharding_is_of_gpus(self) -> "RunConfig":
        if self.runtime.sharding != "none" and self.base.device != "cuda":
            raise ValueError(f'runtime.sharding {self.runtime.sharding!r} needs base.device "cuda"')
        return self
