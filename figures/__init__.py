"""Figures: one module for each experiment, of the same name, with `draw(dataset)`.

They read saved results and draw what is in them.
"""
