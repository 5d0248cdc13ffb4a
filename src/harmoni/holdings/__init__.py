"""One hospital's own: what it stored, kept, found, given back and proved.

Only this package joins packs, keys, index, events and log. A `Holding` serves one hospital and has
no way to name another's.
"""
