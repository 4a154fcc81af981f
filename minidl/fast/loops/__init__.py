"""The operations on the CPU again, as plain loops that numba compiles: the extra `fast`."""
