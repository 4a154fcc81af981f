"""The parts of a run: its configuration, models and optimizers by name, checkpoints and folder."""
