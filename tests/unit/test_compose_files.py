"""The compose files, read: no engine is needed to see that a setting reaches the service that it is for."""

import re

import pytest
import yaml

from pii_finetune.paths import ROOT

BASE = ROOT / "docker-compose.yml"
OVERRIDES = sorted((ROOT / "docker").glob("*.override.yml"))


def read(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def variables(value):
    """Return the names that compose replaces in any text below a value; comments are not among it."""
    if isinstance(value, dict):
        return set().union(*map(variables, value.values()), set())
    if isinstance(value, list):
        return set().union(*map(variables, value), set())
    return set(re.findall(r"(?<!\$)\$\{(\w+)", value)) if isinstance(value, str) else set()


def settings_of_the_example():
    return set(re.findall(r"^#?([A-Z][A-Z_]+)=", (ROOT / ".env.example").read_text(encoding="utf-8"), re.MULTILINE))


def test_every_setting_of_the_example_is_read_and_every_one_read_is_written_down():
    read_somewhere = set().union(*(variables(read(path)) for path in (BASE, *OVERRIDES)))
    documented = settings_of_the_example()
    assert documented <= read_somewhere
    docs = (ROOT / "docs" / "stack.md").read_text() + (ROOT / "docs" / "operations.md").read_text()
    others = read_somewhere - documented
    assert not [name for name in others if name not in docs]


def test_each_setting_of_a_bucket_reaches_mlflow_under_its_name_and_none_may_be_forgotten():
    mlflow = read(ROOT / "docker" / "s3.override.yml")["services"]["mlflow"]
    block = re.search(r"## Artifacts in S3.*?```\n(.*?)```", (ROOT / "docs" / "stack.md").read_text(), re.DOTALL)
    asked = dict(line.split("=", 1) for line in block[1].splitlines())
    for name in asked:
        inside = {"ARTIFACTS": "MLFLOW_ARTIFACTS_DESTINATION"}.get(name, name)
        assert mlflow["environment"][inside].startswith(f"${{{name}:?"), name
    assert len(asked) == len(mlflow["environment"])
    assert "outside" in mlflow["networks"]


def test_https_is_asked_of_the_proxy_and_of_all_that_make_links_and_none_of_its_settings_may_be_forgotten():
    proxy = read(ROOT / "docker" / "tls.override.yml")["services"]["proxy"]
    assert f"./docker/tls:{proxy['environment']['TLS_FOLDER']}:ro" in proxy["volumes"]
    assert {name for name in ("PUBLIC_SCHEME", "PUBLIC_HOST") if ":?" in proxy["environment"][name]} == {
        "PUBLIC_SCHEME",
        "PUBLIC_HOST",
    }
    services = read(BASE)["services"]
    for service, name in (
        ("prefect", "PREFECT_SERVER_CORS_ALLOWED_ORIGINS"),
        ("mlflow", "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"),
        ("worker", "PREFECT_UI_URL"),
        ("worker", "MLFLOW_UI_URL"),
    ):
        assert services[service]["environment"][name].startswith("${PUBLIC_SCHEME:-http}://${PUBLIC_HOST:-127.0.0.1}:")
    assert all(port.startswith("${BIND_ADDRESS:-127.0.0.1}:") for port in services["proxy"]["ports"])


@pytest.mark.parametrize("ignored", [".gitignore", ".dockerignore"])
def test_neither_git_nor_an_image_takes_the_key_of_the_certificate(ignored):
    lines = (ROOT / ignored).read_text(encoding="utf-8").splitlines()
    assert "docker/tls" in [line.strip("/") for line in lines]
