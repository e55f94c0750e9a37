"""A config turned into a trained run, its numbers, a report."""
