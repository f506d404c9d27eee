"""The strict environment of every test: double precision, no implicit promotion, no reused keys."""

import jax

from softbon_jax.command import compilation_cache

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)

compilation_cache.enable()
