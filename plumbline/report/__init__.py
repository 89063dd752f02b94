"""A job as one self-contained HTML page: what was said, what was masked, what changed, what was decided."""

from plumbline.report.collect import collect
from plumbline.report.page import Truth, render

__all__ = ["Truth", "collect", "render"]
