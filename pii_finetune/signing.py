"""Signing a model folder with a key, by OpenSSF model signing (optional: `pip install 'pii-finetune[signing]'`).

The signature covers every file of the folder, the manifest too. That an older model with a good signature was put in
the place of a newer one it does not show.
"""

import os
from pathlib import Path
from typing import Any

from pii_finetune.errors import BadConfigError, TamperedModelError
from pii_finetune.manifest import SIGNATURE

SIGNING_KEY = "PII_FINETUNE_SIGNING_KEY"  # a private elliptic-curve key, PEM: new models are signed with it
VERIFY_KEY = "PII_FINETUNE_VERIFY_KEY"  # a public one, PEM: models without a signature by its owner are refused


def sign_folder(folder: Path) -> None:
    """Sign the folder if PII_FINETUNE_SIGNING_KEY names a key.

    Raises:
        BadConfigError: the key cannot be used, or model signing is not installed.
    """
    if not (key := _key_file(SIGNING_KEY)):
        return
    from model_signing import signing

    try:
        signer = signing.Config().use_elliptic_key_signer(private_key=key)
    except (ValueError, TypeError, AttributeError) as error:  # not PEM, with a password, or of another kind
        raise _unusable(SIGNING_KEY, key, "a private elliptic-curve key without a password", error) from None
    signer.set_hashing_config(_everything()).sign(folder, folder / SIGNATURE)


def verify_signature(folder: Path) -> None:
    """Check the folder's signature if PII_FINETUNE_VERIFY_KEY names a key.

    Raises:
        TamperedModelError: there is no signature, it was made with another key, or for other files.
        BadConfigError: the key cannot be used, or model signing is not installed.
    """
    if not (key := _key_file(VERIFY_KEY)):
        return
    from model_signing import verifying

    signature = folder / SIGNATURE
    if not signature.is_file():
        raise TamperedModelError(
            f"{signature}: is missing, and {VERIFY_KEY} is set; sign models when they are made ({SIGNING_KEY}), "
            "or unset it to load models nobody signed"
        )
    try:
        verifier = verifying.Config().use_elliptic_key_verifier(public_key=key)
    except (ValueError, TypeError, AttributeError) as error:
        raise _unusable(VERIFY_KEY, key, "a public elliptic-curve key", error) from None
    try:
        verifier.set_hashing_config(_everything()).verify(folder, signature)
    except Exception as error:  # noqa: BLE001  whatever is wrong with a signature, the model is not to be trusted
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise TamperedModelError(
            f"{signature}: is no signature of this folder by the owner of {key} ({reason[:200]}); "
            f"take an untouched copy of the model, or correct {VERIFY_KEY}"
        ) from None


def _key_file(variable: str) -> Path | None:
    if not (name := os.environ.get(variable)):
        return None
    try:
        import model_signing  # noqa: F401
    except ImportError as error:
        raise BadConfigError(
            f"{variable} is set, but model signing cannot be imported ({error}); "
            "pip install 'pii-finetune[signing]', or unset it"
        ) from None
    if not Path(name).is_file():
        raise BadConfigError(f"{variable}={name}: there is no such file; give the path of a key in PEM form")
    return Path(name)


def _everything() -> Any:
    from model_signing import hashing

    return hashing.Config().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)


def _unusable(variable: str, key: Path, wanted: str, error: Exception) -> BadConfigError:
    return BadConfigError(
        f"{variable}={key}: is not {wanted} in PEM form ({type(error).__name__}); "
        "make one with `openssl ecparam -name prime256v1 -genkey -noout`, its public half with `openssl ec -pubout`"
    )
