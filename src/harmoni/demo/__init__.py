"""The whole of HARMONI on one machine: built, run, and checked by what it claims."""
