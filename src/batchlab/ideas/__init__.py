"""What the notebooks explain, small enough to read. Never trains a Keras model for its own sake."""
