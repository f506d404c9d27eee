"""Which columns hold what, where nobody says: the names that common tools write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from softbon_jax.scores._cells import listed
from softbon_jax.scores._records import names_of

OWN = {
    "prompt": "prompt_id",
    "reward": "proxy_reward",
    "gold": "gold_reward",
    "response": "response_id",
}
"""The project's own names come first, whatever else there is."""

KNOWN: dict[str, tuple[tuple[str, ...], ...]] = {
    "prompt": (
        ("question_id",), ("task_id",), ("doc_id",), ("problem_id",), ("unique_id",), ("uid",),
        ("prompt", "problem", "question", "instruction", "query", "input"), ("id", "idx", "index"),
    ),
    "reward": (
        ("rewards", "all_rm_scores", "agg_scores", "rm_scores", "all_scores"),
        ("reward", "rm_score", "reward_score", "rm", "my_rm", "reward_model_score"),
        ("score", "scores", "judge_score"),
    ),
    "gold": (
        ("gold", "gold_score", "correct", "is_correct", "exact_match", "acc", "accuracy", "passed",
         "plus_status", "base_status", "correctness", "label"),
    ),
    "response": tuple(
        (name,)
        for name in ("responses", "response", "all_generated_responses", "completions", "completion",
                     "resps", "outputs", "output", "generations", "generation", "solution")
    ),
}  # fmt: skip
"""Names by role: an earlier group before a later one; two of one group may mean either."""


class Found(NamedTuple):
    """The columns that were taken, and why."""

    prompt: tuple[str, ...]
    reward: tuple[str, ...]
    gold: tuple[str, ...]
    response: str | None
    text: bool
    notes: tuple[str, ...]
    answer: str | None = None


def find(
    path: Path,
    names: Sequence[str],
    prompt: Sequence[str],
    reward: Sequence[str],
    gold: Sequence[str] | None,
    response: str | None,
) -> Found:
    """The columns of each role; those that are "auto" are looked for among `names`.

    ValueError where two columns may mean the same, or none does.
    """
    notes: list[str] = []
    if {"eval", "date"} <= set(names) and "auto" in (
        *prompt,
        *reward,
    ):  # evalplus: all in one object
        prompt = ("eval.*[*].task_id",) if tuple(prompt) == ("auto",) else prompt
        reward = ("eval.*[*].plus_status",) if tuple(reward) == ("auto",) else reward
        gold, response = (
            (None if gold == ("auto",) else gold),
            (None if response == "auto" else response),
        )
        notes.append("prompt = task_id, reward = plus_status, as evalplus writes them")
    taken = {x for given in (prompt, reward, gold or (), names_of(response)) for x in given}

    def look(role: str, needed: bool) -> tuple[str, ...]:
        if OWN[role] in names and (needed or OWN[role] not in taken):
            return (OWN[role],)
        for group in KNOWN[role]:
            there = [x for x in group if x in names and x not in taken]
            if len(there) > 1:
                raise ValueError(
                    f"{path}: which column is the {role}: {', '.join(there)}? Say it with --{role}"
                    + ("" if needed else f", or --{role} none")
                )
            if there:
                notes.append(f"{role} = {there[0]}, by its name")
                return (there[0],)
        if needed:
            raise ValueError(
                f"{path}: no column {OWN[role]!r}; the columns are {listed(names)}; name that of the "
                f"{role} with --{role}"
            )
        return ()

    if tuple(prompt) == ("auto",):
        prompt = look("prompt", True)
        if prompt == ("question_id",) and "model_name" in names and "model_name" not in taken:
            prompt = ("question_id", "model_name")
            notes[-1] = "prompt = question_id and model_name together, by their names"
        taken.update(prompt)
    if tuple(reward) == ("auto",):
        reward = look("reward", True)
        taken.update(reward)
    if gold is not None and tuple(gold) == ("auto",):
        gold = look("gold", False)
        if not gold and "model_name" in prompt and "scores" in names and "scores" not in taken:
            gold = ("scores",)  # as PPE writes them: whether each response is right
            notes.append("gold = scores, as PPE writes it")
        taken.update(gold)
    text = False
    if response == "auto":
        found = look("response", False)
        response = found[0] if found else None
        text = response not in (None, OWN["response"])
    return Found(tuple(prompt), tuple(reward), tuple(gold or ()), response, text, tuple(notes))
