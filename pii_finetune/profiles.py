"""The recipes. `seed` is stated in full; every other profile states only how it differs."""

from collections.abc import Callable

from pii_finetune.config import (
    BaseConfig,
    DataConfig,
    DpoSettings,
    EvaluationConfig,
    GateConfig,
    LoraSettings,
    RunConfig,
    SftSettings,
    TrainingSection,
)
from pii_finetune.overrides import apply_overrides


def seed() -> RunConfig:
    """Qwen2.5-1.5B-Instruct with 4-bit QLoRA: the recipe this project was started to keep running."""
    shared = TrainingSection(
        per_device_train_batch_size=2,
        per_device_eval_batch_size=4,
        num_train_epochs=3,
        learning_rate=2e-4,  # QLoRA (Dettmers et al., 2023), table 9: 2e-4 for models up to 13B
        optim="paged_adamw_8bit",
        eval_steps=50,
        save_strategy="epoch",
        gradient_checkpointing=True,
    ).model_dump()
    return RunConfig(
        profile="seed",
        seed=42,
        data=DataConfig(validation_fraction=0.1, test_fraction=0.2, seed=42),
        base=BaseConfig(name="Qwen/Qwen2.5-1.5B-Instruct", device="cuda", dtype="bfloat16", quantization="nf4"),
        trainer="fused",
        lora=LoraSettings(r=16, lora_alpha=16, lora_dropout=0.1, target_modules=["q_proj", "v_proj"]),
        sft=SftSettings(**shared),
        dpo=DpoSettings(**shared, beta=0.1, loss_type=["sigmoid"]),  # beta: DPO (Rafailov et al., 2023), section 6
        evaluation=EvaluationConfig(batch_size=1024),
        gate=GateConfig(minimum_f1=0.8),
    )


def fast() -> RunConfig:
    """`seed` at a batch size that fills a GPU: 32 times the rows a step, and the start of all prompts computed once.

    The learning rate grows with the square root of the batch size, as it should for Adam (Malladi et al., 2022).
    Without dropout, for rows that share tokens would share its mask; what that costs is in benchmarks/README.md.
    """
    return apply_overrides(
        seed(),
        {
            "profile": "fast",
            "lora.lora_dropout": 0.0,
            "fused.rows_per_sequence": 16,
            **{
                f"{stage}.{name}": value
                for stage in ("sft", "dpo")
                for name, value in {
                    "per_device_train_batch_size": 64,
                    "per_device_eval_batch_size": 64,
                    "learning_rate": 1.1e-3,
                    "gradient_checkpointing": False,
                    "save_strategy": "steps",
                }.items()
            },
        },
    )


def embedded() -> RunConfig:
    """No GPU, no hub: the 5M-parameter base in data/, minutes on two cores.

    Learning rates and LoRA targets are those at which so small a base moves at all; what they reach is in
    data/embedded-base/README.md.
    """
    training = {
        "per_device_train_batch_size": 16,
        "per_device_eval_batch_size": 64,
        "optim": "adamw_torch",
        "eval_steps": 270,
        "gradient_checkpointing": False,
        "save_strategy": "steps",
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.05,
    }
    return apply_overrides(
        seed(),
        {
            "profile": "embedded",
            "base.name": "data/embedded-base",
            "base.device": "cpu",
            "base.dtype": "float32",
            "base.quantization": "none",
            # A regular expression: the upper four of six layers. The lower ones already say what a label means, in
            # every language alike; trained on, they unlearn it, and a step takes longer.
            "lora.target_modules": r".*layers\.[2345]\..*_proj",
            "lora.lora_dropout": 0.0,
            "evaluation.batch_size": 32,  # on two cores two batches at once, of states that stay in the caches
            **{f"{stage}.{name}": value for stage in ("sft", "dpo") for name, value in training.items()},
            "sft.learning_rate": 1.5e-3,
            "sft.num_train_epochs": 5,
            "dpo.max_steps": 25,
            "dpo.learning_rate": 5e-5,
            "dpo.loss_type": ["sigmoid", "sft"],
        },
    )


PROFILES: dict[str, Callable[[], RunConfig]] = {recipe.__name__: recipe for recipe in (embedded, seed, fast)}
