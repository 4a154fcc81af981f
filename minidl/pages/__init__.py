"""HTML pages about runs, each a single file that works offline: the report of a run, and the comparison of runs.

Reading order: svg (curves), png (images), html (tables and the page itself), facts (the content of a report, with the
network's mistakes), report, compare.
"""

from minidl.pages.compare import compare_page, compare_table, read_run
from minidl.pages.facts import Facts, facts_of_folder, facts_of_run
from minidl.pages.report import report_page

__all__ = ["Facts", "compare_page", "compare_table", "facts_of_folder", "facts_of_run", "read_run", "report_page"]
