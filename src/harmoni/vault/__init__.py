"""Packs and keys on disk: written by one process, read by many, sealed once."""
