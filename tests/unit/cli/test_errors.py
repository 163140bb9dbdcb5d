"""Exit statuses of errors that commands do not expect."""

from errno import EIO, ENAMETOOLONG, ENOENT, ENOSPC
from gzip import BadGzipFile

import pytest
from PIL import UnidentifiedImageError

from services.cli.errors import CommandError, ExitStatus, translate_errors


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (OSError(ENOSPC, "No space left on device"), ExitStatus.UNAVAILABLE),
        (OSError(EIO, "Input/output error"), ExitStatus.UNAVAILABLE),
        (TimeoutError(), ExitStatus.UNAVAILABLE),
        (OSError(ENOENT, "No such file or directory"), ExitStatus.REFUSED),
        (OSError(ENAMETOOLONG, "File name too long"), ExitStatus.REFUSED),
        # Of libraries: what they read is not what it has to be
        (OSError("lines is not a local folder"), ExitStatus.REFUSED),
        (BadGzipFile("Not a gzipped file"), ExitStatus.REFUSED),
        (UnidentifiedImageError("cannot identify image file"), ExitStatus.REFUSED),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, OSError) else each.name,
)
def test_only_what_may_work_later_is_unavailable(error: OSError, status: ExitStatus) -> None:
    with pytest.raises(CommandError) as told, translate_errors():
        raise error

    assert told.value.status == status
    assert str(told.value)
