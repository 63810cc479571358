"""The state of a training run in one file, from which an interrupted run continues to the same result."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from annealvi.show.output import write_file
from derive.problem.specification import BadInput


def save_checkpoint(path: Path, fingerprint: str, state: Any, records: list[dict[str, np.ndarray]]) -> None:
    """Write a run's state and its records so far, which have the same names and shapes."""
    arrays = {f"state_{n}": np.asarray(leaf) for n, leaf in enumerate(jax.tree.leaves(state))}
    arrays |= {f"record_{name}": np.stack([r[name] for r in records]) for name in records[0]}
    stream = io.BytesIO()
    arrays["fingerprint"] = np.array(fingerprint)
    np.savez(stream, **arrays)  # type: ignore[arg-type]
    write_file(path, stream.getvalue())


def load_checkpoint(path: Path, fingerprint: str, state: Any) -> tuple[Any, list[dict[str, np.ndarray]]] | None:
    """The state, in the structure of `state`, and the records; None if there is no such file.

    Raises BadInput for the checkpoint of another run and for a file that is no checkpoint.
    """
    if not path.exists():
        return None
    remedy = "remove it to begin anew, or choose another folder"
    try:
        if not path.is_file():  # reading a pipe would wait
            raise ValueError(path)
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
        kept = str(found["fingerprint"])
        leaves = [found[f"state_{n}"] for n in range(len(jax.tree.leaves(state)))] if kept == fingerprint else []
        names = [name.removeprefix("record_") for name in found if name.startswith("record_")]
        records = [{n: found[f"record_{n}"][k] for n in names} for k in range(len(found[f"record_{names[0]}"]))]
    except Exception:  # a damaged archive raises almost any
        raise BadInput("--out", "checkpoint.npz cannot be read", remedy, str(path.parent)) from None
    if kept != fingerprint:
        raise BadInput(
            "--out",
            "checkpoint.npz belongs to another run",
            f"{remedy}; a run goes on only as it began",
            str(path.parent),
        )
    return jax.tree.unflatten(jax.tree.structure(state), leaves), records


def fingerprint_of(settings: dict[str, Any]) -> str:
    """Everything that decides the result of a run, as JSON with sorted keys."""
    return json.dumps(settings, sort_keys=True)
