"""Folders that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from ptshare_plugin.common.errors import UserError, os_reason
from ptshare_plugin.records.run_folder import RUN_JSON


@contextmanager
def whole(target: Path, force: bool) -> Iterator[Path]:
    """Give an empty folder beside ``target``, renamed to it when the block ends well.

    Otherwise, Ctrl-C included, it is removed and ``target`` is as it was. Made at once, so that a
    place that cannot be written is known before anything has run.

    :param force: replace a ``target`` that holds results; without it a non-empty one is refused.
    """
    target = Path(os.path.abspath(target))
    _refuse(target, force)
    partial = target.parent / f".{target.name}.{os.getpid()}.partial"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
    except OSError as error:
        raise UserError(
            f"cannot be made: {os_reason(error)}",
            option="output",
            value=target,
        ) from error
    try:
        yield partial
        _sync(partial)
        _refuse(target, force)
        _replace(partial, target)
    except BrokenPipeError:  # standard error's, not the folder's
        raise
    except OSError as error:
        raise UserError(
            f"cannot be written: {os_reason(error)}",
            option="output",
            value=target,
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def publish(folder: Path, target: Path) -> None:
    """Rename a whole ``folder`` to ``target``; one that is there already stays.

    Its name is on the disk once ``target``'s parent is, which is left to whoever makes many.
    """
    _sync(folder)
    try:
        os.rename(folder, target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        shutil.rmtree(folder)


def sync_entry(path: Path) -> None:
    """Bring one file, or the names in one folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_run(folder: Path) -> bool:
    """Whether ``folder`` claims to be a run folder."""
    return (folder / RUN_JSON).is_file()


def _refuse(target: Path, force: bool) -> None:
    try:
        if not os.path.lexists(target):
            return
        if not target.is_dir():
            raise UserError(
                "there is a file of that name",
                option="output",
                value=target,
            )
        entries = list(target.iterdir())
    except OSError as error:
        raise UserError(
            f"{os_reason(error)}",
            option="output",
            value=target,
        ) from error
    if not entries:
        return
    if not force:
        raise UserError(
            "is not empty; choose another folder, or --force to replace",
            option="output",
            value=target,
        )
    if not is_run(target) and not all(is_run(entry) for entry in entries):
        raise UserError(
            "holds something else than results of ptshare, so --force does not replace it",
            option="output",
            value=target,
        )


def _replace(partial: Path, target: Path) -> None:
    if not target.exists() or not any(target.iterdir()):
        os.replace(partial, target)
        return
    old = target.parent / f".{target.name}.{os.getpid()}.old"
    os.replace(target, old)
    try:
        os.replace(partial, target)
    except BaseException:
        os.replace(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _sync(folder: Path) -> None:
    # So that after a power failure the renamed folder is not full of empty files. At once, because
    # a file system writes its journal once for all that wait for it.
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(sync_entry, folder.rglob("*")))
    sync_entry(folder)
