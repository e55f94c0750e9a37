"""Write a CycloneDX list of what is installed, with versions and licences: python .ci/sbom.py FILE"""

import json
import re
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

OWN = "parity"


def component(distribution: Distribution) -> dict[str, Any]:
    """Return one distribution as CycloneDX describes a component."""
    metadata = distribution.metadata
    name, version = re.sub(r"[-_.]+", "-", metadata["Name"]).lower(), distribution.version
    found: dict[str, Any] = {"type": "library", "name": name, "version": version}
    found |= {"bom-ref": f"pkg:pypi/{name}@{version}", "purl": f"pkg:pypi/{name}@{version}"}
    if licences := _licences(distribution):
        found["licenses"] = licences
    return found


def _licences(distribution: Distribution) -> list[dict[str, Any]]:
    metadata = distribution.metadata
    if expression := metadata.get("License-Expression"):
        return [{"expression": expression}]
    classifiers = [text for text in metadata.get_all("Classifier", []) if text.startswith("License ::")]
    names = [text.rpartition(" :: ")[2] for text in classifiers]
    if not names and (text := metadata.get("License")):
        names = [text.strip().splitlines()[0]]  # some have the whole text there
    return [{"license": {"name": name}} for name in names]


def bill_of_materials() -> dict[str, Any]:
    """Return what is installed beside parity itself, in the order of names."""
    found = {entry["bom-ref"]: entry for entry in map(component, distributions())}
    own = [entry for entry in found.values() if entry["name"] == OWN]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": own[0] | {"type": "application"}} if own else {},
        "components": sorted((entry for entry in found.values() if entry not in own), key=lambda e: e["bom-ref"]),
    }


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(bill_of_materials(), indent=2) + "\n")
