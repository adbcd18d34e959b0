"""Contacts of a ligand with its target, for a torsional model that is to see a pocket."""
