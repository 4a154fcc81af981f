"""A2: which functions the student writes."""

from tutorials.assignments.assignment import Assignment

ASSIGNMENT = Assignment(
    name="A2",
    title="SGD and Adam",
    cuts={"optim/sgd.py": ("SGD.rule",), "optim/adam.py": ("Adam.rule", "AdamW.decayed", "moments")},
    drop={
        "optim/sgd.py": ("PLAIN", "SUM", "MOMENTUM", "NESTEROV", "SGD.formula"),
        "optim/adam.py": ("FORMULA", "DECOUPLED", "_amsgrad", "Adam.formula", "AdamW.formula"),
    },
)
