"""Files of a release: citation, addresses, container."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_citation_is_that_of_the_package_and_the_paper():
    """The keys that CFF 1.2.0 requires, and what stands elsewhere, too."""
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert cff.keys() >= {"authors", "cff-version", "message", "title"}
    assert cff["cff-version"] == "1.2.0"
    assert (cff["version"], cff["license"]) == (PROJECT["version"], PROJECT["license"])
    (paper,) = cff["references"]
    assert paper.keys() >= {"authors", "title", "type"}
    bibtex = (ROOT / "README.md").read_text("utf-8").partition("```bibtex")[2]
    for author in paper["authors"]:
        name = f"{author['family-names']}, {author['given-names']}"
        assert name in " ".join(bibtex.split())
    assert f"year      = {{{paper['year']}}}" in bibtex
    assert paper["url"] == PROJECT["urls"]["Paper"]


def test_dockerfile_installs_extras_and_copies_files_that_exist():
    text = (ROOT / "Dockerfile").read_text("utf-8")
    for extra in re.findall(r"EXTRAS=([\w,]+)", text):
        assert set(extra.split(",")) <= PROJECT["optional-dependencies"].keys()
    targets = re.findall(r"^FROM \S+ AS (\w+)$", text, re.MULTILINE)
    assert targets == ["cpu", "cuda"]
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    for line in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE):
        for name in line.split():
            assert (ROOT / name).exists()
            assert f"!{name}" in ignored
