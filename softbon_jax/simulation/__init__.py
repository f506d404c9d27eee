"""Monte Carlo estimates of laws, with standard errors: the cross-check of the exact ones."""
