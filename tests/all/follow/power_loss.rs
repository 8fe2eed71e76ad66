//! Power failures while changes are applied. strace writes down each write, cut, sync, rename and removal of a follower. A
//! disk that keeps only what was synced, and of the rest whatever it likes, is then built for each point in that list. On
//! each of these disks a reader must see a whole state that is not older than the sidecar says. Takes strace.

use super::crash::has_strace;
use super::support::*;
use hydrant::ltx::Txid;
use hydrant::sim::generate::Change;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::process::{Command, Stdio};

const CALLS: &str = "openat,pwrite64,write,fsync,fdatasync,ftruncate,rename,renameat2,unlink,unlinkat,linkat,fallocate";
/// The disks that are built for each point: nothing of what was not synced, all of it, and parts of it.
const DISKS: u64 = 6;
/// The follower is started on every 40th disk.
const FOLLOWED: usize = 40;

/// What a system call does to a file. Names are those in the standby's directory, and empty for the directory itself.
#[derive(Debug)]
enum Event {
    Create {
        name: String,
        cuts: bool,
    },
    /// Without an offset the bytes go to the end.
    Write {
        name: String,
        at: Option<usize>,
        bytes: Vec<u8>,
    },
    Cut {
        name: String,
        len: usize,
    },
    Sync {
        name: String,
    },
    Rename {
        from: String,
        to: String,
    },
    Remove {
        name: String,
    },
}

/// The calls in strace's output that change something in `dir`. A call that other threads interrupt counts when it ends.
fn events(trace: &str, dir: &Path) -> Vec<Event> {
    let (mut begun, mut events) = (BTreeMap::new(), Vec::new());
    for line in trace.lines() {
        let (pid, rest) = line.split_once(' ').unwrap();
        let rest = rest.trim_start();
        if let Some(first) = rest.strip_suffix(" <unfinished ...>") {
            begun.insert(pid.to_owned(), first.to_owned());
            continue;
        }
        let whole = match rest.strip_prefix("<... ").and_then(|rest| rest.split_once(" resumed>")) {
            Some((_, end)) => begun.remove(pid).unwrap() + end,
            None => rest.to_owned(),
        };
        events.extend(event(&whole, dir));
    }
    events
}

/// The change that a call makes in `dir`. None if it fails, or is about something else.
fn event(call: &str, dir: &Path) -> Option<Event> {
    let (name, rest) = call.split_once('(')?;
    let (args, result) = rest.rsplit_once(") = ").or_else(|| rest.rsplit_once(") ").map(|(args, _)| (args, "-1")))?;
    if result.starts_with('-') {
        return None;
    }
    // Every text is in hexadecimal, so commas are between arguments only.
    let args: Vec<&str> = args.split(", ").collect();
    let inside = |path: &str| {
        let path = path.strip_prefix(dir.to_str().unwrap())?;
        Some(path.strip_prefix('/').unwrap_or(path).to_owned()).filter(|name| !name.ends_with("-shm"))
    };
    let of_fd = |arg: &str| inside(&text(arg.split_once('<')?.1.strip_suffix('>')?));
    let of_path = |arg: &str| inside(&text(arg.trim_matches('"')));
    let number = |arg: &str| arg.parse::<usize>().unwrap();
    Some(match name {
        "openat" if args[2].contains("O_CREAT") => {
            Event::Create { name: of_path(args[1])?, cuts: args[2].contains("O_TRUNC") }
        }
        "pwrite64" => {
            Event::Write { name: of_fd(args[0])?, at: Some(number(args[3])), bytes: bytes(args[1].trim_matches('"')) }
        }
        "write" => Event::Write { name: of_fd(args[0])?, at: None, bytes: bytes(args[1].trim_matches('"')) },
        "ftruncate" => Event::Cut { name: of_fd(args[0])?, len: number(args[1]) },
        "fsync" | "fdatasync" => Event::Sync { name: of_fd(args[0])? },
        "rename" => Event::Rename { from: of_path(args[0])?, to: of_path(args[1])? },
        "unlink" => Event::Remove { name: of_path(args[0])? },
        "renameat2" | "unlinkat" | "linkat" | "fallocate" => {
            let found = args.iter().find_map(|arg| of_path(arg).or_else(|| of_fd(arg)));
            assert!(found.is_none(), "a call that this disk does not know: {call}");
            return None;
        }
        _ => return None,
    })
}

