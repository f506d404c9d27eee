"""What a function refuses by name where the value is known is NaN in its result where it is traced.

Every argument of every function in turn is given every kind of nonsense: eagerly, for the error, and
through a compiled function, for the NaN. Indices are -1, masks all False, and nothing is feasible.

One program serves all arguments of a function, all of them unknown; a few pairs are looked at with the
rest known as well, which compiles a program each. `make test-long` does so for every pair. It also has
the three functions that compile the longest, and, of those that compile for more than a second, the
arguments that exclude others, such as log_n, for which they need a second program.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import softbon_jax as sb
from tests.public import FUNCTIONS, LENGTHY, PROBLEM, arguments
from tests.test_static import TABLE

NAN, INF = float("nan"), float("inf")
LOG_PROBS, REWARDS = (np.asarray(x) for x in PROBLEM)
POOLS = {
    "plug_in_curve", "pool_credits", "pool_curve", "pool_effective_size", "pool_kl", "pool_table",
    "pool_weights", "pool_win_rate", "leave_one_out_curve",
}  # fmt: skip
SELECTORS = {
    "select", "select_best", "select_many", "select_race", "select_pessimist", "select_rejection",
    "selection_log_probs", "pessimism_log_probs", "reservoir_update",
}  # fmt: skip


def with_entry(x, value):
    """`x` with its second entry, or its only one, replaced."""
    x = np.array(x)
    x.flat[min(1, x.size - 1)] = value
    return x


NO_PROBLEMS = {
    "sums to 0.5": (LOG_PROBS - np.log(2), REWARDS),
    "sums to 2": (LOG_PROBS + np.log(2), REWARDS),
    "nan log-probability": (with_entry(LOG_PROBS, NAN), REWARDS),
    "inf log-probability": (with_entry(LOG_PROBS, INF), REWARDS),
    "nothing possible": (np.full(4, -INF), REWARDS),
    "nan reward": (LOG_PROBS, with_entry(REWARDS, NAN)),
    "inf reward": (LOG_PROBS, with_entry(REWARDS, INF)),
    "-inf reward": (LOG_PROBS, with_entry(REWARDS, -INF)),
}
ANY_REAL = (NAN, INF, -INF)
POSITIVE = (*ANY_REAL, -1.0, 0.0)
TEMPERATURE = (NAN, -INF, -1.0)
# Where this depends on the function, under "function argument".
BAD = {
    "confidence": (*POSITIVE, 1.0),
    "level": (*ANY_REAL, -0.5, 1.5),
    "pool_tail level": (*POSITIVE, 1.0),
    "pool_weighted_votes weights": (*ANY_REAL, -0.3),
    "answers": (*ANY_REAL, -1.0, 0.5, 3.0),
    "concentration": POSITIVE,
    "draws": (*POSITIVE, 1.0),
    "envelope": ANY_REAL,
    "exponent": ANY_REAL,
    "gain": TEMPERATURE,
    "gold": ANY_REAL,
    "kl": TEMPERATURE,
    "allocate kl": POSITIVE,
    "log_law": (NAN, INF),
    "log_n": (*ANY_REAL, -1.0),
    "logits": (NAN, INF),
    "m": (*POSITIVE, 0.5),
    "mean_extra": (*ANY_REAL, -1.0),
    "n": (*POSITIVE, 0.5),
    "noise": ANY_REAL,
    "order": TEMPERATURE,
    "p": (*POSITIVE, 1.0, 2.0),
    "pmf": (*ANY_REAL, -0.3, 0.0, 2.0),
    "price": POSITIVE,
    "prize": ANY_REAL,
    "probs": (*ANY_REAL, -0.3, 0.0, 2.0),
    "range_over_temperature": POSITIVE,
    "regularization": TEMPERATURE,
    "reward": ANY_REAL,
    "rewards": ANY_REAL,
    "scale": POSITIVE,
    "selected": (*POSITIVE, 2.0),
    "initial": (*ANY_REAL, -0.3, 2.0),
    "judges": ANY_REAL,
    "kernel": (*ANY_REAL, -0.3, 2.0),
    "step": POSITIVE,
    "temperature": TEMPERATURE,
    "threshold": (NAN,),
    "distill temperature": (*TEMPERATURE, 0.0, INF),
    "hedge temperature": (*TEMPERATURE, 0.0, INF),
    "n_for_kl temperature": (*TEMPERATURE, 0.0, INF),
    "values": ANY_REAL,
    "weights": (*ANY_REAL, -0.3, 0.0, 2.0),
    "win_rate": (*POSITIVE, 1.0),
}
# What has no illegal value, or is looked at in a test of its own.
ANY_SCORE = {"leave_one_out", "curve_difference"}
WITHOUT = {"key", "where", "items", "init_state", "example_item", "state", "a", "b", "divergence"}
# A field that does not depend on the argument keeps its value.
INDEPENDENT = {
    ("allocate", "kl"): ".n|.price_draws",
    ("bernoulli", "p"): ".rewards",
    ("block_problem", "problem"): ".rewards",
    ("normal_noise", "scale"): ".weights",
    ("blockwise_metrics", "n"): ".tilted_reward",
    ("decode", "temperature"): ".tokens|.rewards|.state",
    ("dirichlet", "concentration"): ".rewards",
    ("empirical", "rewards"): ".log_probs",
    ("from_logits", "logits"): ".rewards",
    ("from_logits", "rewards"): ".log_probs",
    ("from_probs", "probs"): ".rewards",
    ("from_probs", "rewards"): ".log_probs",
    ("jackpot", "p"): ".rewards",
    ("jackpot", "prize"): ".log_probs",
    ("pool_tail", "confidence"): ".quantile|.mean_below|.standard_error",
    ("pool_kl", "n"): ".kl_tilted_base|.effective_size",
    ("reservoir_update", "rewards"): ".item|.noise|.temperature",
    ("reservoir_update", "temperature"): ".item|.noise",
    ("round_to_lattice", "step"): ".problem.log_probs",
    ("zipf", "exponent"): ".rewards",
}
# One entry of the result for one of the argument, or one row for one pool.
ENTRIES = {
    ("empirical", "rewards"), ("from_logits", "rewards"), ("from_probs", "rewards"),
    ("jackpot", "prize"), ("frontier", "kl"), ("leave_one_out_curve", "judges"),
    ("sweep", "n"), ("sweep", "log_n"), ("sweep", "temperature"), ("pool_credits", "temperature"),
    ("pool_weights", "temperature"), ("pool_votes", "answers"), ("pool_votes", "n"),
    ("pool_weighted_votes", "answers"), ("pool_weighted_votes", "n"), ("pool_weighted_votes", "weights"),
    ("pool_tail", "n"),
    ("worst_case", "range_over_temperature"),
    *((name, x) for name in POOLS for x in ("rewards", "values", "n")),
}  # fmt: skip


def given_to(name, argument):
    """Legal arguments of the function with this one among them, as an array."""
    given = arguments(name)
    given.pop("nodes", None)  # the default serves every traced value
    if argument == "log_n":
        given["log_n"] = jnp.log(given.pop("n"))
    elif (name, argument) == ("hedge", "temperature"):
        given |= {"temperature": 0.5}
        del given["n"]
    elif name == "allocate" and argument in ("n", "kl"):
        given |= {"n": 4.0, "kl": 0.1}
        del given["draws"]
    return given, as_array(name, argument, given[argument])


def as_array(name, argument, value):
    """What a program is given in the place of a legal value."""
    if argument in ("problem", "block"):
        return value
    whole = POOLS | {"pool_votes", "pool_tail", "pool_weighted_votes"}
    integers = argument == "n" and name in whole
    return np.asarray(value, int if integers else float)


def nonsense(name, argument, value):
    """What is illegal in the place of a legal value, by what it is called."""
    if argument in ("problem", "block"):
        return {label: sb.Problem(*map(jnp.asarray, x)) for label, x in NO_PROBLEMS.items()}
    wrong = BAD.get(f"{name} {argument}", BAD[argument])
    if name in SELECTORS | POOLS | {"pool_tail"} and argument == "rewards":  # -inf: never selected
        wrong = (NAN, INF)
    if value.dtype.kind == "i":
        wrong = (0, -1)
    return {str(x): jnp.asarray(with_entry(value, x)) for x in wrong}


def assert_nonsense(name, argument, label, result, legal):
    """No field that depends on the argument holds anything that is not nonsense."""
    kept = re.compile(rf"({INDEPENDENT.get((name, argument), 'none')})\b")
    fields, _ = jax.tree_util.tree_flatten_with_path(result)
    told = 0
    for (path, x), good in zip(fields, jax.tree.leaves(legal), strict=True):
        x, field = np.asarray(x), jax.tree_util.keystr(path)
        at = f"{argument} {label}: {field} = {x}"
        if kept.match(field):
            continue
        if x.dtype.kind == "f":
            told += not np.isnan(good).all()
            some = (name, argument) in ENTRIES
            assert np.isnan(x).any() if some else np.isnan(x).all(), at
        elif x.dtype.kind == "b":
            assert not x.all() if (name, argument) in ENTRIES else not x.any(), at
            told += bool(good.any())
        elif not field.endswith(".prompts"):
            assert (x == -1).all(), at
            told += 1

    assert told, f"{name} tells nothing of {argument}"


def traced_pairs():
    """(function, argument) for everything that may be traced and may be wrong."""
    return [
        (name, argument)
        for name, (_, traced) in TABLE.items()
        for argument in traced
        if argument not in WITHOUT and name not in ANY_SCORE
    ]


PAIRS = traced_pairs()
FAST = {
    ("metrics", "problem"), ("metrics", "temperature"), ("race_metrics", "problem"),
    ("law_metrics", "problem"), ("log_best_of_n", "problem"), ("log_uniform_race", "n"),
    ("log_rejection", "temperature"), ("round_to_lattice", "problem"), ("select", "temperature"),
    ("pool_effective_size", "temperature"), ("temperature_for_kl", "problem"),
    ("bounds.kl_upper", "problem"), ("bounds.log_n_for_block_kl_lower", "kl"), ("from_probs", "probs"),
}  # fmt: skip


PROGRAMS = {}
"""What `program` has compiled, by function and unknown arguments."""


def program(name, given, unknown):
    """The function compiled for these unknown arguments; its result for legal ones."""
    if (name, unknown) not in PROGRAMS:
        known = {x: y for x, y in given.items() if x not in unknown}
        legal = {x: as_array(name, x, given[x]) for x in unknown}
        compiled = jax.jit(lambda traced: FUNCTIONS[name](**known, **traced))
        PROGRAMS[name, unknown] = (lambda changed: compiled(legal | changed)), compiled(legal)
    return PROGRAMS[name, unknown]


def look_at(name, argument, all_unknown):
    """Every kind of nonsense in one argument, which alone is unknown to the program or with the rest."""
    given, value = given_to(name, argument)
    unknown = [x for x in given if x == argument or (all_unknown and (name, x) in PAIRS)]
    with jax.debug_key_reuse(False):  # every call draws with the same key
        compiled, legal = program(name, given, tuple(unknown))
        for label, wrong in nonsense(name, argument, value).items():
            with pytest.raises(ValueError, match=rf"\b{argument}\b"):
                FUNCTIONS[name](**given | {argument: wrong})
            assert_nonsense(name, argument, label, compiled({argument: wrong}), legal)


def pairs(marked):
    """The pairs, each with the mark that is chosen for it."""
    return [pytest.param(*x, marks=[m for m in [marked(x)] if m]) for x in PAIRS]


@pytest.mark.filterwarnings("ignore:pessimism_law is now:DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "argument"), pairs(lambda x: None if x in FAST else pytest.mark.long)
)
def test_nonsense_is_named_or_nan(name, argument):
    look_at(name, argument, all_unknown=False)


LONGEST = {"allocate", "hedge", "markov_metrics"}


def is_left_out(pair):
    name, argument = pair
    return name in LONGEST or (name in LENGTHY and argument not in arguments(name))


@pytest.mark.filterwarnings("ignore:pessimism_law is now:DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "argument"),
    pairs(lambda x: pytest.mark.long if is_left_out(x) else pytest.mark.slow),
)
def test_nonsense_among_unknown_arguments(name, argument):
    look_at(name, argument, all_unknown=True)
