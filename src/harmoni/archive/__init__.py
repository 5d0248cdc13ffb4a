"""The archive's role: the centre that keeps every hospital's studies, and how it is operated."""
