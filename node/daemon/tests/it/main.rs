//! The binary `millpond` as a process: what it prints, which files it leaves, how it ends.

mod account;
mod backup;
mod check;
mod contact;
mod demo;
mod export;
mod files;
mod harness;
mod purge;
mod relay;
mod run;
mod settings;
