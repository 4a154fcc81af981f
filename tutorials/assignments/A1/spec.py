"""A1: which functions the student writes."""

from tutorials.assignments.assignment import Assignment

ASSIGNMENT = Assignment(
    name="A1",
    title="autograd operations",
    cuts={
        "minidl/ops.py": ("mul", "div", "log", "relu", "sigmoid", "sum", "mean", "max", "getitem", "matmul", "_spread"),
        "minidl/ops_nn.py": ("linear", "softmax", "log_softmax", "cross_entropy", "_log_softmax"),
        "minidl/tensor.py": ("Tensor.backward", "_topological_order", "_fit"),
    },
)
