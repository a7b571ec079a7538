import pytest

from pii_finetune.errors import BadConfigError
from pii_finetune.setup import build_config


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"runtime.num_processes": 3, "runtime.num_nodes": 2}, "cannot be the same number on each of 2"),
        ({"runtime.num_nodes": 2}, "needs num_processes"),
        ({"runtime.num_processes": 2, "runtime.num_nodes": 2}, "rendezvous host:port"),
        ({"runtime.num_processes": 2, "runtime.rendezvous": "no port"}, "rendezvous"),
        ({"runtime.sharding": "fsdp2"}, "sharding 'fsdp2' needs num_processes"),
        ({"runtime.sharding": "fsdp2", "runtime.num_processes": 2}, 'needs base.device "cuda"'),
    ],
)
def test_what_does_not_go_together_is_refused_by_name(settings, told):
    with pytest.raises(BadConfigError, match=told):
        build_config("embedded", None, settings)


def test_an_optimizer_that_cannot_work_on_shared_out_weights_is_refused_with_one_that_can():
    from pii_finetune.setup import _require_optimizers

    config = build_config("seed", None, {"runtime.sharding": "fsdp2", "runtime.num_processes": 2})
    with pytest.raises(BadConfigError, match=r"sft\.optim = 'paged_adamw_8bit'.*set sft\.optim=adamw_torch_fused"):
        _require_optimizers(config)
