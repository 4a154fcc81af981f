"""The operations on the CPU once more, as plain loops that numba compiles: the extra `fast`."""
