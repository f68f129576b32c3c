//! Power cuts under a busy homeserver. The node runs over a disk that keeps only what was synced; at every sync point of the
//! run the disk is opened as the cut left it, and what the node had answered by then must be there, whole.

mod book;
mod cuts;
mod damage;
mod full;
mod peer;
mod run;
