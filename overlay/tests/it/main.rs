//! Overlays talking to each other, over memory and over real libp2p on 127.0.0.1.

mod circuit;
mod contact;
mod direct;
mod hostile;
mod intro;
mod lodging;
mod mail;
mod making;
mod nearby;
mod relay;
mod requests;
mod restart;
mod restricted;
mod sleep;
mod support;
