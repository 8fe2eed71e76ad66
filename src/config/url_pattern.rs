//! Patterns for the base names of databases, as `pattern:` of a `dir:` entry in litestream.yml holds them. The
//! syntax is that of Go's `filepath.Match`.
//!
//! The crate globset is not used, because its syntax differs from Go's: in Go `{a,b}` is literal text, and `[!a]`
//! matches `!` or `a`.

use crate::config::ConfigError;

/// A pattern for base names whose syntax has been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirPattern {
    text: String,
    tokens: Vec<Token>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Char(char),
    /// `?`: any one character.
    One,
    /// `*`: any number of characters, also none.
    Many,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl DirPattern {
    /// Parses a pattern. The syntax is `*`, `?`, `[a-z]`, `[^a-z]`, and `\` before a character that is meant
    /// literally.
    ///
    /// # Errors
    ///
    /// [`ConfigError::BadDirPattern`] if Go would refuse the pattern.
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

    /// The pattern that matches every name. It replaces a pattern that could not be parsed, in an entry that is
    /// reported as invalid.
    pub(super) fn any() -> Self {
        Self { text: "*".to_owned(), tokens: vec![Token::Many] }
    }

    /// The pattern as it was written in litestream.yml.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the pattern matches the whole of `name`, which is a base name.
    pub fn matches(&self, name: &str) -> bool {
        // After a mismatch, the last `*` is made to match one character more. An earlier `*` need not be tried
        // again: it could reach no match that the last one cannot.
        let mut rest = name;
        let mut at = 0;
        let mut star: Option<(usize, &str)> = None;
        // This loop ends: each turn consumes a token or a character, or makes the last `*` match one character more.
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

/// Parses a character class from after its `[` up to and including its `]`. Returns None if it is malformed.
fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Token> {
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    // This loop ends: each turn takes a character. Without one the function returns None.
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
