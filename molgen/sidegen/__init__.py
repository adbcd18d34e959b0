"""Cartesian conformer diffusion with side information: ligand and target encoders, messages."""
