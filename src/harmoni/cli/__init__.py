"""The command line, kept thin: parse, call, print. One module per group of commands."""
