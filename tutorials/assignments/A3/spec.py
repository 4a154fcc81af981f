"""A3: which functions the student writes."""

from tutorials.assignments.assignment import Assignment

ASSIGNMENT = Assignment(
    name="A3",
    title="the hybrid switch and SWATS",
    cuts={
        "optim/switch.py": (
            "Plateau.standing",
            "Projected.distance",
            "Gap.__call__",
            "AnyOf.__call__",
            "AllOf.__call__",
        ),
        "optim/projection.py": ("Projection.measure", "Projection.add"),
        "optim/hybrid.py": ("Hybrid._decide", "Hybrid._rate_after", "Hybrid._start_then"),
        "optim/swats.py": ("SWATS._adam", "SWATS._sgd", "SWATS._to_sgd"),
    },
    drop={"optim/hybrid.py": ("Hybrid.terms",), "optim/swats.py": ("ADAM", "SGD", "SWATS.formula")},
)
