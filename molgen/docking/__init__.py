"""Ligands in the pocket of a protein: real PDB files, boxes, AutoDock Vina, poses as molecules.

Plain functions, file by file: `structure` reads PDB files as they come, `pocket` says where to
dock, `receptor` and `ligand` write PDBQT, `vina` scores, minimises and docks, `redock` compares.
"""
