"""What every process of ours needs: clock, log, metrics, and the care of child processes.

Knows nothing of DICOM, of the store or of sockets (those belong to `net`).
"""
