"""Weights of small neural networks, generated for a data set."""
