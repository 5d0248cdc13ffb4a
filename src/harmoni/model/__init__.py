"""The words everybody shares: identifiers, instances, scanned headers and errors.

Values only. Nothing here does I/O, reads a clock or imports another package of ours.
"""
