"""Structures that are not molecules: webs, network weights, images and media.

Imports ``diffcore`` only; knows nothing of chemistry. Empty in this version: the package fixes the
place and the layer of the domains to come.
"""
