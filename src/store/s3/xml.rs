//! Reads XML responses within limits (docs/GUARANTEES.md, 9): nesting depth, length of texts and kinds of
//! entities are limited. A document type definition is an error, and so is a truncated document.

use super::foreign;
use quick_xml::Reader;
use quick_xml::events::Event;

const MAX_DEPTH: usize = 16;
const MAX_TEXT_BYTES: usize = 64 << 10;

/// Receives the elements of a document. Element names have no namespace prefix.
pub(super) trait Visitor {
    /// Called at the start of an element. `path` has the names of all open elements; the last one has just been
    /// opened.
    fn open(&mut self, path: &[String]) -> Result<(), String>;
    /// Called at the end of an element. The last name in `path` is its name. `text` is its text or, if it has
    /// child elements, the text after the last of them.
    fn close(&mut self, path: &[String], text: &str) -> Result<(), String>;
}

/// Reads the document `body` and calls `visitor` for each element. The error says what is wrong with the
/// document.
pub(super) fn walk(body: &[u8], visitor: &mut impl Visitor) -> Result<(), String> {
    let body = std::str::from_utf8(body).map_err(|_| "not UTF-8".to_owned())?;
    let mut reader = Reader::from_str(body.strip_prefix('\u{feff}').unwrap_or(body));
    let mut path: Vec<String> = Vec::new();
    let mut text = String::new();
    let mut roots = 0;
    // This loop ends: each event consumes a part of the body, which is in memory.
    loop {
        match reader.read_event().map_err(|e| e.to_string())? {
            Event::Start(tag) => {
                enter(&mut path, &mut roots, tag.local_name().into_inner())?;
                text.clear();
                visitor.open(&path)?;
            }
            Event::Empty(tag) => {
                enter(&mut path, &mut roots, tag.local_name().into_inner())?;
                visitor.open(&path)?;
                visitor.close(&path, "")?;
                path.pop();
                text.clear();
            }
            Event::End(_) => {
                visitor.close(&path, &text)?;
                path.pop();
                text.clear();
            }
            Event::Text(part) => push(&mut text, &part.xml10_content())?,
            Event::CData(part) => push(&mut text, &part.xml10_content())?,
            Event::GeneralRef(name) => {
                let c = match name.resolve_char_ref().map_err(|e| e.to_string())? {
                    Some(c) => c,
                    None => match &*name {
                        "amp" => '&',
                        "lt" => '<',
                        "gt" => '>',
                        "quot" => '"',
                        "apos" => '\'',
                        _ => return Err("an entity that XML does not define".to_owned()),
                    },
                };
                push(&mut text, c.encode_utf8(&mut [0; 4]))?;
            }
            Event::DocType(_) => return Err("a document type definition".to_owned()),
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
            Event::Eof => {
                return if path.is_empty() && roots == 1 { Ok(()) } else { Err("the document ends early".to_owned()) };
            }
        }
    }
}

fn enter(path: &mut Vec<String>, roots: &mut usize, name: &str) -> Result<(), String> {
    if path.is_empty() {
        *roots += 1;
        if *roots > 1 {
            return Err("more than one root".to_owned());
        }
    }
    if path.len() >= MAX_DEPTH {
        return Err(format!("nested deeper than {MAX_DEPTH}"));
    }
    path.push(name.to_owned());
    Ok(())
}

fn push(text: &mut String, part: &str) -> Result<(), String> {
    if text.len() + part.len() > MAX_TEXT_BYTES {
        return Err(format!("a text of more than {MAX_TEXT_BYTES} bytes"));
    }
    text.push_str(part);
    Ok(())
}

/// The elements of an S3 error response that Hydrant uses.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ErrorBody {
    pub(super) code: Option<String>,
    pub(super) message: Option<String>,
    pub(super) request_id: Option<String>,
    pub(super) region: Option<String>,
    /// What a server that is not S3 says instead.
    pub(super) own_words: Option<String>,
    pub(super) is_web_page: bool,
}

impl ErrorBody {
    /// Parses the body of an error response, whatever it contains. Texts are cut to 300 characters.
    pub(super) fn parse(body: &[u8]) -> Self {
        let mut found =
            Self { own_words: foreign::own_words(body), is_web_page: foreign::is_web_page(body), ..Self::default() };
        // If the body is not S3's XML, the elements read before the error are kept.
        let _ = walk(body, &mut found);
        found
    }
}

impl Visitor for ErrorBody {
    fn open(&mut self, path: &[String]) -> Result<(), String> {
        match path.first().map(String::as_str) {
            Some("Error" | "ErrorResponse") => Ok(()),
            _ => Err("not an error".to_owned()),
        }
    }

    fn close(&mut self, path: &[String], text: &str) -> Result<(), String> {
        let field = match path.last().map(String::as_str) {
            Some("Code") => &mut self.code,
            Some("Message") => &mut self.message,
            Some("RequestId") => &mut self.request_id,
            Some("Region") => &mut self.region,
            _ => return Ok(()),
        };
        let text = text.trim();
        if !text.is_empty() && field.is_none() {
            *field = Some(text.chars().take(300).collect());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;
    impl Visitor for Nothing {
        fn open(&mut self, _path: &[String]) -> Result<(), String> {
            Ok(())
        }
        fn close(&mut self, _path: &[String], _text: &str) -> Result<(), String> {
            Ok(())
        }
    }

    #[test]
    fn bounds() {
        let deep = format!("{}{}", "<a>".repeat(17), "</a>".repeat(17));
        let long = format!("<a>{}</a>", "&#65;".repeat(70_000));
        let bomb = "<!DOCTYPE a [<!ENTITY b \"bb\">]><a>&b;</a>";
        for bad in
            [deep.as_str(), &long, bomb, "<a>&b;</a>", "<a><b></a>", "<a><b></b>", "", " ", "<a/><b/>", "<a>&#0;</a>"]
        {
            assert!(walk(bad.as_bytes(), &mut Nothing).is_err(), "{}", &bad[..bad.len().min(60)]);
        }
        let fine = format!("\u{feff}<?xml version=\"1.0\"?>{}{}<!-- -->\n", "<a>".repeat(16), "</a>".repeat(16));
        walk(fine.as_bytes(), &mut Nothing).unwrap();
        assert!(walk(b"<a>\xff</a>", &mut Nothing).is_err());
    }

    #[test]
    fn error_bodies() {
        let e = ErrorBody::parse(
            b"<?xml version=\"1.0\"?>\n<Error><Code>AuthorizationHeaderMalformed</Code><Message>the region &apos;a&apos; is \
              wrong</Message><Region>eu-west-1</Region><RequestId>R1</RequestId><HostId>x</HostId></Error>",
        );
        assert_eq!(e.code.as_deref(), Some("AuthorizationHeaderMalformed"));
        assert_eq!(e.message.as_deref(), Some("the region 'a' is wrong"));
        assert_eq!((e.region.as_deref(), e.request_id.as_deref()), (Some("eu-west-1"), Some("R1")));
        let page = ErrorBody::parse(b"<html><title>no</title><Code>x</Code></html>");
        assert_eq!(page, ErrorBody { own_words: Some("no".into()), is_web_page: true, ..ErrorBody::default() });
        assert_eq!(ErrorBody::parse(b"<Error><Code>SlowDown</Code><Mess").code.as_deref(), Some("SlowDown"));
    }
}
