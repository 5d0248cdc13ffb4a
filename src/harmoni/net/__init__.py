"""The only sockets of ours: TLS, associations over TCP, health and metrics over HTTP.

One association is one thread that blocks; the protocol itself is `dicom.association`, which never
sees a socket.
"""
