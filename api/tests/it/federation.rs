//! Two and three nodes in one process: what they say to each other over links.

mod asleep;
mod early;
mod flood;
mod gaps;
mod hostile;
mod late;
mod mailed;
mod people;
mod rooms;
mod soft_failed;
mod spaces;
mod three;
