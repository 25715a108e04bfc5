"""The engines behind the notebooks of Batch Size Lab, one module a topic."""
