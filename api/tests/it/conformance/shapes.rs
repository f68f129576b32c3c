//! `tests/spec/shapes.json`: the schemas of successful answers, derived from the specification's OpenAPI files by
//! `tests/spec/shapes.py`, and whether an answer fits one.

use serde_json::{Map, Value};

/// The schemas by operation id.
pub fn all() -> Map<String, Value> {
    serde_json::from_str(include_str!("../../spec/shapes.json")).unwrap()
}

/// Whether a value fits a schema.
///
/// # Errors
/// What does not fit, and where.
pub fn fits(value: &Value, schema: &Value) -> Result<(), String> {
    check(value, schema, "$")
}

fn check(value: &Value, schema: &Value, at: &str) -> Result<(), String> {
    if let Some(kinds) = schema.get("type") {
        let kinds: Vec<_> = match kinds {
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
            kind => kind.as_str().into_iter().collect(),
        };
        if !kinds.iter().any(|kind| is_of(value, kind)) {
            return Err(format!("{at} is not of type {}", kinds.join(" or ")));
        }
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array)
        && !values.contains(value)
    {
        return Err(format!("{at} is none of {values:?}"));
    }
    if let Some(choices) = schema.get("anyOf").and_then(Value::as_array) {
        let failures: Vec<_> = choices.iter().filter_map(|choice| check(value, choice, at).err()).collect();
        if failures.len() == choices.len() {
            return Err(failures.join(", "));
        }
    }
    match value {
        Value::Object(fields) => check_object(fields, schema, at),
        Value::Array(items) => match schema.get("items") {
            Some(schema) => {
                items.iter().enumerate().try_for_each(|(index, item)| check(item, schema, &format!("{at}[{index}]")))
            }
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

fn check_object(fields: &Map<String, Value>, schema: &Value, at: &str) -> Result<(), String> {
    for name in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
        let name = name.as_str().unwrap();
        if !fields.contains_key(name) {
            return Err(format!("{at}.{name} is missing"));
        }
    }
    for (name, value) in fields {
        let known = schema.get("properties").and_then(|known| known.get(name));
        if let Some(schema) = known.or(schema.get("additionalProperties")) {
            check(value, schema, &format!("{at}.{name}"))?;
        }
    }
    Ok(())
}

fn is_of(value: &Value, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        other => panic!("the specification has a type {other:?}"),
    }
}

#[test]
fn what_is_missing_or_of_another_type_does_not_fit() {
    let schema = serde_json::json!({
        "type": "object", "required": ["a"],
        "properties": { "a": { "type": "array", "items": { "type": "string", "enum": ["x", "y"] } } },
        "additionalProperties": { "anyOf": [{ "type": "integer" }, { "type": ["null", "boolean"] }] },
    });
    let fits = |value: Value| fits(&value, &schema);
    assert_eq!(fits(serde_json::json!({ "a": ["x", "y"], "b": 1, "c": null })), Ok(()));
    assert_eq!(fits(serde_json::json!({ "b": 1 })), Err("$.a is missing".to_owned()));
    assert_eq!(fits(serde_json::json!({ "a": {} })), Err("$.a is not of type array".to_owned()));
    assert!(fits(serde_json::json!({ "a": ["z"] })).is_err());
    assert!(fits(serde_json::json!({ "a": [], "b": "text" })).is_err());
    assert!(fits(serde_json::json!([])).is_err());
}
