"""Lessons to step through, and assignments to hand out and grade."""
