"""What a person can mend, as a line that says what to do: no fault of this program's."""

from __future__ import annotations

import errno
from pathlib import Path

from peer_cl.errors import PeerError

_OTHER_PLACE = "or choose another place"
_ADVICE = {
    errno.EACCES: f"let your user read and write it, {_OTHER_PLACE}",
    errno.EPERM: f"let your user read and write it, {_OTHER_PLACE}",
    errno.EROFS: f"make its file system writable, {_OTHER_PLACE}",
    errno.ENOENT: "check the path, or restore it from a copy",
    errno.ENOTDIR: f"move the file that is in the way, {_OTHER_PLACE}",
    errno.EEXIST: f"move what is in the way, {_OTHER_PLACE}",
    errno.EISDIR: f"move the folder that is in the way, {_OTHER_PLACE}",
    errno.ENAMETOOLONG: "give a shorter path",
    errno.ENOSPC: "make room on the disk and do the same again",
    errno.EFBIG: "let your user write larger files (ulimit -f), or use a disk that holds them",
    errno.EDQUOT: "make room within your quota and do the same again",
}
"""What to do about the system's errors on files, by their number."""


def is_of_files(error: OSError) -> bool:
    """Return whether an error is one of files and disks, which a person can mend."""
    return error.filename is not None or error.errno in _ADVICE


def told(error: OSError, folder: Path | None) -> str:
    """Return what is said about an error of the operating system: the path, why, and advice.

    Args:
        error: as it was raised.
        folder: of the store, told where the error names no path, as a write's does not.

    Example:
        >>> told(OSError(errno.ENOSPC, "No space left on device"), Path("knowledge"))[:60]
        'No space left on device (at work on the store in knowledge);'
    """
    path = error.filename2 or error.filename  # of a rename, the second is what the user knows
    reason = error.strerror or str(error)
    if path is None and folder is not None and error.errno in _ADVICE:
        reason = f"{reason} (at work on the store in {folder})"
    what = reason if path is None else f"cannot use {path}: {reason}"
    return f"{what}; {_ADVICE.get(error.errno or 0, 'check the path and the disk')}"


def mendable(error: Exception, folder: Path | None = None) -> str | None:
    """Return what is said of an error that a person can mend; None: it is a fault of ours.

    Args:
        error: as it was raised.
        folder: as for `told`.
    """
    if isinstance(error, PeerError):
        return str(error)
    if isinstance(error, OSError) and is_of_files(error):
        return told(error, folder)
    return None