/// The bytes of a text that strace has written as `\x..\x..`.
fn bytes(hex: &str) -> Vec<u8> {
    hex.split("\\x").skip(1).map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect()
}

fn text(hex: &str) -> String {
    String::from_utf8(bytes(hex)).unwrap()
}

#[derive(Clone)]
enum Unsynced {
    Write(usize, Vec<u8>),
    Cut(usize),
}

/// A file's content at its last sync, and what was done to it since.
#[derive(Clone, Default)]
struct Inode {
    synced: Vec<u8>,
    since: Vec<Unsynced>,
}

impl Inode {
    /// The content with the changes that `keeps` keeps: all of a change, its first half, or nothing of it.
    fn content(&self, mut keeps: impl FnMut(usize) -> Kept) -> Vec<u8> {
        let mut content = self.synced.clone();
        for (n, change) in self.since.iter().enumerate() {
            match (change, keeps(n)) {
                (_, Kept::Nothing) => {}
                (Unsynced::Cut(len), _) => content.resize(*len, 0),
                (Unsynced::Write(at, bytes), kept) => {
                    let len = if kept == Kept::Half { bytes.len() / 2 } else { bytes.len() };
                    content.resize(content.len().max(at + len), 0);
                    content[*at..at + len].copy_from_slice(&bytes[..len]);
                }
            }
        }
        content
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kept {
    Nothing,
    Half,
    All,
}

/// A disk with a cache that a power failure empties.
struct Disk {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    /// The names at the directory's last sync.
    synced_names: BTreeMap<String, usize>,
}

impl Disk {
    fn of(dir: &Path) -> Self {
        let (mut inodes, mut names) = (Vec::new(), BTreeMap::new());
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            names.insert(entry.file_name().into_string().unwrap(), inodes.len());
            inodes.push(Inode { synced: std::fs::read(entry.path()).unwrap(), since: Vec::new() });
        }
        Self { inodes, synced_names: names.clone(), names }
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&Inode) -> Unsynced) {
        let inode = &mut self.inodes[self.names[name]];
        let change = change(inode);
        inode.since.push(change);
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Create { name, cuts } => {
                if !self.names.contains_key(name) {
                    self.names.insert(name.clone(), self.inodes.len());
                    self.inodes.push(Inode::default());
                } else if *cuts {
                    self.change(name, |_| Unsynced::Cut(0));
                }
            }
            Event::Write { name, at, bytes } => self.change(name, |inode| {
                Unsynced::Write(at.unwrap_or_else(|| inode.content(|_| Kept::All).len()), bytes.clone())
            }),
            Event::Cut { name, len } => self.change(name, |_| Unsynced::Cut(*len)),
            Event::Sync { name } if name.is_empty() => self.synced_names.clone_from(&self.names),
            Event::Sync { name } => {
                let inode = &mut self.inodes[self.names[name]];
                *inode = Inode { synced: inode.content(|_| Kept::All), since: Vec::new() };
            }
            Event::Rename { from, to } => {
                let inode = self.names.remove(from).unwrap();
                self.names.insert(to.clone(), inode);
            }
            Event::Remove { name } => {
                self.names.remove(name);
            }
        }
    }

    /// Writes what the disk has after a power failure into `dir`. `which`: of the disks that are possible then.
    fn fail(&self, dir: &Path, (point, which): (usize, u64)) {
        let drawn = |of: (usize, usize)| {
            let mut hasher = DefaultHasher::new();
            (point, which, of).hash(&mut hasher);
            hasher.finish()
        };
        let names = if which.is_multiple_of(2) { &self.synced_names } else { &self.names };
        std::fs::read_dir(dir).unwrap().for_each(|entry| std::fs::remove_file(entry.unwrap().path()).unwrap());
        for (name, &inode) in names {
            let content = self.inodes[inode].content(|n| match which {
                0 | 1 => Kept::Nothing,
                2 | 3 => Kept::All,
                _ => [Kept::Nothing, Kept::Half, Kept::All][(drawn((inode, n)) % 3) as usize],
            });
            std::fs::write(dir.join(name), content).unwrap();
        }
    }
}

