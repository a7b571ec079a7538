"""Hold the promotion lock until killed: `python hold_promotion_lock.py URI LEASE_SECONDS`; says `held` when it does."""

import os
import sys
import time

import mlflow

from pii_finetune.promotion_lock import promotion_lock
from pii_finetune.promotion_tickets import ticket_lock

if __name__ == "__main__":
    uri, lease = sys.argv[1], float(sys.argv[2])
    mlflow.set_tracking_uri(uri)
    lock = ticket_lock(f"pid {os.getpid()}", 30.0, lease) if lease else promotion_lock(30.0)
    with lock:
        sys.stdout.write("held\n")
        sys.stdout.flush()
        time.sleep(120)
