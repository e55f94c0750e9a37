"""Where the metrics of an epoch go: a CSV table, TensorBoard, Weights & Biases."""
