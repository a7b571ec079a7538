import json
import logging
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pii_finetune.calibration import IDENTITY
from pii_finetune.errors import TamperedModelError, UserError
from pii_finetune.manifest import read_manifest, verify_files
from pii_finetune.model_folder import verify_model_folder, write_model_folder
from pii_finetune.profiles import embedded

ADAPTER_WEIGHTS = "adapter/adapter_model.safetensors"
FILES = [
    ADAPTER_WEIGHTS,
    "adapter/adapter_config.json",
    "calibration.json",
    "base/model.safetensors",
    "base/config.json",
]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    parent = tmp_path_factory.mktemp("written")
    (parent / "adapter").mkdir()
    (parent / "adapter" / "adapter_config.json").write_text('{"r": 16}', encoding="utf-8")
    (parent / "adapter" / "adapter_model.safetensors").write_bytes(bytes(range(256)) * 16)
    write_model_folder(parent / "model", parent / "adapter", embedded().base, "f00d", IDENTITY)
    return parent / "model"


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "model"))


def refusal(folder: Path, **arguments: bool) -> str:
    """Verify a folder that must be refused, and return why, which is one line."""
    with pytest.raises(TamperedModelError) as caught:
        verify_model_folder(folder, **arguments)
    message = str(caught.value)
    assert isinstance(caught.value, UserError)
    assert message.startswith(str(folder))
    assert "\n" not in message
    assert "`pii-finetune run`" in message
    return message


