"""The record of campaigns: candidates, scores, failures, seeds and versions in one database."""
