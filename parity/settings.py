"""Where things lie on this machine: environment variables, read once, at import.

``DATA_ROOT``           folder of the data sets (default ``./data``)
``IMAGENET_PATH``       folder of ImageNet, if there is one
``PARITY_EXPERIMENTS``  folders with a user's own experiments, separated as in ``PATH``
"""

import os
from pathlib import Path

DATA_ROOT = Path(os.environ.get("DATA_ROOT", "data")).expanduser()
IMAGENET_PATH = Path(os.environ["IMAGENET_PATH"]).expanduser() if "IMAGENET_PATH" in os.environ else None
EXPERIMENTS_PATHS = tuple(
    Path(folder).expanduser() for folder in os.environ.get("PARITY_EXPERIMENTS", "").split(os.pathsep) if folder
)
