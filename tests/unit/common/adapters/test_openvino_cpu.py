"""Load OpenVINO in an interpreter of its own: an import can't be taken back."""

import subprocess
import sys

LOADED = """
import sys
from services.segmenter.detection import load_detector
load_detector(longest_side=640)
names = [name for name, module in sys.modules.items() if module is not None]
print("openvino" in names, [name for name in names if name.startswith("openvino_telemetry")])
"""


def test_openvino_is_loaded_without_its_telemetry() -> None:
    done = subprocess.run(  # noqa: S603  no input of anybody
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=True
    )

    assert done.stdout.split("\n")[0] == "True []"
