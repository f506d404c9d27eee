"""Ways in which a result may be false, and the claims that each of them must make fail."""

import numpy as np


def scaled(factor):
    return lambda dataset, field: dataset[field] * factor


def slower(dataset, field):
    """A curve that falls one power of n more slowly, from the same start."""
    return dataset[field] * dataset.n


def faster(dataset, field):
    """A simulated curve that falls by n^-½ more, from the same start."""
    return dataset[field] / np.sqrt(dataset.simulated_n / dataset.simulated_n[0])


def noise_reported(dataset, field):
    """The noise floor where the estimate is silent."""
    return dataset[field].fillna(dataset[f"{field}_floor"])


def swapped(dataset, field):
    """Each simulator with the values of the other."""
    return dataset[field].copy(data=dataset[field].values[:, ::-1])


def shifted(errors):
    return lambda dataset, field: dataset[field] + errors * dataset[f"{field}_se"]


def longer(dataset, field):
    """A curve that grows with the length of the sequence."""
    return dataset[field] * dataset.length


def reversed_blocks(dataset, field):
    """The curves of the block sizes, each given to another."""
    return dataset[field].copy(data=dataset[field].values[::-1])


def one_nan(dataset, field):
    values = dataset[field].copy(deep=True)
    values[(0,) * values.ndim] = np.nan
    return values