def change_manifest(folder: Path, **changes: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def make_old(folder: Path) -> None:
    """Turn the folder into one of release 0.1."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    for name in ("schema_version", "files", "base_files"):
        del manifest[name]
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    (folder / "calibration.json").unlink()


def test_an_untouched_folder_is_accepted(folder: Path):
    manifest = verify_model_folder(folder)
    assert manifest.files.keys() >= set(FILES)
    listed = {*manifest.files, "manifest.json"}
    assert listed == {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(data=st.data())
def test_one_bit_changed_in_any_file_is_refused_with_its_name(folder: Path, data: st.DataObject):
    name = data.draw(st.sampled_from(sorted(verify_model_folder(folder).files)))
    original = (folder / name).read_bytes()
    at = data.draw(st.integers(0, 8 * len(original) - 1))
    changed = bytearray(original)
    changed[at // 8] ^= 1 << at % 8
    (folder / name).write_bytes(changed)
    assert f"{name}: was changed: its SHA-256 is" in refusal(folder)
    (folder / name).write_bytes(original)


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_short_or_grown_is_refused_by_its_size(folder: Path, name: str):
    content = (folder / name).read_bytes()
    for changed in (content[:-1], content + b" "):
        (folder / name).write_bytes(changed)
        assert f"{name}: was changed: it has {len(changed):,} bytes, not {len(content):,}" in refusal(folder)


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_a_missing_file_is_refused(folder: Path, name: str):
    (folder / name).unlink()
    assert f"{name}: is missing" in refusal(folder)


@pytest.mark.parametrize(
    "name", ["extra.json", "adapter/extra.safetensors", "base/sub/manifest.json", "base/model.sig.txt"]
)
def test_an_added_file_is_refused(folder: Path, name: str):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("{}", encoding="utf-8")
    assert f"{name}: was added" in refusal(folder)


@pytest.mark.parametrize(
    "kind", [".bin", ".pt", ".pth", ".pkl", ".pickle", ".joblib", ".py", ".so", ".npy", ".JSON", ""]
)
def test_a_file_of_a_kind_that_could_run_code_is_refused_even_if_listed(folder: Path, kind: str):
    weights = folder / ADAPTER_WEIGHTS
    listed = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["files"]
    weights.with_name(f"adapter_model{kind}").write_bytes(weights.read_bytes())
    change_manifest(folder, files=listed | {f"adapter/adapter_model{kind}": listed[ADAPTER_WEIGHTS]})
    assert "is of a kind that has no place there" in refusal(folder)
    make_old(folder)
    assert "is of a kind that has no place there" in refusal(folder, accept_unhashed=True)


@pytest.mark.parametrize("name", [ADAPTER_WEIGHTS, "manifest.json", "adapter", "model.sig", "dangling.json"])
def test_a_link_is_refused_wherever_it_leads(folder: Path, name: str):
    aside = folder.with_name("aside")
    if (folder / name).exists():
        (folder / name).rename(aside)
    (folder / name).symlink_to(aside)
    expected = "no regular file" if name == "manifest.json" else "is a symbolic link, which may lead anywhere"
    assert f"{name}: {expected}" in refusal(folder).replace("is missing, or ", "")


def test_a_pipe_is_refused_and_not_waited_for(folder: Path):
    for name in ("pipe.json", "manifest.json"):
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)
        assert name in refusal(folder)


@pytest.mark.parametrize(
    "path",
    ["../aside.json", "/etc/hostname", "adapter/../../aside.json", "adapter\\x.json", "./a.json", "a//b.json", "."],
)
def test_a_path_that_leaves_the_folder_is_refused(folder: Path, path: str):
    files = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["files"]
    change_manifest(folder, files=files | {path: {"sha256": "0" * 64, "size": 1}})
    assert f"names {path!r}, which is no path inside the folder" in refusal(folder)


@pytest.mark.parametrize("needed", FILES[:3])
def test_a_manifest_cannot_do_without_adapter_and_calibration(folder: Path, needed: str):
    files = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["files"]
    del files[needed]
    (folder / needed).unlink()
    change_manifest(folder, files=files)
    assert f"{needed}: is missing" in refusal(folder)


@pytest.mark.parametrize("version", [0, 2, -1, "1", 1.0, True, None, [1]])
def test_a_schema_version_that_is_not_known_is_refused(folder: Path, version: object):
    change_manifest(folder, schema_version=version)
    for accept in (False, True):
        assert f"has schema_version {version!r}, and this release reads 1" in refusal(folder, accept_unhashed=accept)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"files": NaN}', "is not JSON"),
        ("[1]", "is not a manifest"),
        ("null", "is not a manifest"),
        ('{"schema_version": 1}', "'base_name': Field required"),
        ("{}", "'base_name': Field required"),
    ],
)
def test_a_manifest_that_is_none_is_refused(folder: Path, text: str, reason: str):
    (folder / "manifest.json").write_text(text, encoding="utf-8")
    for accept in (False, True):
        assert reason in refusal(folder, accept_unhashed=accept)


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"files": {"a.json": {"sha256": "0", "size": "1"}}}, "files.a.json.size"),
        ({"files": {"a.json": "0"}}, "files.a.json"),
        ({"base_is_carried": "yes"}, "base_is_carried"),
        ({"trust_remote_code": True}, "trust_remote_code"),
    ],
)
def test_a_manifest_with_values_of_another_kind_is_refused(folder: Path, changes: dict[str, object], where: str):
    change_manifest(folder, **changes)
    assert f"is not a manifest ({where!r}: " in refusal(folder)


def test_a_folder_of_release_0_1_is_compared_with_but_not_served(folder: Path, caplog: pytest.LogCaptureFixture):
    make_old(folder)
    assert "its manifest has no hashes" in refusal(folder)
    with caplog.at_level(logging.WARNING):
        manifest = verify_model_folder(folder, accept_unhashed=True)
    assert manifest.base_name == "data/embedded-base"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "could not be verified" in caplog.text


def test_taking_the_hashes_out_of_a_manifest_is_no_way_around_them(folder: Path):
    (folder / ADAPTER_WEIGHTS).write_bytes(b"another adapter")
    make_old(folder)
    assert "its manifest has no hashes" in refusal(folder)


def test_the_name_of_a_file_cannot_break_the_message_into_lines(folder: Path):
    (folder / "a\nb\x1b[31m.json").write_text("{}", encoding="utf-8")
    assert "a\\nb\\x1b[31m.json: was added" in refusal(folder)


def test_a_name_that_is_no_text_is_refused(folder: Path):
    (folder / os.fsdecode(b"\xff.json")).write_text("{}", encoding="utf-8")
    assert "\\udcff.json: was added" in refusal(folder)


def test_an_adapter_with_anything_pickled_is_not_written(tmp_path: Path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "training_args.bin").write_bytes(b"\x80\x04N.")
    with pytest.raises(TamperedModelError, match="training_args.bin: is of a kind"):
        write_model_folder(tmp_path / "model", adapter, embedded().base, "f00d", IDENTITY)
    assert not (tmp_path / "model" / "manifest.json").exists()


def test_a_file_that_changes_after_the_manifest_was_read_is_still_held_to_it(folder: Path):
    manifest = read_manifest(folder)
    change_manifest(folder, dataset_fingerprint="another")
    (folder / "calibration.json").write_text("{}", encoding="utf-8")
    with pytest.raises(TamperedModelError, match="calibration.json: was changed"):
        verify_files(folder, manifest)
