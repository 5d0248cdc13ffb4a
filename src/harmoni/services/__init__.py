"""DICOM services over an association: Verification, Storage, Query/Retrieve, Storage Commitment.

As provider (SCP) a service is handed its acts as handlers, one set per association, already bound
to one hospital: no service can name another. As user (SCU) a service is a function of a channel.
Errors become a DIMSE status in one table, in services/storage.py.
"""
