"""The pictures, and the style that they share. Never computes a result."""
