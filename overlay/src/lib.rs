//! Runs the delivery protocol of `millpond-mailbox` over real transports; knows peers and bytes, not Matrix.
