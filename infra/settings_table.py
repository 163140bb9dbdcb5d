"""Generate the reference of settings, their names in the compose file, and the schemas.

``python -m infra.settings_table`` writes docs/configuration.md, docker-compose.yml, docs/schemas/;
``--check`` only reports whether they are up to date (exit status 1 if not).
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from app.engines.settings import ModelsSettings, RapidSettings, TrocrSettings
from app.settings import OcrSettings
from infra.local.settings import LocalSettings, Ports
from infra.service_settings import compose_settings
from services.cli.settings import CliSettings, ErrorSettings
from services.common.adapters.repository import TYPES, schema_of
from services.common.download.settings import DownloadSettings
from services.common.runtime.settings import (
    AmqpSettings,
    DeploymentSettings,
    LogSettings,
    MongoSettings,
    RabbitmqManagementSettings,
    S3Settings,
)
from services.consumer.settings import ConsumerSettings
from services.fetcher.settings import FetcherSettings
from services.fetcher.sources.archives.settings import ArchiveSettings
from services.label_studio.settings import LabelStudioSettings
from services.provisioner.settings import (
    PreflightSettings,
    ProvisionerSettings,
    ServerPasswords,
    UsersSettings,
)
from services.reconciler.settings import ReconcilerSettings
from services.review.settings import ReviewSettings
from services.segmenter.settings import SegmenterSettings

ROOT = Path(__file__).parents[1]
CONFIGURATION = ROOT / "docs" / "configuration.md"
COMPOSE = ROOT / "docker-compose.yml"
SCHEMAS = ROOT / "docs" / "schemas"
BEGIN = "<!-- settings: written by python -m infra.settings_table -->"
END = "<!-- end of settings -->"
COMPOSE_BEGIN = "# settings: written by python -m infra.settings_table"
COMPOSE_END = "# end of settings"
GROUPS: tuple[type[BaseSettings], ...] = (
    OcrSettings,
    RapidSettings,
    TrocrSettings,
    ModelsSettings,
    FetcherSettings,
    DownloadSettings,
    ArchiveSettings,
    ConsumerSettings,
    ReconcilerSettings,
    SegmenterSettings,
    ReviewSettings,
    LabelStudioSettings,
    ProvisionerSettings,
    PreflightSettings,
    ServerPasswords,
    UsersSettings,
    DeploymentSettings,
    CliSettings,
    ErrorSettings,
    S3Settings,
    AmqpSettings,
    RabbitmqManagementSettings,
    MongoSettings,
    LogSettings,
    Ports,
    LocalSettings,
)


def reference() -> str:
    """Return the settings of all groups, each group as a heading and a Markdown table."""
    return "\n\n".join(_section(group) for group in GROUPS)


def _section(group: type[BaseSettings]) -> str:
    title = (group.__doc__ or "").splitlines()[0].split(" (")[0].rstrip(".")
    prefix = group.model_config.get("env_prefix", "")
    rows = [f"### {title}", "", "| setting | default | meaning |", "|---|---|---|"]
    for name, field in group.model_fields.items():
        meaning = (field.description or "").replace("|", "\\|")
        rows.append(f"| `{prefix}{name.upper()}` | {_default(field)} | {meaning} |")
    return "\n".join(rows).replace("``", "`")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, SecretStr):
        value = value.get_secret_value()  # a published local default, never a real secret
    if value in (None, (), ""):
        return ""
    if isinstance(value, tuple):
        value = ",".join(str(each) for each in value)
    return f"`{value}`"


def fresh_files() -> dict[Path, str]:
    """Return the files with updated generated sections."""
    return {
        CONFIGURATION: _between(CONFIGURATION.read_text(), BEGIN, END, reference()),
        COMPOSE: _between(COMPOSE.read_text(), COMPOSE_BEGIN, COMPOSE_END, compose_settings()),
        **{SCHEMAS / f"{each}.json": _as_json(schema_of(each)) for each in TYPES},
    }


def _as_json(schema: Mapping[str, object]) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _between(text: str, begin: str, end: str, made: str) -> str:
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    return f"{head}{begin}\n{made}\n{end}{tail}"


def main() -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    arguments = parser.parse_args()
    stale = {path: text for path, text in fresh_files().items() if text != path.read_text()}
    for path, text in stale.items():
        if arguments.check:
            sys.stderr.write(f"{path.name}: run python -m infra.settings_table\n")
        else:
            path.write_text(text)
    return 1 if arguments.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