PERTURBED = [
    ("kl_rate", "kl_tilted_soft", slower, "KL(P*‖P_n) falls as"),
    ("kl_rate", "kl_soft_tilted", slower, "KL(P_n‖P*) falls as"),
    ("kl_rate", "tv", slower, "TV(P_n, P*) falls as"),
    ("kl_rate", "kl_tilted_soft", scaled(1.02), "KL(P*‖P_n) · n² →"),
    ("kl_rate", "tv", scaled(0.98), "E_{P*}|1 + CV² - W|/2: ratio"),
    ("kl_rate", "kl_tilted_soft", scaled(30.0), "≤ log(1 + CV²/n)"),
    ("kl_rate", "kl_upper", scaled(1e-3), "≤ log(1 + CV²/n)"),
    ("kl_rate", "kl_upper_sinh", scaled(1e-3), "≤ sinh²(Δ/2λ)/n"),
    ("kl_rate", "kl_upper_quadratic", scaled(1e-3), "≤ the O(1/n²) bound"),
    ("kl_rate", "kl_tilted_soft", one_nan, "≤ log(1 + CV²/n)"),
    ("kl_rate", "kl_tilted_soft", one_nan, "KL(P*‖P_n) falls as"),
    ("kl_rate", "simulated_kl_tilted_soft", shifted(6), "simulation of KL(P*‖P_n)"),
    ("kl_rate", "simulated_kl_tilted_soft_se", scaled(3), "simulation of KL(P*‖P_n)"),
    ("kl_rate", "simulated_tv", shifted(6), "simulation of total variation"),
    ("reward_rate", "reward_gap", slower, "reward gap falls as"),
    ("reward_rate", "reward_gap", scaled(1.02), "Cov_{P*}(r, W): ratio"),
    ("reward_rate", "gap_upper", scaled(0.5), "≤ M'/(n + M')"),
    ("reward_rate", "gap_upper_crude", scaled(0.02), "≤ M/(n + M)"),
    ("reward_rate", "relative_reward_gap", scaled(-1), "never negative"),
    ("reward_rate", "reward", scaled(-1), "never falls"),
    ("reward_rate", "simulated_reward", shifted(6), "simulation of mean reward"),
    ("tv_rate", "tv", slower, "TV(P_n, P*) falls as"),
    ("tv_rate", "tv", scaled(1.02), "E_{P*}|1 + CV² - W|/2: ratio"),
    ("tv_rate", "tv", lambda dataset, field: dataset[field] * dataset.n**0.5, "no converse"),
    ("extremes", "ratio", scaled(1.1), "attained"),
    ("extremes", "ratio", scaled(0.9), "attained"),
    ("extremes", "kl_soft_base", scaled(-1), "never fall as real n"),
    ("extremes", "tv", scaled(-1), "never rise as real n"),
    ("extremes", "kl_upper_sinh", scaled(0.4), "each of its four bounds"),
    ("extremes", "kl_base_upper", scaled(0.5), "e^{-Δ/λ})) on random"),
    ("extremes", "kl_soft_base", scaled(1.1), "KL(P_n‖P) ≤ KL(P*‖P)"),
    ("extremes", "kl_tilted_base", scaled(1.5), "KL(P*‖P) ≤ (Δ/λ)²/8"),
    ("extremes", "hard_estimate", scaled(0.99), "Conjecture 4.4"),
    ("extremes", "kl_together", scaled(0.99), "two symbols"),
    ("extremes", "tied_law", scaled(1.01), "ties among them"),
    ("extremes", "poisson_law", scaled(1.01), "the mixture"),
    ("extremes", "two_kl", scaled(1.01), "E[A log A], A the mean"),
    ("extremes", "two_entropy", scaled(1.01), "E[A log A] is at most"),
    ("extremes", "two_entropy", scaled(1.01), "two outcomes: E[A log A]"),
    ("extremes", "searched", scaled(1.01), "searched for problems"),
    ("tv_rate", "fluctuation", faster, "E TV(R, P*) falls as"),
    ("tv_rate", "fluctuation", scaled(1.1), "its normal limit: ratio"),
    ("tv_rate", "tv", scaled(10.0), "TV(P_n, P*) ≤ E TV(R, P*)"),
    ("simulation_check", "simulated_reward", shifted(6), "mean reward of the selected"),
    ("simulation_check", "simulated_reward_se", scaled(3), "mean reward of the selected"),
    ("simulation_check", "simulated_reward_se", scaled(1 / 3), "mean reward of the selected"),
    ("simulation_check", "simulated_kl_soft_base", shifted(6), ": KL(P_n‖P) agrees"),
    ("simulation_check", "simulated_kl_tilted_soft", shifted(6), ": KL(P*‖P_n) agrees"),
    ("simulation_check", "simulated_tv", shifted(6), ": total variation between"),
    ("simulation_check", "simulated_law_deviation", scaled(3), "every probability agrees"),
    ("simulation_check", "stream_deviation", scaled(5), "streams in two batches have"),
    ("simulation_check", "simulated_tv", noise_reported, "below the noise"),
    ("simulation_check", "simulated_law_se", swapped, "not noisier than literal"),
    ("frontier", "kl_soft_base", scaled(0.9), "by exactly λ KL"),
    ("frontier", "kl_soft_tilted", scaled(0.9), "by exactly λ KL"),
    ("frontier", "kl_soft_tilted", scaled(-1), "falls as n grows, at every λ"),
    ("frontier", "kl_soft_tilted", scaled(100.0), "spans the frontier"),
    ("frontier", "kl_base_upper", scaled(0.5), "e^{-Δ/λ}"),
    ("frontier", "best_of_n_kl", scaled(0.9), "≤ log n - (n-1)/n"),
    ("frontier", "win_rate", scaled(1.01), "win rate ≤ n/(n+1)"),
    ("frontier", "base_variance", scaled(1.01), "Var_P(r)/λ"),
    ("frontier", "base_variance", scaled(1.01), "Var_P(r)/2λ²"),
    ("frontier", "base_reward", scaled(1.01), "the reference law itself"),
    ("pool_frontier", "pool_mean", scaled(1.01), "n = 1"),
    ("pool_frontier", "kl_tilted_base", scaled(1.1), "by exactly λ KL"),
    ("pool_frontier", "kl_soft_base", scaled(1.1), "≤ log n - (n-1)/n"),
    ("pools", "pool_mean", scaled(1.01), "n = 1"),
    ("pools", "proxy_reward_mean", scaled(-1), "mean proxy reward never falls"),
    ("pools", "kl_mean", scaled(1.1), "≤ log n - (n-1)/n, for n up to N/2"),
    ("pools", "chosen", scaled(0.0), "no point within the KL"),
    ("pools", "p_value", one_nan, "turns down in gold"),
    ("pools", "gold_drop", scaled(-1), "more pairs over-optimize less"),
    ("estimator_bias", "bias", shifted(8), "the U-statistic is unbiased"),
    ("estimator_bias", "bias", scaled(0.01), "biased low at n = N"),
    ("estimator_bias", "large_bias", shifted(6), "the mean U-statistic of"),
    ("estimator_bias", "coverage", scaled(0.8), "hold the truth"),
    ("estimator_bias", "own_se", scaled(1.01), "is the spread of pools over √pools"),
    ("estimator_bias", "jackknifed_kl", lambda dataset, field: dataset.plug_in_kl, "the jackknife"),
    ("estimator_bias", "left_out", shifted(7), "the judge left out"),
    ("estimator_bias", "by_the_same", scaled(-1), "judges who select and value"),
    ("estimator_bias", "advised_value", lambda dataset, field: dataset.largest_mean, "corrected"),
    (
        "estimator_bias",
        "false_advice",
        lambda dataset, _: dataset.false_advice + 0.2,
        "recommended",
    ),
    ("estimator_bias", "false_alarms", scaled(10.0), '"turns down" at the 5% level'),
    ("rivals", "race_tv", scaled(10), "race: TV ≤"),
    ("rivals", "race_tv", one_nan, "race: TV ≤"),
    ("rivals", "rejection_tv", scaled(30), "rejection: TV ≤"),
    ("rivals", "race_tv", lambda dataset, field: dataset.soft_tv * 1.01, "nearer to the tilted"),
    ("rivals", "plane_kl", scaled(0.9), "of every rule is below"),
    ("rivals", "race_tv", scaled(0.5), "race: TV ≥"),
    ("rivals", "rejection_tv", scaled(0.5), "rejection: TV ≥"),
    ("rivals", "plane_total", scaled(1.05), "has a law"),
    ("rivals", "simulated_race_exact", scaled(1.5), "agrees with the closed form"),
    ("hard_limit", "kl", scaled(1.1), "KL ≤ log n - (n-1)/n"),
    ("hard_limit", "kl", scaled(1.1), "the mean of Beirami's estimator"),
    ("hard_limit", "kl_ceiling", scaled(0.9), "KL ≤ KL of the best outcome"),
    ("hard_limit", "kl_estimate", scaled(1.1), "estimator ≤ log n"),
    ("hard_limit", "win_rate", scaled(1.01), "win rate ≤ n/(n+1)"),
    ("hard_limit", "kl", scaled(1 + 1e-5), "KL = 2.30228"),
    ("hard_limit", "kl", scaled(0.9), "holds to 1%"),
    ("hard_limit", "win_rate", scaled(0.999), "holds to 0.01%"),
    ("poisson", "kl", scaled(0.99), "no rule is cheaper"),
    ("poisson", "gap", scaled(1.01), "largest gap to the tilt"),
    ("poisson", "gap", lambda dataset, field: dataset[field] * dataset.n**0.5, "it is near"),
    (
        "poisson",
        "gap",
        lambda dataset, field: dataset[field][::-1].values + 0 * dataset[field],
        "best-of-Poisson is nearer",
    ),
    (
        "stopping",
        "reward",
        lambda dataset, field: dataset[field][:, ::-1].values + 0 * dataset[field],
        "no more than a fixed",
    ),
    (
        "stopping",
        "reward",
        lambda dataset, field: dataset[field][:, ::-1].values + 0 * dataset[field],
        "geometric number",
    ),
    ("stopping", "reward", lambda dataset, field: dataset[field] * dataset.n, "concave in real n"),
    ("stopping", "reward", scaled(1.5), "nets more than z"),
    ("stopping", "excess", scaled(1.01), "solves E(r - z)+"),
    ("stopping", "net", scaled(0.99), "is z itself"),
    ("stopping", "net", scaled(0.9), "the best fixed n"),
    ("stopping", "stopped_reward", scaled(0.999), "2 E[N] - 1"),
    ("stopping", "stopped_reward", scaled(0.9), "more than the tilted"),
    (
        "judges",
        "gumbel_difference",
        lambda dataset, field: dataset[field] + 1e-8,
        "Gumbel(λ) noise",
    ),
    (
        "judges",
        "regressed",
        lambda dataset, field: dataset[field] + 1e-8,
        "regression on the score",
    ),
    ("judges", "gold", scaled(-1), "more noise never"),
    ("judges", "gold", scaled(-1), "more draws never"),
    ("judges", "gold_of_calls", scaled(0), "several scores"),
    ("judges", "gold_of_calls", scaled(-1), "beat a second score"),
    ("judges", "gold", lambda dataset, field: dataset[field] * 0 + dataset.n, "few draws earn"),
    ("tails", "gold", lambda dataset, field: dataset[field] * (1 + 1e-8), "half the proxy's"),
    ("tails", "hard_gold", scaled(1.001), "less than 1/s"),
    ("tails", "hard_gold", scaled(0.99), "within a thousandth of 1/s"),
    ("tails", "hard_gold", lambda dataset, field: dataset[field] + 0.1, "gives back what"),
    ("tails", "hard_reward", lambda dataset, field: dataset[field] * dataset.n**0.1, "n^(1/3)"),
    ("tails", "gold", lambda dataset, field: dataset[field] * dataset.n, "turns down as well"),
    (
        "tails",
        "kl_tilted_base",
        lambda dataset, field: dataset[field].fillna(1.0),
        "P* is there for",
    ),
    ("tails", "kl_tilted_base", scaled(0.9), "where P* is there"),
    ("tails", "kl_soft_base", scaled(0.5), "rises with log n"),
    ("orders", "renyi", lambda dataset, field: dataset[field] * dataset.n**0.1, "falls as n⁻²"),
    ("orders", "renyi", scaled(1.05), "α Var_{P*}(W)/2"),
    ("orders", "renyi", lambda dataset, field: dataset[field] * dataset.n**0.1, "falls as n⁻¹"),
    ("orders", "largest_coefficient", scaled(1.05), "1 + CV² - min W"),
    ("orders", "renyi", scaled(1 + 1e-8), "D_1 is KL"),
    ("orders", "chi2", scaled(1 + 1e-8), "D_2 is log"),
    ("orders", "renyi", lambda dataset, field: 1 / dataset[field], "rises with α"),
    ("orders", "largest_ratio", scaled(1.1), "what n draws can reveal"),
    ("orders", "largest_ratio", scaled(0.9), "within a tenth"),
    ("orders", "proxy_cvar", scaled(-1), "worst share rises"),
    (
        "orders",
        "failures",
        lambda dataset, field: dataset[field] * dataset.tail_n,
        "at most n times",
    ),
    ("orders", "gold_cvar", lambda dataset, field: dataset.gold, "turns down before"),
    ("single", "error", lambda dataset, field: dataset[field] + 1e-3, "float32 beside float64"),
    ("single", "flagged", lambda dataset, field: dataset[field] + 0.1, "no value is flagged"),
    ("beyond", "coverage", scaled(0.5), "hold the truth at n = 4N"),
    ("beyond", "coverage", scaled(0.5), "7 times in 10"),
    ("beyond", "bias", scaled(100.0), "off by less than a tenth"),
    ("beyond", "resolved", lambda dataset, field: dataset[field] * 0 + 1, "are refused"),
    ("hedging", "best", scaled(1.1), "gold is largest"),
    ("hedging", "best", scaled(1.1), "√(p(p+1))"),
    ("hedging", "best_gold", scaled(0.9), "no point of a curve"),
    ("hedging", "gold_by_tilt", lambda dataset, field: dataset.best_gold, "misses the optimum"),
    ("hedging", "common_gold", scaled(0.5), "no common n"),
    ("hedging", "each_gold", scaled(0.9), "for each prompt"),
    ("hedging", "budget_used", scaled(1.1), "budgets of draws"),
    ("hedging", "price_kl", scaled(0.5), "price of a nat"),
    ("hedging", "price_draws", lambda dataset, field: dataset[field] + 1.0, "price of a draw"),
    (
        "distillation",
        "distance",
        lambda dataset, field: dataset[field] + 1e-5,
        "ends at the tilted",
    ),
    (
        "distillation",
        "kl_policy_soft",
        lambda dataset, field: dataset[field] + dataset.n * 1.0,
        "nearer to the trained",
    ),
    ("training", "gap", lambda dataset, field: dataset[field] + 0.02, "credits from groups"),
    ("training", "gap", lambda dataset, field: dataset[field] + 0.02, "students of the soft rule"),
    (
        "training",
        "net",
        lambda dataset, field: dataset[field][::-1].values + 0 * dataset[field],
        "nets most",
    ),
    ("training", "kl", lambda dataset, field: -dataset[field] + 2.0, "moves the policy less"),
    (
        "training",
        "gap",
        lambda dataset, field: dataset[field] * (1 + 1.0 * (dataset.learner == "weights")),
        "a student that weighs",
    ),
    ("blocks", "kl_tilted_soft", scaled(0.9), "≥ m D - log n"),
    ("blocks", "kl_upper", scaled(0.5), "≤ log(1 + ((1 + CV²)^m - 1)/n)"),
    ("blocks", "kl_symbol", scaled(1.01), "m times that of one symbol"),
    ("blocks", "kl_symbol", scaled(1.01), "all schemes agree"),
    ("blocks", "kl_tilted_soft", scaled(-1), "larger blocks are farther"),
    ("blocks", "reward_calls", scaled(2.0), "blocks scored"),
    ("threshold", "kl_per_symbol", scaled(0.9), "≥ D - R"),
    ("threshold", "kl_per_symbol", one_nan, "≥ D - R"),
    ("threshold", "kl_upper", scaled(0.5), "((1 + CV²)^m - 1)/n)/m"),
    ("threshold", "kl_limit_upper", scaled(0.5), "s/2√m"),
    ("threshold", "limit", scaled(1.1), "away from the corner"),
    ("threshold", "kl_per_symbol", longer, "largest excess"),
    ("threshold", "kl_per_symbol", scaled(-1), "falls as n grows"),
    ("threshold", "threshold", scaled(2.0), "exponent D"),
    ("gain", "gain_upper", scaled(0.5), "≤ Δ√(log n/2m)"),
    ("gain", "frontier", scaled(0.9), "gain ≤ that of the tilted law"),
    ("gain", "tilted_gain", scaled(0.9), "gain ≤ that of the target"),
    ("gain", "gain", scaled(-1), "never falls"),
    ("gain", "gain", scaled(0.5), "hard best-of-n approaches"),
    ("memory", "kl_tilted_soft", lambda dataset, field: dataset[field] * dataset.n, "falls as n⁻²"),
    ("memory", "coefficient", scaled(1.1), "Σ E Var(W_t)/2: ratio"),
    ("memory", "kl_tilted_soft", scaled(0.9), "≥ KL(P*‖P) - log n"),
    ("memory", "kl_whole", scaled(1.1), "(1 - R)+"),
    (
        "memory",
        "kl_tilted_soft",
        lambda dataset, field: dataset[field] / dataset.n,
        "tend to another law",
    ),
    (
        "memory",
        "coefficient",
        lambda dataset, field: dataset[field] ** 2,
        "rise in proportion to m",
    ),
    (
        "memory",
        "kl_tilted_soft",
        lambda dataset, field: dataset[field][:, ::-1].values + 0 * dataset[field],
        "nearer than all other schemes",
    ),
    ("memory", "floor", lambda dataset, field: dataset[field] ** 0.5, "has the exponent 2"),
    ("memory", "floor_coefficient", scaled(1.1), "Σ E Var(error)/2λ²"),
    ("samples_needed", "log_n_blocks", scaled(0.8), "log n ≥ m D - ε"),
    ("samples_needed", "log_n_upper", scaled(0.5), "log n ≤ log("),
    ("samples_needed", "log_n_blocks", scaled(2.0), "m D + O(√m)"),
    ("samples_needed", "log_n_symbols", scaled(1.5), "n grows like √m"),
    ("decoding", "decoded_reward", shifted(6), "mean reward of decoded"),
    ("decoding", "decoded_kl_soft_base", shifted(6), "KL(P_n‖P) of decoded"),
    ("decoding", "kl_soft_base", scaled(0.8), "no decoding beats"),
    ("decoding", "reward", scaled(1.2), "no decoding beats"),
    ("decoding", "reward", reversed_blocks, "with many candidates"),
]
