"""Exact laws and metrics against mpmath references, enumeration and each other."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import softbon_jax as sb
from softbon_jax.exact import _quadrature
from tests import oracles

SCALED = ("reward", "tilted_reward")  # accurate relative to the largest reward, not to themselves
CASES = {case.name: case for case in oracles.load_reference("metrics")}
GRADIENTS = {case.name: case for case in oracles.load_reference("gradients")}
PROBS, REWARDS = [0.5, 0.3, 0.1, 0.1], [0.0, 0.3, 0.6, 1.0]
ENOUGH = 8192  # quadrature nodes for every stored case


# Against mpmath -----------------------------------------------------------------------------------
#
# Compilation takes far longer than the arithmetic: cases are padded with outcomes of probability 0 to
# one of two sizes, and cases of one kind are computed as one batch.


def batch_of(cases):
    """(problem, n, temperature) of several cases, padded to one K."""
    size = 10 if max(len(case.rewards) for case in cases) <= 10 else 200

    def filled(x, value):
        return np.pad(np.asarray(x, float), (0, size - len(x)), constant_values=value)

    logits = np.stack([filled(case.log_probs, -np.inf) for case in cases])
    rewards = np.stack([filled(case.rewards, 0.0) for case in cases])
    n, temperature = (np.array([getattr(c, x) for c in cases]) for x in ("n", "temperature"))
    return sb.from_logits(logits, rewards), n, temperature


def kind(case):
    """What is special about a case: each of these needs another form of the integrals, or a limit."""
    support = np.isfinite(case.log_probs)
    span = np.ptp(case.rewards[support]) / case.temperature if case.temperature > 0 else 0.0
    return (
        len(case.rewards) > 10,
        case.temperature == 0 or np.isinf(case.temperature),
        span + np.log(case.n) > 500,  # e^500 is near the range of float64
        case.n < 6 and case.n % 1 > 1e-6,
        case.log_probs[support].min() < np.log(1e-15),
    )


def by_kind(cases):
    """Lists of cases of one kind."""
    groups = {}
    for case in cases:
        groups.setdefault(kind(case), []).append(case)
    return list(groups.values())


def separated(cases, results):
    """{name: result} from results with the batch in front."""
    return {
        case.name: jax.tree.map(lambda x, i=i: np.asarray(x[i]), results)
        for i, case in enumerate(cases)
    }


@functools.cache
def eager_metrics():
    """With concrete arguments, except for the kinds that have few cases."""
    found = {}
    for cases in by_kind(CASES.values()):
        if len(cases) > 3:
            found |= separated(cases, sb.metrics(*batch_of(cases)))
    return found


@functools.cache
def traced_metrics():
    call = jax.jit(lambda problem, n, t: sb.metrics(problem, n, t, nodes=ENOUGH))
    found = {}
    for few in (True, False):
        cases = [case for case in CASES.values() if (len(case.rewards) <= 10) == few]
        found |= separated(cases, call(*batch_of(cases)))
    return found


def relative_error(case, field, value):
    """Error of a metric; values beyond the range of float64 must come out as 0 or inf."""
    exact = case.metrics[field]
    if abs(exact) < 1e-290:
        return 0.0 if abs(value) < 1e-289 else np.inf
    if exact > 1e300:
        return 0.0 if value > 1e299 else np.inf
    support = np.isfinite(case.log_probs)
    scale = np.abs(case.rewards[support]).max() if field in SCALED else abs(exact)
    return abs(value - exact) / scale


def allowed(case):
    """1e-11, and past range/temperature = 2000 what rounding of the exponents costs."""
    support = np.isfinite(case.log_probs)
    span = np.ptp(case.rewards[support]) / case.temperature if case.temperature > 0 else 0.0
    return 1e-11 if span <= 2000 else 4 * np.finfo(float).eps * span


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    "how", [eager_metrics, pytest.param(traced_metrics, marks=pytest.mark.slow)]
)
def test_metrics_match_reference(name, how):
    if name not in how():
        pytest.skip("computed under jit alone")
    case, got = CASES[name], how()[name]
    for field in sb.Metrics._fields:
        assert relative_error(case, field, float(getattr(got, field))) < allowed(case), field


@pytest.mark.parametrize(
    "name", ["four n=16 range/temperature=1", "ties n=100 range/temperature=2000"]
)
def test_sweep_matches_reference(name):
    case = CASES[name]
    problem, *_ = batch_of([case])
    got = sb.sweep(problem, [1.0, case.n], [case.temperature], nodes=1024)
    for field in sb.Metrics._fields:
        value = float(getattr(got, field)[0, 0, 1])
        assert relative_error(case, field, value) < allowed(case), field


@functools.cache
def laws():
    """{name: (log P_n, log P_n/P*)}, eagerly for some cases and traced for the others."""
    cases = [c for c in CASES.values() if c.log_ratio is not None and c.temperature > 0]
    found = {}
    eager = by_kind(cases)[0]
    traced = [case for case in cases if case not in eager]
    for group, wrap in ((eager, lambda f: f), (traced, jax.jit)):
        pairs = [
            wrap(lambda *x, f=f: f(*x, nodes=ENOUGH))(*batch_of(group))
            for f in (sb.log_soft_bon, sb.log_ratio_soft_bon)
        ]
        found |= separated(group, pairs)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [c.name for c in CASES.values() if c.log_ratio is not None and c.temperature > 0]
)
def test_log_law_and_ratio_match_reference(name):
    case, size = CASES[name], len(CASES[name].rewards)
    log_law, ratio = (x[:size] for x in laws()[name])
    support = np.isfinite(case.log_probs)
    # An outcome whose P* underflows has an absolute accuracy only.
    atol = 1e-11 * np.abs(case.log_ratio[support]).max() + 1e-14
    np.testing.assert_allclose(ratio[support], case.log_ratio[support], rtol=0, atol=atol)
    np.testing.assert_allclose(log_law[support], case.log_law[support], rtol=1e-11, atol=1e-12)
    assert np.all(np.isneginf(log_law[~support]))
    np.testing.assert_array_equal(ratio[~support], 0.0)


def metrics_of_arrays(logits, rewards, temperature, n, nodes=None):
    return sb.metrics(sb.from_logits(logits, rewards), n, temperature, nodes=nodes)


def slopes(call, cases):
    """{name: {variable: {field: derivative}}} of a batch; one reverse pass for each field."""
    problem, n, temperature = batch_of(cases)
    arguments = (problem.log_probs, problem.rewards, jnp.asarray(temperature), jnp.asarray(n))
    result, pullback = jax.vjp(call, *arguments)
    zero = jax.tree.map(jnp.zeros_like, result)
    by_field = {}
    for field in sb.Metrics._fields:
        # The cases of a batch do not depend on each other: ones give the slopes of all.
        by_field[field] = pullback(zero._replace(**{field: jnp.ones(len(cases))}))
    return separated(cases, by_field)


@functools.cache
def all_slopes():
    small = [case for case in GRADIENTS.values() if len(case.rewards) <= 10]
    large = [case for case in GRADIENTS.values() if len(case.rewards) > 10]
    eager, traced = {}, {}
    for cases in by_kind(small):
        eager |= slopes(metrics_of_arrays, cases)
    call = jax.jit(functools.partial(metrics_of_arrays, nodes=ENOUGH))
    for cases, at_once in ((small, 16), (large, 2)):
        for i in range(0, len(cases), at_once):  # a reverse pass keeps every node of every case
            traced |= slopes(call, cases[i : i + at_once])
    return {"eager": eager, "traced": traced}


@pytest.mark.slow
@pytest.mark.parametrize("name", GRADIENTS)
@pytest.mark.parametrize("how", ["eager", "traced"])
def test_gradients_match_reference(name, how):
    case = GRADIENTS[name]
    size = len(case.rewards)
    if how == "eager" and size > 10:
        pytest.skip("computed under jit alone")
    got = all_slopes()[how][name]
    for field in sb.Metrics._fields:
        for i, variable in enumerate(("logits", "rewards", "temperature", "n")):
            exact = case.gradients[variable][field]
            if np.isnan(exact).any():
                continue  # not differentiable there
            scale = max(np.abs(exact).max(), 1e-290)
            # Where the derivative is 0, rounding of the terms that cancel is left.
            rounding = 1e-13 * (1 + np.ptp(case.rewards)) * (1 + 1 / case.temperature)
            np.testing.assert_allclose(
                got[field][i][:size] if i < 2 else got[field][i],
                exact,
                rtol=0,
                atol=1e-8 * scale + rounding,
                err_msg=f"{field} {variable}",
            )


# Against enumeration and each other ---------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("temperature", [0.01, 0.3, 10.0])
def test_law_matches_enumeration(n, temperature):
    problem = sb.from_probs(PROBS, REWARDS)
    exact = oracles.law_by_counts(np.log(PROBS), np.array(REWARDS), n, temperature)
    got = np.exp(sb.log_soft_bon(problem, n, temperature))
    np.testing.assert_allclose(got, exact, rtol=1e-13)


@pytest.mark.parametrize("n", [1, 2, 7, 1000])
def test_hard_law_matches_oracle_and_is_the_limit(n):
    probs, rewards = [0.4, 0.2, 0.1, 0.3, 0.0], [0.5, 1.0, 1.0, -2.0, 3.0]
    problem = sb.from_probs(probs, rewards)
    with np.errstate(divide="ignore"):
        exact = oracles.hard_law(np.log(probs), np.array(rewards), n)
    np.testing.assert_allclose(np.exp(sb.log_best_of_n(problem, n)), exact, rtol=1e-13, atol=1e-300)
    for temperature in (0.0, 1e-7):
        got = np.exp(sb.log_soft_bon(problem, n, temperature))
        np.testing.assert_allclose(got, exact, rtol=1e-8, atol=1e-300)


def test_limits_are_the_reference_law_and_the_tilted_law():
    problem = sb.from_probs(PROBS, REWARDS)
    np.testing.assert_allclose(np.exp(sb.log_soft_bon(problem, 9, jnp.inf)), PROBS, rtol=1e-14)
    np.testing.assert_allclose(np.exp(sb.log_soft_bon(problem, 1, 0.3)), PROBS, rtol=1e-13)
    tilted = np.array(PROBS) * np.exp(np.array(REWARDS) / 0.3)
    np.testing.assert_allclose(
        np.exp(sb.log_tilted(problem, 0.3)), tilted / tilted.sum(), rtol=1e-14
    )
    far = sb.log_soft_bon(problem, temperature=0.3, log_n=500.0)
    np.testing.assert_allclose(far, sb.log_tilted(problem, 0.3), rtol=1e-13)


@pytest.mark.slow
def test_float32_keeps_vanishing_quantities():
    key = jax.random.key(3)
    exact = sb.dirichlet(key, 256)
    exact = sb.from_logits(exact.log_probs.astype(jnp.float32), exact.rewards.astype(jnp.float32))
    span = float(jnp.ptp(exact.rewards))
    n = np.array([1.0, 10.0, 1e3, 1e5, 1e8], np.float32)
    temperature = (span * np.array([1 / 50, 0.1, 1.0, 10.0])).astype(np.float32)
    single = sb.sweep(exact, n, temperature)
    double = sb.sweep(
        sb.from_logits(*(np.asarray(x, np.float64) for x in exact)),
        n.astype(np.float64),
        temperature.astype(np.float64),
    )
    for field in ("kl_tilted_soft", "reward_gap"):
        assert getattr(single, field).dtype == jnp.float32
        np.testing.assert_allclose(getattr(single, field), getattr(double, field), rtol=1e-4)


@pytest.mark.slow
def test_no_gradient_is_nan_at_ties_zeros_and_limits():
    probs, rewards = [0.5, 0.2, 0.1, 0.1, 0.1, 0.0], [0.0, 0.3, 0.3, 1.0, 1.0, 2.0]
    with np.errstate(divide="ignore"):
        log_probs = jnp.asarray(np.log(probs))

    def by_variable(logits, rewards, temperature, n):
        return sb.metrics(sb.from_logits(logits, rewards), n, temperature)

    jacobian = jax.jit(jax.jacrev(by_variable, argnums=(0, 1, 2, 3)))
    for n in (1.0, 1.5, 16.0, 1e9):
        for temperature in (0.0, 0.02, 0.3, 1e3, np.inf):
            got = jacobian(log_probs, jnp.asarray(rewards), temperature, n)
            assert all(np.isfinite(x).all() for x in jax.tree.leaves(got)), (n, temperature)


@pytest.mark.slow
def test_traced_temperature_and_n_compile_once():
    problem = sb.from_probs(PROBS, REWARDS)

    @jax.jit
    @chex.assert_max_traces(n=1)
    def gap(n, temperature):
        return sb.metrics(problem, n, temperature).reward_gap

    chex.clear_trace_counter()
    for n, temperature in ((2.0, 0.3), (1e6, 0.05), (1.5, 0.0)):
        np.testing.assert_allclose(
            gap(n, temperature), sb.metrics(problem, n, temperature).reward_gap, rtol=1e-10
        )


@pytest.mark.slow
def test_too_few_nodes_is_nan_not_wrong():
    problem = sb.from_probs(PROBS, REWARDS)
    assert np.isnan(sb.metrics(problem, 4, 0.01, nodes=64).kl_tilted_soft)
    traced = jax.jit(lambda t, n: sb.metrics(problem, n, t, nodes=512).kl_tilted_soft)
    assert np.isnan(traced(8e-3, 4))  # and at 1e-3 the law is that of hard best-of-n
    assert np.isfinite(traced(1.0, 4))


@pytest.mark.slow
def test_where_n_is_known_fewer_nodes_are_enough():
    problem = sb.from_probs(np.full(500, 1 / 500), np.linspace(0, 1, 500))
    known, real = (
        jax.jit(lambda t, n=n: sb.metrics(problem, n, t).kl_tilted_soft)(1 / 400) for n in (4, 4.5)
    )
    np.testing.assert_allclose(known, sb.metrics(problem, 4, 1 / 400).kl_tilted_soft, rtol=1e-12)
    assert np.isnan(real)


@pytest.mark.parametrize("step", [0.01, 1.0, 30.0])
def test_the_bound_of_the_nodes_holds_at_higher_temperatures_and_smaller_n(step):
    """Outcomes close together and far apart, some of them rare; and the bound is not far above."""
    rule, random, excess = _quadrature.rule_for(np.float64), np.random.default_rng(0), []
    for _ in range(50):
        offsets = np.append(0.0, np.cumsum(random.exponential(step, size=(1, 60)) ** 2))[None]
        log_probs = np.log(random.dirichlet(np.full(61, 0.3)) + 1e-300)
        most, h = 30 * random.random(), rule.spacing / random.choice([1, 4])

        def mean(offsets, log_probs=log_probs):
            return np.log(np.sum(np.exp(log_probs - offsets), axis=-1))

        bound = _quadrature.nodes_for_any(rule, h, offsets, np.array([most]), mean(offsets))
        needed = [
            _quadrature.nodes_needed(rule, h, offsets * x, np.array([most * y]), mean(offsets * x))
            for x in (1.0, 0.5, 0.03, 1e-3)
            for y in (1.0, 0.3, 0.0)
        ]
        assert max(needed) <= bound
        excess.append(bound / max(needed))
    assert min(excess) < 4 / 3


def test_traced_bad_values_are_nan():
    problem = sb.from_probs(PROBS, REWARDS)
    traced = jax.jit(lambda n, t: sb.metrics(problem, n, t).reward)
    assert np.isnan(traced(0.5, 0.3))
    assert np.isnan(traced(2.0, -0.3))
    assert np.isnan(
        jax.jit(lambda p: sb.from_probs(p, jnp.asarray(REWARDS)))(jnp.ones(4)).log_probs
    ).all()


@pytest.mark.slow
def test_batches_broadcast_and_agree_with_single_calls():
    key = jax.random.key(0)
    parts = [sb.dirichlet(k, 5) for k in jax.random.split(key, 3)]
    batch = jax.tree.map(lambda *x: jnp.stack(x), *parts)
    got = sb.metrics(batch, jnp.array([2.0, 3.0, 50.0]), 0.4)
    for i, (problem, n) in enumerate(zip(parts, (2.0, 3.0, 50.0), strict=True)):
        one = sb.metrics(problem, n, 0.4)
        jax.tree.map(lambda x, y, i=i: np.testing.assert_allclose(x[i], y, rtol=1e-11), got, one)
    assert sb.sweep(batch, [1.0, 2.0], [0.1, 0.2, 0.3]).tv.shape == (3, 3, 2)


@pytest.mark.slow
def test_law_metrics_of_the_exact_law_are_the_metrics():
    problem = sb.from_probs(PROBS, REWARDS)
    for temperature in (0.0, 0.3, jnp.inf):
        exact = sb.metrics(problem, 6, temperature)
        got = sb.law_metrics(problem, sb.log_soft_bon(problem, 6, temperature), temperature)
        for field in sb.Metrics._fields:
            np.testing.assert_allclose(
                getattr(got, field), getattr(exact, field), rtol=1e-10, atol=1e-14, err_msg=field
            )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: sb.metrics(p, 0.5, 0.3), r"n must be finite and at least 1, got 0\.5"),
        (lambda p: sb.metrics(p, np.nan, 0.3), "n must be finite"),
        (lambda p: sb.metrics(p, 2, -1.0), r"temperature must be at least 0.*got -1\.0"),
        (lambda p: sb.metrics(p, 2, np.nan), "temperature must be at least 0.*got nan"),
        (lambda p: sb.metrics(p, 2, 0.3, log_n=1.0), "exactly one of n and log_n"),
        (lambda p: sb.metrics(p, temperature=0.3), "exactly one of n and log_n"),
        (lambda p: sb.metrics(p, temperature=0.3, log_n=-1.0), r"log_n must be.*got -1\.0"),
        (lambda p: sb.metrics(p, 2, 0.3, nodes=0), "nodes must be an integer of at least 1, got 0"),
        (lambda p: sb.metrics(p, np.ones(2), np.ones(3)), r"\(2,\).*|do not broadcast"),
        (lambda p: sb.sweep(p, 2, [0.3]), r"n must be a vector.*\(\)"),
        (lambda p: sb.sweep(p, [2], [[0.3]]), r"temperature must be a vector.*\(1, 1\)"),
        (lambda p: sb.metrics(sb.Problem(jnp.zeros(3), jnp.zeros(3)), 2, 1.0), "must be 1, got 3"),
        (lambda p: sb.metrics(sb.Problem(jnp.zeros(1), jnp.zeros(3)), 2, 1.0), "last axis"),
        (lambda p: sb.law_metrics(p, np.zeros(3), 1.0), "log_law must have"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(sb.from_probs(PROBS, REWARDS))


@pytest.mark.parametrize(
    "call",
    [sb.metrics, sb.sweep, sb.race_metrics, sb.log_soft_bon, sb.log_ratio_soft_bon,
     sb.log_uniform_race, sb.log_rejection],
)  # fmt: skip
def test_a_missing_temperature_is_named(call):
    with pytest.raises(TypeError, match="temperature must be real numbers, got None"):
        call(sb.from_probs(PROBS, REWARDS), 2.0)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_is_promoted(dtype):
    logits, rewards = jnp.asarray([0.0, 0.7], dtype), jnp.asarray([0.0, 1.0], dtype)
    half = sb.from_logits(logits, rewards)._replace(rewards=rewards)
    single = sb.from_logits(logits.astype(jnp.float32), rewards.astype(jnp.float32))
    temperature = jnp.asarray(0.5, dtype)
    got = sb.metrics(half, jnp.asarray(4, dtype), temperature, nodes=256)
    expected = sb.metrics(single, np.float32(4), np.float32(temperature), nodes=256)
    for field in sb.Metrics._fields:
        assert getattr(got, field).dtype == jnp.float32
    jax.tree.map(np.testing.assert_array_equal, got, expected)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_block_of_impossible_outcomes_changes_nothing(dtype):
    """Large problems are computed in blocks of outcomes, and one of them may have no probability."""
    probs, rewards = np.zeros(1024), np.linspace(0.0, 1.0, 1024)
    probs[0], probs[-1] = 0.7, 0.3
    n = jnp.asarray([1.5, 10.0, 1e3, 1e8], dtype)

    @jax.jit
    def metrics(log_probs, rewards):
        return sb.metrics(sb.Problem(log_probs, rewards), n, 0.05, nodes=2048)

    with np.errstate(divide="ignore"):
        got = metrics(jnp.asarray(np.log(probs), dtype), jnp.asarray(rewards, dtype))
    want = sb.metrics(sb.from_probs([0.7, 0.3], [0.0, 1.0]), np.asarray(n, float), 0.05)
    rtol = 2e-5 if dtype == np.float32 else 1e-11
    for field in sb.Metrics._fields:
        x, y = (np.asarray(getattr(m, field), float) for m in (got, want))
        np.testing.assert_allclose(x, y, rtol=rtol, err_msg=field)
