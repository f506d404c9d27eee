"""The stored results of `make_reference.py`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

FOLDER = Path(__file__).parents[1] / "reference"


class Case(NamedTuple):
    """One stored case, its decimals rounded to float64: inf above its range, 0 below."""

    name: str
    log_probs: np.ndarray  # [K]
    rewards: np.ndarray  # [K]
    n: float
    temperature: float
    metrics: dict[str, float]
    log_law: np.ndarray | None  # [K] log P_n
    log_ratio: np.ndarray | None  # [K] log P_n/P*; nan where P is 0
    gradients: dict[str, dict[str, np.ndarray]] | None  # by variable, then metric: [K] or []


def load_reference(name: str) -> Iterator[Case]:
    """The cases of `reference/{name}.json` ("metrics" or "gradients"), one by one."""
    stored = json.loads((FOLDER / f"{name}.json").read_text())
    for case in stored["cases"]:
        gradients = case.get("gradients")
        if gradients is not None:
            gradients = {
                variable: {m: np.array(values, np.float64) for m, values in by_metric.items()}
                for variable, by_metric in gradients.items()
            }
        yield Case(
            case["name"],
            np.array(case["log_probs"], np.float64),
            np.array(case["rewards"], np.float64),
            float(case["n"]),
            float(case["temperature"]),
            {m: float(value) for m, value in case["metrics"].items()},
            np.array(case["log_law"], np.float64) if "log_law" in case else None,
            np.array(case["log_ratio"], np.float64) if "log_ratio" in case else None,
            gradients,
        )
