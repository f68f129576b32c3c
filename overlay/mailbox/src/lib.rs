//! The delivery protocol as pure state machines: names, contact links, links, streams.
