"""Write Grafana's files: ``python -m infra.monitoring.generate``; ``--check`` only compares."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from infra.monitoring.dashboards import containers, fetcher, pipeline, quality
from infra.monitoring.provisioning import provisioning_files

FOLDER = Path(__file__).parents[2] / "grafana"
DASHBOARDS = {
    "quality": quality.build,
    "pipeline": pipeline.build,
    "fetcher": fetcher.build,
    "containers": containers.build,
}


def grafana_files() -> Mapping[Path, str]:
    """Return the content of each generated file, by its path under ``grafana/``."""
    boards = {
        Path("dashboards", f"{name}.json"): _json(build()) for name, build in DASHBOARDS.items()
    }
    return {**boards, **provisioning_files()}


def stale_files(folder: Path = FOLDER) -> list[Path]:
    """Return missing, different and obsolete files."""
    wanted = grafana_files()
    there = {
        path.relative_to(folder)
        for name in ("dashboards", "provisioning")
        for path in (folder / name).rglob("*")
        if path.is_file()
    }
    differing = {
        path
        for path, content in wanted.items()
        if path not in there or (folder / path).read_text() != content
    }
    return sorted(differing | (there - wanted.keys()))


def write_files(folder: Path = FOLDER) -> None:
    """Write all files, and remove obsolete ones."""
    stale = stale_files(folder)
    wanted = grafana_files()
    for path in stale:
        target = folder / path
        if path in wanted:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(wanted[path])
        else:
            target.unlink()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.monitoring.generate", description=__doc__
    )
    parser.add_argument("--check", action="store_true", help="name stale files, change nothing")
    if not parser.parse_args(arguments).check:
        write_files()
        return 0
    stale = stale_files()
    for path in stale:
        sys.stderr.write(f"stale: grafana/{path}; run python -m infra.monitoring.generate\n")
    return 1 if stale else 0


def _json(board: Dashboard) -> str:
    return json.dumps(board, cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.exit(main())
