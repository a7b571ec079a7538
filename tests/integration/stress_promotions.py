"""Many processes promote at once while two others watch from outside; says as JSON what was seen.

Run by test_promotion_stress.py, or by hand: `python tests/integration/stress_promotions.py URI [--without-lock]`.
"""

import argparse
import contextlib
import json
import multiprocessing
import random
import sys
import time
import warnings
from collections import Counter
from functools import partial
from itertools import pairwise

import mlflow
import sqlalchemy as sa
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from pii_finetune import registry
from pii_finetune.errors import PiiFinetuneError
from pii_finetune.promotion_history import history
from pii_finetune.promotion_lock import promotion_lock
from pii_finetune.promotion_plan import pending_plan
from pii_finetune.quiet import quiet_loggers, quiet_warnings
from pii_finetune.registry import DPO_MODEL, PAIR
from pii_finetune.registry_state import read_state

NUM_VERSIONS = 20
# One statement sees one moment: the stage, the alias, and whether a promotion says that it is under way.
MOMENT = sa.text(
    "SELECT r.name, (SELECT count(*) FROM model_versions v WHERE v.name = r.name AND v.current_stage = 'Production'), "
    "(SELECT max(v.version) FROM model_versions v WHERE v.name = r.name AND v.current_stage = 'Production'), "
    "(SELECT a.version FROM registered_model_aliases a WHERE a.name = r.name AND a.alias = 'champion'), "
    "(SELECT count(*) FROM registered_model_tags t WHERE t.key = 'promotion_pending') "
    "FROM registered_models r WHERE r.name IN ('pii-dpo', 'pii-sft')"
)


def prepare(uri):
    mlflow.set_tracking_uri(uri)
    client = MlflowClient()
    for name in PAIR:
        client.create_registered_model(name)
        for number in range(NUM_VERSIONS):
            client.create_model_version(name, "s3://nowhere/model", tags={"run": f"run-{number}"}, await_creation_for=0)
    registry.promote_pair("1", "1", reason="the first")


def promote_often(uri, seed, num_promotions, pair, told):
    mlflow.set_tracking_uri(uri)
    draw = random.Random(seed)
    seen = Counter()

    def promote(version, reason):
        if pair:
            return registry.promote_pair(version, version, reason=reason)
        return registry.promote(DPO_MODEL, version, reason=reason)

    while seen["promoted"] + seen["failed"] < num_promotions:
        version = str(draw.randint(1, NUM_VERSIONS))
        try:
            seen["promoted"] += promote(version, reason=f"by promoter {seed}") is not None
        except (PiiFinetuneError, MlflowException) as error:
            seen["failed"] += 1
            seen[type(error).__name__] += 1
    told.put(("promoter", seen))


def watch_through_the_client(uri, pair, stop, told):
    mlflow.set_tracking_uri(uri)
    client = MlflowClient()
    seen = Counter()
    while not stop.is_set():
        for name in PAIR:
            latest = len(client.get_latest_versions(name, stages=["Production"]))
            found = client.search_model_versions(f"name='{name}'")
            num_production = sum(each.current_stage == "Production" for each in found)
            client.get_model_version_by_alias(name, "champion")  # raises if there is none
            seen["polls"] += 1
            seen[f"get_latest_versions gave {latest}"] += 1
            seen[f"search_model_versions gave {num_production}"] += 1
            time.sleep(0.05)
    told.put(("client", seen))


def watch_through_sql(uri, pair, stop, told):
    engine = sa.create_engine(uri)
    seen = Counter()
    with engine.connect() as connection:
        while not stop.is_set():
            rows = connection.execute(MOMENT).all()
            connection.rollback()
            for _, num_production, version, alias, num_pending in rows:
                seen["polls"] += 1
                seen[f"{num_production} in Production"] += 1
                if version != alias:
                    seen["alias elsewhere, promotion under way" if num_pending else "alias elsewhere"] += 1
            if pair and len({row[2] for row in rows}) > 1 and not rows[0][4]:
                seen["pair of two runs"] += 1
            time.sleep(0.01)
    told.put(("sql", seen))


def broken_links():
    """Count promotions that did not take the place of the one recorded before them."""
    past = history(DPO_MODEL)
    return sum(after.previous != before.version for before, after in pairwise(past)), len(past)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("uri")
    parser.add_argument("--sql", help="the database behind the URI, if that is a server's")
    parser.add_argument("--promoters", type=int, default=8)
    parser.add_argument("--promotions", type=int, default=50)
    parser.add_argument("--pair", action="store_true", help="promote pii-dpo and pii-sft together")
    parser.add_argument("--without-lock", action="store_true")
    options = parser.parse_args()
    quiet_loggers()
    quiet_warnings()
    warnings.simplefilter("ignore")
    registry.promotion_lock = partial(promotion_lock, 300.0)  # a queue of eight on a busy machine
    if options.without_lock:
        registry.promotion_lock = lambda: contextlib.nullcontext(lambda: None)

    fork = multiprocessing.get_context("fork")  # MLflow is imported once, not ten times
    first = fork.Process(target=prepare, args=(options.uri,))  # no connection may exist before the forks
    first.start()
    first.join()
    if first.exitcode:
        sys.exit("the registry could not be prepared; the traceback is above")
    told, stop = fork.Queue(), fork.Event()
    watchers = [
        fork.Process(target=watch_through_the_client, args=(options.uri, options.pair, stop, told)),
        fork.Process(target=watch_through_sql, args=(options.sql or options.uri, options.pair, stop, told)),
    ]
    promoters = [
        fork.Process(target=promote_often, args=(options.uri, seed, options.promotions, options.pair, told))
        for seed in range(options.promoters)
    ]
    started = time.monotonic()
    for process in (*watchers, *promoters):
        process.start()
    for process in promoters:
        process.join()
    seconds = time.monotonic() - started
    stop.set()
    for process in watchers:
        process.join()
    if any(process.exitcode for process in (*watchers, *promoters)):
        sys.exit("a process failed; its traceback is above")
    seen = {"promoter": Counter(), "client": Counter(), "sql": Counter()}
    for _ in (*watchers, *promoters):
        who, counts = told.get()
        seen[who] += counts
    mlflow.set_tracking_uri(options.uri)
    num_broken, num_recorded = broken_links()
    states = [read_state(MlflowClient(), name) for name in PAIR]
    end = {each.name: [each.production, each.champion, pending_plan(each) is not None] for each in states}
    sys.stdout.write(
        json.dumps(seen | {"seconds": seconds, "recorded": num_recorded, "broken_links": num_broken, "end": end})
    )


if __name__ == "__main__":
    main()
