//! The one crypto provider of rustls in this process.

/// Makes aws-lc-rs the process's default provider for TLS and QUIC. Called first thing in every binary and test; again is harmless. Without it, rustls
/// panics where two providers are compiled in and none was chosen.
pub fn install_crypto_provider() {
    // An error means that a provider is installed already, by an earlier call or by the program around us.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
