"""The gate, the registry, and why."""

from dataclasses import dataclass
from pathlib import Path

import mlflow
from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger

from pii_finetune.config import RunConfig
from pii_finetune.evaluation import EvaluationReport
from pii_finetune.gate import Decision, decide
from pii_finetune.model_folder import write_model_folder
from pii_finetune.registry import DPO_MODEL, SFT_MODEL, promote, register
from pii_finetune.tracking import TrackedRun, parent_run
from pii_finetune.training import Adapter
from tasks.prepare import stage_folder


@dataclass(frozen=True)
class RegisteredPair:
    """The versions a run registered: the SFT adapter and the DPO adapter trained from it."""

    sft_version: str
    dpo_version: str


@task(name="register models")
def register_models(
    config: RunConfig, sft: Adapter, dpo: Adapter, report: EvaluationReport, fingerprint: str, run: TrackedRun
) -> RegisteredPair:
    """Register both adapters as models anyone can load."""
    versions = {}
    with parent_run(run):
        for name, stage, adapter in ((SFT_MODEL, "sft", sft), (DPO_MODEL, "dpo", dpo)):
            folder = stage_folder(config, run, stage) / "model"
            write_model_folder(folder, adapter.path, config.base, fingerprint)
            tags = {
                "profile": config.profile,
                "dataset_fingerprint": fingerprint,
                "run": run.run_id,
                "test_f1": f"{report.test[stage].f1:.4f}",
            }
            versions[stage] = register(name, Path(folder), tags).version
    return RegisteredPair(str(versions["sft"]), str(versions["dpo"]))


@task(name="decide on promotion")
def decide_promotion(config: RunConfig, report: EvaluationReport, run: TrackedRun) -> Decision:
    """Hold the DPO adapter against the gate, and say why it passes or does not."""
    decision = decide(report.test["dpo"], report.test.get("production"), config.gate)
    rules = "\n".join(
        f"| {rule.name} | {rule.value:.4f} | {rule.threshold:.4f} | {'passed' if rule.passed else '**failed**'} |"
        for rule in decision.rules
    )
    page = f"### {decision.reason}\n\n| rule | value | threshold | verdict |\n|---|---|---|---|\n{rules}\n"
    if report.test["sft"].f1 > report.test["dpo"].f1:
        page += f"\nDPO did not help here: the SFT adapter it starts from has F1 {report.test['sft'].f1:.4f}.\n"
    create_markdown_artifact(page, key="promotion", description="Why the candidate was promoted, or not")
    with parent_run(run):
        mlflow.set_tags({"promoted": str(decision.promote).lower(), "decision": decision.reason})
        mlflow.log_text(page, "decision.md")
        mlflow.log_metrics({f"{stage}_f1": report.test[stage].f1 for stage in report.test})
    get_run_logger().info(decision.reason)
    return decision


@task(name="promote models", retries=3, retry_delay_seconds=5)
def promote_models(pair: RegisteredPair) -> None:
    """Put both versions of the run into production: the DPO model people load and the SFT model it came from."""
    promote(SFT_MODEL, pair.sft_version)
    promote(DPO_MODEL, pair.dpo_version)
