//! The `pattern:` of a `dir:` entry: Go's `filepath.Match` on a base name.
//!
//! globset's syntax differs where it matters (`{a,b}` is literal in Go, `[!a]` holds a `!`), so
//! these patterns have a matcher of their own.

use crate::config::ConfigError;

/// A checked pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirPattern {
    text: String,
    tokens: Vec<Token>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Char(char),
    /// `?`
    One,
    /// `*`
    Many,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl DirPattern {
    /// `*`, `?`, `[a-z]`, `[^a-z]`, and `\` before a literal.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let bad = || ConfigError::BadDirPattern { pattern: text.to_owned() };
        let mut tokens = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '*' if tokens.last() == Some(&Token::Many) => {}
                '*' => tokens.push(Token::Many),
                '?' => tokens.push(Token::One),
                '\\' => tokens.push(Token::Char(chars.next().ok_or_else(bad)?)),
                '[' => tokens.push(class(&mut chars).ok_or_else(bad)?),
                c => tokens.push(Token::Char(c)),
            }
        }
        Ok(Self { text: text.to_owned(), tokens })
    }

    /// Matches every name; stands in for a pattern that could not be read.
    pub(super) fn any() -> Self {
        Self { text: "*".to_owned(), tokens: vec![Token::Many] }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the whole of `name`, a base name, matches.
    pub fn matches(&self, name: &str) -> bool {
        // On a mismatch the last `*` takes one more character; going back further cannot help.
        let mut rest = name;
        let mut at = 0;
        let mut star: Option<(usize, &str)> = None;
        // Ends: each turn takes a token or a character, or lets the last `*` take one character more.
        loop {
            let mut next = rest.chars();
            match (self.tokens.get(at), next.next()) {
                (Some(Token::Many), _) => {
                    at += 1;
                    star = Some((at, rest));
                    continue;
                }
                (None, None) => return true,
                (Some(token), Some(c)) if token.takes(c) => {
                    at += 1;
                    rest = next.as_str();
                    continue;
                }
                _ => {}
            }
            let Some((after_star, from)) = star else { return false };
            let mut from = from.chars();
            if from.next().is_none_or(|c| c == '/') {
                return false;
            }
            rest = from.as_str();
            at = after_star;
            star = Some((at, rest));
        }
    }
}

impl Token {
    fn takes(&self, c: char) -> bool {
        match self {
            Self::Char(own) => *own == c,
            Self::One => c != '/',
            Self::Many => false,
            Self::Class { negated, ranges } => {
                c != '/' && ranges.iter().any(|&(low, high)| low <= c && c <= high) != *negated
            }
        }
    }
}

/// What follows `[`, up to and with `]`.
fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Token> {
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    // Ends: each turn takes a character, and without one it fails.
    loop {
        if !ranges.is_empty() && chars.next_if_eq(&']').is_some() {
            return Some(Token::Class { negated, ranges });
        }
        let low = class_char(chars)?;
        let high = if chars.next_if_eq(&'-').is_some() { class_char(chars)? } else { low };
        ranges.push((low, high));
    }
}

fn class_char(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    match chars.next()? {
        '-' | ']' => None,
        '\\' => chars.next(),
        c => Some(c),
    }
}
