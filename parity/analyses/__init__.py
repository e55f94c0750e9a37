"""Studies over many short trainings: a grid of trials, run in processes or on a cluster, and the figures of them.

``python -m parity.analyses.training_stability``  widths, learning rates, optimisers; parity models beside base models
``python -m parity.analyses.error_propagation``   how energy moves through the layers while hidden states settle
"""
