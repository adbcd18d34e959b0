"""Datasets: one file per dataset, converted once into a compact table that trains without RDKit."""
