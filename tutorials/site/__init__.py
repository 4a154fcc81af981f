"""The documentation as a site: README, the pages, the lessons as they are stored, and the docstrings."""
