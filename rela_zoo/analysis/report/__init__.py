"""The page of a run: one HTML file that needs nothing beside it, made of what the run's folder holds."""

from rela_zoo.analysis.report._document import document
from rela_zoo.analysis.report._page import PAGE_FILE, RUN_FILE, run_page, write_page

__all__ = ["PAGE_FILE", "RUN_FILE", "document", "run_page", "write_page"]
