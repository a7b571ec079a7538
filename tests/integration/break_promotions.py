"""Promotions that are killed (SIGKILL) before a given call to MLflow: `python break_promotions.py URI=CALL ...`.

Each store is promoted from version 1 to version 2 of the pair; CALL is NAME or NAME#N, for the Nth call of that name.
"""

import multiprocessing
import os
import signal
import sys
import time

import mlflow
from mlflow import MlflowClient

from pii_finetune.registry import promote_pair


def promote_until(uri, call, told):
    mlflow.set_tracking_uri(uri)
    name, _, number = call.partition("#")
    original, left = getattr(MlflowClient, name), [int(number or 1)]

    def stop_here(*args, **kwargs):
        left[0] -= 1
        if not left[0]:
            told.put("here")
            time.sleep(60)
        return original(*args, **kwargs)

    setattr(MlflowClient, name, stop_here)
    promote_pair("2", "2", reason="the one that was killed", by="somebody")
    told.put("not stopped")


if __name__ == "__main__":
    fork = multiprocessing.get_context("fork")
    for argument in sys.argv[1:]:
        uri, _, call = argument.rpartition("=")
        told = fork.Queue()
        process = fork.Process(target=promote_until, args=(uri, call, told))
        process.start()
        if told.get(timeout=60) != "here":
            sys.exit(f"{call} was never called")
        os.kill(process.pid, signal.SIGKILL)
        process.join()
