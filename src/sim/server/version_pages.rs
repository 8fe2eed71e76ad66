//! Answers ListObjectVersions requests: versions and delete markers of a bucket, page by page.
//!
//! Both markers for the next page are opaque, and the marker of the key ends in the middle of a key, as MinIO's do: a
//! client must send them back unchanged.

use super::list::{after_prefix, element, write_name};
use super::text::iso_time;
use super::versions::{VersionEntry, Versions};
use crate::hex::Hex;
use std::fmt::Write;
use std::ops::Bound;

/// The beginning of what a marker hides: the key that the page before ended with.
const MARK: &str = "[sim:";

/// The query parameters of a ListObjectVersions request.
#[derive(Debug, Default)]
pub(super) struct VersionsQuery {
    prefix: String,
    delimiter: String,
    position: Position,
    /// The markers as they were sent, which the answer repeats.
    key_marker: String,
    version_id_marker: String,
    max_keys: Option<usize>,
    url_encoding: bool,
}

/// Where a page begins.
#[derive(Debug, Default)]
enum Position {
    #[default]
    Beginning,
    /// After all entries of this key.
    AfterKey(String),
    /// After this entry of this key.
    AfterEntry { key: String, id: String },
    /// After all keys that begin with this.
    AfterPrefix(String),
}

impl VersionsQuery {
    /// Parses the parameters. The error is the answer's status, code and message.
    pub(super) fn of(parameters: &[(String, String)]) -> Result<Self, (u16, &'static str, &'static str)> {
        let mut query = Self::default();
        for (name, value) in parameters {
            match name.as_str() {
                "prefix" => query.prefix.clone_from(value),
                "delimiter" => query.delimiter.clone_from(value),
                "key-marker" => query.key_marker.clone_from(value),
                "version-id-marker" => query.version_id_marker.clone_from(value),
                "encoding-type" => query.url_encoding = value == "url",
                "max-keys" => {
                    let max = value.parse().map_err(|_| (400, "InvalidArgument", "max-keys must be an integer"))?;
                    query.max_keys = Some(max);
                }
                _ => {}
            }
        }
        query.position = match (query.key_marker.as_str(), query.version_id_marker.as_str()) {
            ("", "") => Position::Beginning,
            ("", _) => {
                return Err((501, "NotImplemented", "A version-id marker cannot be specified without a key marker."));
            }
            (key, "") if !key.contains(MARK) => Position::AfterKey(key.to_owned()),
            (key, id) => read_markers(key, id).ok_or((400, "InvalidArgument", "The markers do not belong together"))?,
        };
        Ok(query)
    }
}

/// Reads the markers that [`write_markers`] has made.
fn read_markers(key: &str, id: &str) -> Option<Position> {
    let key = from_hex(key.split_once(MARK)?.1.strip_suffix(']')?)?;
    match id.split_at_checked(1)? {
        ("e", id) => Some(Position::AfterEntry { key, id: from_hex(id)? }),
        ("p", "") => Some(Position::AfterPrefix(key)),
        _ => None,
    }
}

/// The markers for the page after this entry, or after a common prefix.
fn write_markers(key: &str, id: Option<&str>) -> (String, String) {
    let half: String = key.chars().take(key.chars().count() / 2).collect();
    let id = id.map_or_else(|| "p".to_owned(), |id| format!("e{}", Hex(id.as_bytes())));
    (format!("{half}{MARK}{}]", Hex(key.as_bytes())), id)
}

fn from_hex(digits: &str) -> Option<String> {
    let pair = |at: usize| digits.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    String::from_utf8((0..digits.len()).step_by(2).map(pair).collect::<Option<_>>()?).ok()
}

