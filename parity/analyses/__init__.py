"""Studies over many short trainings, run in processes or on a cluster, and analyses of a trained model.

``python -m parity.analyses.training_stability``  widths, learning rates, optimisers; parity models beside base models
``python -m parity.analyses.error_propagation``   how energy moves through the layers while hidden states settle
``python -m parity.analyses.localisation``        where a trained network, or a code, looks (the grid pointing game)
"""
