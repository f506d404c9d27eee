"""Curves and divergences from pools of scored candidates: no likelihoods are needed."""
