//! Reading rooms, and the endpoints around them.

mod directory;
mod history;
mod join_rules;
mod membership;
mod outside;
mod relations;
mod state;
mod upgrade;
