"""Hooks of mkdocs (mkdocs.yml): what the pages need to read alike there and on GitHub.

Pages link to files outside of docs/, such as ../README.md or ../configs/debug.py, and
those to others. The files become part of the site, under ``repository/``, and links to
them are changed to that; mkdocs checks the links then like all others.
"""

import os
import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
_LINK = re.compile(r"(?<=\]\()[^)#\s]+(?=[)#\s])")
_ROLE = re.compile(r":(?:func|class|meth|mod):(?=<code>)")


def on_files(files, *, config):
    """Add the files outside of docs/ that pages, or files added so, link to."""
    pages = [Path(file.abs_src_path) for file in files.documentation_pages()]
    for page in pages:
        for target in _targets(page):
            uri = _uri(target)
            if files.get_file_from_path(uri) is None:
                file = File.generated(config, uri, abs_src_path=os.fspath(target))
                files.append(file)
                if target.suffix == ".md":
                    pages.append(target)
    return files


def on_page_markdown(markdown, *, page, config, files):
    """Point links at the places of their files in the site."""
    source = Path(page.file.abs_src_path)

    def rewrite(match):
        target = _find(source, match[0])
        if target is None:
            return match[0]
        return posixpath.relpath(_uri(target), posixpath.dirname(_uri(source)))

    return _LINK.sub(rewrite, markdown)


def on_page_content(html, *, page, config, files):
    """Show Sphinx's roles, as docstrings have them, as plain code."""
    return _ROLE.sub("", html)


def _targets(page):
    links = _LINK.findall(page.read_text("utf-8"))
    found = (_find(page, link) for link in links)
    return [path for path in found if path is not None]


def _find(source, link):
    """Return the file of the repository that a link leads to; None for others."""
    if "://" in link:
        return None
    path = Path(os.path.normpath(source.parent / link))
    return path if path.is_file() and path.is_relative_to(ROOT) else None


def _uri(path):
    if path.is_relative_to(DOCS):
        return path.relative_to(DOCS).as_posix()
    return f"repository/{path.relative_to(ROOT).as_posix()}"
