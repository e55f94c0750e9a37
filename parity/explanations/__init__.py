"""What a network looked at: attributions of a prediction, and of a reconstruction, to the numbers of its queries."""

from parity.explanations.explain import explain, positive_shares
from parity.explanations.pictures import color_image, heat_map
from parity.explanations.reconstruction import ReconstructionExplanation, explain_reconstruction

__all__ = [
    "ReconstructionExplanation",
    "color_image",
    "explain",
    "explain_reconstruction",
    "heat_map",
    "positive_shares",
]
