"""What a network predicts, and when that is right: classes, labels, numbers, boxes, pixels, embeddings."""

from parity.tasks.base import Task
from parity.tasks.boxes import BoxLocalisation, box_iou, to_box
from parity.tasks.classes import Classification, ranks
from parity.tasks.dense import DensePrediction
from parity.tasks.embeddings import Embeddings
from parity.tasks.inference import task_of
from parity.tasks.labels import MultiLabel
from parity.tasks.names import MeasureName, measure_name
from parity.tasks.regression import Regression

__all__ = [
    "BoxLocalisation",
    "Classification",
    "DensePrediction",
    "Embeddings",
    "MeasureName",
    "MultiLabel",
    "Regression",
    "Task",
    "box_iou",
    "measure_name",
    "ranks",
    "task_of",
    "to_box",
]
