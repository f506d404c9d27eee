"""Choosing temperature and n: roots, optima and allocations of the exact laws."""
