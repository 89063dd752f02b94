"""A job as one self-contained HTML page: its review while it waits; and what was said, masked, changed and decided."""

from plumbline.report.collect import collect
from plumbline.report.page import Truth, render
from plumbline.report.review import render_review

__all__ = ["Truth", "collect", "render", "render_review"]
