"""`pii-finetune` and its commands. Exit code 0: done, 1: failed, 2: bad usage or bad input."""

import argparse
import io
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from pii_finetune import __version__
from pii_finetune.errors import BadConfigError, PiiFinetuneError, UserError
from pii_finetune.quiet import quiet_loggers


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; it imports nothing heavy, so --help answers at once."""
    parser = argparse.ArgumentParser(
        prog="pii-finetune",
        description="Keep a small language model good at telling sensitive data labels from harmless ones.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="the whole flow: validate, train, evaluate, promote if better")
    run.add_argument(
        "--force", action="store_true", help="repeat stages that an earlier run of the same data and settings finished"
    )
    _add_recipe_options(run)
    _add_data_options(run)

    _add_sweep_command(commands.add_parser("sweep", help="train with many settings; judge and promote the best"))

    join = commands.add_parser("join", help="lend this machine's GPUs to a run on another one (runtime.num_nodes)")
    join.add_argument("rendezvous", metavar="HOST:PORT", help="the run's runtime.rendezvous")
    join.add_argument(
        "--patience-minutes",
        type=float,
        default=15,
        metavar="N",
        help="how long to wait for the next training before ending (default: %(default)s)",
    )

    validate = commands.add_parser("validate", help="check a workbook and say what to mend")
    validate.add_argument(
        "file",
        metavar="FILE",
        help="a workbook (.xlsx, .ods, .csv, .tsv or .parquet), a folder of these, a URL of either, or hf://owner/name",
    )
    validate.add_argument(
        "--docs", type=Path, metavar="FOLDER", help="also write Great Expectations' Data Docs (HTML) there"
    )
    validate.add_argument("--report", type=Path, metavar="FILE", help="also write what is said here as a page (.html)")
    validate.add_argument(
        "--fixed", type=Path, metavar="FILE", help="also write a copy in which bad cells carry comments (.xlsx)"
    )
    validate.add_argument(
        "--against", metavar="OLD", help="also show what changed since this workbook, read the same way"
    )
    _add_set_option(validate)

    score = commands.add_parser("score", help="decide for labels with the model in production")
    score.add_argument(
        "source",
        metavar="SOURCE",
        help="a table with a column label, and language if known: .xlsx, .ods, .csv, .tsv or .parquet; "
        "with --engine ray also a folder of these, or a URL of either",
    )
    score.add_argument(
        "--out",
        required=True,
        metavar="TARGET",
        help="where the table with answers goes (.csv, .xlsx or .parquet); with --engine ray a folder, or its URL",
    )
    _add_engine_options(score)
    score.add_argument(
        "--model", default="models:/pii-dpo/Production", metavar="URI", help="an MLflow model (default: %(default)s)"
    )
    score.add_argument(
        "--label-column", default="label", metavar="NAME", help="the column of labels (default: %(default)s)"
    )
    score.add_argument(
        "--language-column", metavar="NAME", help="the column of languages (default: language, if there is one)"
    )

    export = commands.add_parser("export", help="a model for programs that know nothing of this one")
    export.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="a new folder for it")
    export.add_argument(
        "--merged",
        action="store_true",
        help="adapter and base as one model, as transformers loads it (default: the adapter, as PEFT loads it)",
    )
    export.add_argument(
        "--model", default="models:/pii-dpo/Production", metavar="URI", help="an MLflow model (default: %(default)s)"
    )

    _add_registry_commands(commands)

    _add_data_command(commands.add_parser("data", help="build a workbook from data of another form"))

    reconcile = commands.add_parser("reconcile", help="close runs in Prefect and MLflow whose process is gone")
    reconcile.add_argument(
        "--only-worker",
        action="store_true",
        help="no other machine runs flows of this server: a run without a process here has none",
    )
    commands.add_parser(
        "automate", help="create or update the automations that crash silent runs and resume crashed ones"
    )
    doctor = commands.add_parser("doctor", help="show what this machine and its servers have, and what is missing")
    doctor.add_argument("--json", action="store_true", dest="as_json", help="for other programs")
    deploy_check = commands.add_parser(
        "deploy-check", help="check prefect.yaml, and show what deploying it would change; changes nothing"
    )
    deploy_check.add_argument(
        "--file", type=Path, default=Path("prefect.yaml"), metavar="FILE", help="the file (default: %(default)s)"
    )
    metrics = commands.add_parser(
        "metrics", help="tell Prometheus of runs, workers, slots and the models in production"
    )
    metrics.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    metrics.add_argument("--port", type=int, default=9400, help="the port (default: %(default)s)")
    metrics.add_argument(
        "--disk",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="also tell the room on the disk of this folder; may be repeated",
    )
    return parser


def _add_engine_options(score: argparse.ArgumentParser) -> None:
    score.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="local: one process, one file (default); ray: a pool of workers, a folder of parts",
    )
    numbers = {
        "--num-workers": "with ray: how many (default: one for each GPU, or without any for each CPU)",
        "--rows-per-part": "with ray: what a worker does at a time, and what its death may cost (default: 65536)",
        "--object-store-mib": "with ray: memory that workers share, unless RAY_ADDRESS names a cluster (default: 512)",
    }
    for name, told in numbers.items():
        score.add_argument(name, type=int, metavar="N", help=told)


def _add_recipe_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--profile", default=None, metavar="NAME", help="embedded (default; no GPU), seed (QLoRA on a GPU), fast"
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="a TOML file of settings; --set wins over it")


def _add_sweep_command(sweep: argparse.ArgumentParser) -> None:
    sweep.add_argument(
        "--grid",
        action="append",
        default=[],
        metavar="PATH=VALUE,VALUE",
        help="values of a setting, e.g. lora.r=8,16; all combinations are tried; may be repeated",
    )
    sweep.add_argument(
        "--range",
        action="append",
        default=[],
        dest="ranges",
        metavar="PATH=LOW:HIGH[:log]",
        help="a range of a setting, e.g. sft.learning_rate=1e-4:1e-2:log, from which --trials are drawn; repeatable",
    )
    sweep.add_argument("--trials", type=int, metavar="N", help="how many trainings, where there is a range")
    sweep.add_argument(
        "--each",
        action="append",
        default=[],
        metavar="NAME:PATH=VALUE",
        help="a model of its own, promoted as pii-dpo-NAME, e.g. hr:data.workbook=hr.xlsx; may be repeated",
    )
    sweep.add_argument("--each-language", action="store_true", help="a model of its own for each language of the data")
    sweep.add_argument("--no-pruning", action="store_true", help="train every trial to its end")
    _add_recipe_options(sweep)
    _add_data_options(sweep)


def _add_registry_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    promote = commands.add_parser("promote", help="put a registered version into production by hand")
    promote.add_argument("version", metavar="VERSION", help="the version's number")
    promote.add_argument("--reason", required=True, metavar="TEXT", help="why; kept in the history")
    rollback = commands.add_parser("rollback", help="put the version before back into production")
    rollback.add_argument("--reason", default="rolled back by hand", metavar="TEXT", help="why; kept in the history")
    history = commands.add_parser("history", help="who put which version into production, when and why")
    repair = commands.add_parser("repair", help="finish what a promotion that was killed left half done")
    for command in (promote, rollback, history, repair):
        command.add_argument(
            "--model",
            default="pii-dpo",
            metavar="NAME",
            help="the registered model (default: %(default)s; of a variant: pii-dpo-VARIANT); pii-dpo and pii-sft "
            "of one run move together",
        )


def _add_data_command(data: argparse.ArgumentParser) -> None:
    kinds = data.add_subparsers(dest="kind", required=True, metavar="KIND")
    ai4privacy = kinds.add_parser("from-ai4privacy", help="texts with masked spans, as ai4privacy publishes them")
    ai4privacy.add_argument(
        "source",
        metavar="SOURCE",
        help="a .jsonl or .parquet file, a folder of these, or a Hugging Face id (owner/name)",
    )
    ai4privacy.add_argument("--out", type=Path, required=True, metavar="FILE", help="where the workbook goes (.xlsx)")
    ai4privacy.add_argument(
        "--min-count",
        type=int,
        default=2,
        metavar="N",
        help="how often a harmless word must occur (default: %(default)s)",
    )
    ai4privacy.add_argument(
        "--negatives-per-positive",
        type=float,
        default=1.0,
        metavar="RATIO",
        help="harmless labels for each sensitive one, in each language (default: %(default)s)",
    )


def _add_data_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        metavar="FILE",
        help="the workbook, a folder of tables, a URL of either, or hf://owner/name (default: data/PII_dataset_2.xlsx)",
    )
    _add_set_option(parser)


def _add_set_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="assignments",
        metavar="PATH=VALUE",
        help="one setting, e.g. sft.learning_rate=1e-3; may be repeated",
    )


# A file's name can hold what would colour, reorder or fake lines of a terminal.
_CONTROL = re.compile("[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]")


def _spell_out(match: re.Match[str]) -> str:
    return f"\\u{ord(match.group()):04x}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that cannot show a letter gets its number
            stream.reconfigure(errors="backslashreplace")
    options = build_parser().parse_args(arguments)
    quiet_loggers()  # before anything imports what writes notes while it is imported
    try:
        return _COMMANDS[options.command](options)
    except UserError as error:
        print(f"pii-finetune: {_CONTROL.sub(_spell_out, str(error))}", file=sys.stderr)
        return 2
    except PiiFinetuneError as error:
        print(f"pii-finetune: {_CONTROL.sub(_spell_out, str(error))}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.filename is None:
            raise
        named = _CONTROL.sub(_spell_out, str(error.filename))[:300]
        print(f"pii-finetune: {named}: cannot be used ({error.strerror}); give another path", file=sys.stderr)
        return 2
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("mlflow", "sqlalchemy"):
            raise
        reason = _CONTROL.sub(_spell_out, str(error).strip().partition("\n")[0])[:400]
        print(f"pii-finetune: MLflow's store cannot be used: {reason or type(error).__name__}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("pii-finetune: stopped", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace) -> int:
    from cli.run import run

    return run(options.profile, options.config, options.data, options.assignments, options.force)


def _sweep(options: argparse.Namespace) -> int:
    from cli.sweep import Trials, sweep

    trials = Trials(options.grid, options.ranges, options.trials, options.each, options.each_language)
    return sweep(
        options.profile, options.config, options.data, options.assignments, trials, pruning=not options.no_pruning
    )


def _join(options: argparse.Namespace) -> int:
    from cli.join import join

    return join(options.rendezvous, options.patience_minutes)


def _validate(options: argparse.Namespace) -> int:
    from cli.validate import Pages, validate

    pages = Pages(docs=options.docs, report=options.report, fixed=options.fixed)
    return validate(options.file, pages, options.against, options.assignments)


def _score(options: argparse.Namespace) -> int:
    from cli.score import Columns, RaySettings, score

    numbers = ("num_workers", "rows_per_part", "object_store_mib")
    given = {name: getattr(options, name) for name in numbers if getattr(options, name) is not None}
    if given and options.engine != "ray":
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise BadConfigError(f"{names}: means something with --engine ray only; add that, or leave it out")
    ray = RaySettings(**given) if options.engine == "ray" else None
    columns = Columns(options.label_column, options.language_column)
    return score(options.source, options.out, options.model, columns, ray)


def _export(options: argparse.Namespace) -> int:
    from cli.export import export

    return export(options.out, options.model, options.merged)


def _promote(options: argparse.Namespace) -> int:
    from cli.registry import promote

    return promote(options.model, options.version, options.reason)


def _roll_back(options: argparse.Namespace) -> int:
    from cli.registry import rollback

    return rollback(options.model, options.reason)


def _show_history(options: argparse.Namespace) -> int:
    from cli.registry import history

    return history(options.model)


def _repair(options: argparse.Namespace) -> int:
    from cli.registry import repair

    return repair(options.model)


def _build_data(options: argparse.Namespace) -> int:
    from cli.data import from_ai4privacy

    return from_ai4privacy(options.source, options.out, options.min_count, options.negatives_per_positive)


def _examine(options: argparse.Namespace) -> int:
    from cli.doctor import doctor

    return doctor(options.as_json)


def _check_deployments(options: argparse.Namespace) -> int:
    from cli.deploy_check import deploy_check

    return deploy_check(options.file)


def _reconcile(options: argparse.Namespace) -> int:
    from cli.reconcile import close_dead

    return close_dead(options.only_worker)


def _automate(_: argparse.Namespace) -> int:
    from cli.automate import automate

    return automate()


def _serve_metrics(options: argparse.Namespace) -> int:
    from cli.metrics import serve

    return serve(options.host, options.port, options.disk)


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "run": _run,
    "sweep": _sweep,
    "join": _join,
    "validate": _validate,
    "score": _score,
    "export": _export,
    "promote": _promote,
    "rollback": _roll_back,
    "history": _show_history,
    "repair": _repair,
    "data": _build_data,
    "reconcile": _reconcile,
    "automate": _automate,
    "metrics": _serve_metrics,
    "doctor": _examine,
    "deploy-check": _check_deployments,
}


if __name__ == "__main__":
    sys.exit(main())
