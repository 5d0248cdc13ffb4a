"""The one door to storage I/O: nothing of the store is read, written or flushed elsewhere."""
