//! The OAuth 2.0 API, over real HTTP: registration, the authorisation code with PKCE, refresh, revocation, device codes, pages.

mod account;
mod code;
mod confirm;
mod create;
mod device;
mod sso;
mod world;

use serde_json::json;

use crate::harness::TestNode;

#[tokio::test]
async fn the_metadata_is_found_in_all_its_places() {
    let node = TestNode::with(|config| config.client_base_url = "https://pond.example/".to_owned());
    let found = node.ok(node.get("", "/_matrix/client/v1/auth_metadata")).await;
    assert_eq!(found["issuer"], "https://pond.example/");
    assert_eq!(found["token_endpoint"], "https://pond.example/oauth2/token");
    assert_eq!(found["code_challenge_methods_supported"], json!(["S256"]));
    for path in ["/_matrix/client/unstable/org.matrix.msc2965/auth_metadata", "/.well-known/openid-configuration"] {
        assert_eq!(node.ok(node.get("", path)).await, found, "{path}");
    }
    let issuer = node.ok(node.get("", "/_matrix/client/unstable/org.matrix.msc2965/auth_issuer")).await;
    assert_eq!(issuer, json!({ "issuer": "https://pond.example/" }));
    // Password login stays, and nothing is said of single sign-on.
    let flows = node.ok(node.get("", "/_matrix/client/v3/login")).await;
    assert_eq!(flows["flows"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn clients_register_with_addresses_of_their_own_only() {
    let node = TestNode::new();
    let register = async |metadata: serde_json::Value| {
        let (status, json) = node.post("", "/oauth2/clients/register", metadata).await;
        (status.as_u16(), json)
    };
    let good = json!({
        "client_name": "Frog", "client_uri": "https://frog.example/", "application_type": "native",
        "redirect_uris": ["http://127.0.0.1/", "example.frog:/cb"],
        "grant_types": ["authorization_code", "refresh_token", "implicit"], "response_types": ["code"],
        "token_endpoint_auth_method": "none",
    });
    let (status, first) = register(good.clone()).await;
    assert_eq!(status, 201, "{first}");
    assert_eq!(first["grant_types"], json!(["authorization_code", "refresh_token"]));
    assert_eq!(register(good.clone()).await.1["client_id"], first["client_id"], "the same client has the same id");
    for (field, value, error) in [
        ("redirect_uris", json!(["https://toad.example/cb"]), "invalid_redirect_uri"),
        ("redirect_uris", json!(["http://192.168.0.1/"]), "invalid_redirect_uri"),
        ("redirect_uris", json!([]), "invalid_client_metadata"),
        ("client_uri", json!("http://frog.example/"), "invalid_client_metadata"),
        ("application_type", json!("tv"), "invalid_client_metadata"),
        ("token_endpoint_auth_method", json!("client_secret_basic"), "invalid_client_metadata"),
        ("response_types", json!(["token"]), "invalid_client_metadata"),
    ] {
        let mut bad = good.clone();
        bad[field] = value;
        let (status, json) = register(bad).await;
        assert_eq!((status, json["error"].as_str()), (400, Some(error)), "{field} {json}");
    }
    assert_eq!(register(json!([])).await.0, 400);
}
