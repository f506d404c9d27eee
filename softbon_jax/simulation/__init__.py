"""Monte Carlo estimates of laws, with standard errors: the check of the exact ones."""
