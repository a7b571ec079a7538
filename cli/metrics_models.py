"""The models in production as Prometheus reads them: which, since when, how good, and whether newer data is known."""

from collections.abc import Iterator
from datetime import datetime

from mlflow import MlflowClient
from prometheus_client.core import GaugeMetricFamily

from pii_finetune.config import TrackingConfig
from pii_finetune.model_names import pair_of
from pii_finetune.promotion_history import history_of
from pii_finetune.registry import paired_models
from pii_finetune.registry_state import read_state

_FIGURE = "test_"  # begins the tags of a version that hold its figures on the test rows
_FINGERPRINT = "dataset_fingerprint"


def read_models() -> Iterator[GaugeMetricFamily]:
    """Ask MLflow; an MlflowException if it does not answer as it should."""
    client = MlflowClient()
    version = GaugeMetricFamily("pii_production_version", "The version in production", labels=["model"])
    since = GaugeMetricFamily("pii_production_since_timestamp_seconds", "When it got there", labels=["model"])
    figure = GaugeMetricFamily("pii_production_figure", "Its figures on the test rows", labels=["model", "figure"])
    at_odds = GaugeMetricFamily("pii_production_at_odds", "Whether stage and alias disagree", labels=["model"])
    newest = GaugeMetricFamily("pii_production_knows_newest_data", "Whether no run read other rows", labels=["model"])
    for name in paired_models():
        state = read_state(client, name)
        at_odds.add_metric([name], state.is_at_odds)
        if state.loaded is None:
            continue
        loaded = state.require(state.loaded)
        version.add_metric([name], int(state.loaded))
        moments = [each.at for each in history_of(state.versions) if each.version == state.loaded]
        stamp = datetime.fromisoformat(moments[-1]).timestamp() if moments else loaded.creation_timestamp / 1000
        since.add_metric([name], stamp)
        for tag, value in loaded.tags.items():
            if tag.startswith(_FIGURE):
                figure.add_metric([name, tag.removeprefix(_FIGURE)], float(value))
        pair = pair_of(name)
        last_data = _last_fingerprint(client, pair.variant if pair else None)
        if last_data is not None:
            newest.add_metric([name], loaded.tags.get(_FINGERPRINT) == last_data)
    yield from (version, since, figure, at_odds, newest)


def _last_fingerprint(client: MlflowClient, variant: str | None) -> str | None:
    """Return the fingerprint of the rows that the newest run of the variant read."""
    experiment = client.get_experiment_by_name(TrackingConfig().experiment)
    if experiment is None:
        return None
    of_variant = "tags.variant IS NULL" if variant is None else f"tags.variant = '{variant}'"
    runs = client.search_runs(
        [experiment.experiment_id],
        f"tags.{_FINGERPRINT} != '' and {of_variant}",
        max_results=1,
        order_by=["attributes.start_time DESC"],
    )
    return runs[0].data.tags[_FINGERPRINT] if runs else None
