//! Tests of reserving disk space: what is refused, what the messages say, and that nothing is taken in vain.

use super::*;
use crate::error::Class;

fn staged(run: &CommitContext, path: &Path) -> Arc<StagedFile> {
    let destination = Arc::new(Destination::prepare(run, path, Replace::Never).unwrap());
    Arc::new(destination.create(false).unwrap())
}

/// A small file system that is mounted on this directory until this is dropped.
struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    /// None: that is not possible here.
    fn of(dir: &'a Path, args: &[&str]) -> Option<Self> {
        let mounted = ended(Command::new("mount").args(args).arg(dir)).status.success();
        if !mounted {
            println!("skipped: nothing can be mounted here");
        }
        mounted.then_some(Self(dir))
    }

    fn tmpfs(dir: &'a Path) -> Option<Self> {
        Self::of(dir, &["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = ended(Command::new("umount").arg("-l").arg(self.0));
    }
}

#[test]
fn a_file_system_that_cannot_reserve_is_written_to_nevertheless() {
    for errno in [Errno::OPNOTSUPP, Errno::NOSYS, Errno::INVAL] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db");
        let _fault = inject(&path, Some(Step::Reserve), 1, Effect::Fail(errno));
        commit(&path, Replace::Never, false, b"content").unwrap();
        assert_eq!(tree(dir.path()), files([("app.db", b"content")]), "{errno}");
    }
}

#[test]
fn a_quota_is_named_and_not_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (run, path) = (CommitContext::default(), dir.path().join("app.db"));
    let _fault = inject(&path, Some(Step::Reserve), 1, Effect::Fail(Errno::DQUOT));
    let new = staged(&run, &path);
    assert!(!new.is_space_scarce(0));
    let error = new.reserve(4096).unwrap_err();
    assert_eq!(error.class(), Class::DiskFull);
    let expected =
        format!("cannot reserve 4096 bytes for {}: disk quota exceeded (the quota, not the disk)", path.display());
    assert_eq!(error.to_string(), expected);
    // From then on every size is read before files are fetched, in this run.
    assert!(new.is_space_scarce(0) && staged(&run, &dir.path().join("other.db")).is_space_scarce(0));
    assert!(!staged(&CommitContext::default(), &path).is_space_scarce(0));
}

/// The attempt to reserve more than there is takes what is left, on ext4.
#[test]
fn the_free_space_is_that_before_the_attempt() {
    let dir = tempfile::tempdir().unwrap();
    let (image, at) = (dir.path().join("image"), dir.path().join("at"));
    std::fs::create_dir(&at).unwrap();
    std::fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
    let mut mkfs = Command::new("mkfs.ext4");
    let made = spawn(mkfs.args(["-q", "-F"]).arg(&image)).and_then(|mut child| child.wait());
    if !made.is_ok_and(|status| status.success()) {
        return println!("skipped: no mkfs.ext4 here");
    }
    let image = image.to_str().unwrap();
    let Some(_mounted) = Mounted::of(&at, &["-o", "loop", image]) else { return };
    let run = CommitContext::default();
    let free = FreeSpace::below(&at).unwrap();
    assert!(free.available > 1 << 20);
    for needed in [free.with_roots_share + 1, 1 << 40] {
        let new = staged(&run, &at.join("app.db"));
        let error = new.reserve(needed).unwrap_err().to_string();
        let Some((_, said)) = error.rsplit_once("no space left on device (") else { panic!("{error}") };
        let said: u64 = said.strip_suffix(" bytes free)").unwrap().parse().unwrap();
        assert!(said > 1 << 20 && said <= free.available, "{error}");
        // A failed attempt gives back at once what it took: another database may fit.
        assert!(FreeSpace::below(&at).unwrap().available > 1 << 20);
        staged(&run, &at.join("small.db")).reserve(1 << 20).unwrap();
    }
}

#[test]
fn a_second_reservation_of_the_same_size_takes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_mounted) = Mounted::tmpfs(dir.path()) else { return };
    let new = staged(&CommitContext::default(), &dir.path().join("app.db"));
    new.reserve(700 << 10).unwrap();
    // Together they would not fit.
    new.reserve(700 << 10).unwrap();
    new.reserve(800 << 10).unwrap();
    assert!(new.reserve(1200 << 10).is_err());
}

#[test]
fn space_is_scarce_below_ten_times_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_mounted) = Mounted::tmpfs(dir.path()) else { return };
    let new = staged(&CommitContext::default(), &dir.path().join("app.db"));
    assert!(new.is_space_scarce(110 << 10) && !new.is_space_scarce(90 << 10));
}
