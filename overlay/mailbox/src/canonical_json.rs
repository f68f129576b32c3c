//! Canonical JSON of the Matrix specification (appendices, "Canonical JSON"): sorted keys, integers only, no spaces.
//! Reading is strict where two readers could see different documents: a key that stands twice is refused.

use std::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Parses JSON in which no object has a key twice and every number is an integer that canonical JSON can carry.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, JsonError> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Strict.deserialize(&mut deserializer).map_err(|source| JsonError::Parse { source })?;
    deserializer.end().map_err(|source| JsonError::Parse { source })?;
    Ok(value)
}

/// The canonical form of an object.
pub(crate) fn encode(object: &Map<String, Value>) -> Result<Vec<u8>, JsonError> {
    let mut out = Vec::new();
    write_object(object, &mut out)?;
    Ok(out)
}

/// Why bytes are not JSON that can be signed or checked.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// Not JSON, or not of the strict kind.
    #[error("not strict JSON: {source}")]
    Parse {
        /// What is wrong, and where.
        source: serde_json::Error,
    },
    /// A number that canonical JSON does not have.
    #[error("the number {number} is not an integer between -(2^53)+1 and 2^53-1")]
    Number {
        /// The offending number.
        number: Number,
    },
}

fn write_value(value: &Value, out: &mut Vec<u8>) -> Result<(), JsonError> {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => out.extend_from_slice(integer(number)?.to_string().as_bytes()),
        Value::String(text) => write_string(text, out)?,
        Value::Array(items) => write_array(items, out)?,
        Value::Object(object) => write_object(object, out)?,
    }
    Ok(())
}

fn write_array(items: &[Value], out: &mut Vec<u8>) -> Result<(), JsonError> {
    out.push(b'[');
    for (position, item) in items.iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        write_value(item, out)?;
    }
    out.push(b']');
    Ok(())
}

fn write_object(object: &Map<String, Value>, out: &mut Vec<u8>) -> Result<(), JsonError> {
    // Whether the map is sorted depends on a feature that another crate may switch on; the order of UTF-8 bytes is the
    // order of code points that the specification asks for.
    let mut entries: Vec<_> = object.iter().collect();
    entries.sort_unstable_by(|left, right| left.0.cmp(right.0));
    out.push(b'{');
    for (position, (key, value)) in entries.into_iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        write_string(key, out)?;
        out.push(b':');
        write_value(value, out)?;
    }
    out.push(b'}');
    Ok(())
}

/// serde_json escapes exactly what canonical JSON escapes, in the short forms.
fn write_string(text: &str, out: &mut Vec<u8>) -> Result<(), JsonError> {
    serde_json::to_writer(out, text).map_err(|source| JsonError::Parse { source })
}

fn integer(number: &Number) -> Result<i64, JsonError> {
    number
        .as_i64()
        .filter(|value| (-MAX_INTEGER..=MAX_INTEGER).contains(value))
        .ok_or_else(|| JsonError::Number { number: number.clone() })
}

/// Builds a `Value` while refusing repeated keys and numbers outside the canonical range.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON with integers only and no repeated keys")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        if !(-MAX_INTEGER..=MAX_INTEGER).contains(&value) {
            return Err(E::custom("integer out of range"));
        }
        Ok(value.into())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        let value = i64::try_from(value).map_err(|_| E::custom("integer out of range"))?;
        self.visit_i64(value)
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Strict)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(Strict)?;
            if object.insert(key, value).is_some() {
                return Err(A::Error::custom("an object has the same key twice"));
            }
        }
        Ok(Value::Object(object))
    }
}

/// 2^53 - 1.
pub(crate) const MAX_INTEGER: i64 = (1 << 53) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> Result<String, JsonError> {
        let value = parse(text.as_bytes())?;
        let object = value.as_object().expect("the examples are objects");
        Ok(String::from_utf8(encode(object)?).expect("JSON is UTF-8"))
    }

    #[test]
    fn the_examples_of_the_specification_come_out_as_printed_there() {
        for (given, expected) in [
            ("{}", "{}"),
            (r#"{ "one": 1, "two": "Two" }"#, r#"{"one":1,"two":"Two"}"#),
            (r#"{ "b": "2", "a": "1" }"#, r#"{"a":"1","b":"2"}"#),
            (r#"{"a": "\u65E5\u672C\u8A9E"}"#, "{\"a\":\"\u{65e5}\u{672c}\u{8a9e}\"}"),
            ("{\"\u{672c}\": 2, \"\u{65e5}\": 1}", "{\"\u{65e5}\":1,\"\u{672c}\":2}"),
            (r#"{"a": "\u65E5"}"#, "{\"a\":\"\u{65e5}\"}"),
            (r#"{"a": null}"#, r#"{"a":null}"#),
            (r#"{"a": "\u000f\n\"\\\/"}"#, r#"{"a":"\u000f\n\"\\/"}"#),
        ] {
            assert_eq!(canonical(given).expect("a valid example"), expected);
        }
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        for text in [
            r#"{"a":1,"a":2}"#,
            r#"{"a":{"b":1,"b":1}}"#,
            r#"{"a":1.0}"#,
            r#"{"a":1e3}"#,
            r#"{"a":-0}"#,
            r#"{"a":9007199254740992}"#,
            r#"{"a":1} x"#,
        ] {
            assert!(canonical(text).is_err(), "{text} was accepted");
        }
    }
}
