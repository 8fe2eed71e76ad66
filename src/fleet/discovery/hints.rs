//! If a pattern matches nothing: what lies there instead, and which pattern would match.

use crate::catalogue::{Catalogue, root_of};
use crate::error::escaped;
use crate::fleet::discovery::found::{Instead, key_of};
use crate::fleet::discovery::pattern::{Pattern, escaped_literal};

/// What lies in a store where `pattern` matches nothing. `shown` makes the text of a place from a key or pattern.
pub(crate) fn instead(pattern: &Pattern, listed: &Catalogue, shown: &dyn Fn(&str) -> String) -> Instead {
    let place = escaped(&shown(&pattern.list_prefix())).to_string();
    let others = listed.passed();
    let Some(root) = others.first() else {
        let objects = listed.objects();
        let text = match objects.first.as_deref() {
            None => format!("nothing lies below {place}"),
            Some(key) => format!(
                "{} below {place}, for example {}, but no backup file",
                if objects.count == 1 { "1 object lies".to_owned() } else { format!("{} objects lie", objects.count) },
                escaped(key)
            ),
        };
        return Instead { text, pattern: None };
    };
    let key = key_of(root);
    if root_of(pattern.literal_dir()) == Some(root) || root_of(&pattern.list_prefix()) == Some(root) {
        let text = format!("{place} lies inside the replica {}", escaped(&shown(key)));
        return Instead { text, pattern: Some(escaped_literal(key)) };
    }
    let count = others.len();
    let counted = if count == 1 { "1 database lies".to_owned() } else { format!("{count} databases lie") };
    let pattern = nearest(pattern, key);
    let nearest = match &pattern {
        Some(nearest) => format!(", which {} would match", escaped(&shown(nearest))),
        None => String::new(),
    };
    Instead { text: format!("{counted} below {place}, for example {}{nearest}", escaped(key)), pattern }
}

/// The pattern most like `pattern` that matches `key`.
fn nearest(pattern: &Pattern, key: &str) -> Option<String> {
    let text = pattern.text();
    let (dirs, last) = text.rsplit_once('/').map_or(("", text), |(dirs, last)| (dirs, last));
    let dir = |dirs: &str| if dirs.is_empty() { String::new() } else { format!("{dirs}/") };
    let is_literal = !text.contains(['*', '?', '[', '{']);
    let slash = is_literal.then(|| format!("{text}/"));
    let candidates = [
        // `*` and `?` do not cross slashes.
        format!("{}**/{last}", dir(dirs)),
        format!("{text}/**"),
        text.replace('*', "**"),
        format!("{}**", dir(dirs)),
        format!("{}**", pattern.literal_dir()),
    ];
    // The slash at the end of a pattern without wildcards is forgotten most often.
    slash.into_iter().chain(candidates).find(|text| Pattern::for_keys(text).is_ok_and(|pattern| pattern.matches(key)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::{Interest, Layout};
    use crate::store::ObjectMeta;
    use crate::timestamp::Timestamp;

    fn said(pattern: &str, keys: &[&str]) -> String {
        let pattern = Pattern::for_keys(pattern).unwrap();
        let mut listed = Catalogue::new(Layout::Hex);
        for key in keys {
            let last_modified = Timestamp::from_millis(0);
            let object = ObjectMeta { key: (*key).to_owned(), size: 1, last_modified, etag: None, archived: false };
            listed.insert_if(object, &|_| Interest::Pass);
        }
        let Instead { text, pattern: better } = instead(&pattern, &listed, &|key| format!("s3://b/{key}"));
        if let Some(better) = better {
            let better = Pattern::for_keys(&better).unwrap();
            assert!(keys.iter().any(|key| better.matches(key_of(root_of(key).unwrap()))), "{text}");
        }
        text
    }

    #[test]
    fn what_lies_there_is_said_and_a_pattern_that_matches() {
        let file = |root: &str| format!("{root}/0000/0000000000000001-0000000000000001.ltx");
        let (one, two) = (file("t/eu/a.db"), file("t/us/b.db"));
        let both = [one.as_str(), two.as_str()];
        let lie = "2 databases lie below";
        for (pattern, expected) in [
            ("t", format!("{lie} s3://b/t/, for example t/eu/a.db, which s3://b/t/ would match")),
            ("t/*.db", format!("{lie} s3://b/t/, for example t/eu/a.db, which s3://b/t/**/*.db would match")),
            ("t/*", format!("{lie} s3://b/t/, for example t/eu/a.db, which s3://b/t/**/* would match")),
            ("t/*/*.sqlite", format!("{lie} s3://b/t/, for example t/eu/a.db, which s3://b/t/*/** would match")),
        ] {
            assert_eq!(said(pattern, &both), expected, "{pattern}");
        }
        assert_eq!(
            said("t/eu/a.db/0000", &both[..1]),
            "s3://b/t/eu/a.db/0000/ lies inside the replica s3://b/t/eu/a.db"
        );
        assert_eq!(said("x/**", &[]), "nothing lies below s3://b/x/");
        let objects = said("x/**", &["x/1.txt", "x/2.txt"]);
        assert_eq!(objects, "2 objects lie below s3://b/x/, for example x/1.txt, but no backup file");
    }
}
