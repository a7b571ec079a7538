"""The gate, the registry, and why."""

from collections.abc import Mapping
from dataclasses import dataclass

import mlflow
from prefect import task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from pii_finetune.config import RunConfig
from pii_finetune.gate import Decision, decide
from pii_finetune.model_card import render_model_card
from pii_finetune.model_folder import write_model_folder
from pii_finetune.model_names import ModelPair, model_names
from pii_finetune.patience import patiently
from pii_finetune.provenance import card_facts, describe_data, describe_origin
from pii_finetune.registry import MODEL_KEY, promote_pair, register, version_of_key
from pii_finetune.result_log import log_numbers
from pii_finetune.run_report import RunFacts, render_run_report
from pii_finetune.setup import changed_rules, describe_settings
from pii_finetune.splits import Splits
from pii_finetune.stage_keys import dpo_key, model_key, sft_key
from pii_finetune.tracking import TrackedRun, parent_run
from pii_finetune.training import Adapter
from pii_finetune.validation import ValidationReport
from tasks.artifacts import leave
from tasks.evaluate import BASELINES, Evaluated
from tasks.prepare import stage_folder

_CARD = "README.md"  # the name under which the hub, and people, look for a card


@dataclass(frozen=True)
class RegisteredPair:
    """The versions a run registered, and of what: the SFT adapter and the DPO adapter trained from it."""

    names: ModelPair
    sft_version: str
    dpo_version: str


@task(name="decide on promotion")
def decide_promotion(config: RunConfig, evaluated: Evaluated, run: TrackedRun) -> Decision:
    """Hold the DPO adapter against the gate, and say why it passes or does not."""
    report = evaluated.report
    production = report.evidence("production") if evaluated.production is not None else None
    baselines = {name: report.evidence(name) for name in BASELINES}
    decision = decide(report.evidence("dpo"), production, baselines, config.gate)
    verdicts = {True: "passed", False: "**refused**"}
    rules = "\n".join(
        f"| {rule.name} | {rule.value:.4f} | {rule.threshold:.4f} "
        f"| {verdicts[rule.passed] if rule.passed or rule.severity == 'veto' else 'noted'} | {rule.explanation} |"
        for rule in decision.rules
    )
    page = f"### {decision.reason}\n\n| rule | value | threshold | verdict | why |\n|---|---|---|---|---|\n{rules}\n"
    if report.test["sft"].f1 > report.test["dpo"].f1:
        page += f"\nDPO did not help here: the SFT adapter it starts from has F1 {report.test['sft'].f1:.4f}.\n"
    if changed := changed_rules(config):
        page += f"\nThe rules were set otherwise for this run: {', '.join(f'{k} = {v}' for k, v in changed.items())}.\n"
    leave(create_markdown_artifact, page, key="promotion", description="Why the candidate was promoted, or not")
    with parent_run(run):
        patiently(mlflow.set_tags, {"promoted": str(decision.promote).lower(), "decision": decision.reason})
        patiently(mlflow.log_text, page, "decision.md")
        log_numbers({f"{stage}_f1": report.test[stage].f1 for stage in report.test})
    get_run_logger().info(decision.reason)
    return decision


@task(name="write report")
def write_report(
    config: RunConfig,
    workbook: ValidationReport,
    splits: Splits,
    evaluated: Evaluated,
    decision: Decision,
    run: TrackedRun,
    data_is_newest: bool,
) -> None:
    """Keep the one page that says why this model is in production, or not, in MLflow, and link to it."""
    facts = RunFacts(
        title=f"{model_names(config.variant).dpo} from {workbook.path.name}",
        decision=decision,
        evaluation=evaluated.report,
        calibration=evaluated.calibrations["dpo"],
        data=describe_data(workbook, splits),
        provenance=_origin(config, run),
        recipe=describe_settings(config),
        changed_rules=changed_rules(config),
        data_is_newest=data_is_newest,
    )
    with parent_run(run):
        patiently(mlflow.log_text, render_run_report(facts), "report.html")
    leave(
        create_link_artifact,
        f"{run.url}/artifacts/report.html",
        key="report",
        link_text="the report on this run",
        description="Why this model is in production, or not, on one page",
    )


@task(name="register models")
def register_models(
    config: RunConfig,
    adapters: Mapping[str, Adapter],
    workbook: ValidationReport,
    splits: Splits,
    evaluated: Evaluated,
    decision: Decision,
    run: TrackedRun,
) -> RegisteredPair:
    """Register both adapters as models anyone can load, each with its card."""
    report, origin = evaluated.report, _origin(config, run)
    versions, names = {}, model_names(config.variant)
    stage_keys = {"sft": sft_key(config, splits), "dpo": dpo_key(config, splits)}
    with parent_run(run):
        for stage, name in (("sft", names.sft), ("dpo", names.dpo)):
            calibration = evaluated.calibrations[stage]
            key = model_key(stage_keys[stage], calibration.to_dict())
            if (known := version_of_key(name, key)) is not None:
                get_run_logger().info("%s: the same model is version %s already", name, known)
                versions[stage] = known
                continue
            folder = stage_folder(config, stage, stage_keys[stage]) / "model"
            manifest = write_model_folder(folder, adapters[stage].path, config.base, workbook.fingerprint, calibration)
            card = render_model_card(
                card_facts(name, stage, config, workbook, splits, report, calibration, decision, origin)
            )
            patiently(mlflow.log_text, card, f"{stage}-card/{_CARD}")
            measured = report.test[stage]
            tags = {
                MODEL_KEY: key,
                "profile": config.profile,
                "dataset_fingerprint": workbook.fingerprint,
                "run": run.run_id,
                "run_url": run.url,
                "base": f"{manifest.base_name}@{manifest.base_revision or manifest.base_config_sha256[:12]}",
                "gate": "passed" if decision.promote else "failed",
                "gate_reason": decision.reason,
                "gate_rules_changed": ", ".join(changed_rules(config)) or "none",
                **{f"test_{key}": f"{value:.4f}" for key, value in measured.as_dict().items() if key != "num_rows"},
            }
            description = (
                f"{decision.reason}\n\n{stage.upper()} adapter: F1 {measured.f1:.4f}, recall {measured.recall:.4f}, "
                f"precision {measured.precision:.4f} on {measured.num_rows:,} test rows.\n\n"
                f"[The run]({run.url}) · [its report]({run.url}/artifacts/report.html)"
            )
            versions[stage] = register(name, folder, tags, description).version
    return RegisteredPair(names, str(versions["sft"]), str(versions["dpo"]))


@task(name="promote models", retries=3, retry_delay_seconds=5)
def promote_models(pair: RegisteredPair, evaluated: Evaluated, decision: Decision) -> None:
    """Put both versions of the run into production, unless another model was put there since the comparison."""
    patiently(
        promote_pair,
        pair.sft_version,
        pair.dpo_version,
        reason=decision.reason,
        by=f"flow run {flow_run.get_id()}",
        expected_production=evaluated.production,
        pair=pair.names,
    )


def _origin(config: RunConfig, run: TrackedRun) -> dict[str, str]:
    return describe_origin(config, run, {"Prefect flow run": f"{flow_run.get_name()} ({flow_run.get_id()})"})
