"""Runs from Python: what `Trainer.fit` prints, the folder that it writes, and how a run is loaded again (`load_run`).

Reading order: course (fit), describe (networks and optimizers as JSON), folder, load.
"""

from minidl.program.course import fit
from minidl.program.folder import begin, save
from minidl.program.load import LoadedRun, load_run

__all__ = ["LoadedRun", "begin", "fit", "load_run", "save"]
