//! The homeserver: accounts, rooms, sync, outbox, inbox, backfill, push, media.
