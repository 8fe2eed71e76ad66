//! Splits Rust text into tokens and comments. It knows strings, raw strings, characters, lifetimes and nested
//! comments, so that nothing inside them is taken for code. It does not check whether the code is valid.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Ident,
    Number,
    /// A string or character literal, with its quotes.
    Text,
    Lifetime,
    /// A punctuation token: one character, or one of `::`, `->`, `=>`.
    Punct,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    pub kind: Kind,
    pub text: &'a str,
    /// The number of the line that the token is in, from 1.
    pub line: usize,
}

/// One line of a Rust comment, without the markers such as `//`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Comment<'a> {
    pub line: usize,
    pub text: &'a str,
}

#[derive(Debug, Default)]
pub struct Lexed<'a> {
    pub tokens: Vec<Token<'a>>,
    pub comments: Vec<Comment<'a>>,
}

pub fn lex(text: &str) -> Lexed<'_> {
    let mut lexer = Lexer { text, at: 0, line: 1, lexed: Lexed::default() };
    while lexer.at < text.len() {
        lexer.step();
    }
    lexer.lexed
}

/// The index of the bracket that closes the one at `open`. If no bracket does, the number of tokens.
pub fn close_of(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0_usize;
    for (i, token) in tokens.iter().enumerate().skip(open).filter(|(_, t)| t.kind == Kind::Punct) {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" if depth <= 1 => return i,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
    }
    tokens.len()
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    line: usize,
    lexed: Lexed<'a>,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn step(&mut self) {
        let rest = self.rest();
        let first = rest.chars().next().unwrap_or(' ');
        if rest.starts_with("//") {
            let length = rest.find('\n').unwrap_or(rest.len());
            let text = rest[..length].trim_start_matches('/').trim_start_matches('!');
            self.lexed.comments.push(Comment { line: self.line, text: text.trim() });
            self.at += length;
        } else if rest.starts_with("/*") {
            self.block_comment();
        } else if first.is_whitespace() {
            self.advance(first.len_utf8());
        } else if let Some(length) = quoted(rest) {
            self.push(Kind::Text, length);
        } else if let Some(raw) = rest.strip_prefix("r#").filter(|r| r.starts_with(is_word)) {
            self.at += 2;
            self.push(Kind::Ident, word(raw));
        } else if first.is_ascii_digit() {
            let is_field = self.lexed.tokens.last().is_some_and(|t| t.text == ".");
            self.push(Kind::Number, number(rest, is_field));
        } else if is_word(first) {
            self.push(Kind::Ident, word(rest));
        } else if first == '\'' {
            self.push(Kind::Lifetime, 1 + word(&rest[1..]));
        } else if ["::", "->", "=>"].iter().any(|p| rest.starts_with(p)) {
            self.push(Kind::Punct, 2);
        } else {
            self.push(Kind::Punct, first.len_utf8());
        }
    }

    fn push(&mut self, kind: Kind, length: usize) {
        self.lexed.tokens.push(Token { kind, text: &self.rest()[..length], line: self.line });
        self.advance(length);
    }

    fn advance(&mut self, length: usize) {
        self.line += self.rest()[..length].matches('\n').count();
        self.at += length;
    }

    fn block_comment(&mut self) {
        let rest = self.rest();
        let (mut depth, mut length) = (0_usize, 0);
        while length < rest.len() {
            let here = &rest.as_bytes()[length..];
            if here.starts_with(b"/*") {
                (depth, length) = (depth + 1, length + 2);
            } else if here.starts_with(b"*/") {
                (depth, length) = (depth - 1, length + 2);
                if depth == 0 {
                    break;
                }
            } else {
                length += 1;
            }
        }
        for (i, line) in rest[..length].lines().enumerate() {
            let text = line.trim().trim_start_matches(['/', '*', '!']).trim_end_matches(['/', '*']);
            self.lexed.comments.push(Comment { line: self.line + i, text: text.trim() });
        }
        self.advance(length);
    }
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

fn word(rest: &str) -> usize {
    rest.find(|c| !is_word(c)).unwrap_or(rest.len())
}

/// The length of the number at the beginning of `rest`. If `is_field`, the number is a field of a tuple and has no
/// fraction.
fn number(rest: &str, is_field: bool) -> usize {
    let mut length = word(rest);
    let digit = |at: usize| rest[at..].starts_with(|c: char| c.is_ascii_digit());
    if !is_field && rest[length..].starts_with('.') && digit(length + 1) {
        length += 1 + word(&rest[length + 1..]);
    }
    let mantissa = rest[..length].strip_suffix(['e', 'E']);
    let has_exponent = mantissa.is_some_and(|m| m.chars().all(|c| c.is_ascii_digit() || "._".contains(c)));
    if has_exponent && rest[length..].starts_with(['+', '-']) && digit(length + 1) {
        length += 1 + word(&rest[length + 1..]);
    }
    length
}

/// The length of the string or character at the beginning of `rest`. None if there is neither.
fn quoted(rest: &str) -> Option<usize> {
    let unprefixed = rest.trim_start_matches(['b', 'c', 'r']);
    let prefix = &rest[..rest.len() - unprefixed.len()];
    match prefix {
        "r" | "br" | "cr" => {
            let text = unprefixed.trim_start_matches('#');
            let hashes = &unprefixed[..unprefixed.len() - text.len()];
            let body = text.strip_prefix('"')?;
            let end = format!("\"{hashes}");
            Some(body.find(&end).map_or(rest.len(), |at| rest.len() - body.len() + at + end.len()))
        }
        "" | "b" | "c" if unprefixed.starts_with('"') => Some(prefix.len() + escaped(unprefixed, '"')),
        "" | "b" if unprefixed.starts_with('\'') => {
            let mut chars = unprefixed.chars().skip(1);
            let is_escape = chars.next() == Some('\\');
            // `'a'` is a character, `'a` without a closing quote is a lifetime.
            (is_escape || chars.next() == Some('\'')).then(|| prefix.len() + escaped(unprefixed, '\''))
        }
        _ => None,
    }
}

/// The length of a quoted text with escapes. If it does not end, the length of `rest`.
fn escaped(rest: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        if !is_escaped && c == quote {
            return at + 1;
        }
        is_escaped = !is_escaped && c == '\\';
    }
    rest.len()
}
