"""Starting and ending a cluster, with a stand-in for Ray; the real one has tests of its own."""

import os
import signal
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from pii_finetune.errors import BadConfigError, MissingServerError, WorkersLostError
from pii_finetune.ray_scoring.cluster import RaySettings, started


class FakeRay:
    """Remembers what it was asked, and fails as often as it is told to."""

    def __init__(self) -> None:
        self.num_failures, self.started, self.environment = 0, list[dict[str, object]](), dict[str, str]()
        self.is_running, self.resources = False, {"CPU": 4.0}

    def init(self, **asked: object) -> None:
        self.started.append(asked)
        self.environment = dict(os.environ)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it puts a handler of its own there
        if len(self.started) <= self.num_failures:
            raise Exception("The current node timed out during startup.\nAnd more.")  # noqa: TRY002  as Ray does
        self.is_running = True

    def cluster_resources(self) -> dict[str, float]:
        return self.resources

    def shutdown(self) -> None:
        self.is_running = False


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    fake = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", fake)  # pyright: ignore[reportArgumentType]
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_USAGE_STATS_ENABLED"):
        monkeypatch.delenv(name, raising=False)
    return fake


def folders() -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob(f"pii-ray-{os.getpid()}-*"))


def test_a_cluster_of_our_own_is_private_says_nothing_home_and_ends_with_us(ray: FakeRay):
    with started(RaySettings()) as cluster:
        (folder,) = folders()
        assert folder.stat().st_mode & 0o077 == 0
        assert ray.is_running
        assert (cluster.num_workers, cluster.num_gpus_each) == (4, 0)
        assert ray.started[0]["include_dashboard"] is False
        assert ray.environment["RAY_USAGE_STATS_ENABLED"] == "0"
        assert ray.environment["RAY_AUTH_MODE"] == "token"
        assert len(Path(ray.environment["RAY_AUTH_TOKEN_PATH"]).read_text(encoding="utf-8")) == 64
    assert not ray.is_running
    assert folders() == []
    assert "RAY_AUTH_MODE" not in os.environ


def test_it_ends_after_an_error_too(ray: FakeRay):
    with pytest.raises(KeyError), started(RaySettings()):
        raise KeyError
    assert not ray.is_running
    assert folders() == []


def test_a_start_that_a_busy_machine_was_too_slow_for_is_tried_again(ray: FakeRay):
    ray.num_failures = 2
    with started(RaySettings()):
        assert len(ray.started) == 3


def test_a_start_that_fails_again_and_again_is_told_in_one_line(ray: FakeRay):
    ray.num_failures = 9
    reason = r"Ray could not be started here \(The current.*startup.\)"
    with pytest.raises(WorkersLostError, match=reason) as told, started(RaySettings()):
        pass
    assert "\n" not in str(told.value)
    assert folders() == []


def test_a_cluster_that_is_there_is_used_as_it_is_and_one_that_is_not_is_told(ray: FakeRay, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with started(RaySettings()) as cluster:
        assert ray.started[0]["address"] == "10.0.0.1:6379"
        assert "object_store_memory" not in ray.started[0]
        assert "RAY_AUTH_MODE" not in ray.environment
        assert cluster.workplace is None
    ray.num_failures = 9
    reason = "RAY_ADDRESS=10.0.0.1:6379: no cluster of Ray could be reached"
    with pytest.raises(MissingServerError, match=reason), started(RaySettings()):
        pass


def test_each_worker_gets_a_gpu_where_there_are_any_and_no_more_are_asked_for_than_there_are(ray: FakeRay):
    ray.resources = {"CPU": 16.0, "GPU": 2.0}
    with started(RaySettings()) as cluster:
        assert (cluster.num_workers, cluster.num_gpus_each) == (2, 1)
    with pytest.raises(BadConfigError, match="--num-workers 3: the cluster has 2 GPUs"), started(RaySettings(3)):
        pass
    assert not ray.is_running


def test_sigterm_is_handled_as_it_was_before_and_ends_us_by_an_exception_where_nobody_did(ray: FakeRay):
    taken = []
    before = signal.signal(signal.SIGTERM, lambda *_: taken.append("ours"))
    try:
        with started(RaySettings()):
            os.kill(os.getpid(), signal.SIGTERM)
        assert taken == ["ours"]
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with pytest.raises(SystemExit), started(RaySettings()):
            os.kill(os.getpid(), signal.SIGTERM)
        assert not ray.is_running
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_what_a_killed_process_left_is_removed_by_the_next(ray: FakeRay):
    dead = next(pid for pid in range(2**22 - 1, 1, -1) if not psutil.pid_exists(pid))
    left = Path(tempfile.gettempdir()) / f"pii-ray-{dead}-left"
    left.mkdir()
    with started(RaySettings()):
        assert not left.exists()
