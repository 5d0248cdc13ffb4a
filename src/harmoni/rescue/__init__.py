"""What opens an archive without this program: two readers, the formats, examples."""
