"""The index: one encrypted database per hospital, a view of the store that can be rebuilt.

`database` owns SQLCipher and hands out connections: readers that see one snapshot, and one writer
at a time over all processes. `schema` says what the tables are, `attributes` how raw elements and
UIDs are kept in few bytes. `ingest` writes what the store says (instances, packs, facts), `packs`
the little that passes between the writers of packs and their keeper, `commitment` the storage
commitment transactions. `lookup` answers by SOP Instance UID, `find` answers C-FIND. `equality`
compares two indexes by what they say.

The rule that all of it keeps: what the store-derived tables say depends on the set of instances,
packs and facts recorded, never on the order in which they came. So a rebuild equals the live index.
Nothing here reads a clock or knows of another hospital.
"""
