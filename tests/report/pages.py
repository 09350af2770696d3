"""Reads a page's tags and attributes."""

import collections
import re
from html.parser import HTMLParser

LINKS = ("src", "href", "srcset", "data", "action", "poster")


class PageReader(HTMLParser):
    """Tags of a page, by name."""

    def __init__(self, text):
        super().__init__()
        self.text = text
        self.found = collections.defaultdict(list)
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found[tag].append({name: value or "" for name, value in attrs})

    def all(self, tag):
        return self.found[tag]

    @property
    def tags(self):
        return {tag: len(attributes) for tag, attributes in self.found.items()}

    def check_self_contained(self):
        """Check that nothing is loaded from a file or the network."""
        for elements in self.found.values():
            for attributes in elements:
                for name in LINKS:
                    link = attributes.get(name, "data:")
                    assert link.startswith(("data:", "#")), link[:80]
        styles = re.sub(r'"data:[^"]*"', "", self.text)
        assert not re.findall(r"https?://|@import|url\(|fetch\(|import\(", styles)
