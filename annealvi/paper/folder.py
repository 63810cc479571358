"""A folder of generated files, which are replaced only when all of them are there. Other files stay."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from annealvi.show.output import require_free, require_inside, write_file
from derive.problem.specification import BadInput

SOURCE = "article.in.tex"
MANIFEST = "generated.txt"
"""Lists the files of the last run, so that the next run can remove files that it no longer makes."""


@contextmanager
def renewed(folder: Path, keep: type[Exception] | tuple[type[Exception], ...], force: bool = False) -> Iterator[Path]:
    """Yield a scratch folder inside `folder`, and move its files to `folder` if the block ends well.

    With `force` the files replace those of the last run. Without it, a file that exists already raises BadInput, except
    in the folder of the article's own source, where its figures are. After an exception of `keep` the scratch folder
    stays for inspection; after any other it is removed. After any exception `folder` is unchanged.
    """
    scratch = folder / f".building-{secrets.token_hex(8)}"
    try:  # entered before the folder exists, so that no interrupt leaves it behind
        _make(scratch)
        yield scratch
        _replace(scratch, folder, force or (folder / SOURCE).is_file())
    except keep:
        raise
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    shutil.rmtree(scratch)


def _make(scratch: Path) -> None:
    try:
        scratch.mkdir(parents=True)
    except OSError as error:
        raise BadInput(
            str(scratch.parent), f"cannot be written ({error.strerror})", "give a folder that can be written", "--out"
        ) from None


def _replace(scratch: Path, folder: Path, force: bool) -> None:
    made = sorted(path.relative_to(scratch).as_posix() for path in scratch.rglob("*") if path.is_file())
    listed = folder / MANIFEST
    earlier = listed.read_text(encoding="utf-8").splitlines() if listed.is_file() else []
    for name in made:
        require_inside(folder / name, folder, "--out")
        require_free(str(folder / name), "--out", force)
    for name in made:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(scratch / name, folder / name)
    for stale in (folder / name for name in set(earlier) - set(made)):
        if stale.is_file() and stale.resolve().is_relative_to(folder.resolve()):  # the list may have been edited
            stale.unlink()
    write_file(listed, "".join(f"{name}\n" for name in made).encode())
