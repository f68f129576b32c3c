//! How Tor stands, for the user.

/// How Tor stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TorStatus {
    /// What it is at.
    pub state: TorState,
    /// How much of what it needs from the network's directory it has, in percent.
    pub percent: u8,
    /// Why it does not get on, in words, if it does not.
    pub why: Option<String>,
}

/// What Tor is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TorState {
    /// Nothing has needed it yet.
    Idle,
    /// On the way to being usable.
    Starting,
    /// Streams can be opened.
    Up,
    /// It was usable, and is not now: what goes over it waits.
    Down,
    /// A proxy of the user's does it.
    Proxy,
    /// It was stopped with the node.
    Stopped,
}

impl TorState {
    /// One word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Starting => "starting",
            Self::Up => "up",
            Self::Down => "down",
            Self::Proxy => "proxy",
            Self::Stopped => "stopped",
        }
    }
}
