"""Training on soft best-of-n: reward and KL over training, and what is left of the way."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from figures import style

LEARNERS = (
    ("mean", style.GRAY, "-", "the mean reward"),
    ("soft", style.RED, "-", "soft best-of-8"),
    ("hard", style.BLUE, "-", "hard best-of-8"),
    ("weights", style.GREEN, "--", "student, all responses"),
    ("selected", style.ORANGE, "--", "student, those selected"),
)


@style.styled
def draw(dataset: xr.Dataset) -> Figure:
    """What is trained on the rule that serves nets most, and its policy moves least for that."""
    figure, (net, kl, left) = style.panels(3, 2.5)
    for learner, color, dashes, label in LEARNERS:
        one = dataset.sel(learner=learner)
        net.plot(one.step, one.net, color=color, ls=dashes, label=label)
        kl.plot(one.step, one.kl, color=color, ls=dashes)
        kl.axhline(float(one.target_kl), color=color, lw=0.5, ls=":")
        left.plot(one.step, one.tv, color=color, ls=dashes)
    net.set(ylabel="reward less price of KL", title="served through soft best-of-8")
    kl.set(ylabel="KL(policy‖P), nats", title="KL; dotted: exact optimum")
    left.set(ylabel="total variation", yscale="log", title="distance from its optimum")
    for ax in (net, kl, left):
        ax.set(xlabel="step", xlim=(0, float(dataset.step[-1])))
    style.legend_below(figure, net)
    return figure
