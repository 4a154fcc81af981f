"""Pages about runs, each one file that needs no network: a run's report, and runs compared.

Reading order: svg (curves), png (pictures), html (tables and the page around them), facts (what a network gets wrong),
report, compare.
"""

from minidl.pages.compare import compare_page, compare_table, read_run
from minidl.pages.facts import Facts, facts_of_folder, facts_of_run
from minidl.pages.report import report_page

__all__ = [
    "Facts",
    "compare_page",
    "compare_table",
    "facts_of_folder",
    "facts_of_run",
    "read_run",
    "report_page",
]
