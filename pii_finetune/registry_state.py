"""A registered model as it stands: its versions, the one in production, the one the alias names."""

from collections.abc import Mapping
from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from pii_finetune.errors import MissingModelError

PRODUCTION = "Production"
CHAMPION = "champion"
_NUM_LISTED = 20


@dataclass(frozen=True)
class RegistryState:
    """One registered model as it was when it was read; without versions if there is none of that name."""

    name: str
    versions: tuple[ModelVersion, ...] = ()  # the oldest first
    champion: str | None = None
    tags: Mapping[str, str] | None = None

    @property
    def production(self) -> tuple[str, ...]:
        """The versions in stage Production: one, unless somebody moved stages by hand."""
        return tuple(str(each.version) for each in self.versions if each.current_stage == PRODUCTION)

    @property
    def loaded(self) -> str | None:
        """The version that `models:/NAME/Production` loads: the newest of those in the stage."""
        return self.production[-1] if self.production else None

    @property
    def is_at_odds(self) -> bool:
        """Whether stage and alias name different versions, or several are in the stage: somebody moved them by hand."""
        return len(self.production) > 1 or (self.loaded is not None and self.champion != self.loaded)

    def require(self, version: str) -> ModelVersion:
        """Return the version of that number.

        Raises:
            MissingModelError: there is none; the message lists those there are.
        """
        self.require_any()
        numbers = [str(each.version) for each in self.versions]
        if version not in numbers:
            shown = f"{'... ' if len(numbers) > _NUM_LISTED else ''}{', '.join(numbers[-_NUM_LISTED:])}"
            raise MissingModelError(f"{self.name} has no version {version!r}; those it has: {shown}")
        return self.versions[numbers.index(version)]

    def require_any(self) -> None:
        """Raise MissingModelError if there is no such model."""
        if not self.versions:
            raise MissingModelError(
                f"there is no registered model {self.name!r} with a version; `pii-finetune run` makes some"
            )


def read_state(client: MlflowClient, name: str) -> RegistryState:
    """Return how the registered model stands now."""
    try:
        model = client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return RegistryState(name)
        raise
    versions = sorted(client.search_model_versions(f"name='{name}'"), key=lambda version: int(version.version))
    champion = model.aliases.get(CHAMPION)
    return RegistryState(name, tuple(versions), str(champion) if champion is not None else None, model.tags)
