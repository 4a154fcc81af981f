"""The recipe of Google's translation system: a short phase of Adam, then plain SGD at a rate halved in stages.

It is a Hybrid that switches at a fixed step. What it adds is the schedule, scaled to the length of the run.
"""

from __future__ import annotations

from minidl.optim.adam import Adam
from minidl.optim.checks import whole_number
from minidl.optim.groups import ParamsOrGroups
from minidl.optim.hybrid import Hybrid
from minidl.optim.schedule import halving
from minidl.optim.sgd import SGD
from minidl.optim.switch import AfterSteps

# Wu et al. 2016, "Training Procedure", steps in thousands: Adam for 60; SGD; "after a certain number of total steps"
# (so counted from the start), 1200, "we halve the learning rate every 200k steps for an additional 800k": 2000 in all.
# We take the first halving to be at 1200, where they "begin to anneal", so that all four fall inside the run.
ADAM, ANNEAL, HALVE, TOTAL = 60, 1200, 200, 2000


class GNMT(Hybrid):
    """Wu et al. 2016, "Training Procedure": Adam at 2e-4, then SGD at 0.5; clipping at 5.

    params        the model's parameters, or groups of them (see Rule)
    total_steps   length of the run: the paper's step numbers are scaled by total_steps / 2,000,000, so that 3% of it
                  is Adam and the learning rate halves at 60%, 70%, 80% and 90%
    lr            Adam's learning rate
    lr_sgd        SGD's learning rate until the first halving
    max_norm      clip the global norm of the gradient, in both phases; None: no clipping
    weight_decay  lambda >= 0, in both phases: adds lambda w to the gradient

    Raises ValueError for an argument out of range.
    """

    def __init__(
        self,
        params: ParamsOrGroups,
        total_steps: int,
        lr: float = 2e-4,
        lr_sgd: float = 0.5,
        max_norm: float | None = 5.0,
        weight_decay: float = 0.0,
    ) -> None:
        whole_number("total_steps", total_steps, 1)
        adam = max(1, round(total_steps * ADAM / TOTAL))
        anneal, every = round(total_steps * ANNEAL / TOTAL), max(1, round(total_steps * HALVE / TOTAL))
        super().__init__(
            params,
            first=Adam(lr=lr, weight_decay=weight_decay, max_norm=max_norm),
            then=SGD(
                lr=halving(lr_sgd, start=max(anneal - adam, 0), every=every),  # counted from the switch on
                weight_decay=weight_decay,
                max_norm=max_norm,
            ),
            switch=AfterSteps(adam),
        )
