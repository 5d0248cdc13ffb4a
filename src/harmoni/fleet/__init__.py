"""The fleet of nodes: the centre's own authority and the certificates it gives them."""
