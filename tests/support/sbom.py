"""A bill of materials for each image, CycloneDX 1.6 in JSON: the packages that its extras bring, with versions, licences and who needs whom.

Run: python -m tests.support.sbom FOLDER

Made of the environment that it runs in, in which `constraints.txt` holds the versions that the images have; needs no network. What wheels bring along inside
(Triton's server, CUDA's libraries) is not told, nor the base image's packages.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.dockerfile import DOCKERFILES, ROOT, Stage, read_dockerfile

Needs = dict[str, set[str]]
"""The packages that each package needs, by their normal names."""
_OURS = "plumbline"


def main() -> None:
    """Write `<image>.cdx.json` for every image."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    environment = _describe_environment()
    for image, dockerfile in DOCKERFILES.items():
        bill = _cut_down(environment, image, find_needs(read_extras(read_dockerfile(dockerfile)[0])))
        text = json.dumps(bill, indent=1) + "\n"
        _validate(text)
        (folder / f"{image}.cdx.json").write_text(text)
        sys.stdout.write(f"{folder / image}.cdx.json: {len(bill['components'])} packages\n")


def read_extras(build: Stage) -> set[str]:
    """The extras that a build stage installs."""
    installs = re.findall(r"\.\[([^\]]+)\]", " ".join(build.texts("RUN")))
    defaults = build.arguments()
    words = [re.sub(r"\$\{(\w+)\}", lambda match: defaults[match[1]], text) for text in installs]
    return {extra.strip() for text in words for extra in text.split(",")}


def find_needs(extras: set[str]) -> Needs:
    """All that `plumbline` with these extras needs here, by its packages' metadata; LookupError when one is not installed."""
    needs: Needs = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(_OURS, extra) for extra in ("", *sorted(extras))]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        needed = needs.setdefault(name, set())
        for requirement in map(Requirement, metadata.requires(name) or []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                other = canonicalize_name(requirement.name)
                needed |= {other} - {name}
                waiting += [(other, wanted) for wanted in ("", *requirement.extras)]
    return needs


def _describe_environment() -> dict[str, Any]:
    """All packages of this environment."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "environment.json"
        tool = Path(sys.executable).parent / "cyclonedx-py"
        words = [tool, "environment", sys.executable, "--output-reproducible", "--spec-version", "1.6", "-o", out]
        subprocess.run(words, check=True, capture_output=True, cwd=ROOT)
        return json.loads(out.read_text())


def _cut_down(environment: dict[str, Any], image: str, needs: Needs) -> dict[str, Any]:
    """What of the environment is in the image."""
    components = {canonicalize_name(each["name"]): each for each in environment["components"]}
    references = {name: components[name]["bom-ref"] for name in needs}
    root = {
        "bom-ref": image,
        "type": "container",
        "name": f"{_OURS}/{image}",
        "version": metadata.version(_OURS),
    }
    dependencies = [
        {"ref": references[name], "dependsOn": sorted(references[other] for other in others)}
        for name, others in sorted(needs.items())
    ]
    return environment | {
        "metadata": environment.get("metadata", {}) | {"component": root},
        "components": [components[name] for name in sorted(needs)],
        "dependencies": [{"ref": image, "dependsOn": [references[_OURS]]}, *dependencies],
    }


def _validate(text: str) -> None:
    # Tools of the extra `supply-chain`, which the tests go without.
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if fault:
        raise ValueError(f"not a CycloneDX document: {fault}")


if __name__ == "__main__":
    main()
