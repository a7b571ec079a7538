"""Running suites of expectations with Great Expectations: the only module that knows it."""

import html
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pandas as pd

from pii_finetune.expectations import Expectation
from pii_finetune.row_place import FileRows, Place, list_places, place_of

_SITE = "workbook"
_NUM_SHOWN = 100  # rows named in the Data Docs, of one expectation


@dataclass(frozen=True)
class Failure:
    """An expectation that does not hold."""

    expectation: Expectation
    rows: tuple[int, ...]  # where it does not, in the order of the sheet; empty: the table as a whole
    error: str  # empty, unless it could not be checked


class Checkpoint:
    """Suites run on the rows of one workbook, and one site of Data Docs on all of them."""

    def __init__(self) -> None:
        """Start without suites; nothing is written."""
        import great_expectations as gx

        # Its import sets this one to tell of every folder it makes.
        logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.WARNING)
        self._context = gx.get_context(mode="ephemeral")
        self._context.variables.progress_bars = {"globally": False}  # pyright: ignore[reportAttributeAccessIssue]
        self._rows = self._context.data_sources.add_pandas("workbook")
        self._runs: list[Any] = []

    def run(self, name: str, expectations: Sequence[Expectation], rows: pd.DataFrame) -> tuple[Failure, ...]:
        """Run the suite on the rows, whose index is `row`, their number in the sheet; return what failed, in its order.

        Results name rows by number and never hold a cell's content (GX #8780).
        """
        import great_expectations as gx

        batch = self._rows.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all rows")
        suite = gx.ExpectationSuite(name=name, expectations=[_build(each) for each in expectations])
        definition = gx.ValidationDefinition(name=name, data=batch, suite=self._context.suites.add(suite))
        checkpoint = gx.Checkpoint(
            name=name,
            validation_definitions=[self._context.validation_definitions.add(definition)],
            result_format={
                "result_format": "COMPLETE",
                "unexpected_index_column_names": ["row"],
                "exclude_unexpected_values": True,
                "partial_unexpected_count": 0,
                "return_unexpected_index_query": False,
            },
        )
        outcome = self._context.checkpoints.add(checkpoint).run(
            batch_parameters={"dataframe": rows},
            run_id=gx.RunIdentifier(run_name=_SITE),  # the Data Docs show it
        )
        self._runs.append(outcome)
        failed = {
            _name(result): result
            for each in outcome.run_results.values()
            for result in each.results
            if not result.success
        }
        return tuple(
            Failure(each, _rows(failed[each.name]), _error(failed[each.name]))
            for each in expectations
            if each.name in failed
        )

    def write_docs(self, folder: Path, messages: Mapping[str, str], files: Sequence[FileRows] = ()) -> Path:
        """Write the site and return its index.html.

        Args:
            folder: where it goes.
            messages: what is told of the expectations that failed.
            files: which rows are of which file, if several are one dataset.
        """
        for outcome in self._runs:
            for key, run in outcome.run_results.items():
                for result in run.results:
                    if not result.success:
                        result.expectation_config.description += _told(
                            messages[_name(result)], [place_of(row, files) for row in _rows(result)]
                        )
                self._context.validation_results_store.set(key, run)
        site: dict[str, Any] = {
            "class_name": "SiteBuilder",
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            "show_how_to_buttons": False,  # advertisements of tutorials
            "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder.resolve())},
        }
        self._context.add_data_docs_site(_SITE, cast("Any", site))
        self._context.build_data_docs(site_names=[_SITE])
        return folder / "index.html"


def _build(expectation: Expectation) -> Any:
    import great_expectations.expectations as gxe

    return getattr(gxe, expectation.kind)(
        **expectation.arguments,
        # All that Data Docs show of an expectation; GX takes it for HTML, and shows neither severity nor meta itself.
        description=html.escape(f"{expectation.name} ({expectation.severity}): {expectation.holds}"),
        severity=expectation.severity,
        meta={"name": expectation.name},
    )


def _name(result: Any) -> str:
    return result.expectation_config.meta["name"]


def _rows(result: Any) -> tuple[int, ...]:
    # With values excluded, GX returns one entry holding all row numbers: [{"row": [7, 9]}].
    index = result.result.get("unexpected_index_list") or []
    return tuple(sorted(int(row) for entry in index for row in entry["row"]))


def _error(result: Any) -> str:
    """Return what was raised in checking, which GX reports by metric, or as a whole."""
    raised = result.exception_info
    each = [raised] if "raised_exception" in raised else list(raised.values())
    return "; ".join(str(info["exception_message"]) for info in each if info["raised_exception"])


def _told(message: str, rows: Sequence[Place]) -> str:
    """Return what the Data Docs add where an expectation does not hold."""
    shown = list_places(rows[:_NUM_SHOWN])
    more = f" and {len(rows) - _NUM_SHOWN:,} more" if len(rows) > _NUM_SHOWN else ""
    return html.escape(f"\n{message[:1].upper()}{message[1:]}." + (f"\nRows: {shown}{more}" if rows else ""))
