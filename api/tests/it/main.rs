//! The API from outside: requests in, responses out, over a whole node in memory.

mod accounts;
mod devices;
mod glue;
mod harness;
mod login;
mod register;
mod room;
mod rooms;
mod serve;
mod sync;
