"""Archives of files that a test names."""

import tarfile
import zipfile
from collections.abc import Mapping
from io import BytesIO


def zip_of(files: Mapping[str, bytes], *, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    content = BytesIO()
    with zipfile.ZipFile(content, "w", compression) as archive:
        for name, body in files.items():
            archive.writestr(zipfile.ZipInfo(name), body, compression)
    return content.getvalue()


def tar_of(files: Mapping[str, bytes], mode: str = "w") -> bytes:
    content = BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as archive:  # type: ignore[call-overload]
        for name, body in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, BytesIO(body))
    return content.getvalue()


def tgz_of(files: Mapping[str, bytes]) -> bytes:
    return tar_of(files, "w:gz")
