"""DICOM as bytes in and events out: no I/O, no clock."""