/// Follows two changes under strace, the second while it runs. Returns what was done in the directory.
fn traced(world: &mut World, first: Change, second: Change) -> Vec<Event> {
    let output = tempfile::NamedTempFile::new().unwrap();
    world.transact(first);
    let of = world.command(&["-io-engine", "pwrite"]);
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-y", "-xx", "-s", "4000000", "-e", &format!("trace={CALLS}"), "-o"]).arg(output.path());
    command.arg(of.get_program()).args(of.get_args()).current_dir(world.dir.path()).env_clear();
    command.envs(of.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let follower = Follower::start(&mut command);
    follower.until_lines("applied txid", 1);
    world.transact(second);
    follower.until_lines("applied txid", 2);
    // strace is not the follower: the lock's file names that.
    let lock = std::fs::read_to_string(world.dir.path().join(".out.db-hydrant-follow")).unwrap();
    let pid = lock.lines().next().unwrap().parse().unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    let (status, _, lines) = follower.wait();
    assert_eq!(status.code(), Some(0), "{lines:#?}");
    events(&std::fs::read_to_string(output.path()).unwrap(), &world.dir.path().canonicalize().unwrap())
}

fn fail_at_every_point(first: Change, second: Change) {
    if !has_strace() {
        return;
    }
    let mut world = World::new(1024, 0);
    world.transact(Change::Grow(60_000));
    let follower = world.follow();
    world.catch_up_and_stop(follower);
    let (old, mut disk) = (world.primary.txid().0, Disk::of(world.dir.path()));
    let events = traced(&mut world, first, second);
    let (mut seen, mut sidecars, mut tried) = ([0; 3], 0, 0);
    for (point, event) in events.iter().enumerate() {
        disk.happen(event);
        for which in 0..DISKS {
            disk.fail(world.dir.path(), (point, which));
            let what = format!("{which} at {point}");
            let txid = read_only(&world.path()).and_then(|reader| seq(&reader));
            let txid = txid.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!((old..=old + 2).contains(&txid), "{what}: {txid}");
            seen[(txid - old) as usize] += 1;
            let sidecar = Txid::parse_name(world.sidecar().trim().as_bytes());
            let sidecar = sidecar.unwrap_or_else(|| panic!("{what}: the sidecar is no TXID"));
            assert!(sidecar.0 <= txid, "{what}: the sidecar says {sidecar}, the database holds {txid}");
            sidecars += usize::from(sidecar.0 > old);
            tried += 1;
            if tried % FOLLOWED == 0 {
                let follower = world.follow();
                world.catch_up_and_stop(follower);
            }
        }
    }
    // All three states were met, and a sidecar that was written.
    assert!(seen.iter().all(|&seen| seen > 10) && sidecars > 5 && tried >= 200, "{seen:?} {sidecars} {tried}");
}

#[test]
fn a_power_failure_at_any_point_of_growth_loses_nothing() {
    fail_at_every_point(Change::Grow(20_000), Change::Transfer);
}

#[test]
fn a_power_failure_at_any_point_of_shrinking_loses_nothing() {
    fail_at_every_point(Change::Vacuum, Change::Schema);
}
