//! What failed dials say: of the other end, or of the network.

use arti_client::{ErrorKind, HasKind};

/// What the last dials say of the network. arti's own word for it does not change when all relays are gone.
#[derive(Default)]
pub(super) struct Health {
    /// It was usable once.
    pub(super) seen_up: bool,
    /// Why the last dial failed, if the network was at fault.
    pub(super) trouble: Option<String>,
    /// Dials in a row that nobody answered.
    unanswered: u8,
}

impl Health {
    /// Takes note of a dial; says whether the network works again after it did not.
    pub(super) fn note<T, E>(&mut self, ended: &Result<Result<T, arti_client::Error>, E>) -> bool {
        let was_in_trouble = self.trouble.is_some();
        match ended {
            Ok(Ok(_)) => *self = Self { seen_up: true, ..Self::default() },
            // Only the network can have said this of the other end.
            Ok(Err(error)) if is_about_the_other_end(error.kind()) => (self.trouble, self.unanswered) = (None, 0),
            Ok(Err(error)) => {
                tracing::debug!(kind = ?error.kind(), "Tor does not get through");
                self.trouble = Some(error.kind().to_string());
            }
            // One may be a peer that died without a word.
            Err(_) => {
                self.unanswered = self.unanswered.saturating_add(1);
                if self.unanswered >= 2 {
                    self.trouble = Some("nobody answers in time".to_owned());
                }
            }
        }
        was_in_trouble && self.trouble.is_none()
    }
}

pub(super) fn asks_for_key(error: &arti_client::Error) -> bool {
    matches!(error.kind(), ErrorKind::OnionServiceMissingClientAuth | ErrorKind::OnionServiceWrongClientAuth)
}

fn is_about_the_other_end(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::OnionServiceNotFound
            | ErrorKind::OnionServiceNotRunning
            | ErrorKind::OnionServiceConnectionFailed
            | ErrorKind::OnionServiceProtocolViolation
            | ErrorKind::OnionServiceMissingClientAuth
            | ErrorKind::OnionServiceWrongClientAuth
            | ErrorKind::OnionServiceAddressInvalid
            | ErrorKind::InvalidStreamTarget
            | ErrorKind::ForbiddenStreamTarget
            | ErrorKind::ExitPolicyRejected
            | ErrorKind::RemoteConnectionRefused
            | ErrorKind::RemoteHostNotFound
            | ErrorKind::RemoteHostResolutionFailed
            | ErrorKind::RemoteNetworkFailed
            | ErrorKind::RemoteNetworkTimeout
            | ErrorKind::RemoteStreamClosed
            | ErrorKind::RemoteStreamReset
            | ErrorKind::RemoteStreamError
    )
}

/// The service is not there, or not for us: another circuit would say the same.
pub(super) fn is_final(error: &arti_client::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::OnionServiceNotFound
            | ErrorKind::OnionServiceMissingClientAuth
            | ErrorKind::OnionServiceWrongClientAuth
            | ErrorKind::OnionServiceAddressInvalid
            | ErrorKind::InvalidStreamTarget
            | ErrorKind::ForbiddenStreamTarget
            | ErrorKind::RemoteConnectionRefused
            | ErrorKind::RemoteHostNotFound
    )
}

/// arti's messages say what was being done; why it failed stands in their causes. Onion addresses are redacted in them.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.ends_with(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_dial_that_gets_through_after_trouble_says_that_the_network_is_back() {
        type Ended = Result<Result<(), arti_client::Error>, ()>;
        let (through, unanswered): (Ended, Ended) = (Ok(Ok(())), Err(()));
        let mut health = Health::default();
        assert!(!health.note(&through));
        // One may be a peer that died without a word.
        assert!(!health.note(&unanswered) && !health.note(&through));
        assert!(!health.note(&unanswered) && !health.note(&unanswered));
        assert!(health.note(&through));
        assert!(!health.note(&through));
    }
}
