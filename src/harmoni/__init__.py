"""HARMONI: the encrypted, vendor-neutral archive of a country's medical images."""

__version__ = "0.1.0"
