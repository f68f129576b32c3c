//! Scopes (client-server spec, "Scope"): access to the API, and the device that it is for.

use ruma::OwnedDeviceId;

use super::Refusal;

/// The device that a scope asks for. Tokens that we do not know are ignored, as the specification says.
///
/// # Errors
/// `invalid_scope` if it does not ask for the API and exactly one device.
pub(super) fn device(scope: &str) -> Result<OwnedDeviceId, Refusal> {
    let refused = |what: &str| Err(Refusal::new("invalid_scope", what));
    let tokens: Vec<&str> = scope.split(' ').filter(|token| !token.is_empty()).collect();
    if !tokens.iter().any(|token| API.contains(token)) {
        return refused("ask for the scope urn:matrix:client:api:*");
    }
    let mut devices: Vec<&str> =
        tokens.iter().filter_map(|token| DEVICE.iter().find_map(|prefix| token.strip_prefix(prefix))).collect();
    devices.sort_unstable();
    devices.dedup();
    let [device] = devices[..] else {
        return refused("ask for one scope urn:matrix:client:device:<device id>");
    };
    let fits = (LENGTH_MIN..=LENGTH_MAX).contains(&device.len())
        && device.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
    if !fits {
        return refused("a device id has 10 to 255 characters, which are letters, digits, or one of -._~");
    }
    Ok(device.into())
}

/// In the specification, and before it was there (MSC2967).
const API: [&str; 2] = ["urn:matrix:client:api:*", "urn:matrix:org.matrix.msc2967.client:api:*"];
const DEVICE: [&str; 2] = ["urn:matrix:client:device:", "urn:matrix:org.matrix.msc2967.client:device:"];
/// As the specification recommends, so that ids do not collide.
const LENGTH_MIN: usize = 10;
const LENGTH_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_names_the_api_and_one_device() {
        for good in [
            "urn:matrix:client:api:* urn:matrix:client:device:ABCDEFGHIJ",
            "openid urn:matrix:org.matrix.msc2967.client:api:* urn:matrix:org.matrix.msc2967.client:device:ABCDEFGHIJ",
            "urn:matrix:client:device:ABCDEFGHIJ urn:matrix:client:api:* urn:matrix:client:device:ABCDEFGHIJ",
        ] {
            assert_eq!(device(good).unwrap(), "ABCDEFGHIJ", "{good}");
        }
        for bad in [
            "",
            "urn:matrix:client:api:*",
            "urn:matrix:client:device:ABCDEFGHIJ",
            "urn:matrix:client:api:* urn:matrix:client:device:SHORT",
            "urn:matrix:client:api:* urn:matrix:client:device:ABCDEFGHI/",
            "urn:matrix:client:api:* urn:matrix:client:device:ABCDEFGHIJ urn:matrix:client:device:KLMNOPQRST",
        ] {
            assert!(device(bad).is_err(), "{bad}");
        }
    }
}
