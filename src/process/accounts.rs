//! Users and groups by name, from /etc/passwd and /etc/group. Other sources of names (LDAP, systemd-userdb) are not
//! asked: they need the C library's plug-ins. A number always works.

use std::fs::File;
use std::io::Read;
use thiserror::Error;

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";
/// At most this much of each file is read.
const LIMIT_BYTES: u64 = 16 << 20;

/// A user, a group, or both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Owner {
    pub user: Option<u32>,
    pub group: Option<u32>,
}

/// Why an owner cannot be found.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum AccountError {
    #[error("it names neither a user nor a group")]
    Empty,
    #[error("/etc/passwd has no user '{name}': give the number of the user instead")]
    NoUser { name: String },
    #[error("/etc/group has no group '{name}': give the number of the group instead")]
    NoGroup { name: String },
    #[error("/etc/passwd has no user '{name}', so the user's group is not known: give it after the colon")]
    NoLoginGroup { name: String },
}

/// Finds `USER`, `USER:GROUP`, `:GROUP`, or `USER:`, which stands for the user and the user's own group.
///
/// # Errors
/// There is no such user or group. A file that cannot be read has none.
pub(crate) fn owner(text: &str) -> Result<Owner, AccountError> {
    owner_in(text, &read(PASSWD), &read(GROUP))
}

fn owner_in(text: &str, passwd: &str, groups: &str) -> Result<Owner, AccountError> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let name = || user.to_owned();
    let entry = line_of(passwd, user);
    let user_id = match user {
        "" => None,
        _ => Some(field(entry, 2).or_else(|| number(user)).ok_or_else(|| AccountError::NoUser { name: name() })?),
    };
    let group_id = match group {
        None => None,
        Some("") if user.is_empty() => None,
        Some("") => {
            let by_number = || passwd.lines().find(|line| user_id.is_some() && field(Some(line), 2) == user_id);
            let own = field(entry.or_else(by_number), 3);
            Some(own.ok_or_else(|| AccountError::NoLoginGroup { name: name() })?)
        }
        Some(group) => {
            let id = field(line_of(groups, group), 2).or_else(|| number(group));
            Some(id.ok_or_else(|| AccountError::NoGroup { name: group.to_owned() })?)
        }
    };
    match (user_id, group_id) {
        (None, None) => Err(AccountError::Empty),
        (user, group) => Ok(Owner { user, group }),
    }
}

/// The line of a file of accounts that begins with `name`.
fn line_of<'a>(accounts: &'a str, name: &str) -> Option<&'a str> {
    accounts.lines().find(|line| line.split(':').next() == Some(name) && !name.is_empty())
}

fn field(line: Option<&str>, index: usize) -> Option<u32> {
    number(line?.split(':').nth(index)?)
}

/// A number of a user or group. 4294967295 stands for none.
fn number(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok().filter(|id| *id != u32::MAX) } else { None }
}

fn read(path: &str) -> String {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LIMIT_BYTES).read_to_end(&mut bytes));
    if read.is_err() {
        bytes.clear();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD_FILE: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1001:2001::/srv:/bin/false\n12:x:77:78::/:/\nbad\n";
    const GROUP_FILE: &str = "root:x:0:\nstaff:x:50:app\nbad:x:\n";

    #[test]
    fn names_and_numbers() {
        let found = |text: &str| owner_in(text, PASSWD_FILE, GROUP_FILE).map(|owner| (owner.user, owner.group));
        assert_eq!(found("app"), Ok((Some(1001), None)));
        assert_eq!(found("app:staff"), Ok((Some(1001), Some(50))));
        assert_eq!(found("app:"), Ok((Some(1001), Some(2001))));
        assert_eq!(found("1001:"), Ok((Some(1001), Some(2001))));
        assert_eq!(found(":staff"), Ok((None, Some(50))));
        assert_eq!(found("4000:4001"), Ok((Some(4000), Some(4001))));
        // A name of digits is a name first, as for chown.
        assert_eq!(found("12"), Ok((Some(77), None)));
    }

    #[test]
    fn what_is_not_there_is_an_error_that_names_it() {
        let error = |text: &str| owner_in(text, PASSWD_FILE, GROUP_FILE).unwrap_err();
        assert_eq!(error("nobody-here"), AccountError::NoUser { name: "nobody-here".to_owned() });
        assert_eq!(error("app:wheel"), AccountError::NoGroup { name: "wheel".to_owned() });
        assert_eq!(error("4000:"), AccountError::NoLoginGroup { name: "4000".to_owned() });
        assert_eq!(error("app:bad"), AccountError::NoGroup { name: "bad".to_owned() });
        for empty in ["", ":"] {
            assert_eq!(error(empty), AccountError::Empty);
        }
        for number in ["4294967295", "4294967296", "-1", "+5"] {
            assert!(matches!(error(number), AccountError::NoUser { .. }), "{number}");
        }
    }
}
