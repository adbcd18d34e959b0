"""Molecules as sequences of tokens: SMILES and SELFIES, models that read and that write them."""
