"""An eager call compiles its workers and nothing else, and another value compiles nothing.

What compiles for more than a second is left to `make test-long`.
"""

import jax
import pytest

from tests.public import FUNCTIONS, LENGTHY, arguments, programs

MOST = 3
"""Programs for the first call of a function."""
MORE = {"log_noisy_soft_bon": 5}
"""It checks the law of the noise, joins outcomes and noise, and sums, around the law of the pairs."""


@pytest.mark.filterwarnings("ignore:pessimism_law is now:DeprecationWarning")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(x, marks=pytest.mark.long if x in LENGTHY else pytest.mark.slow)
        for x in FUNCTIONS
    ],
)
def test_a_call_compiles_at_most_three_programs_and_the_next_one_none(name, caplog):
    function, given = FUNCTIONS[name], arguments(name)
    jax.clear_caches()
    first, second = ({"key": jax.random.key(i)} if "key" in given else {} for i in range(2))
    compiled = programs(caplog, lambda: function(**given | first))
    assert len(compiled) <= MORE.get(name, MOST), compiled
    assert programs(caplog, lambda: function(**given | second)) == []