/// Builds the XML of one page of at most `most` entries. None if the bucket does not exist.
pub(super) fn page(versions: &Versions, bucket: &str, query: &VersionsQuery, most: usize) -> Option<String> {
    let most = query.max_keys.unwrap_or(most).min(most);
    let mut page = Page { entries: String::new(), count: 0, most, last: None, truncated: false };
    let mut rolled_up: Option<String> = None;
    let after;
    let from = match &query.position {
        Position::Beginning => Bound::Included(query.prefix.as_str()),
        Position::AfterKey(key) | Position::AfterPrefix(key) if *key < query.prefix => {
            Bound::Included(query.prefix.as_str())
        }
        Position::AfterKey(key) => Bound::Excluded(key.as_str()),
        Position::AfterEntry { key, .. } => Bound::Included(key.as_str()),
        Position::AfterPrefix(prefix) => {
            after = after_prefix(prefix)?;
            Bound::Included(after.as_str())
        }
    };
    let exists = versions.walk_versions(bucket, from, |key, entries| {
        let Some(rest) = key.strip_prefix(query.prefix.as_str()) else { return false };
        if rolled_up.as_deref().is_some_and(|rolled| key.starts_with(rolled)) {
            return true;
        }
        let cut = if query.delimiter.is_empty() { None } else { rest.find(query.delimiter.as_str()) };
        if let Some(rolled) = cut.and_then(|at| key.get(..query.prefix.len() + at + query.delimiter.len())) {
            rolled_up = Some(rolled.to_owned());
            return page.add(rolled, None, |xml| {
                xml.push_str("<CommonPrefixes>");
                element(xml, "Prefix", rolled, query.url_encoding);
                xml.push_str("</CommonPrefixes>");
            });
        }
        let begin = match &query.position {
            Position::AfterEntry { key: last, id } if last == key => {
                entries.iter().position(|entry| entry.id == *id).map_or(0, |at| at + 1)
            }
            _ => 0,
        };
        entries.iter().enumerate().skip(begin).all(|(at, entry)| {
            page.add(key, Some(&entry.id), |xml| write_entry(xml, key, entry, at == 0, query.url_encoding))
        })
    });
    if !exists {
        return None;
    }
    let mut xml = String::with_capacity(page.entries.len() + 1024);
    xml.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    xml.push_str("<ListVersionsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    element(&mut xml, "Name", bucket, false);
    element(&mut xml, "Prefix", &query.prefix, query.url_encoding);
    element(&mut xml, "KeyMarker", &query.key_marker, query.url_encoding);
    element(&mut xml, "VersionIdMarker", &query.version_id_marker, false);
    if let Some((key, id)) = page.last.filter(|_| page.truncated) {
        let (key, id) = write_markers(&key, id.as_deref());
        element(&mut xml, "NextKeyMarker", &key, query.url_encoding);
        element(&mut xml, "NextVersionIdMarker", &id, false);
    }
    let _ = write!(xml, "<MaxKeys>{most}</MaxKeys>");
    if query.url_encoding {
        xml.push_str("<EncodingType>url</EncodingType>");
    }
    let _ = write!(xml, "<IsTruncated>{}</IsTruncated>", page.truncated);
    xml.push_str(&page.entries);
    xml.push_str("</ListVersionsResult>");
    Some(xml)
}

/// A page that is being filled.
struct Page {
    entries: String,
    count: usize,
    most: usize,
    /// The key or common prefix that was added last, and the version id if it was an entry.
    last: Option<(String, Option<String>)>,
    truncated: bool,
}

impl Page {
    /// Adds an entry or a common prefix. Returns false, and adds nothing, if the page is full.
    fn add(&mut self, key: &str, id: Option<&str>, write: impl FnOnce(&mut String)) -> bool {
        if self.count >= self.most {
            self.truncated = self.most > 0;
            return false;
        }
        self.count += 1;
        self.last = Some((key.to_owned(), id.map(str::to_owned)));
        write(&mut self.entries);
        true
    }
}

fn write_entry(xml: &mut String, key: &str, entry: &VersionEntry, is_latest: bool, url_encoding: bool) {
    let tag = if entry.object.is_some() { "Version" } else { "DeleteMarker" };
    let _ = write!(xml, "<{tag}><Key>");
    write_name(xml, key, url_encoding);
    let _ = write!(xml, "</Key><VersionId>{}</VersionId><IsLatest>{is_latest}</IsLatest><LastModified>", entry.id);
    iso_time(xml, entry.last_modified);
    xml.push_str("</LastModified>");
    if let Some(object) = &entry.object {
        let class = object.storage_class.as_deref().unwrap_or("STANDARD");
        let _ = write!(
            xml,
            "<ETag>&quot;{}&quot;</ETag><Size>{}</Size><StorageClass>{class}</StorageClass>",
            object.etag,
            object.content.len()
        );
    }
    let _ = write!(xml, "</{tag}>");
}
