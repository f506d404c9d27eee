"""What a call needs is known before it starts, is at most what it may take, and is close to the truth.

The truth is what XLA says that a compiled program needs. What compiles for more than a second is left to
`make slow` and `make test-long`.
"""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import softbon_jax as sb
from softbon_jax import _memory
from softbon_jax._batching import over_batch
from tests.public import FUNCTIONS, LENGTHY, arguments, programs

MIB = 2**20


def needed(program):
    """The bytes of the results of a compiled program and of what it works with."""
    known = program.memory_analysis()
    return known.temp_size_in_bytes + known.output_size_in_bytes


# The limit ---------------------------------------------------------------------------------------


def toy(x):
    return over_batch(
        lambda x: jnp.sort(jnp.outer(x, x).ravel())[:3], (x,), elements=x.shape[-1] ** 2
    )


@pytest.mark.slow
def test_a_chunk_is_as_large_as_fits():
    """The same numbers in a part of the memory."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(100, 200)))
    small = jax.jit(toy).lower(x).compile()
    assert needed(small) > 30 * MIB
    want = small(x)
    with sb.memory_limit(20 * MIB):
        tight = jax.jit(toy).lower(x).compile()
        assert needed(tight) < 20 * MIB
        np.testing.assert_array_equal(tight(x), want)
        np.testing.assert_array_equal(toy(x), want)


@pytest.mark.slow
def test_trials_in_flight_are_as_many_as_fit():
    problem, key = sb.uniform_quantiles(64), jax.random.key(0)

    def simulated():
        return sb.simulate(key, problem, 16, 0.3, trials=8192)

    def lowered():
        return jax.jit(simulated).lower().compile()

    want = simulated()
    with sb.memory_limit(3 * MIB):
        assert needed(lowered()) < 3 * MIB
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-9), simulated(), want)
    assert needed(lowered()) > 3 * MIB


def test_the_innermost_limit_counts_in_its_thread_alone():
    seen = []
    before = _memory.limit()
    with sb.memory_limit(100):
        with sb.memory_limit(200):
            assert _memory.limit() == 200
            thread = threading.Thread(target=lambda: seen.append(_memory.limit()))
            thread.start()
            thread.join()
        assert _memory.limit() == 100
        with pytest.raises(ZeroDivisionError), sb.memory_limit(300):
            _ = 1 / 0
        assert _memory.limit() == 100
    assert [before] == seen == [_memory.limit()]


def test_a_compiled_function_is_traced_again_for_another_limit():
    function = jax.jit(lambda problem: sb.log_tilted(problem, 0.3))
    problem = sb.uniform_quantiles(1000)
    want = function(problem)
    with pytest.raises(MemoryError, match="log_tilted"), sb.memory_limit(1000):
        function(problem)
    np.testing.assert_array_equal(function(problem), want)


def test_threads_share_the_limit():
    with sb.memory_limit(1000), _memory.parts(4):
        assert _memory.limit() == 1000
        _memory.check(250)
        with pytest.raises(MemoryError, match="1004 bytes, more than the limit of 1000 bytes"):
            _memory.check(251)
        assert _memory.at_once(10**6, 5) == 25


@pytest.mark.parametrize("bad", [0, -1, 1.5, "1e9", None, True, 2**63, np.inf, [1]])
def test_nonsense_is_named(bad):
    with pytest.raises(ValueError, match="most_bytes must be a number of bytes from 1 to"):
        sb.memory_limit(bad)


SCRIPT = """
import json, os, jax
import softbon_jax as sb
from softbon_jax import _memory
from softbon_jax.command.main import main
found = {}
for text in ["", " 5000000 ", "4e9", "-1", "0", "9" * 19, "8 GiB"]:
    os.environ["SOFTBON_MEMORY"] = text
    _memory._default.cache_clear()
    try:
        found[text] = _memory.limit()
    except ValueError as error:
        found[text] = str(error)
os.environ["SOFTBON_MEMORY"] = "1000"
_memory._default.cache_clear()
found["status"] = main("plan --n 4".split())
with sb.memory_limit(2**30):
    found["within"] = main("plan --probs 0.5 0.5 --rewards 0 1 --n 1".split())
