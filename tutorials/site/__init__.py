"""The documentation site: README, the pages, the lessons with their stored outputs, and the docstrings."""
