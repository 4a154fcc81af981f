"""Classroom assignments on minidl's own source: hand out, collect, grade.

    python -m tutorials.assignments.handout A2 FOLDER          a hand-out: the library with some functions left empty
    python -m tutorials.assignments.grade A2 FOLDER            marks for a submission, with reasons

Reading order: assignment (what an assignment is), cut and handout; archive, submission and classroom (what was handed
in); wire, seccomp, sandbox, worker, process and session (how a student's code runs, isolated from what it must not
reach); check (when is an answer right?), marking and feedback; gradescope, table, page, regrade, adjust and grade.
README.md is the instructor's guide.
"""
