"""`pii-finetune join`: this machine's GPUs for the trainings of another one."""

from pii_finetune.distributed.join import join_trainings
from pii_finetune.quiet import quiet_libraries


def join(rendezvous: str, patience_minutes: float) -> int:
    """Take part until nothing is offered any more."""
    quiet_libraries()
    num_joined = join_trainings(rendezvous, 60 * patience_minutes, lambda line: print(line, flush=True))
    print(f"nothing more to train at {rendezvous} for {patience_minutes:g} min; took part in {num_joined} trainings")
    return 0
