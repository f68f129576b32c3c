//! Reading rooms, and the endpoints around them.

mod directory;
mod history;
mod membership;
mod relations;
mod state;
