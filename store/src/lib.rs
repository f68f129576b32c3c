//! redb behind typed tables: the one writer, snapshots, migrations, the integrity check.
