//! What a page says about itself: its OpenGraph properties, else its title and description. A tokeniser is enough for the
//! head of a page; no tree is built from what a stranger wrote.

use std::{cell::RefCell, io::Cursor};

use html5ever::{
    tendril::StrTendril,
    tokenizer::{BufferQueue, Tag, TagKind, Token, TokenSink, TokenSinkResult, Tokenizer, states::RawKind},
};
use http::Uri;
use serde_json::{Map, Value};

/// The properties of a page, each a text of bounded length.
pub(super) fn open_graph(page: &[u8]) -> Map<String, Value> {
    let tokenizer = Tokenizer::new(Head::default(), Default::default());
    let input = BufferQueue::default();
    input.push_back(StrTendril::from(decoded(page)));
    let _ = tokenizer.feed(&input);
    tokenizer.end();
    tokenizer.sink.found.into_inner().properties()
}

/// The text of a page: UTF-8, or Latin-1 where it is not.
fn decoded(page: &[u8]) -> String {
    match std::str::from_utf8(page) {
        Ok(text) => text.to_owned(),
        // Cut in the middle of a character, or with some damage.
        Err(error) if error.valid_up_to() + 4 > page.len() || !says_latin(page) => {
            String::from_utf8_lossy(page).into_owned()
        }
        Err(_) => page.iter().map(|byte| char::from(*byte)).collect(),
    }
}

fn says_latin(page: &[u8]) -> bool {
    let head = String::from_utf8_lossy(&page[..page.len().min(2048)]).to_ascii_lowercase();
    ["iso-8859-1", "windows-1252", "latin1"].iter().any(|name| head.contains(name))
}

#[derive(Default)]
struct Head {
    found: RefCell<Found>,
}

#[derive(Default)]
struct Found {
    open_graph: Map<String, Value>,
    title: String,
    in_title: bool,
    description: Option<String>,
}

impl TokenSink for Head {
    type Handle = ();

    fn process_token(&self, token: Token, _line: u64) -> TokenSinkResult<()> {
        let mut found = self.found.borrow_mut();
        match token {
            Token::TagToken(tag) => {
                found.tag(&tag);
                if tag.kind == TagKind::StartTag {
                    return content_of(&tag.name);
                }
            }
            Token::CharacterTokens(text) if found.in_title && found.title.len() < TEXT_MAX => {
                found.title.push_str(&text);
            }
            _ => {}
        }
        TokenSinkResult::Continue
    }
}

/// What follows these tags is text, whatever it looks like.
fn content_of(name: &str) -> TokenSinkResult<()> {
    match name {
        "title" | "textarea" => TokenSinkResult::RawData(RawKind::Rcdata),
        "style" | "xmp" | "iframe" | "noembed" | "noframes" => TokenSinkResult::RawData(RawKind::Rawtext),
        "script" => TokenSinkResult::RawData(RawKind::ScriptData),
        _ => TokenSinkResult::Continue,
    }
}

impl Found {
    fn tag(&mut self, tag: &Tag) {
        match &*tag.name {
            "title" => self.in_title = tag.kind == TagKind::StartTag && self.title.is_empty(),
            "meta" => self.meta(tag),
            _ => {}
        }
    }

    fn meta(&mut self, tag: &Tag) {
        let attribute = |name: &str| {
            tag.attrs.iter().find(|attribute| &*attribute.name.local == name).map(|attribute| attribute.value.trim())
        };
        let (Some(name), Some(content)) = (attribute("property").or(attribute("name")), attribute("content")) else {
            return;
        };
        let name = name.to_ascii_lowercase();
        if name == "description" {
            self.description.get_or_insert_with(|| bounded(content));
        } else if name.starts_with("og:") && name.len() <= NAME_MAX && self.open_graph.len() < PROPERTIES_MAX {
            // The first one counts: pages list their best picture first.
            self.open_graph.entry(name).or_insert_with(|| bounded(content).into());
        }
    }

    fn properties(mut self) -> Map<String, Value> {
        // Where the picture is and what it is like is said about ours.
        for name in ["og:image:width", "og:image:height", "og:image:type", "og:image:size"] {
            self.open_graph.remove(name);
        }
        let secure = self.open_graph.remove("og:image:secure_url").or_else(|| self.open_graph.remove("og:image:url"));
        if let Some(picture) = secure {
            self.open_graph.entry("og:image").or_insert(picture);
        }
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let fallbacks = [("og:title", words(&self.title)), ("og:description", self.description.unwrap_or_default())];
        for (name, text) in fallbacks {
            if !text.is_empty() {
                self.open_graph.entry(name).or_insert_with(|| bounded(&text).into());
            }
        }
        self.open_graph
    }
}

fn bounded(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}

/// A link of a page as a URL.
pub(super) fn absolute(page: &Uri, link: &str) -> Option<Uri> {
    crate::egress::join(page, link)
}

/// Width and height, if the bytes are an image of a format that we know.
pub(super) fn dimensions(bytes: &[u8]) -> Option<(u32, u32)> {
    image::ImageReader::new(Cursor::new(bytes)).with_guessed_format().ok()?.into_dimensions().ok()
}

/// Characters of a text, bytes of a name, and how many properties.
const TEXT_MAX: usize = 1_000;
const NAME_MAX: usize = 64;
const PROPERTIES_MAX: usize = 40;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn properties(page: &str) -> Value {
        Value::Object(open_graph(page.as_bytes()))
    }

    #[test]
    fn a_page_says_what_it_is_by_open_graph_or_by_title_and_description() {
        let page = "<!DOCTYPE html><html><head><TITLE>Not \n this &amp; that</TITLE>\
            <meta property='og:title' content=' A &quot;title&quot; '><meta property=og:title content=second>\
            <meta name=\"og:type\" content=article><meta property=og:image:secure_url content=/p.png>\
            <meta property=og:image:width content=1><meta name=description content=plain></head>";
        let expected = json!({
            "og:title": "A \"title\"", "og:type": "article", "og:image": "/p.png", "og:description": "plain",
        });
        assert_eq!(properties(page), expected);
        let plain = "<title>Not \n this &amp; that</title><title>nor that</title><p>text";
        assert_eq!(properties(plain), json!({ "og:title": "Not this & that" }));
        assert_eq!(
            properties("<script>var t = '<meta property=og:title content=x>'</script>")["og:title"],
            json!(null)
        );
        assert_eq!(properties("<!-- <meta property=og:title content=x> -->"), json!({}));
    }

    #[test]
    fn whatever_a_page_sends_is_bounded() {
        let many: String = (0..500).map(|n| format!("<meta property=og:p{n} content={}>", "x".repeat(5000))).collect();
        let found = open_graph(many.as_bytes());
        assert_eq!(found.len(), PROPERTIES_MAX);
        assert!(found.values().all(|value| value.as_str().unwrap().chars().count() == TEXT_MAX));
        open_graph(&[0xFF, 0, b'<', b'm', 0xC3]);
        let latin = open_graph(b"<meta charset=iso-8859-1><title>caf\xe9 and more text</title>");
        assert_eq!(latin["og:title"], "caf\u{e9} and more text");
    }
}
