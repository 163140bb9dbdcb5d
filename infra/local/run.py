"""The whole pipeline on this machine: ``python -m infra.local.run`` (see ``./run_local.sh``)."""

import argparse
import signal
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parsed = _options(arguments)
    # Imports take seconds; an interrupt during them ends quietly
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from infra.local.install import check_programs  # noqa: PLC0415
    from infra.local.pipeline import Options, run  # noqa: PLC0415

    signal.signal(signal.SIGINT, signal.default_int_handler)
    if parsed.check:
        return check_programs()
    return run(Options(source=parsed.list, exits=parsed.exit, cleans=parsed.clean))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./run_local.sh",
        description="Run the whole pipeline on this machine, and bring a list of images through.",
        epilog="Exit status: 0 every item is indexed or has a recorded reason, 1 it is not so or "
        "something did not start, 130 interrupted.",
    )
    parser.add_argument(
        "list", nargs="?", help="file or http(s) address of image URLs; none: bundled samples"
    )
    parser.add_argument("--exit", action="store_true", help="stop when the list is done")
    parser.add_argument("--clean", action="store_true", help="forget the data of earlier runs")
    parser.add_argument(
        "--check", action="store_true", help="only list the programs that it runs, and install none"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
