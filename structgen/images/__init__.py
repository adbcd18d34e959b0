"""Images: handwritten digits, the demonstration of the shared layer."""
