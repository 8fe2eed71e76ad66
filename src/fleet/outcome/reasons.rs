//! The most frequent reasons of failures. Thousands of databases often fail for one reason, whose text differs only
//! by names and numbers.

use crate::error::Class;
use crate::fleet::job::Ended;
use crate::fleet::outcome::error_log::with_class;
use std::collections::HashMap;

/// At most this many different reasons are told apart. Further ones are not counted here.
const MOST_REASONS: usize = 1_000;
/// The number of reasons that are shown.
const SHOWN: usize = 3;
/// A shorter name may be a part of any word, so it is not looked for in reasons.
const SHORTEST_NAME: usize = 4;

/// Counts reasons that are alike: of one class, and with the same text apart from names and numbers.
#[derive(Debug, Clone, Default)]
pub struct Reasons(HashMap<(Class, String), FrequentReason>);

/// A reason, with the first database that failed for it as an example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrequentReason {
    pub class: Class,
    pub count: u64,
    /// The name of the example.
    pub name: String,
    /// Its reason with its class, escaped.
    pub reason: String,
    /// The number of failures before it: reasons of one frequency are shown in the order in which they came.
    place: usize,
}

impl Reasons {
    pub(super) fn add(&mut self, ended: &Ended, class: Class, reason: &str) {
        let place = self.0.len();
        let alike = (class, without_particulars(reason, ended));
        if let Some(known) = self.0.get_mut(&alike) {
            known.count += 1;
        } else if place < MOST_REASONS {
            let (name, reason) = (ended.name().to_owned(), with_class(class, reason));
            self.0.insert(alike, FrequentReason { class, count: 1, name, reason, place });
        }
    }

    /// The most frequent reasons, at most 3.
    pub fn most_frequent(&self) -> Vec<&FrequentReason> {
        let mut all: Vec<&FrequentReason> = self.0.values().collect();
        all.sort_by_key(|reason| (std::cmp::Reverse(reason.count), reason.place));
        all.truncate(SHOWN);
        all
    }
}

/// `reason` without the database's name and output, and without hexadecimal and decimal numbers.
fn without_particulars(reason: &str, ended: &Ended) -> String {
    let mut text = reason.to_owned();
    let output = ended.output.as_ref().map(|path| path.to_string_lossy().into_owned());
    for own in output.iter().map(String::as_str).chain([ended.name()]).filter(|own| own.len() >= SHORTEST_NAME) {
        text = text.replace(own, "…");
    }
    let mut plain = String::with_capacity(text.len());
    for word in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let (bare, end) = word.split_at(word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).len());
        let is_hex = bare.bytes().all(|b| b.is_ascii_hexdigit());
        if is_hex && (bare.len() >= 8 || bare.bytes().any(|b| b.is_ascii_digit())) {
            plain.push('#');
        } else {
            plain.push_str(bare);
        }
        plain.push_str(end);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::job::{Ending, Subject};
    use std::time::Duration;

    fn add(reasons: &mut Reasons, name: &str, class: Class, reason: String) {
        let ending = Ending::Failed { class, reason: reason.clone() };
        let subject = Subject::Entry(name.to_owned());
        let output = Some(format!("/out/{name}").into());
        let ended = Ended { subject, output, retries: 0, elapsed: Duration::ZERO, ending };
        reasons.add(&ended, class, &reason);
    }

    #[test]
    fn what_differs_by_names_and_numbers_is_one_reason() {
        let mut reasons = Reasons::default();
        for n in 0..200 {
            let name = format!("tenants/{n:03}.db");
            add(&mut reasons, &name, Class::Hole, format!("{name}/0000/00000000000000{n:02x}: have up to {n}"));
            if n % 2 == 0 {
                add(&mut reasons, &name, Class::OutputExists, format!("already exists: /out/{name}"));
            }
        }
        add(&mut reasons, "x", Class::Io, "a".to_owned());
        add(&mut reasons, "y", Class::Io, "disk".to_owned());
        let seen: Vec<_> = reasons.most_frequent().iter().map(|r| (r.class, r.count, r.name.as_str())).collect();
        assert_eq!(
            seen,
            [(Class::Hole, 200, "tenants/000.db"), (Class::OutputExists, 100, "tenants/000.db"), (Class::Io, 1, "x")]
        );
        assert_eq!(reasons.most_frequent()[2].reason, "I/O error: a");
    }

    #[test]
    fn reasons_are_bounded() {
        let mut reasons = Reasons::default();
        for n in 0..2 * MOST_REASONS {
            let word: String = n.to_string().bytes().map(|b| char::from(b - b'0' + b'g')).collect();
            add(&mut reasons, "x", Class::Io, word);
        }
        assert_eq!(reasons.0.len(), MOST_REASONS);
    }
}
