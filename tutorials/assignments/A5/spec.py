"""A5: which functions the student writes. They are not the library's: `study.py` in this folder is the model answer."""

from tutorials.assignments.assignment import HERE, Assignment

ASSIGNMENT = Assignment(
    name="A5",
    title="a small study of your own",
    cuts={"study.py": ("train_once", "accuracy", "tune", "compare", "mean_and_interval")},
    base=HERE / "A5",
    library=("minidl", "optim"),
)