print(json.dumps(found))
"""


@pytest.mark.slow
def test_the_environment_sets_the_limit_of_a_process():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert MIB < found.pop("") <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    assert found.pop(" 5000000 ") == 5_000_000
    assert (found.pop("status"), found.pop("within")) == (2, 0)
    assert len(found) == 5
    for text, message in found.items():
        assert message == (
            f"SOFTBON_MEMORY must be a number of bytes from 1 to 2^63 - 1, got {_shown(text)}"
        )
    (line,) = done.stderr.splitlines()
    assert "needs about" in line
    assert "the law does not fit into memory: " in line
    assert "more than the limit of 1000 bytes" in line


def _shown(text):
    return repr(int(text) if text.isdigit() else text)


# The refusal -------------------------------------------------------------------------------------

NEVER = {
    "bernoulli", "block_problem", "empirical", "from_distribution", "from_logits", "from_probs",
    "mean_random_n", "memory_limit", "rates.fit_rate", "reservoir_init", "reservoir_merge",
    "reservoir_update", "sequence_costs", "worst_case", "bounds.best_of_n_kl",
    "bounds.best_of_n_kl_estimate", "bounds.best_of_n_win_rate", "bounds.best_of_poisson_kl",
    "bounds.best_of_poisson_win_rate", "bounds.least_kl_for_win_rate",
}  # fmt: skip
"""What these arguments ask of them is no more than a few times the arguments, or bounded."""

BEFORE = {"_law_or_nan", "_log_most", "_prompts", "broadcast_in_dim", "sorted_problem"}
"""Programs that come first and need a few times the arguments."""


@pytest.mark.filterwarnings("ignore:pessimism_law is now:DeprecationWarning")
@pytest.mark.parametrize(
    "name",
    [pytest.param(x, marks=pytest.mark.slow if x in LENGTHY else ()) for x in FUNCTIONS],
)
def test_what_does_not_fit_is_refused_before_it_is_compiled(name, caplog):
    given, refused = arguments(name), []

    def call():
        with sb.memory_limit(1):
            try:
                FUNCTIONS[name](**given)
            except MemoryError as error:
                refused.append(str(error))

    compiled = programs(caplog, call)
    if name in NEVER:
        assert not refused
        return
    assert set(compiled) <= BEFORE
    (message,) = refused
    assert message.startswith(f"{name.split('.')[-1]} needs about ")
    assert message.endswith(", more than the limit of 1 bytes; see softbon_jax.memory_limit")


# The estimate ------------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
KEY, N = jax.random.key(0), np.array([1, 4, 16, 64, 128])
LAMBDAS = np.array([0.1, 1.0])


def problems(batch, outcomes):
    laws = RNG.dirichlet(np.ones(outcomes), batch)
    return sb.from_probs(laws, RNG.random((batch, outcomes)))


def pools(prompts, slots):
    return jnp.asarray(RNG.normal(size=(prompts, slots)))


def labels(prompts, slots):
    return jnp.asarray(RNG.integers(0, 20, (prompts, slots)))


def step(key, state):
    return state + jax.random.normal(key, state.shape), state[0], 0.5


LARGE, MIDDLE, SMALL = problems(1, 200_000), problems(100, 1000), problems(50, 100)
NORMAL = sb.from_distribution(logpdf=lambda r: -(r**2) / 2 - np.log(2 * np.pi) / 2)
FEW, SLOTS, ROWS = problems(5, 64), pools(20, 200), pools(2000, 64)
SYMBOL = np.arange(11.0)

# Function, what it is called with, and what is traced: enough for a megabyte, and to be compiled fast.
CASES = {
    "log_tilted": (lambda p: sb.log_tilted(p, 0.3), MIDDLE),
    "log_best_of_n": (lambda p: sb.log_best_of_n(p, 4.0), MIDDLE),
    "quantile": (lambda p: sb.quantile(p, 0.3), MIDDLE),
    "law_metrics": (lambda p: sb.law_metrics(p, p.log_probs, 0.3), MIDDLE),
    "bounds.cv_squared": (lambda p: sb.bounds.cv_squared(p, 0.3), MIDDLE),
    "log_noisy_best_of_n": (lambda p: sb.log_noisy_best_of_n(p, 4.0, 0.3, nodes=512), MIDDLE),
    "select": (lambda r: sb.select(KEY, r, 0.3), ROWS),
    "select_many": (lambda r: sb.select_many(KEY, r, 0.3, k=4), ROWS),
    "select_pessimist": (lambda r: sb.select_pessimist(KEY, r, 0.3), ROWS),
    "pool_effective_size": (lambda r: sb.pool_effective_size(r, np.arange(1.0, 9)), pools(20, 2000)),
    "pool_weighted_votes": (
        lambda a: sb.pool_weighted_votes(KEY, a, jnp.ones(a.shape), N, num_classes=20),
        labels(20, 200),
    ),
    "leave_one_out": (sb.leave_one_out, jnp.asarray(RNG.random((20, 500, 5)))),
    "block_problem": (
        lambda x: sb.block_problem(sb.Problem(x, SYMBOL), 500, rewards=SYMBOL),
        jnp.full(11, -np.log(11)),
    ),
    "simulate_pessimism": (lambda p: sb.simulate_pessimism(KEY, p, 16, 0.3, trials=4096), FEW),
    "decode": (
        lambda x: sb.decode(KEY, x, step, length=20, block_size=5, n=1000, temperature=0.3),
        jnp.zeros(1000),
    ),
    "pool_votes": (lambda a: sb.pool_votes(a, np.array([4, 100]), num_classes=20), labels(20, 200)),
    "log_soft_bon": (lambda p: sb.log_soft_bon(p, 4.0, 0.3, nodes=256), MIDDLE),
    "metrics": (lambda p: sb.metrics(p, 4.0, 0.3, nodes=256), LARGE),
    "sweep": (lambda p: sb.sweep(p, np.arange(1.0, 101), LAMBDAS, nodes=256), LARGE),
    "sweep batch": (lambda p: sb.sweep(p, np.arange(1.0, 9), LAMBDAS, nodes=256), MIDDLE),
    "sweep continuous": (lambda p: sb.sweep(p, np.arange(1.0, 101), LAMBDAS, nodes=256), NORMAL),
    "race_metrics": (lambda p: sb.race_metrics(p, 4.0, 0.3), MIDDLE),
    "renyi": (lambda p: sb.renyi(p, 4.0, 0.3, 2.0, nodes=256), MIDDLE),
    "random_n_metrics": (
        lambda p: sb.random_n_metrics(p, np.full(50, 0.02), 0.3, nodes=256), MIDDLE,
    ),
    "stopped_metrics": (lambda p: sb.stopped_metrics(p, 0.5, 4.0, 0.3, nodes=256), MIDDLE),
    "temperature_for_kl": (lambda p: sb.temperature_for_kl(p, 4.0, 0.1, nodes=256), SMALL),
    "best_threshold": (lambda p: sb.best_threshold(p, 0.05, 4.0, 0.3, nodes=256), SMALL),
    "hedge": (lambda p: sb.hedge(p, jnp.flip(p.rewards, 1), n=4.0, nodes=256), SMALL),
    "allocate": (lambda p: sb.allocate(p, jnp.flip(p.rewards, 1), n=4.0, kl=0.1, nodes=64), SMALL),
    "simulate": (lambda p: sb.simulate(KEY, p, 16, 0.3, trials=8192), FEW),
    "simulate many": (lambda p: sb.simulate(KEY, p, 16, 0.3, trials=8192), problems(2, 20_000)),
    "simulate literal": (
        lambda p: sb.simulate(KEY, p, 16, 0.3, trials=8192, method="literal"), FEW,
    ),
    "conditional_fluctuation": (
        lambda p: sb.conditional_fluctuation(KEY, p, 16, 0.3, trials=8192), FEW,
    ),
    "pool_curve": (lambda r: sb.pool_curve(r, N, LAMBDAS, nodes=128), pools(20, 1000)),
    "pool_curve hard": (lambda r: sb.pool_curve(r, np.arange(1, 101), 0.0), pools(20, 1000)),
    "plug_in_curve": (lambda r: sb.plug_in_curve(r, N, LAMBDAS, nodes=128), pools(20, 1000)),
    "pool_win_rate": (lambda r: sb.pool_win_rate(r, N, LAMBDAS, nodes=128), pools(20, 1000)),
    "pool_credits": (lambda r: sb.pool_credits(r, 16, 0.3, nodes=128), SLOTS),
    "pool_credits large": (lambda r: sb.pool_credits(r, 100, 0.3, nodes=128), SLOTS),
    "pool_weights": (lambda r: sb.pool_weights(r, N, 0.3, nodes=128), SLOTS),
    "pool_tail": (lambda r: sb.pool_tail(r, 0.25, N, 0.3, nodes=128), SLOTS),
    "pool_kl": (lambda r: sb.pool_kl(r, N, LAMBDAS, nodes=128), SLOTS),
    "pool_kl condensed": (lambda r: sb.pool_kl(r, N, LAMBDAS, nodes=128), pools(3, 20_000)),
    "pool_table": (
        lambda r: sb.pool_table(r, N, LAMBDAS, values=jnp.stack([r, r], 1), against=2, nodes=128),
        SLOTS,
    ),
}  # fmt: skip


QUICK = {"log_tilted", "quantile", "select"}


def marks(name):
    if name in QUICK:
        return ()
    return pytest.mark.long if name.split()[0] in LENGTHY else pytest.mark.slow


@pytest.mark.parametrize("name", [pytest.param(x, marks=marks(x)) for x in CASES])
def test_the_estimate_is_what_xla_says_or_a_few_times_that(name, monkeypatch):
    function, given = CASES[name]
    found = []
    jax.clear_caches()  # what has been traced is not checked again
    monkeypatch.setattr(_memory, "check", found.append)
    true = needed(jax.jit(function).lower(given).compile())
    assert true > MIB / 2
    assert true <= max(found) <= 4 * true, (max(found) / MIB, true / MIB)
