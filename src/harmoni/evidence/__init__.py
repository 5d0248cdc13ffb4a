"""What proves to others that a study is what was stored: so far, the record of each sealing."""
