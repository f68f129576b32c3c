use ruma::{
    push::{NewConditionalPushRule, NewPatternedPushRule, NewSimplePushRule},
    room_id, user_id,
};

use super::*;
use crate::{account_data::AccountData, testing};

fn alice() -> &'static UserId {
    user_id!("@alice:here")
}

fn content_rule(id: &str) -> NewPushRule {
    NewPushRule::Content(NewPatternedPushRule::new(id.to_owned(), "tea".to_owned(), vec![Action::Notify]))
}

#[tokio::test]
async fn a_fresh_user_has_the_defaults_and_account_data_shows_them() {
    let core = testing::core();
    let rule = PushRules::new(core.clone()).rule(alice(), RuleKind::Override, ".m.rule.master").unwrap();
    assert!(rule.default && !rule.enabled);
    let content = AccountData::new(core).content(alice(), None, PUSH_RULES).unwrap();
    assert!(content.get().contains(".m.rule.message"));
}

#[tokio::test]
async fn rules_stand_where_before_and_after_put_them() {
    let service = PushRules::new(testing::core());
    service.insert(alice(), content_rule("one"), None, None).await.unwrap();
    service.insert(alice(), content_rule("two"), None, None).await.unwrap();
    service.insert(alice(), content_rule("three"), Some("two".to_owned()), None).await.unwrap();
    service.insert(alice(), content_rule("zero"), None, Some("two".to_owned())).await.unwrap();
    let ids = |service: &PushRules| {
        service.all(alice()).unwrap().content.iter().map(|rule| rule.rule_id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&service), ["zero", "two", "three", "one"]);
    service.remove(alice(), RuleKind::Content, "two".to_owned()).await.unwrap();
    assert_eq!(ids(&service), ["zero", "three", "one"]);
}

#[tokio::test]
async fn a_new_override_rule_stands_below_the_master_switch() {
    let service = PushRules::new(testing::core());
    let rule = NewConditionalPushRule::new("mine".to_owned(), vec![], vec![]);
    service.insert(alice(), NewPushRule::Override(rule), None, None).await.unwrap();
    let rules = service.all(alice()).unwrap();
    let ids: Vec<_> = rules.override_.iter().take(2).map(|rule| rule.rule_id.as_str()).collect();
    assert_eq!(ids, [".m.rule.master", "mine"]);
}

#[tokio::test]
async fn enabled_and_actions_are_kept_for_own_and_default_rules() {
    let service = PushRules::new(testing::core());
    let room = room_id!("!r:here");
    let rule = NewPushRule::Room(NewSimplePushRule::new(room.to_owned(), vec![]));
    service.insert(alice(), rule, None, None).await.unwrap();
    service.set_enabled(alice(), RuleKind::Room, room.to_string(), false).await.unwrap();
    assert!(!service.rule(alice(), RuleKind::Room, room.as_str()).unwrap().enabled);
    service.set_actions(alice(), RuleKind::Underride, ".m.rule.message".to_owned(), vec![]).await.unwrap();
    assert!(service.rule(alice(), RuleKind::Underride, ".m.rule.message").unwrap().actions.is_empty());
}

#[tokio::test]
async fn what_is_not_allowed_is_named() {
    let service = PushRules::new(testing::core());
    let kind = |error: Error| error.kind().cloned();
    let refused = service.insert(alice(), content_rule(".m.mine"), None, None).await.unwrap_err();
    assert_eq!(kind(refused), Some(ErrorKind::InvalidParam));
    let refused = service.insert(alice(), content_rule("x"), Some("nowhere".to_owned()), None).await.unwrap_err();
    assert_eq!(kind(refused), Some(ErrorKind::NotFound));
    let refused = service.remove(alice(), RuleKind::Override, ".m.rule.master".to_owned()).await.unwrap_err();
    assert_eq!(kind(refused), Some(ErrorKind::InvalidParam));
    let refused = service.set_enabled(alice(), RuleKind::Sender, "@nobody:here".to_owned(), true).await.unwrap_err();
    assert_eq!(kind(refused), Some(ErrorKind::NotFound));
    let huge = NewPatternedPushRule::new("x".to_owned(), "x".repeat(RULES_MAX_BYTES), vec![]);
    let refused = service.insert(alice(), NewPushRule::Content(huge), None, None).await.unwrap_err();
    assert_eq!(kind(refused), Some(ErrorKind::TooLarge));
}
