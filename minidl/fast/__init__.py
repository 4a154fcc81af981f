"""What is faster than the plain forms of the engine, with the same meaning: importing it registers all of it."""

from minidl.fast import conv as _conv  # noqa: F401 (with pool and linear, which it needs)
from minidl.fast import gpu as _gpu  # noqa: F401
