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
