"""What is read from a file of scores: the columns, the pools and the rows that were dropped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


def names_of(columns: str | Sequence[str] | None) -> tuple[str, ...]:
    """The names of the columns that make up one score, as a tuple.

    Args:
      columns: one name, several, or None for no column.

    Returns:
      The names; empty for None.

    Raises:
      TypeError: `columns` is neither a string, nor a sequence, nor None.

    Numerics: none.
    Source: derived here: `Columns` stores a single name as a string and several as a tuple.

    Example:
      >>> sb.scores.names_of("judge_1"), sb.scores.names_of(["judge_1", "judge_2"])
      (('judge_1',), ('judge_1', 'judge_2'))
    """
    return () if columns is None else (columns,) if isinstance(columns, str) else tuple(columns)


class Columns(NamedTuple):
    """Names of the columns of a file; None for one that is not used, a tuple where several are averaged.

    Attributes:
      prompt: identifies the prompt; rows with the same value form one pool.
      reward: the score that selects.
      gold: the score to maximize.
      response: identifies a response among those to its prompt; duplicates are refused.
      leave_one_out: whether each column of `reward` in turn is the score to maximize while the mean of
        the others selects.
      answer: the answer that a response gives, for votes.
    """

    prompt: str = "prompt_id"
    reward: str | tuple[str, ...] = "proxy_reward"
    gold: str | tuple[str, ...] | None = None
    response: str | None = None
    leave_one_out: bool = False
    answer: str | None = None

    @property
    def selecting(self) -> str:
        """Label of the score that selects."""
        return "score of the judges that select" if self.leave_one_out else _label(self.reward)

    @property
    def valuing(self) -> str | None:
        """Label of the score being maximized, or None if the file has none."""
        if self.leave_one_out:
            return "score of the judge left out"
        return None if self.gold is None else _label(self.gold)

    @property
    def described(self) -> str:
        """Every column of a score and its role, in words."""
        reward = ", ".join(names_of(self.reward))
        if self.leave_one_out:
            return f"reward = mean of all but one of {reward}, gold = the one left out"
        of_reward = "" if isinstance(self.reward, str) else "mean of "
        of_gold = "" if self.gold is None or isinstance(self.gold, str) else "mean of "
        gold = ", ".join(names_of(self.gold))
        return (
            f"reward = {of_reward}{reward}"
            + (f", gold = {of_gold}{gold}" if gold else ", no gold score")
            + (f", answer = {self.answer}" if self.answer else "")
        )


def _label(columns: str | tuple[str, ...]) -> str:
    first, *others = names_of(columns)
    if len(others) < 2:
        return " & ".join([first, *others])
    return f"{first} & {len(others)} more"


class Dropped(NamedTuple):
    """Rows that were left out for one reason.

    Attributes:
      reason: why, in words.
      rows: how many.
      first: the number of the first such row; 1 is the first below the header.
    """

    reason: str
    rows: int
    first: int


class Scores(NamedTuple):
    """Pools of scores, one a prompt, padded to the largest.

    Attributes:
      prompts: their identifiers, in order of first appearance.
      rewards: `[prompts, N]` float64, the score that selects; 0 where there is no response.
      gold: `[prompts, N]` float64, the score to maximize, 0 where there is no response; or None.
      where: `[prompts, N]` bool, whether there is a response.
      rows: `[prompts, N]` integers, the row of the file, counted from 0; -1 where there is no response.
      columns: the names of the columns that were read.
      read: number of rows in the file.
      dropped: what was left out.
      judges: `[prompts, N, J]` the columns whose mean is `rewards`, if one is to be left out in turn;
        else None.
      places: `[prompts, N]` integers, the place in the list that the row holds, counted from 0; -1 where
        there is no response; None where every row is one response.
      notes: how the file was read, in words, where it does not go without saying.
      answers: `[prompts, N]` integers from 0, equal for equal answers to one prompt, 0 where there is no
        response; None where no column of answers was asked for.
    """

    prompts: tuple[str, ...]
    rewards: np.ndarray
    gold: np.ndarray | None
    where: np.ndarray
    rows: np.ndarray
    columns: Columns
    read: int
    dropped: tuple[Dropped, ...]
    judges: np.ndarray | None = None
    places: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    answers: np.ndarray | None = None
