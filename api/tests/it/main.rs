//! The API from outside: requests in, responses out, over a whole node in memory.

mod glue;
mod harness;
mod serve;
