use millpond_store::rows::Account;
use ruma::{OwnedUserId, owned_mxc_uri, user_id};
use serde_json::json;

use super::*;
use crate::testing;

/// The profiles of a node with the account of Alice.
async fn service() -> (Profiles, OwnedUserId) {
    let core = testing::core();
    let alice = testing::user(&core, "alice");
    let owner = alice.clone();
    let write = job(
        |_| Ok::<_, Error>(()),
        move |(), txn| {
            let account = Account { password_hash: None, created_at_ms: 0, admin: false, deactivated: false };
            txn.put(tables::ACCOUNTS, &owner, &account)
        },
    );
    core.write(write).await.unwrap();
    (Profiles::new(core.clone(), Rooms::new(core)), alice)
}

async fn json(service: &Profiles, user: &UserId) -> Value {
    serde_json::to_value(service.profile(user).await.unwrap()).unwrap()
}

#[tokio::test]
async fn fields_are_set_read_and_removed() {
    let (service, alice) = service().await;
    assert_eq!(json(&service, &alice).await, json!({}));
    let avatar = ProfileFieldValue::AvatarUrl(owned_mxc_uri!("mxc://here/cat"));
    service.set(&alice, &avatar).await.unwrap();
    service.set(&alice, &ProfileFieldValue::DisplayName("Alice".to_owned())).await.unwrap();
    service.set(&alice, &ProfileFieldValue::new("org.example.x", json!({ "deep": [1] })).unwrap()).await.unwrap();
    assert_eq!(
        json(&service, &alice).await,
        json!({ "avatar_url": "mxc://here/cat", "displayname": "Alice", "org.example.x": { "deep": [1] } })
    );
    service.remove(&alice, &"org.example.x".into()).await.unwrap();
    service.set(&alice, &ProfileFieldValue::DisplayName(String::new())).await.unwrap();
    assert_eq!(json(&service, &alice).await, json!({ "avatar_url": "mxc://here/cat" }));
}

#[tokio::test]
async fn nobody_is_not_found() {
    let (service, alice) = service().await;
    let nobody = UserId::parse(format!("@nobody:{}", alice.server_name())).unwrap();
    for user in [&*nobody, user_id!("@nobody:there")] {
        assert_eq!(service.profile(user).await.unwrap_err().kind(), Some(&ErrorKind::NotFound));
    }
}

#[tokio::test]
async fn what_cannot_be_kept_is_refused_with_its_reason() {
    let (service, alice) = service().await;
    let long = "x".repeat(256);
    let refused = [
        (ProfileFieldValue::AvatarUrl("https://example.org/cat".into()), ErrorKind::InvalidParam),
        (ProfileFieldValue::DisplayName("x".repeat(257)), ErrorKind::InvalidParam),
        (ProfileFieldValue::new("Upper.case", json!(1)).unwrap(), ErrorKind::InvalidParam),
        (ProfileFieldValue::new(&long, json!(1)).unwrap(), ErrorKind::KeyTooLarge),
        (ProfileFieldValue::new("org.example.x", json!("x".repeat(PROFILE_MAX))).unwrap(), ErrorKind::ProfileTooLarge),
    ];
    for (field, kind) in refused {
        assert_eq!(service.set(&alice, &field).await.unwrap_err().kind(), Some(&kind), "{field:?}");
    }
}

#[tokio::test]
async fn a_new_name_shows_in_the_rooms_of_the_user() {
    let (service, alice) = service().await;
    let room = service.rooms.create(&alice, ruma::api::client::room::create_room::v3::Request::new()).await.unwrap();
    service.set(&alice, &ProfileFieldValue::DisplayName("Alice".to_owned())).await.unwrap();
    let snapshot = service.core.snapshot().unwrap();
    let short = crate::shared_rooms::joined_room(snapshot.view(), &alice, &room).unwrap();
    let content: Value = current::content(snapshot.view(), short, "m.room.member", alice.as_str()).unwrap().unwrap();
    assert_eq!(content["displayname"], "Alice");
}

struct Says(Option<&'static str>);

impl ProfileSource for Says {
    fn profile<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<UserProfile, Error>> {
        let name = self.0.map(|name| ProfileFieldValue::DisplayName(name.to_owned()));
        Box::pin(async move { name.map(|name| [name].into_iter().collect()).ok_or_else(|| unknown(user)) })
    }
}

#[tokio::test]
async fn a_users_own_server_is_asked_for_the_profile() {
    let (service, _) = service().await;
    service.use_source(Arc::new(Says(Some("Bob"))));
    let profile = service.profile(user_id!("@bob:there")).await.unwrap();
    assert_eq!(profile.get("displayname"), Some(&json!("Bob")));
}
