//! The jobs that wait, in the order of `priority`: by the globs of `--first`, then the largest first
//! (docs/ARCHITECTURE.md, "Listing and order").
//!
//! S3 throttles each key prefix separately. While a bucket throttles, each prefix may have only a share of the
//! databases in flight, as long as databases of other prefixes wait. Without that limit, databases of a
//! throttled prefix would take all places and keep the others from running.

use crate::fleet::job::Job;
use crate::store::s3;
use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap, VecDeque};

/// Jobs that have not started or wait for their retry.
#[derive(Debug, Default)]
pub(super) struct JobQueue {
    /// Jobs to be retried. They come before all other jobs.
    again: VecDeque<Job>,
    waiting: BinaryHeap<Waiting>,
    /// Jobs that were skipped because their prefix already had its share, by prefix, each list in order. All of
    /// them have the same `turn`.
    passed: HashMap<Box<str>, VecDeque<Job>>,
    /// Number of databases that are being restored, by key prefix.
    at_work: HashMap<Box<str>, usize>,
}

/// A job whose order in a max-heap is such that the greatest one starts next.
#[derive(Debug)]
struct Waiting(Job);

impl JobQueue {
    /// Adds all jobs of the run. Call this once, when discovery has ended.
    pub(super) fn add(&mut self, jobs: Vec<Job>) {
        debug_assert!(self.len() == 0, "jobs were added before");
        // A heap is made of the list itself: there may be millions of jobs.
        self.waiting = jobs.into_iter().map(Waiting).collect::<Vec<_>>().into();
    }

    pub(super) fn add_again(&mut self, job: Job) {
        self.again.push_back(job);
    }

    /// Removes the next job and returns it. `share` is the maximum number of jobs of one prefix that are being
    /// restored while jobs of other prefixes wait. None: no limit.
    pub(super) fn next(&mut self, share: Option<usize>) -> Option<Job> {
        if let Some(job) = self.again.pop_front() {
            return Some(job);
        }
        let share = share.unwrap_or(usize::MAX);
        if let Some(job) = self.passed_below(share) {
            return Some(job);
        }
        let passed = self.passed.values().next().and_then(VecDeque::front);
        let turn = passed.or(self.waiting.peek().map(|Waiting(job)| job)).map(|job| job.turn);
        while self.waiting.peek().is_some_and(|next| Some(next.0.turn) == turn)
            && let Some(Waiting(job)) = self.waiting.pop()
        {
            if self.count(prefix_of(&job)) < share {
                return Some(job);
            }
            self.passed.entry(prefix_of(&job).into()).or_default().push_back(job);
        }
        self.passed_below(usize::MAX)
    }

    /// Counts a job towards the share of its key prefix, until [`Self::stopped`] is called for it.
    pub(super) fn started(&mut self, job: &Job) {
        *self.at_work.entry(prefix_of(job).into()).or_default() += 1;
    }

    /// Notes that a job is no longer being restored, which frees a place in the share of its key prefix.
    pub(super) fn stopped(&mut self, job: &Job) {
        debug_assert!(self.count(prefix_of(job)) > 0, "stopped without started");
        if let Some(count) = self.at_work.get_mut(prefix_of(job)) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.at_work.remove(prefix_of(job));
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.again.len() + self.waiting.len() + self.passed.values().map(VecDeque::len).sum::<usize>()
    }

    pub(super) fn clear(&mut self) {
        self.again.clear();
        self.waiting.clear();
        self.passed.clear();
    }

    fn count(&self, prefix: &str) -> usize {
        self.at_work.get(prefix).copied().unwrap_or(0)
    }

    /// Returns the next job of the prefix that has the fewest jobs being restored, if that number is less than
    /// `share`.
    fn passed_below(&mut self, share: usize) -> Option<Job> {
        let counts = self.passed.keys().map(|prefix| (self.count(prefix), prefix));
        let (_, prefix) = counts.filter(|(count, _)| *count < share).min()?;
        let prefix = prefix.clone();
        let jobs = self.passed.get_mut(&prefix)?;
        let job = jobs.pop_front();
        if jobs.is_empty() {
            self.passed.remove(&prefix);
        }
        job
    }
}

