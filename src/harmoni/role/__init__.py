"""What a gateway and an archive share: both are holdings with DICOM services before them."""
