//! Shows the lines in which two texts differ, for a developer who reads the failure of a test.

/// The number of equal lines that are shown before and after a change.
const CONTEXT: usize = 2;
/// The number of characters that are shown on each side of the first difference in a long line.
const AROUND: usize = 50;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Edit<'a> {
    Keep(&'a str),
    Remove(&'a str),
    Add(&'a str),
}

/// Marks lines that are only in `expected` with `-`, and lines that are only in `found` with `+`. If a line
/// replaces another, the place where they begin to differ is shown below it.
pub(super) fn diff(expected: &str, found: &str) -> String {
    let edits = edits(&lines(expected), &lines(found));
    let is_near = |at: usize| {
        let near = at.saturating_sub(CONTEXT)..(at + CONTEXT + 1).min(edits.len());
        edits[near].iter().any(|edit| !matches!(edit, Edit::Keep(_)))
    };
    let mut out = String::new();
    let mut is_gap = false;
    for (at, edit) in edits.iter().enumerate() {
        if !is_near(at) {
            is_gap = true;
            continue;
        }
        if std::mem::take(&mut is_gap) {
            out.push_str("  …\n");
        }
        match *edit {
            Edit::Keep(line) => out.push_str(&format!("  {line}\n")),
            Edit::Remove(line) => out.push_str(&format!("- {line}\n")),
            Edit::Add(line) => {
                out.push_str(&format!("+ {line}\n"));
                if let Some(removed) = replaced_by(&edits, at) {
                    out.push_str(&first_difference(removed, line));
                }
            }
        }
    }
    out
}

/// The lines with their line ends, so that a missing newline at the end is a difference.
fn lines(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.split('\n').collect();
    if lines.last() == Some(&"") {
        lines.pop();
    } else {
        lines.push("(no newline at the end)");
    }
    lines
}

/// The edits that turn `old` into `new`, found by the longest common subsequence.
fn edits<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<Edit<'a>> {
    let mut longest = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            longest[i][j] = match old[i] == new[j] {
                true => longest[i + 1][j + 1] + 1,
                false => longest[i + 1][j].max(longest[i][j + 1]),
            };
        }
    }
    let (mut i, mut j, mut edits) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            edits.push(Edit::Keep(old[i]));
            (i, j) = (i + 1, j + 1);
        } else if i < old.len() && (j == new.len() || longest[i + 1][j] >= longest[i][j + 1]) {
            edits.push(Edit::Remove(old[i]));
            i += 1;
        } else {
            edits.push(Edit::Add(new[j]));
            j += 1;
        }
    }
    edits
}

/// The removed line that the added line `at` replaces: the one at the same position in the block of removed lines
/// before.
fn replaced_by<'a>(edits: &[Edit<'a>], at: usize) -> Option<&'a str> {
    let added = edits[..at].iter().rev().take_while(|edit| matches!(edit, Edit::Add(_))).count();
    let block = &edits[..at - added];
    let removed = block.iter().rev().take_while(|edit| matches!(edit, Edit::Remove(_))).count();
    match block[block.len() - removed..].get(added) {
        Some(Edit::Remove(line)) => Some(line),
        _ => None,
    }
}

fn first_difference(old: &str, new: &str) -> String {
    let same = old.chars().zip(new.chars()).take_while(|(a, b)| a == b).count();
    let part = |line: &str| -> String {
        line.chars()
            .skip(same.saturating_sub(AROUND / 2))
            .take(AROUND)
            .map(|c| if c == '\t' { ' ' } else { c })
            .collect()
    };
    format!("    from column {}: {:?}\n               now {:?}\n", same + 1, part(old), part(new))
}

#[test]
fn only_what_differs_is_shown() {
    assert_eq!(diff("a\nb\n", "a\nb\n"), "");
    assert_eq!(
        diff("1\n2\n3\n{\"a\":1}\n5\n6\n7\n", "1\n2\n3\n{\"b\":1}\n5\n6\n7\n8\n"),
        "  …\n  2\n  3\n- {\"a\":1}\n+ {\"b\":1}\n    from column 3: \"{\\\"a\\\":1}\"\n               now \
         \"{\\\"b\\\":1}\"\n  5\n  6\n  7\n+ 8\n"
    );
    assert_eq!(diff("a\n", "a"), "  a\n+ (no newline at the end)\n");
}
