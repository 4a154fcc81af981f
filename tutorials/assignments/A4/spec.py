"""A4: which functions the student writes."""

from tutorials.assignments.assignment import Assignment

ASSIGNMENT = Assignment(
    name="A4",
    title="convolution and pooling",
    cuts={"minidl/ops_conv.py": ("conv2d", "max_pool2d", "avg_pool2d", "_windows", "_scatter", "_pad", "_unpad")},
)
