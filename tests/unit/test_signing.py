import json
import shutil
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from pii_finetune import signing
from pii_finetune.calibration import IDENTITY
from pii_finetune.errors import BadConfigError, TamperedModelError
from pii_finetune.manifest import digest_folder
from pii_finetune.model_folder import verify_model_folder, write_model_folder
from pii_finetune.profiles import embedded


def write_key(path: Path, key: PrivateKeyTypes, password: bytes | None = None) -> Path:
    hidden = BestAvailableEncryption(password) if password else NoEncryption()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, hidden))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    path.with_suffix(".pub").write_bytes(public)
    return path


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Paths of the private keys of an owner and of a stranger; public halves end in .pub."""
    monkeypatch.delenv(signing.SIGNING_KEY, raising=False)
    monkeypatch.delenv(signing.VERIFY_KEY, raising=False)
    return {name: write_key(tmp_path / f"{name}.pem", ec.generate_private_key(ec.SECP256R1())) for name in ("a", "b")}


def write(parent: Path) -> Path:
    (parent / "adapter").mkdir(exist_ok=True)
    (parent / "adapter" / "adapter_config.json").write_text("{}", encoding="utf-8")
    (parent / "adapter" / "adapter_model.safetensors").write_bytes(b"weights")
    write_model_folder(parent / "model", parent / "adapter", embedded().base, "f00d", IDENTITY)
    return parent / "model"


@pytest.fixture
def signed(keys: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder signed by a, where only what a signed is loaded."""
    monkeypatch.setenv(signing.SIGNING_KEY, str(keys["a"]))
    monkeypatch.setenv(signing.VERIFY_KEY, str(keys["a"].with_suffix(".pub")))
    return write(tmp_path)


def forge(folder: Path) -> None:
    """Change the adapter and write a manifest that fits it, as anyone can who may write to the folder."""
    (folder / "adapter" / "adapter_model.safetensors").write_bytes(b"another")
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    files = {name: {"sha256": each.sha256, "size": each.size} for name, each in digest_folder(folder).items()}
    (folder / "manifest.json").write_text(json.dumps(manifest | {"files": files}), encoding="utf-8")


def test_a_signed_folder_is_accepted_wherever_it_stands(signed: Path, tmp_path: Path):
    verify_model_folder(signed)
    verify_model_folder(Path(shutil.copytree(signed, tmp_path / "elsewhere" / "renamed")))


def test_without_a_key_to_verify_with_a_signed_folder_is_a_folder_like_any(
    signed: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv(signing.VERIFY_KEY)
    verify_model_folder(signed)


def test_an_unsigned_folder_is_refused_where_signatures_are_asked_for(
    keys: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = write(tmp_path)
    assert not (folder / "model.sig").exists()
    monkeypatch.setenv(signing.VERIFY_KEY, str(keys["a"].with_suffix(".pub")))
    with pytest.raises(TamperedModelError, match=r"model.sig: is missing, and PII_FINETUNE_VERIFY_KEY is set; sign"):
        verify_model_folder(folder)


def test_a_forged_manifest_passes_for_true_without_a_signature_and_not_with_one(
    signed: Path, monkeypatch: pytest.MonkeyPatch
):
    forge(signed)
    with pytest.raises(TamperedModelError, match=r"model.sig: is no signature of this folder by the owner of .*a.pub"):
        verify_model_folder(signed)
    monkeypatch.delenv(signing.VERIFY_KEY)
    verify_model_folder(signed)  # what hashes alone cannot show


def test_a_signature_by_another_key_is_refused(
    signed: Path, keys: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(signing.SIGNING_KEY, str(keys["b"]))
    with pytest.raises(TamperedModelError, match="is no signature of this folder by the owner of"):
        verify_model_folder(write(tmp_path))


def test_the_signature_of_another_folder_is_refused(signed: Path, tmp_path: Path):
    signature = (signed / "model.sig").read_bytes()
    (tmp_path / "other").mkdir()
    other = write(tmp_path / "other")
    forge(other)
    (other / "model.sig").write_bytes(signature)
    with pytest.raises(TamperedModelError, match="is no signature of this folder"):
        verify_model_folder(other)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"mediaType": 1}', b"[" * 10_000])
def test_a_signature_that_is_none_is_refused_in_one_line(signed: Path, content: bytes):
    (signed / "model.sig").write_bytes(content)
    with pytest.raises(TamperedModelError, match="is no signature of this folder") as caught:
        verify_model_folder(signed)
    assert "\n" not in str(caught.value)


def test_a_file_the_library_would_ignore_is_refused_too(signed: Path):
    (signed / ".gitignore").write_text("*", encoding="utf-8")
    with pytest.raises(TamperedModelError, match=".gitignore: is of a kind that has no place"):
        verify_model_folder(signed)


def test_an_old_folder_is_refused_where_signatures_are_asked_for(signed: Path):
    manifest = json.loads((signed / "manifest.json").read_text(encoding="utf-8"))
    for name in ("schema_version", "files", "base_files"):
        del manifest[name]
    (signed / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(TamperedModelError, match="is no signature of this folder"):
        verify_model_folder(signed, accept_unhashed=True)


@pytest.mark.parametrize("kind", ["missing", "text", "rsa", "password"])
def test_a_key_that_cannot_be_used_is_told_with_its_variable(
    keys: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    path = tmp_path / "key.pem"
    if kind == "text":
        path.write_text("no key", encoding="utf-8")
    elif kind == "rsa":
        write_key(path, rsa.generate_private_key(65537, 2048))
    elif kind == "password":
        write_key(path, ec.generate_private_key(ec.SECP256R1()), b"secret")
    monkeypatch.setenv(signing.SIGNING_KEY, str(path))
    with pytest.raises(BadConfigError, match=rf"^{signing.SIGNING_KEY}={path}: ") as caught:
        write(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_public_key_of_another_kind_is_told_with_its_variable(
    signed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    public = write_key(tmp_path / "rsa.pem", rsa.generate_private_key(65537, 2048)).with_suffix(".pub")
    monkeypatch.setenv(signing.VERIFY_KEY, str(public))
    with pytest.raises(BadConfigError, match=f"{signing.VERIFY_KEY}=.*rsa.pub: is not a public elliptic-curve key"):
        verify_model_folder(signed)


@pytest.mark.parametrize("variable", [signing.SIGNING_KEY, signing.VERIFY_KEY])
def test_a_key_without_the_extra_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str):
    monkeypatch.setitem(sys.modules, "model_signing", None)  # importing it fails
    monkeypatch.setenv(variable, str(tmp_path / "key.pem"))
    with pytest.raises(BadConfigError, match=rf"^{variable} is set, .* pip install 'pii-finetune\[signing\]'"):
        verify_model_folder(write(tmp_path))


def test_with_no_key_set_nothing_is_signed_and_the_library_is_not_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "model_signing", None)  # importing it fails
    verify_model_folder(write(tmp_path))
    assert not (tmp_path / "model" / "model.sig").exists()
