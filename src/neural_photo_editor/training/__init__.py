"""Training: three LightningModules, their callbacks, trackers and checkpoints."""
