//! The API from outside: requests in, responses out, over a whole node in memory.

mod accounts;
mod backup;
mod classic;
mod conformance;
mod cross_signing;
mod devices;
mod encryption;
mod ephemeral;
mod federation;
mod glue;
mod harness;
mod keys;
mod login;
mod media;
mod nodes;
mod previews;
mod refresh;
mod register;
mod room;
mod rooms;
mod search;
mod send_to_device;
mod serve;
mod sliding;
mod sync;
mod user_data;
