"""img2dataset in an environment of its own, which is kept for the next time."""

import subprocess
import time
import venv
from collections.abc import Sequence
from pathlib import Path

from infra.local.cache import cache_folder
from tests.support.fetcher import Surroundings

PACKAGES = ("img2dataset==1.47.0", "s3fs==2026.9.0", "fsspec==2026.9.0", "setuptools<81")
FOLDER = cache_folder() / "bench-img2dataset"
INSTALL_SECONDS = 900
RUN_SECONDS = 300
SCRIPT = """
import sys, img2dataset
img2dataset.download(url_list=sys.argv[1], output_folder=sys.argv[2], output_format="files",
    input_format="txt", processes_count=2, thread_count=32, resize_mode="no",
    number_sample_per_shard=int(sys.argv[3]), disable_all_reencoding=True)
"""


class Img2dataset:
    """Writes single files, by two processes, without decoding images.

    Args:
        folder: For its lists.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._python = FOLDER / "bin/python"
        installed = FOLDER / "installed.txt"
        wanted = "\n".join(PACKAGES)
        if not installed.exists() or installed.read_text() != wanted:
            venv.create(FOLDER, with_pip=True, clear=True)
            install = [str(self._python), "-m", "pip", "install", "--quiet", *PACKAGES]
            subprocess.run(install, check=True, timeout=INSTALL_SECONDS)  # noqa: S603
            installed.write_text(wanted)

    def rates(self, around: Surroundings, wanted: Sequence[str]) -> tuple[float, float]:
        """Return its rate as a user sees it, and without the time that it takes to start."""
        start = self._seconds(around, wanted[:1], "start")
        whole = self._seconds(around, wanted, "list")
        return len(wanted) / whole, len(wanted) / max(whole - start, 0.001)

    def _seconds(self, around: Surroundings, wanted: Sequence[str], name: str) -> float:
        urls = self._folder / f"{name}.txt"
        urls.write_text("\n".join(wanted))
        shard = str(max(1, -(-len(wanted) // 4)))  # two for each process
        address = str(around.s3.endpoint_url)
        began = time.perf_counter()
        subprocess.run(  # noqa: S603  its own Python
            [
                *(str(self._python), "-c", SCRIPT, str(urls)),
                *(f"s3://{around.s3.bucket}/img2dataset-{name}", shard),
            ],
            check=True,
            timeout=RUN_SECONDS,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={
                "PATH": "/usr/bin:/bin",
                "HOME": str(self._folder),
                "AWS_ACCESS_KEY_ID": around.s3.access_key_id,
                "AWS_SECRET_ACCESS_KEY": around.s3.secret_access_key.get_secret_value(),
                "AWS_ENDPOINT_URL": address,
                "FSSPEC_S3_ENDPOINT_URL": address,
                "NO_ALBUMENTATIONS_UPDATE": "1",
            },
        )
        return time.perf_counter() - began
