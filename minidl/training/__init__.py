"""What a run is made of: its configuration, model, optimizer by name, checkpoints and folder."""
