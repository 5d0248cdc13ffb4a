"""Who a peer is and what it may do. Pure: values in, a verdict with its reason out."""