/// Returns the bucket and the key prefix by which S3 may throttle a database's files, the same prefix as the
/// request limiter's. The prefix is two folders deep. A database whose own folder is less deep has several such
/// prefixes, one for each level. No other database uses them, so the database's folder stands for all of them.
fn prefix_of(job: &Job) -> &str {
    let id = job.database.id();
    let Some((bucket, folder)) = id.split_once('/') else { return id };
    let end = bucket.len() + 1 + s3::prefix_of_folder(folder).len();
    id.get(..end).unwrap_or(id)
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        let (Self(a), Self(b)) = (self, other);
        b.turn
            .cmp(&a.turn)
            .then(a.estimated_bytes.cmp(&b.estimated_bytes))
            .then_with(|| b.database.name().cmp(a.database.name()))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Waiting {}

#[cfg(test)]
mod tests {
    use crate::catalogue::Replica;
    use crate::fleet::discovery::found::{DatabaseRef, Discovery, Found, Output};
    use crate::fleet::discovery::pattern::Pattern;
    use crate::fleet::priority::First;
    use crate::fleet::queue::*;
    use std::collections::HashSet;
    use std::sync::Arc;

    /// Makes jobs for databases `<prefix>/<number>` of equal size, `count` under each prefix.
    fn jobs(prefixes: &[&str], count: usize, first: &First) -> Vec<Job> {
        use crate::fleet::job::{Admission, Places};
        let store = crate::store::Store::File(crate::store::file::FileStore::default());
        let places = Places { output_dir: std::path::Path::new("/o").into(), reserved: Vec::new(), folds: |_| false };
        let names = prefixes.iter().flat_map(|prefix| (0..count).map(move |i| format!("{prefix}/{i:03}")));
        let found = names.map(|name| {
            let replica = Replica { root: format!("{name}/"), files: vec![], v3: None, others: Vec::new() };
            let (id, path, output) = (format!("bucket/{name}"), name.clone(), Output::Relative(name.clone()));
            let database = Arc::new(DatabaseRef::new(&name, id, store.clone(), &path));
            Found { database, replica: Some(replica), output }
        });
        Admission::new(places, first).admit(Discovery { found: found.collect(), ..Discovery::default() }).jobs
    }

    fn name(job: &Job) -> &str {
        job.database.name()
    }

    fn next(queue: &mut JobQueue, share: Option<usize>) -> Option<Job> {
        let job = queue.next(share)?;
        queue.started(&job);
        Some(job)
    }

    /// The prefix of a database's folder and the prefixes that the request limiter uses for the keys below it
    /// agree, for databases at any depth.
    #[test]
    fn a_prefix_is_what_the_limiter_takes() {
        let first = First(Vec::new());
        let one = |folder: &str| jobs(&[folder], 1, &first).remove(0);
        assert_eq!(prefix_of(&one("t/a/b")), "bucket/t/a");
        assert_eq!(prefix_of(&one("t/a")), "bucket/t/a");
        assert_eq!(prefix_of(&one("t")), "bucket/t/000");
        let mut at_root = one("x");
        let store = at_root.database.store.clone();
        at_root.database = Arc::new(DatabaseRef::new("app.db", "bucket/app.db".to_owned(), store, "app.db"));
        assert_eq!(prefix_of(&at_root), "bucket/app.db");
    }

    #[test]
    fn no_prefix_has_more_than_its_share_while_others_wait() {
        let mut queue = JobQueue::default();
        queue.add(jobs(&["t/a", "t/b", "t/c"], 10, &First(Vec::new())));
        // Nothing throttles and all jobs have the same size, so they come in the order of their names.
        assert_eq!(next(&mut queue, None).as_ref().map(name), Some("t/a/000"));
        let mut at_work: Vec<Job> = (0..5).filter_map(|_| next(&mut queue, Some(2))).collect();
        let names: Vec<&str> = at_work.iter().map(name).collect();
        assert_eq!(names, ["t/a/001", "t/b/000", "t/b/001", "t/c/000", "t/c/001"]);
        // One job ends, and the next job of the same prefix takes its place.
        let ended = at_work.remove(2);
        queue.stopped(&ended);
        assert_eq!(next(&mut queue, Some(2)).as_ref().map(name), Some("t/b/002"));
        // When no other prefix waits, the share is no limit: every job comes, once.
        assert_eq!(queue.len(), 23);
        let rest: HashSet<String> =
            std::iter::from_fn(|| next(&mut queue, Some(2))).map(|job| name(&job).to_owned()).collect();
        assert_eq!((rest.len(), queue.len()), (23, 0));
    }

    /// A job that `--first` names starts before all others, whatever the shares of the prefixes are.
    #[test]
    fn no_share_brings_a_later_turn_before_an_earlier() {
        let glob = Pattern::for_keys("t/b/*").unwrap();
        let first = First(vec![[glob.clone(), glob]]);
        let mut queue = JobQueue::default();
        queue.add(jobs(&["t/a", "t/b", "t/c"], 10, &first));
        let names: Vec<String> =
            std::iter::from_fn(|| next(&mut queue, Some(1))).map(|job| name(&job).to_owned()).collect();
        let named = |names: &[String]| names.iter().filter(|name| name.starts_with("t/b/")).count();
        assert_eq!((named(&names[..10]), names.len()), (10, 30), "{names:?}");
    }
}
