"""The one training loop, and its border with Lightning."""
