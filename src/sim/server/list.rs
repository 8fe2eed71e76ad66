//! Answers ListObjectsV2 requests, S3's listing of a bucket.

use super::objects::{Objects, Step};
use super::text::{iso_time, url_encode_key, xml_escape};
use crate::hex::Hex;
use crate::sim::random::{Random, hash};
use std::fmt::Write;
use std::ops::Bound;

/// The query parameters of a ListObjectsV2 request.
#[derive(Debug, Default)]
pub(super) struct ListQuery {
    pub prefix: String,
    pub delimiter: String,
    pub start_after: String,
    pub continuation_token: Option<String>,
    pub max_keys: Option<usize>,
    pub url_encoding: bool,
}

/// The options of the server that concern listings.
pub(super) struct ListOptions {
    pub max_keys: usize,
    pub unsorted: bool,
    pub etags: bool,
}

/// Decodes a continuation token. It holds, in hexadecimal, the last key or common prefix of the page before.
fn parse_token(token: &str) -> Option<String> {
    let digits = token.strip_prefix("t")?;
    let bytes: Option<Vec<u8>> = (0..digits.len())
        .step_by(2)
        .map(|at| digits.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
        .collect();
    String::from_utf8(bytes?).ok()
}

/// The smallest string that is greater than all strings that begin with `prefix`.
pub(super) fn after_prefix(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        let next = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32);
        if let Some(next) = next {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

/// Builds the XML of one page. None if the bucket does not exist. `Some(Err)` if the continuation token is invalid.
pub(super) fn page(
    objects: &Objects,
    bucket: &str,
    query: &ListQuery,
    options: &ListOptions,
) -> Option<Result<String, &'static str>> {
    let from = match &query.continuation_token {
        Some(token) => match parse_token(token) {
            Some(key) => key,
            None => return Some(Err("The continuation token provided is incorrect")),
        },
        None => query.start_after.clone(),
    };
    let max_keys = query.max_keys.unwrap_or(options.max_keys).min(options.max_keys);
    let mut entries: Vec<String> = Vec::with_capacity(max_keys);
    let mut prefixes: Vec<String> = Vec::new();
    let mut last = String::new();
    let mut truncated = false;
    // If the page before ended with a common prefix, the keys below it belong to that prefix and are not listed
    // again.
    let roll_up = |key: &str| -> Option<String> {
        let rest = key.strip_prefix(query.prefix.as_str()).filter(|_| !query.delimiter.is_empty())?;
        let at = rest.find(query.delimiter.as_str())?;
        key.get(..query.prefix.len() + at + query.delimiter.len()).map(str::to_owned)
    };
    let resumed = roll_up(&from).filter(|rolled| *rolled == from && query.continuation_token.is_some());
    let resumed_end = resumed.as_deref().and_then(after_prefix);
    let start = match &resumed_end {
        Some(end) => Bound::Included(end.as_str()),
        None if from < query.prefix => Bound::Included(query.prefix.as_str()),
        None => Bound::Excluded(from.as_str()),
    };
    let found = objects.walk(bucket, start, |key, object| {
        if !key.starts_with(query.prefix.as_str()) {
            return Step::Stop;
        }
        if entries.len() + prefixes.len() >= max_keys {
            truncated = max_keys > 0;
            return Step::Stop;
        }
        if let Some(rolled) = roll_up(key) {
            last.clone_from(&rolled);
            let next = after_prefix(&rolled);
            prefixes.push(rolled);
            return next.map_or(Step::Stop, Step::SkipTo);
        }
        let mut entry = String::with_capacity(key.len() + 240);
        entry.push_str("<Contents><Key>");
        write_name(&mut entry, key, query.url_encoding);
        entry.push_str("</Key><LastModified>");
        iso_time(&mut entry, object.last_modified);
        entry.push_str("</LastModified>");
        if options.etags {
            let _ = write!(entry, "<ETag>&quot;{}&quot;</ETag>", object.etag);
        }
        let class = object.storage_class.as_deref().unwrap_or("STANDARD");
        let _ = write!(entry, "<Size>{}</Size><StorageClass>{class}</StorageClass></Contents>", object.content.len());
        entries.push(entry);
        last.clear();
        last.push_str(key);
        Step::Next
    });
    if !found {
        return None;
    }
    let key_count = entries.len() + prefixes.len();
    if options.unsorted {
        shuffle(&mut entries, hash(1, from.as_bytes()));
    }
    let mut xml = String::with_capacity(entries.iter().map(String::len).sum::<usize>() + 1024);
    xml.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    xml.push_str("<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    element(&mut xml, "Name", bucket, false);
    element(&mut xml, "Prefix", &query.prefix, query.url_encoding);
    if !query.start_after.is_empty() {
        element(&mut xml, "StartAfter", &query.start_after, query.url_encoding);
    }
    if let Some(token) = &query.continuation_token {
        element(&mut xml, "ContinuationToken", token, false);
    }
    if truncated {
        element(&mut xml, "NextContinuationToken", &format!("t{}", Hex(last.as_bytes())), false);
    }
    let _ = write!(xml, "<KeyCount>{key_count}</KeyCount><MaxKeys>{max_keys}</MaxKeys>");
    if !query.delimiter.is_empty() {
        element(&mut xml, "Delimiter", &query.delimiter, query.url_encoding);
    }
    if query.url_encoding {
        xml.push_str("<EncodingType>url</EncodingType>");
    }
    let _ = write!(xml, "<IsTruncated>{truncated}</IsTruncated>");
    for entry in &entries {
        xml.push_str(entry);
    }
    for prefix in &prefixes {
        xml.push_str("<CommonPrefixes>");
        element(&mut xml, "Prefix", prefix, query.url_encoding);
        xml.push_str("</CommonPrefixes>");
    }
    xml.push_str("</ListBucketResult>");
    Some(Ok(xml))
}

pub(super) fn write_name(out: &mut String, name: &str, url_encoding: bool) {
    if url_encoding { url_encode_key(out, name) } else { xml_escape(out, name) }
}

pub(super) fn element(out: &mut String, tag: &str, text: &str, url_encoding: bool) {
    let _ = write!(out, "<{tag}>");
    write_name(out, text, url_encoding);
    let _ = write!(out, "</{tag}>");
}

fn shuffle(entries: &mut [String], seed: u64) {
    let mut random = Random::new(seed);
    for at in (1..entries.len()).rev() {
        entries.swap(at, random.below(at as u64 + 1) as usize);
    }
}
