"""How a run went, for machines and for those who read what a machine shows: JUnit XML, Markdown, annotations.

Everything is a function from a store and a run to text; nothing is written or printed here. Args and results are in
none of it: reports are published, and either may be secret.
"""

from __future__ import annotations

from overseer_lite.report.junit import junit
from overseer_lite.report.markdown import error_annotations, markdown

__all__ = ["error_annotations", "junit", "markdown"]
