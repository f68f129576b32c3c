//! What the delivery protocol does, one file per behaviour.

mod adversaries;
mod contact_links;
mod first_contact;
mod fuzz;
mod host_deposits;
mod host_model;
mod host_owners;
mod host_tokens;
mod hosting;
mod introductions;
mod key_documents;
mod names;
mod parsers;
mod stamps;
mod streams;
mod vectors;
mod world;
