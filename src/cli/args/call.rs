//! A command line as typed, from which one is made that works: the text after `Try: `.
//!
//! Whatever is shown can be run as it is. A command line that holds a secret is not shown.

use crate::cli::args::argv::{self, Argv};
use crate::cli::args::help;
use crate::cli::args::shell::shell_word;
use crate::cli::ui::redact;
use crate::error::escaped;
use std::ffi::OsString;

/// A command with its flags and positionals.
#[derive(Clone, PartialEq, Eq)]
pub struct Call {
    command: String,
    /// The long name of each flag, and its value.
    flags: Vec<(String, Option<String>)>,
    positionals: Vec<String>,
}

impl Call {
    /// The command line `args`, without the program's name. None if its flags are wrong or it is not UTF-8.
    pub fn of(args: &[OsString]) -> Option<Self> {
        let (command, rest) = args.split_first()?;
        let command = command.to_str()?.to_owned();
        let (definition, _) = help::definition(&command)?;
        // Flags of the environment stay in the environment.
        let Ok(Argv::Args(all)) = argv::normalise(&definition, rest.iter().cloned(), &|_| None) else { return None };
        let all: Vec<String> = all.into_iter().map(OsString::into_string).collect::<Result<_, _>>().ok()?;
        let end = all.iter().position(|arg| arg == "--")?;
        let flag = |arg: &String| {
            let arg = arg.trim_start_matches("--");
            match arg.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (arg.to_owned(), None),
            }
        };
        let flags = all.iter().take(end).map(flag).collect();
        Some(Self { command, flags, positionals: all.into_iter().skip(end + 1).collect() })
    }

    pub fn command(&self) -> &str {
        &self.command
    }

    pub fn positionals(&self) -> &[String] {
        &self.positionals
    }

    pub fn value_of(&self, flag: &str) -> Option<&str> {
        self.flags.iter().find(|(name, _)| name == flag).and_then(|(_, value)| value.as_deref())
    }

    /// The same with the switch `flag`.
    #[must_use]
    pub fn switched(mut self, flag: &str) -> Self {
        self.flags.retain(|(name, _)| name != flag);
        self.flags.insert(0, (flag.to_owned(), None));
        self
    }

    /// The same with this value of `flag`.
    #[must_use]
    pub fn with(mut self, flag: &str, value: &str) -> Self {
        self.flags.retain(|(name, _)| name != flag);
        self.flags.push((flag.to_owned(), Some(value.to_owned())));
        self
    }

    /// The same without `flag`.
    #[must_use]
    pub fn without(mut self, flag: &str) -> Self {
        self.flags.retain(|(name, _)| name != flag);
        self
    }

    /// The same with this positional alone.
    #[must_use]
    pub fn from(mut self, source: &str) -> Self {
        self.positionals = vec![source.to_owned()];
        self
    }

    /// The same without positionals.
    #[must_use]
    pub fn without_positionals(mut self) -> Self {
        self.positionals.clear();
        self
    }

    /// Another command with those of the flags that it has.
    #[must_use]
    pub fn into_command(mut self, command: &str) -> Self {
        let names = help::definition(command).map(|(definition, _)| argv::names_of(&definition)).unwrap_or_default();
        self.flags.retain(|(name, _)| names.contains(name) && name != "json");
        self.command = command.to_owned();
        self
    }

    /// The arguments for [`crate::cli::parse`].
    pub fn args(&self) -> Vec<OsString> {
        let flag = |(name, value): &(String, Option<String>)| match value {
            Some(value) => format!("--{name}={value}").into(),
            None => format!("--{name}").into(),
        };
        let mut args = vec![OsString::from(&self.command)];
        args.extend(self.flags.iter().map(flag));
        args.push("--".into());
        args.extend(self.positionals.iter().map(OsString::from));
        args
    }

    /// The command line for a shell. None if it holds a secret, or a character that a terminal does not show as it is.
    pub fn shown(&self) -> Option<String> {
        let mut words = vec!["hydrant".to_owned(), self.command.clone()];
        for (name, value) in &self.flags {
            words.push(format!("-{name}"));
            if let Some(value) = value {
                words.push(shell_word(value));
            }
        }
        if self.positionals.iter().any(|word| word.len() > 1 && word.starts_with('-')) {
            words.push("--".to_owned());
        }
        words.extend(self.positionals.iter().map(|word| shell_word(word)));
        let mut typed = self.positionals.iter().chain(self.flags.iter().filter_map(|(_, value)| value.as_ref()));
        let is_secret = typed.any(|word| redact::url(word) != *word);
        let line = words.join(" ");
        (!is_secret && escaped(&line) == line).then_some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(args: &[&str]) -> Call {
        Call::of(&args.iter().map(OsString::from).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_better_call_keeps_what_was_typed() {
        let typed = call(&["restore", "--o=/tmp/a b", "-memory", "1GiB", "-json", "s3://b/p?region=r&x='"]);
        assert_eq!(
            typed.clone().switched("force").shown().unwrap(),
            r"hydrant restore -force -o '/tmp/a b' -memory 1GiB -json 's3://b/p?region=r&x='\'''"
        );
        assert_eq!(
            typed.clone().into_command("ltx").with("level", "all").shown().unwrap(),
            r"hydrant ltx -memory 1GiB -level all 's3://b/p?region=r&x='\'''"
        );
        assert_eq!(typed.with("o", "x").from("-y").shown().unwrap(), "hydrant restore -memory 1GiB -json -o x -- -y");
        assert_eq!(call(&["restore", "-o", "~/x", "s3://b"]).shown().unwrap(), "hydrant restore -o '~/x' s3://b");
    }

    #[test]
    fn secrets_and_odd_characters_are_not_shown() {
        for source in ["s3://AK:CANARY@b/p", "s3://b/p?sse-customer-key=CANARY", "s3://b/p\u{1b}", "s3://b/\u{202e}"] {
            assert_eq!(call(&["restore", "-o", "x", source]).shown(), None, "{source}");
        }
    }
}
