//! What the delivery protocol does, one file per behaviour.

mod adversaries;
mod contact_links;
mod first_contact;
mod introductions;
mod key_documents;
mod names;
mod parsers;
mod stamps;
mod streams;
mod vectors;
mod world;
