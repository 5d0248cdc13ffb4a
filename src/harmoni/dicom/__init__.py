"""DICOM without I/O: bytes in, events and values out.

The upper layer (PS3.8) and DIMSE (PS3.7) as a protocol object that a shell feeds and empties, and
the data sets (PS3.5, PS3.10) as far as an archive must read them. Nothing here opens a socket,
reads a clock or logs; data sets pass through and are never decoded and encoded again.
"""
