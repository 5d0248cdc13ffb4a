"""The gateway role: the hospital's own server, which keeps a copy, sends on, and gives back."""
