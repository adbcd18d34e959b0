"""Command line, generation and evaluation runs, reports: what a person starts.

Nothing here knows how a model works inside, and importing the package does no work.
"""
